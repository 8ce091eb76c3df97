//! A submission: its shape on the wire, its defaults and its checks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    clock::Timestamp,
    ids::{JobId, WorkflowId},
    job::{DependencyPolicy, IdempotencyKey, JobOptions, NewJob},
    json::{self, RawJson},
    name,
    retry::{DEFAULT_JITTER, DELAY_SECONDS_MAX, RetryPolicy, RetryStrategy},
    unique::{UniqueParts, UniqueRequest},
};

/// The most bytes of a payload or result.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of a payload, counted from its root.
pub const JSON_DEPTH_MAX: usize = 64;
/// The most attempts a job may have.
pub const ATTEMPTS_MAX: i64 = 100;
/// The longest timeout of an attempt: 7 days.
pub const TIMEOUT_SECONDS_MAX: i64 = 7 * 86_400;
/// The most jobs a job may depend on.
pub const DEPENDENCIES_MAX: usize = 1_000;
/// The most tags of a job: they are for filtering, not for data.
pub const TAGS_MAX: usize = 50;
/// The most bytes of `metadata`: it is shown in lists.
pub const METADATA_BYTES_MAX: usize = 16 << 10;

/// A field that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer into the body.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A job's own retry policy, as submitted; what is absent is the node's default.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryRequest {
    /// How delays grow; exponential by default.
    pub strategy: Option<RetryStrategy>,
    /// The first delay, in seconds.
    pub base_seconds: Option<f64>,
    /// No delay is longer, in seconds.
    pub max_seconds: Option<f64>,
    /// The part of a delay that is drawn at random, 0 to 1.
    pub jitter: Option<f64>,
}

/// The body of `POST /api/v1/jobs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubmitRequest {
    /// What handles the job.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it waits; `default`.
    pub queue: Option<String>,
    /// Whose it is; `default`.
    pub tenant_id: Option<String>,
    /// What the handler gets; `null` by default.
    pub payload: Option<RawJson>,
    /// 0 to 9, 9 first; 5.
    pub priority: Option<i64>,
    /// How many attempts it has, 1 to 100; 5.
    pub max_attempts: Option<i64>,
    /// Not before this many seconds from now.
    pub delay_seconds: Option<f64>,
    /// Not before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled_at: Option<Timestamp>,
    /// How long an attempt may take; 300.
    pub timeout_seconds: Option<i64>,
    /// The version of the payload's shape; 1.
    pub schema_version: Option<i64>,
    /// Repeats with the same key are answered with the first job.
    pub idempotency_key: Option<String>,
    /// How long the key holds at least; 900.
    pub dedupe_window_seconds: Option<i64>,
    /// Jobs that must end first.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// What their failure means.
    #[serde(default)]
    pub dependency_policy: DependencyPolicy,
    /// A label that groups jobs.
    pub workflow_id: Option<WorkflowId>,
    /// The job that made it.
    pub parent_job_id: Option<JobId>,
    /// Its own retry policy.
    pub retry: Option<RetryRequest>,
    /// Free words to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Free data, an object.
    pub metadata: Option<RawJson>,
    /// The key that concurrency limits of scope `key` count by.
    pub concurrency_key: Option<String>,
    /// The key that a fair queue shares by; the tenant by default.
    pub fairness_key: Option<String>,
    /// What it takes from rate limits; 1.
    pub cost: Option<i64>,
    /// Canceled if it has not started by then; in the future, within ten years.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Not in this version: refused with 422 rather than ignored.
    pub on_finish: Option<serde_json::Value>,
    /// Of all jobs that agree in some parts there is to be one at a time.
    pub unique: Option<UniqueRequest>,
}

/// What a node fills in where a submission is silent.
#[derive(Clone, Copy, Debug)]
pub struct SubmitDefaults {
    /// The retry policy's base.
    pub retry_base: Duration,
    /// The retry policy's maximum.
    pub retry_max: Duration,
    /// How long an idempotency key holds.
    pub dedupe_window: Duration,
}

impl Default for SubmitDefaults {
    fn default() -> Self {
        Self {
            retry_base: Duration::from_secs(5),
            retry_max: Duration::from_secs(15 * 60),
            dedupe_window: Duration::from_secs(15 * 60),
        }
    }
}

impl SubmitRequest {
    /// Checks the submission and fills in what it leaves out. `now` is the store's time.
    ///
    /// # Errors
    /// Every field at fault, with a pointer into the body.
    pub fn check(self, defaults: &SubmitDefaults, now: Timestamp) -> Result<NewJob, Vec<FieldError>> {
        let mut faults = Faults::default();
        faults.name("/type", &self.kind);
        let queue = self.queue.unwrap_or_else(|| "default".into());
        faults.name("/queue", &queue);
        let tenant = self.tenant_id.unwrap_or_else(|| "default".into());
        faults.name("/tenantId", &tenant);
        let payload = self.payload.unwrap_or_else(RawJson::null);
        if payload.text().len() > PAYLOAD_BYTES_MAX {
            faults.add("/payload", format!("larger than {PAYLOAD_BYTES_MAX} bytes"));
        } else if let Err(fault) = json::check(payload.text(), JSON_DEPTH_MAX) {
            faults.add("/payload", fault.to_string());
        }
        let priority = faults.range("/priority", self.priority.unwrap_or(5), 0, 9);
        let max_attempts = faults.range("/maxAttempts", self.max_attempts.unwrap_or(5), 1, ATTEMPTS_MAX);
        let timeout_seconds =
            faults.range("/timeoutSeconds", self.timeout_seconds.unwrap_or(300), 1, TIMEOUT_SECONDS_MAX);
        let schema_version =
            faults.range("/schemaVersion", self.schema_version.unwrap_or(1), 1, i64::from(i32::MAX));
        let run_at = faults.run_at(self.delay_seconds, self.scheduled_at, now);
        let window_default = i64::try_from(defaults.dedupe_window.as_secs()).unwrap_or(i64::MAX);
        let window = faults.range(
            "/dedupeWindowSeconds",
            self.dedupe_window_seconds.unwrap_or(window_default),
            1,
            DELAY_SECONDS_MAX as i64,
        );
        let idempotency = self.idempotency_key.map(|key| {
            if !name::is_idempotency_key(&key) {
                faults.add("/idempotencyKey", "must be 1 to 255 printable ASCII characters");
            }
            let fingerprint = fingerprint(&self.kind, &queue, &payload);
            IdempotencyKey { key, window_seconds: u32::try_from(window).unwrap_or(u32::MAX), fingerprint }
        });
        let dependencies = faults.dependencies(&self.dependencies);
        let options = JobOptions {
            retry: self.retry.map(|retry| faults.retry(&retry, defaults)),
            tags: faults.tags(self.tags),
            metadata: self.metadata.inspect(|metadata| faults.metadata(metadata)),
            traceparent: None,
            concurrency_key: self.concurrency_key.inspect(|key| faults.name("/concurrencyKey", key)),
            fairness_key: self.fairness_key.inspect(|key| faults.name("/fairnessKey", key)),
            cost: self.cost.map(|cost| u32::try_from(faults.range("/cost", cost, 0, 1_000_000)).unwrap_or(1)),
            parent_job_id: self.parent_job_id,
            expires_at: self.expires_at.inspect(|at| faults.expires_at(*at, now)),
        };
        if self.on_finish.as_ref().is_some_and(|value| !value.is_null()) {
            faults.add("/onFinish", "not supported by this version of the node");
        }
        let parts = UniqueParts { tenant: &tenant, kind: &self.kind, queue: &queue, payload: &payload };
        let unique = self.unique.and_then(|unique| match unique.check(parts) {
            Ok(key) => Some(key),
            Err(found) => {
                faults.0.extend(found);
                None
            }
        });
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        Ok(NewJob {
            id: JobId::new(),
            kind: self.kind,
            queue,
            tenant,
            payload,
            priority: i16::try_from(priority).unwrap_or(5),
            run_at,
            max_attempts: i32::try_from(max_attempts).unwrap_or(5),
            timeout_seconds: i32::try_from(timeout_seconds).unwrap_or(300),
            schema_version: i32::try_from(schema_version).unwrap_or(1),
            idempotency,
            workflow_id: self.workflow_id,
            dependencies,
            dependency_policy: self.dependency_policy,
            unique,
            options,
        })
    }
}

/// Whether `value` is a W3C `traceparent`; one that is not is ignored, as its specification says.
#[must_use]
pub fn is_traceparent(value: &str) -> bool {
    let lower_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = value.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    lower_hex(version, 2)
        && version != "ff"
        && lower_hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && lower_hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && lower_hex(flags, 2)
        && (version != "00" || parts.next().is_none())
}

/// Hash of what a repeat of a submission must share: type, queue and the payload as a JSON value
/// (key order and white space do not count).
fn fingerprint(kind: &str, queue: &str, payload: &RawJson) -> [u8; 32] {
    // Through a `Value`, whose maps are sorted; a payload a `Value` cannot hold is taken as text.
    let canonical = serde_json::from_str::<serde_json::Value>(&json::comparable(payload.text()))
        .map_or_else(|_| payload.text().to_owned(), |value| value.to_string());
    let mut hash = Sha256::new();
    for part in [kind, queue, &canonical] {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

impl RetryRequest {
    /// Checks it, and fills in what is absent.
    ///
    /// # Errors
    /// All that is wrong, with pointers from `/retry` on.
    pub(super) fn check(&self, defaults: &SubmitDefaults) -> Result<RetryPolicy, Vec<FieldError>> {
        let mut faults = Faults::default();
        let policy = faults.retry(self, defaults);
        if faults.0.is_empty() { Ok(policy) } else { Err(faults.0) }
    }
}

#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<FieldError>);

impl Faults {
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, detail));
    }

    pub(super) fn name(&mut self, pointer: &str, value: &str) {
        if !name::is_name(value) {
            self.add(pointer, "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}");
        }
    }

    pub(super) fn range(&mut self, pointer: &str, value: i64, min: i64, max: i64) -> i64 {
        if !(min..=max).contains(&value) {
            self.add(pointer, format!("must be between {min} and {max}"));
        }
        value
    }

    fn run_at(&mut self, delay: Option<f64>, at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let latest = now.plus_millis((DELAY_SECONDS_MAX * 1_000.0) as i64);
        match (delay, at) {
            (Some(_), Some(_)) => {
                self.add("/scheduledAt", "give either delaySeconds or scheduledAt, not both");
                None
            }
            (Some(delay), None) if !(0.0..=DELAY_SECONDS_MAX).contains(&delay) => {
                self.add("/delaySeconds", "must be between 0 and ten years");
                None
            }
            (Some(delay), None) => Some(now.plus_millis((delay * 1_000.0).round() as i64)),
            (None, Some(at)) if at > latest => {
                self.add("/scheduledAt", "must be within ten years");
                None
            }
            (None, at) => at,
        }
    }

    fn expires_at(&mut self, at: Timestamp, now: Timestamp) {
        if at <= now {
            self.add("/expiresAt", "must be in the future");
        } else if at > now.plus_millis((DELAY_SECONDS_MAX * 1_000.0) as i64) {
            self.add("/expiresAt", "must be within ten years");
        }
    }

    fn dependencies(&mut self, ids: &[String]) -> Vec<JobId> {
        if ids.len() > DEPENDENCIES_MAX {
            self.add("/dependencies", format!("at most {DEPENDENCIES_MAX} jobs"));
            return Vec::new();
        }
        let mut parsed = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            match id.parse() {
                Ok(id) => parsed.push(id),
                Err(_) => self.add(format!("/dependencies/{index}"), "not a job id"),
            }
        }
        parsed.sort_unstable();
        parsed.dedup();
        parsed
    }

    fn retry(&mut self, retry: &RetryRequest, defaults: &SubmitDefaults) -> RetryPolicy {
        let base = retry.base_seconds.unwrap_or(defaults.retry_base.as_secs_f64());
        let max = retry.max_seconds.unwrap_or(defaults.retry_max.as_secs_f64().max(base));
        let jitter = retry.jitter.unwrap_or(DEFAULT_JITTER);
        if !(0.0..=DELAY_SECONDS_MAX).contains(&base) {
            self.add("/retry/baseSeconds", "must be between 0 and ten years");
        }
        if !(base..=DELAY_SECONDS_MAX).contains(&max) {
            self.add("/retry/maxSeconds", "must be between baseSeconds and ten years");
        }
        if !(0.0..=1.0).contains(&jitter) {
            self.add("/retry/jitter", "must be between 0 and 1");
        }
        let strategy = retry.strategy.unwrap_or(RetryStrategy::Exponential);
        RetryPolicy { strategy, base_seconds: base, max_seconds: max, jitter }
    }

    pub(super) fn tags(&mut self, tags: Vec<String>) -> Vec<String> {
        if tags.len() > TAGS_MAX {
            self.add("/tags", format!("at most {TAGS_MAX} tags"));
        }
        for (index, tag) in tags.iter().enumerate().take(TAGS_MAX) {
            self.name(&format!("/tags/{index}"), tag);
        }
        tags
    }

    fn metadata(&mut self, metadata: &RawJson) {
        let text = metadata.text();
        if !text.trim_start().starts_with('{') {
            self.add("/metadata", "must be an object");
        } else if text.len() > METADATA_BYTES_MAX {
            self.add("/metadata", format!("larger than {METADATA_BYTES_MAX} bytes"));
        } else if let Err(fault) = json::check(text, JSON_DEPTH_MAX) {
            self.add("/metadata", fault.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<NewJob, Vec<String>> {
        let request: SubmitRequest = serde_json::from_str(body).expect("well-formed");
        request
            .check(&SubmitDefaults::default(), Timestamp(1_000_000_000))
            .map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn a_type_is_enough() {
        let job = check(r#"{"type":"noop"}"#).expect("valid");
        assert_eq!((job.queue.as_str(), job.tenant.as_str(), job.priority), ("default", "default", 5));
        assert_eq!((job.max_attempts, job.timeout_seconds, job.payload.text()), (5, 300, "null"));
        assert_eq!(job.run_at, None);
        assert_eq!(job.options.to_stored(), None);
    }

    #[test]
    fn every_fault_is_named_with_its_pointer() {
        let body = r#"{"type":"a b","queue":"","tenantId":"-","priority":10,"maxAttempts":0,
            "timeoutSeconds":604801,"delaySeconds":-1,"idempotencyKey":"","dependencies":["x"],
            "retry":{"baseSeconds":-1,"jitter":2},"tags":["ok","not ok"],"metadata":[],"payload":1e400,
            "expiresAt":"2030-01-01T00:00:00Z","onFinish":{},"unique":{"by":["x"]}}"#;
        let mut pointers = check(body).expect_err("invalid");
        pointers.sort();
        assert_eq!(
            pointers,
            [
                "/delaySeconds",
                "/dependencies/0",
                "/expiresAt",
                "/idempotencyKey",
                "/maxAttempts",
                "/metadata",
                "/onFinish",
                "/payload",
                "/priority",
                "/queue",
                "/retry/baseSeconds",
                "/retry/jitter",
                "/tags/1",
                "/tenantId",
                "/timeoutSeconds",
                "/type",
                "/unique/by/0"
            ]
        );
    }

    #[test]
    fn limits_hold_at_their_edges() {
        assert!(check(r#"{"type":"t","maxAttempts":100,"timeoutSeconds":604800,"priority":9}"#).is_ok());
        let long = |n: usize| format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(n - 2));
        assert!(check(&long(PAYLOAD_BYTES_MAX)).is_ok());
        assert_eq!(check(&long(PAYLOAD_BYTES_MAX + 1)).expect_err("too large"), ["/payload"]);
    }

    #[test]
    fn expiry_is_in_the_future_and_within_ten_years() {
        let at = |micros: i64| check(&format!(r#"{{"type":"t","expiresAt":"{}"}}"#, Timestamp(micros)));
        let latest = Timestamp(1_000_000_000).plus_millis(DELAY_SECONDS_MAX as i64 * 1_000).0;
        for micros in [1_000_000_001, latest] {
            assert_eq!(at(micros).expect("valid").options.expires_at, Some(Timestamp(micros)));
        }
        for micros in [0, 1_000_000_000, latest + 1] {
            assert_eq!(at(micros).expect_err("too early or late"), ["/expiresAt"]);
        }
    }

    #[test]
    fn a_repeat_is_recognised_by_value_not_by_text() {
        let print = |body: &str| check(body).expect("valid").idempotency.expect("has a key").fingerprint;
        let first = print(r#"{"type":"t","idempotencyKey":"k","payload":{"a":1,"b":[2]}}"#);
        assert_eq!(first, print(r#"{"type":"t","idempotencyKey":"k","payload":{ "b":[2], "a":1 }}"#));
        assert_ne!(first, print(r#"{"type":"t","idempotencyKey":"k","payload":{"a":2,"b":[2]}}"#));
        assert_ne!(
            first,
            print(r#"{"type":"t","queue":"q","idempotencyKey":"k","payload":{"a":1,"b":[2]}}"#)
        );
    }

    #[test]
    fn trace_contexts_are_told_from_noise() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in ["", "00-0-0-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}

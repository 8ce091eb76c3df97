//! A change of a waiting job: its shape on the wire and its checks.

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    clock::Timestamp,
    json::{self, RawJson},
    submit::{ATTEMPTS_MAX, Faults, FieldError, JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX},
};

/// What is to be changed of a job; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobPatch {
    /// 0 to 9.
    pub priority: Option<i16>,
    /// Another queue.
    pub queue: Option<String>,
    /// Not before it; a time past is the store's now.
    pub run_at: Option<Timestamp>,
    /// What the handler gets.
    pub payload: Option<RawJson>,
    /// Attempts it has; not below those it has used.
    pub max_attempts: Option<i32>,
    /// Free words, replacing those it has.
    pub tags: Option<Vec<String>>,
}

/// The body of `PATCH /api/v1/jobs/{id}`. What is left out, or null, stays; but a payload of null is one.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchRequest {
    /// 0 to 9, 9 first.
    pub priority: Option<i64>,
    /// Another queue.
    pub queue: Option<String>,
    /// Not before this time; one that is past is now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub run_at: Option<Timestamp>,
    /// What the handler gets.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub payload: Option<RawJson>,
    /// How many attempts it has, 1 to 100; not fewer than it has used.
    pub max_attempts: Option<i64>,
    /// Free words to filter by; an empty list takes them away.
    pub tags: Option<Vec<String>>,
}

/// A payload of null is a payload.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

impl PatchRequest {
    /// Checks the change. `now` is the store's time.
    ///
    /// # Errors
    /// Every field at fault, with a pointer into the body; the body itself when it changes nothing.
    pub fn check(self, now: Timestamp) -> Result<JobPatch, Vec<FieldError>> {
        let mut faults = Faults::default();
        let priority = self.priority.map(|priority| faults.range("/priority", priority, 0, 9));
        let most = self.max_attempts.map(|most| faults.range("/maxAttempts", most, 1, ATTEMPTS_MAX));
        let patch = JobPatch {
            priority: priority.map(|priority| i16::try_from(priority).unwrap_or(5)),
            queue: self.queue.inspect(|queue| faults.name("/queue", queue)),
            run_at: faults.time("/runAt", self.run_at, now),
            payload: self.payload.inspect(|payload| faults.payload(payload)),
            max_attempts: most.map(|most| i32::try_from(most).unwrap_or(5)),
            tags: self.tags.map(|tags| faults.tags(tags)),
        };
        if faults.0.is_empty() && patch == JobPatch::default() {
            let fields = "priority, queue, runAt, payload, maxAttempts, tags";
            faults.add("", format!("changes nothing: give at least one of {fields}"));
        }
        if faults.0.is_empty() { Ok(patch) } else { Err(faults.0) }
    }
}

impl Faults {
    fn payload(&mut self, payload: &RawJson) {
        if payload.text().len() > PAYLOAD_BYTES_MAX {
            self.add("/payload", format!("larger than {PAYLOAD_BYTES_MAX} bytes"));
        } else if let Err(fault) = json::check(payload.text(), JSON_DEPTH_MAX) {
            self.add("/payload", fault.to_string());
        }
    }

    fn time(&mut self, pointer: &str, at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let latest = now.plus_millis((super::retry::DELAY_SECONDS_MAX * 1_000.0) as i64);
        if at.is_some_and(|at| at > latest) {
            self.add(pointer, "must be within ten years");
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<JobPatch, Vec<String>> {
        let request: PatchRequest = serde_json::from_str(body).expect("well-formed");
        let faults = |faults: Vec<FieldError>| faults.into_iter().map(|fault| fault.pointer).collect();
        request.check(Timestamp(1_000_000_000)).map_err(faults)
    }

    #[test]
    fn what_is_given_is_changed_and_null_is_a_payload() {
        let patch = check(r#"{"priority":9,"tags":[],"payload":null,"queue":null}"#).expect("valid");
        assert_eq!((patch.priority, patch.queue, patch.run_at), (Some(9), None, None));
        assert_eq!(patch.payload.map(|payload| payload.text().to_owned()), Some("null".to_owned()));
        assert_eq!(patch.tags, Some(Vec::new()));
    }

    #[test]
    fn every_fault_is_named_and_an_empty_change_is_one() {
        let body = r#"{"priority":10,"queue":"a b","runAt":"2999-01-01T00:00:00Z","payload":1e400,
            "maxAttempts":0,"tags":["x y"]}"#;
        let mut pointers = check(body).expect_err("invalid");
        pointers.sort();
        assert_eq!(pointers, ["/maxAttempts", "/payload", "/priority", "/queue", "/runAt", "/tags/0"]);
        for empty in ["{}", r#"{"priority":null}"#, r#"{"state":"queued"}"#] {
            assert_eq!(check(empty).expect_err("empty"), [""], "{empty}");
        }
    }
}

//! What an operator may set for a queue, live.

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    retry::RetryPolicy,
    submit::{FieldError, RetryRequest, SubmitDefaults},
};

/// The most jobs of a queue that may be set to run at once.
pub const CONCURRENCY_MAX: i64 = 100_000;
/// The most waiting jobs that a queue may be set to take.
pub const DEPTH_MAX: i64 = 1_000_000_000;
/// The slowest aging: a day for each step of priority.
pub const AGING_SECONDS_MAX: f64 = 86_400.0;
/// The fastest aging: below it order would be by time alone, which a single priority gives for less.
pub const AGING_SECONDS_MIN: f64 = 0.1;
/// The longest lease without a renewal.
pub const LEASE_TTL_SECONDS_MAX: i64 = 86_400;
/// The most partitions of a queue.
pub const PARTITIONS_MAX: i64 = 64;

/// The settings of a queue; what is absent is as the node has it. Fields that a later version wrote are
/// tolerated, and dropped with the next change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueConfig {
    /// How many of its jobs run at once, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The retry policy of jobs that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// How many jobs may wait, in whatever state; a submission beyond it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<i64>,
    /// How keys share the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// After so many seconds of waiting, and again after as many, a ready job's priority counts as one higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aging_seconds: Option<f64>,
    /// How long a lease lasts without a renewal, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ttl_seconds: Option<u32>,
    /// Over how many partitions it is spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
}

/// How keys share a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fairness {
    /// By what.
    pub by: FairnessBy,
}

/// What a queue is shared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FairnessBy {
    /// Not at all: strictly by priority and time.
    None,
    /// By tenant; not in this version.
    Tenant,
    /// By the jobs' fairness key; not in this version.
    Key,
}

/// What a submission may ask of a queue's sharing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FairnessRequest {
    /// By what; only `none` in this version.
    pub by: FairnessBy,
    /// The parts of keys; not in this version.
    #[schema(value_type = Option<Object>)]
    pub weights: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A change of a queue's settings: what is absent stays, what is `null` goes back to the node's default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QueuePatch {
    /// How many of its jobs run at once, at most; 1 to 100,000.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub concurrency: Option<Option<i64>>,
    /// The retry policy of jobs that have none of their own.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RetryRequest>)]
    pub retry: Option<Option<RetryRequest>>,
    /// How many jobs may wait, in whatever state; a submission beyond it is answered 429.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub max_depth: Option<Option<i64>>,
    /// How keys share the queue; only `{"by":"none"}` in this version.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FairnessRequest>)]
    pub fairness: Option<Option<FairnessRequest>>,
    /// After so many seconds of waiting, and again after as many, a ready job's priority counts as one higher;
    /// 0.1 to 86,400.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub aging_seconds: Option<Option<f64>>,
    /// How long a lease lasts without a renewal, in seconds; 1 to 86,400. For leases given from now on; running
    /// ones are only ever prolonged.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub lease_ttl_seconds: Option<Option<i64>>,
    /// Over how many partitions it is spread; only 1 in this version.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub partitions: Option<Option<i64>>,
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A change that was checked: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueChange {
    concurrency: Option<Option<u32>>,
    retry: Option<Option<RetryPolicy>>,
    max_depth: Option<Option<i64>>,
    fairness: Option<Option<Fairness>>,
    aging_seconds: Option<Option<f64>>,
    lease_ttl_seconds: Option<Option<u32>>,
    partitions: Option<Option<u32>>,
}

impl QueuePatch {
    /// Checks every field.
    ///
    /// # Errors
    /// All that is wrong, with pointers.
    pub fn check(self, defaults: &SubmitDefaults) -> Result<QueueChange, Vec<FieldError>> {
        let mut faults = Vec::new();
        let mut whole = |pointer: &str, value: Option<Option<i64>>, min: i64, max: i64| {
            if value.flatten().is_some_and(|value| !(min..=max).contains(&value)) {
                faults.push(FieldError::new(pointer, format!("must be between {min} and {max}")));
            }
            value.map(|value| value.and_then(|value| u32::try_from(value).ok()))
        };
        let concurrency = whole("/concurrency", self.concurrency, 1, CONCURRENCY_MAX);
        let lease_ttl_seconds = whole("/leaseTtlSeconds", self.lease_ttl_seconds, 1, LEASE_TTL_SECONDS_MAX);
        let partitions = whole("/partitions", self.partitions, 1, PARTITIONS_MAX);
        whole("/maxDepth", self.max_depth, 0, DEPTH_MAX);
        if partitions
            .flatten()
            .is_some_and(|partitions| (2..=PARTITIONS_MAX).contains(&i64::from(partitions)))
        {
            faults.push(FieldError::new("/partitions", "more than 1 is not available yet"));
        }
        let aging = AGING_SECONDS_MIN..=AGING_SECONDS_MAX;
        if self.aging_seconds.flatten().is_some_and(|seconds| !aging.contains(&seconds)) {
            let detail = format!("must be between {AGING_SECONDS_MIN} and {AGING_SECONDS_MAX}");
            faults.push(FieldError::new("/agingSeconds", detail));
        }
        let fairness = self.fairness.map(|fairness| {
            fairness.map(|fairness| {
                if fairness.by != FairnessBy::None {
                    faults.push(FieldError::new("/fairness/by", "only \"none\" is available yet"));
                }
                if fairness.weights.is_some() {
                    faults.push(FieldError::new("/fairness/weights", "not available yet"));
                }
                Fairness { by: FairnessBy::None }
            })
        });
        let mut retry = None;
        if let Some(asked) = self.retry {
            retry = Some(
                asked.and_then(|asked| asked.check(defaults).map_err(|found| faults.extend(found)).ok()),
            );
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(QueueChange {
            concurrency,
            retry,
            max_depth: self.max_depth,
            fairness,
            aging_seconds: self.aging_seconds,
            lease_ttl_seconds,
            partitions,
        })
    }
}

impl QueueConfig {
    /// From what is stored; what cannot be read is as if it were not there.
    #[must_use]
    pub fn from_stored(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As it is stored.
    #[must_use]
    pub fn to_stored(&self) -> String {
        // Numbers and names alone: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// With a change made.
    #[must_use]
    pub fn with(&self, change: &QueueChange) -> Self {
        Self {
            concurrency: change.concurrency.unwrap_or(self.concurrency),
            retry: change.retry.unwrap_or(self.retry),
            max_depth: change.max_depth.unwrap_or(self.max_depth),
            fairness: change.fairness.clone().unwrap_or_else(|| self.fairness.clone()),
            aging_seconds: change.aging_seconds.unwrap_or(self.aging_seconds),
            lease_ttl_seconds: change.lease_ttl_seconds.unwrap_or(self.lease_ttl_seconds),
            partitions: change.partitions.unwrap_or(self.partitions),
        }
    }

    /// How long a lease lasts without a renewal, in milliseconds, if it is set.
    #[must_use]
    pub fn lease_ttl_ms(&self) -> Option<u64> {
        self.lease_ttl_seconds.map(|seconds| u64::from(seconds) * 1_000)
    }

    /// How long a job waits for each step of priority, in microseconds, if it is set.
    #[must_use]
    pub fn aging_micros(&self) -> Option<i64> {
        self.aging_seconds.map(|seconds| ((seconds * 1e6) as i64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(body: &str) -> Result<QueueChange, Vec<String>> {
        let patch: QueuePatch = serde_json::from_str(body).expect("well-formed");
        let checked = patch.check(&SubmitDefaults::default());
        checked.map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn what_is_absent_stays_and_null_takes_away() {
        let first = QueueConfig::default().with(&change(r#"{"concurrency":3,"maxDepth":0}"#).expect("valid"));
        assert_eq!((first.concurrency, first.max_depth), (Some(3), Some(0)));
        let second = first.with(&change(r#"{"concurrency":null,"agingSeconds":0.5}"#).expect("valid"));
        assert_eq!((second.concurrency, second.max_depth), (None, Some(0)));
        assert_eq!(second.aging_micros(), Some(500_000));
        assert_eq!(second.with(&change("{}").expect("valid")), second);
    }

    #[test]
    fn every_fault_is_named_with_its_pointer() {
        let body = r#"{"concurrency":0,"maxDepth":-1,"agingSeconds":0,"leaseTtlSeconds":86401,"partitions":65,
            "retry":{"jitter":2,"baseSeconds":-1},"fairness":{"by":"tenant","weights":{"a":3}}}"#;
        let mut faults = change(body).expect_err("invalid");
        faults.sort();
        assert_eq!(
            faults,
            [
                "/agingSeconds",
                "/concurrency",
                "/fairness/by",
                "/fairness/weights",
                "/leaseTtlSeconds",
                "/maxDepth",
                "/partitions",
                "/retry/baseSeconds",
                "/retry/jitter"
            ]
        );
        assert_eq!(change(r#"{"partitions":2}"#).expect_err("not yet"), ["/partitions"]);
        assert!(change(r#"{"partitions":1,"fairness":{"by":"none"}}"#).is_ok());
    }

    #[test]
    fn what_is_stored_is_read_back_and_what_is_not_known_is_tolerated() {
        let config = QueueConfig::default().with(
            &change(
                r#"{"concurrency":7,"retry":{"strategy":"fixed","baseSeconds":1},"fairness":{"by":"none"}}"#,
            )
            .expect("valid"),
        );
        assert_eq!(QueueConfig::from_stored(Some(&config.to_stored())), config);
        let later = r#"{"concurrency":7,"mood":"good"}"#;
        assert_eq!(QueueConfig::from_stored(Some(later)).concurrency, Some(7));
        assert_eq!(QueueConfig::from_stored(Some("not json")), QueueConfig::default());
        assert_eq!(QueueConfig::from_stored(None), QueueConfig::default());
    }
}

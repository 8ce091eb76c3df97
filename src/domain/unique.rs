//! Jobs of which there is to be one at a time.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    json::{self, RawJson},
    retry::DELAY_SECONDS_MAX,
    state::JobState,
    submit::FieldError,
};

/// The most parts of a submission that a key is made of.
pub const UNIQUE_PARTS_MAX: usize = 20;
/// The most bytes of one of them.
pub const UNIQUE_PART_BYTES_MAX: usize = 256;

/// What becomes of a submission whose key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It is answered with the job that has the key.
    #[default]
    Existing,
    /// It is refused.
    Reject,
    /// The job that has the key takes the new payload, if it waits.
    Replace,
}

/// Of all jobs that agree in `by` there is to be one at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UniqueRequest {
    /// `type`, `queue`, `/payload`, or a JSON pointer below it; all three by default. Always within the tenant.
    pub by: Option<Vec<String>>,
    /// The key is free this long after the job that has it was made, whatever its state.
    pub period_seconds: Option<i64>,
    /// The key is free when its job is in none of these; by default in none that is not terminal.
    pub states: Option<Vec<JobState>>,
    /// What becomes of a submission whose key is taken.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// A key that one job at a time has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueKey {
    /// Hash of the tenant and what the jobs agree in.
    pub hash: [u8; 32],
    /// It is free this long after its job was made.
    pub period_seconds: Option<u32>,
    /// Bit `n` for each state with the code `n`: it is free when its job is in another.
    pub states: i16,
    /// What becomes of a submission that finds it taken.
    pub on_conflict: OnConflict,
}

impl UniqueKey {
    /// Whether a job in `state` keeps the key with this set of states.
    #[must_use]
    pub fn is_kept_in(states: i16, state: JobState) -> bool {
        states & bit(state) != 0
    }
}

fn bit(state: JobState) -> i16 {
    1 << state.code()
}

/// What a key is made from.
#[derive(Clone, Copy, Debug)]
pub struct UniqueParts<'a> {
    /// Whose the job is.
    pub tenant: &'a str,
    /// What handles it.
    pub kind: &'a str,
    /// Where it waits.
    pub queue: &'a str,
    /// What the handler gets.
    pub payload: &'a RawJson,
}

impl UniqueRequest {
    /// Checks the request, and makes its key.
    ///
    /// # Errors
    /// The fields at fault, with pointers from the root of the submission.
    pub fn check(self, parts: UniqueParts<'_>) -> Result<UniqueKey, Vec<FieldError>> {
        let mut faults = Vec::new();
        let by = self.by.unwrap_or_else(|| ["type", "queue", "/payload"].map(str::to_owned).to_vec());
        if by.is_empty() || by.len() > UNIQUE_PARTS_MAX {
            faults.push(FieldError::new("/unique/by", format!("1 to {UNIQUE_PARTS_MAX} parts")));
        }
        for (index, part) in by.iter().enumerate().take(UNIQUE_PARTS_MAX) {
            if !is_part(part) {
                let detail = "must be `type`, `queue`, `/payload` or a JSON pointer below it";
                faults.push(FieldError::new(format!("/unique/by/{index}"), detail));
            }
        }
        let period = self.period_seconds;
        if period.is_some_and(|period| !(1..=DELAY_SECONDS_MAX as i64).contains(&period)) {
            faults.push(FieldError::new("/unique/periodSeconds", "must be between 1 and ten years"));
        }
        let states = match &self.states {
            Some(states) if states.is_empty() => {
                faults.push(FieldError::new("/unique/states", "must name a state"));
                0
            }
            Some(states) => states.iter().fold(0, |set, state| set | bit(*state)),
            None => JobState::ALL.iter().filter(|state| !state.is_terminal()).fold(0, |set, s| set | bit(*s)),
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(UniqueKey {
            hash: hash(by, parts),
            period_seconds: period.and_then(|period| u32::try_from(period).ok()),
            states,
            on_conflict: self.on_conflict,
        })
    }
}

fn is_part(part: &str) -> bool {
    let below = part.strip_prefix("/payload").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // `~` is only there to escape: `~0` and `~1`.
    let escapes = part.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    part.len() <= UNIQUE_PART_BYTES_MAX && (matches!(part, "type" | "queue") || below && escapes)
}

/// Parts in another order, or named twice, make the same key. Values agree as JSON values.
fn hash(mut by: Vec<String>, parts: UniqueParts<'_>) -> [u8; 32] {
    by.sort_unstable();
    by.dedup();
    let value: Option<Value> = serde_json::from_str(&json::comparable(parts.payload.text())).ok();
    let mut hash = Sha256::new();
    let mut put = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    };
    put(parts.tenant);
    for part in &by {
        put(part);
        match (part.strip_prefix("/payload"), &value) {
            (None, _) => put(if part == "type" { parts.kind } else { parts.queue }),
            // What no value can hold is taken as the text it is.
            (Some(_), None) => put(parts.payload.text()),
            // What is not there differs from every value: none is written without text.
            (Some(pointer), Some(value)) => {
                put(&value.pointer(pointer).map_or_else(String::new, Value::to_string));
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(unique: &str, kind: &str, payload: &str) -> Result<UniqueKey, Vec<String>> {
        let request: UniqueRequest = serde_json::from_str(unique).expect("well-formed");
        let payload = RawJson::trusted(payload);
        let parts = UniqueParts { tenant: "default", kind, queue: "q", payload: &payload };
        request.check(parts).map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn jobs_that_agree_in_what_is_named_have_one_key() {
        let by = |by: &str, kind: &str, payload: &str| key(by, kind, payload).expect("valid").hash;
        let all = "{}";
        assert_eq!(by(all, "t", r#"{"a":1,"b":2}"#), by(all, "t", r#"{ "b":2, "a":1 }"#));
        assert_ne!(by(all, "t", "1"), by(all, "t", "2"));
        assert_ne!(by(all, "t", "1"), by(all, "u", "1"));
        let user = r#"{"by":["/payload/user","type"]}"#;
        let again = r#"{"by":["type","/payload/user","type"]}"#;
        assert_eq!(by(user, "t", r#"{"user":7,"n":1}"#), by(again, "t", r#"{"user":7,"n":2}"#));
        assert_ne!(by(user, "t", r#"{"user":7}"#), by(user, "t", r#"{"user":"7"}"#));
        assert_ne!(by(user, "t", r#"{"user":null}"#), by(user, "t", "{}"));
        assert_ne!(by(r#"{"by":["type"]}"#, "q", "1"), by(r#"{"by":["queue"]}"#, "q", "1"));
    }

    #[test]
    fn every_fault_is_named() {
        let bad = r#"{"by":["type","tenant","payload","/payloads","/payload~","/x"],"periodSeconds":0,"states":[]}"#;
        let faults = key(bad, "t", "1").expect_err("invalid");
        let by = ["/unique/by/1", "/unique/by/2", "/unique/by/3", "/unique/by/4", "/unique/by/5"];
        assert_eq!(faults[..5], by);
        assert_eq!(faults[5..], ["/unique/periodSeconds", "/unique/states"]);
        assert_eq!(key(r#"{"by":[]}"#, "t", "1").expect_err("empty"), ["/unique/by"]);
    }

    #[test]
    fn by_default_a_key_is_kept_until_its_job_has_ended() {
        let states = key("{}", "t", "1").expect("valid").states;
        for state in JobState::ALL {
            assert_eq!(UniqueKey::is_kept_in(states, state), !state.is_terminal(), "{state}");
        }
        let states = key(r#"{"states":["queued","completed"]}"#, "t", "1").expect("valid").states;
        assert!(
            UniqueKey::is_kept_in(states, JobState::Completed)
                && !UniqueKey::is_kept_in(states, JobState::Active)
        );
    }
}

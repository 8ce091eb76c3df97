//! What clients submit: every way in which a job may wait, fail and depend.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Several shards, so that what depends on what crosses them.
const QUEUES: [&str; 4] = ["mail", "images", "reports", "default"];

/// One submission: its key means one job, however often it is sent.
#[derive(Debug, Clone)]
pub(super) struct Submission {
    pub(super) key: String,
    pub(super) body: Value,
}

impl Submission {
    /// A submission of chance; it may depend on some of `earlier`.
    pub(super) fn random(key: String, chance: &mut StdRng, earlier: &[String]) -> Self {
        let mut payload = json!({});
        if chance.random_bool(0.5) {
            let longest = if chance.random_bool(0.2) { 300 } else { 40 };
            payload["durationMs"] = chance.random_range(0..=longest).into();
        }
        let mut body = json!({
            "type": "noop",
            "queue": QUEUES[chance.random_range(0..QUEUES.len())],
            "idempotencyKey": key,
            "priority": chance.random_range(0..10),
            // More than the few deaths that a job may meet.
            "maxAttempts": 20,
        });
        if chance.random_bool(0.15) {
            payload["forceError"] = true.into();
            body["retry"] = json!({"baseSeconds": 0.05, "maxSeconds": 0.1});
            body["maxAttempts"] = chance.random_range(1..=20).into();
        }
        if chance.random_bool(0.2) {
            body["delaySeconds"] = chance.random_range(0.0..2.0).into();
        }
        if chance.random_bool(0.3) && !earlier.is_empty() {
            // The newest are the ones that may still run.
            let newest = &earlier[earlier.len().saturating_sub(20)..];
            let mut on: Vec<&String> = (0..chance.random_range(1..=3))
                .map(|_| &newest[chance.random_range(0..newest.len())])
                .collect();
            on.sort_unstable();
            on.dedup();
            body["dependencies"] = json!(on);
            body["dependencyPolicy"] = if chance.random_bool(0.5) { "allow_failed" } else { "block" }.into();
        }
        body["payload"] = payload;
        Self { key, body }
    }

    /// As the history names it.
    pub(super) fn named(&self) -> Value {
        let field = |name: &str| self.body.get(name).cloned().unwrap_or_default();
        json!({"key": self.key, "dependsOn": field("dependencies"), "dependencyPolicy": field("dependencyPolicy")})
    }
}

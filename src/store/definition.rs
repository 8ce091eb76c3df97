//! What a replay changes of a job's definition, for its timeline and the audit log. Shared by the engines.

use serde_json::{Map, Value};

use super::{
    assemble::{JobRow, OutcomeRow},
    ops::{AuditOp, ReplayOp},
};
use crate::domain::RawJson;

/// The part of a definition that a replay may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) queue: String,
    pub(super) kind: String,
    pub(super) priority: i16,
    pub(super) payload: RawJson,
}

impl Definition {
    /// As the job had it when it ended.
    pub(super) fn of(job: &JobRow, outcome: &OutcomeRow) -> Self {
        Self {
            queue: outcome.queue.clone(),
            kind: job.kind.clone(),
            priority: outcome.priority,
            payload: RawJson::trusted(job.payload.as_str()),
        }
    }

    /// As a replay leaves it.
    pub(super) fn replayed(&self, op: &ReplayOp) -> Self {
        let patch = &op.patch;
        Self {
            queue: patch.queue.clone().unwrap_or_else(|| self.queue.clone()),
            kind: patch.kind.clone().unwrap_or_else(|| self.kind.clone()),
            priority: patch.priority.unwrap_or(self.priority),
            payload: patch.payload.clone().unwrap_or_else(|| self.payload.clone()),
        }
    }

    /// As JSON; the payload byte for byte.
    fn json(&self) -> RawJson {
        let text = |value: &str| Value::from(value).to_string();
        RawJson::trusted(format!(
            r#"{{"queue":{},"type":{},"priority":{},"payload":{}}}"#,
            text(&self.queue),
            text(&self.kind),
            self.priority,
            self.payload.text()
        ))
    }

    /// What the timeline says of the change; nothing when there is none.
    pub(super) fn told(&self, after: &Self) -> Option<Value> {
        let mut told = Map::new();
        if self.queue != after.queue {
            told.insert("queue".to_owned(), Value::from(after.queue.as_str()));
        }
        if self.kind != after.kind {
            told.insert("type".to_owned(), Value::from(after.kind.as_str()));
        }
        if self.priority != after.priority {
            told.insert("priority".to_owned(), Value::from(after.priority));
        }
        if self.payload != after.payload {
            told.insert("payloadChanged".to_owned(), Value::Bool(true));
        }
        (!told.is_empty()).then_some(Value::Object(told))
    }

    /// The audit log's row.
    pub(super) fn audit(&self, after: &Self, op: &ReplayOp) -> AuditOp {
        AuditOp {
            action: "dead_letter.replayed",
            object_type: "job",
            object_id: op.job.to_string(),
            by: op.by.clone(),
            before: Some(self.json()),
            after: Some(after.json()),
        }
    }
}

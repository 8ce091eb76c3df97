//! Controls of a running job, and their receipts.

use serde::{Deserialize, Serialize};

use super::{
    clock::Timestamp,
    state::JobState,
    timeline::{EventKind, TimelineRow},
};

/// What was asked of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlKind {
    /// To stop.
    Cancel,
}

/// A control of a running job, with the times at which it came further; each comes once, in this order.
///
/// ```text
/// requested (committed) → delivered (its worker has it) → acknowledged (its handler stops) → effective (ended by it)
/// ```
/// A control may take effect by force, unacknowledged. One whose attempt ended otherwise never takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// What was asked.
    pub kind: ControlKind,
    /// When it was asked, and durable.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// When its worker was told. Kept in memory, as the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
    /// When its handler saw it, or its attempt began to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acknowledged_at: Option<Timestamp>,
    /// When the job ended by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub effective_at: Option<Timestamp>,
    /// Why it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Control {
    /// A cancel that was asked for.
    #[must_use]
    pub fn cancel(requested_at: Timestamp) -> Self {
        Self {
            kind: ControlKind::Cancel,
            requested_at,
            delivered_at: None,
            acknowledged_at: None,
            effective_at: None,
            reason: None,
        }
    }

    /// Its worker has it; `false` when that was known.
    pub fn deliver(&mut self, at: Timestamp) -> bool {
        let is_new = self.delivered_at.is_none();
        self.delivered_at.get_or_insert(at);
        is_new
    }

    /// Its handler obeys, and so it was delivered; `false` when that was known.
    pub fn acknowledge(&mut self, at: Timestamp) -> bool {
        self.deliver(at);
        let is_new = self.acknowledged_at.is_none();
        self.acknowledged_at.get_or_insert(at);
        is_new
    }

    /// The controls that a timeline tells of, oldest first.
    #[must_use]
    pub fn of_timeline(rows: &[TimelineRow]) -> Vec<Self> {
        let mut controls: Vec<Self> = Vec::new();
        // Whether the attempt that the newest one was for goes on.
        let mut is_open = false;
        for row in rows {
            match row.kind {
                EventKind::CancelRequested => {
                    let metadata = row.metadata.as_ref().map(|metadata| metadata.text());
                    let told: Option<Told> = metadata.and_then(|text| serde_json::from_str(text).ok());
                    let mut control = Self::cancel(row.occurred_at);
                    control.reason = told.and_then(|told| told.reason);
                    controls.push(control);
                    is_open = true;
                }
                _ if row.state == JobState::Active => {}
                _ => {
                    if let (true, Some(control)) = (is_open, controls.last_mut()) {
                        control.effective_at = (row.state == JobState::Canceled).then_some(row.occurred_at);
                    }
                    is_open = false;
                }
            }
        }
        controls
    }

    /// Adds what only memory knows of it.
    pub fn recall(&mut self, known: &Self) {
        self.delivered_at = self.delivered_at.or(known.delivered_at);
        self.acknowledged_at = self.acknowledged_at.or(known.acknowledged_at);
    }
}

/// What the row of a request tells.
#[derive(Deserialize)]
struct Told {
    reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, RawJson};

    fn row(seq: i64, kind: EventKind, state: JobState) -> TimelineRow {
        TimelineRow {
            job_id: JobId::new(),
            seq,
            kind,
            message: String::new(),
            occurred_at: Timestamp(seq),
            state,
            attempt: None,
            fence: None,
            worker_id: None,
            metadata: (kind == EventKind::CancelRequested).then(|| RawJson::trusted(r#"{"reason":"asked"}"#)),
        }
    }

    #[test]
    fn receipts_come_once_and_in_order() {
        let mut control = Control::cancel(Timestamp(1));
        assert!(control.acknowledge(Timestamp(3)), "who obeys was told");
        assert_eq!(control.delivered_at, Some(Timestamp(3)));
        assert!(!control.deliver(Timestamp(4)) && !control.acknowledge(Timestamp(5)));
        assert_eq!(control.acknowledged_at, Some(Timestamp(3)));
    }

    #[test]
    fn a_timeline_tells_what_was_asked_and_what_came_of_it() {
        use {EventKind as K, JobState as S};
        let mut rows = vec![
            row(1, K::Enqueued, S::Queued),
            row(2, K::Started, S::Active),
            row(3, K::CancelRequested, S::Active),
        ];
        let open = Control::of_timeline(&rows);
        assert_eq!((open.len(), open[0].requested_at, open[0].effective_at), (1, Timestamp(3), None));
        assert_eq!(open[0].reason.as_deref(), Some("asked"));
        rows.push(row(4, K::Completed, S::Completed));
        assert_eq!(Control::of_timeline(&rows)[0].effective_at, None, "it came too late");
        rows[3] = row(4, K::Failed, S::Failed);
        rows.push(row(5, K::Canceled, S::Canceled));
        assert_eq!(Control::of_timeline(&rows)[0].effective_at, None, "the attempt ended before");
        rows.truncate(3);
        rows.push(row(4, K::Canceled, S::Canceled));
        assert_eq!(Control::of_timeline(&rows)[0].effective_at, Some(Timestamp(4)));
    }
}

//! The tree as it is shown to people: `GET /supervision`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ractor::ActorStatus;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::directory::{Directory, Slot};
use super::path;
use super::probe::{LastRestart, Mailbox, Messages};

/// Children shown of one actor where no limit is asked for.
pub const PAGE_LIMIT_DEFAULT: usize = 100;
/// Actors in one answer, whatever was asked for: past it children are cut, with a cursor to go on from.
pub const NODES_MAX: usize = 5_000;
/// Children looked at under one lock.
const CHUNK: usize = 512;

/// How an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being built.
    Starting,
    /// Handles messages.
    Running,
    /// Handles what it has, takes no more.
    Draining,
    /// Is ending.
    Stopping,
    /// Ended.
    Stopped,
    /// Failed, and will be started again after a pause.
    Restarting,
    /// Failed too often: left down, tried now and then, cleared by an operator's restart.
    Quarantined,
}

impl From<ActorStatus> for Status {
    fn from(status: ActorStatus) -> Self {
        match status {
            ActorStatus::Unstarted | ActorStatus::Starting => Self::Starting,
            ActorStatus::Running | ActorStatus::Upgrading => Self::Running,
            ActorStatus::Draining => Self::Draining,
            ActorStatus::Stopping => Self::Stopping,
            ActorStatus::Stopped => Self::Stopped,
        }
    }
}

/// Which of an actor's children to show.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// At most so many of each actor.
    pub limit: usize,
    /// Go on after this `nextChild`; for the actor asked for, not for those below.
    pub after: Option<u64>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: PAGE_LIMIT_DEFAULT, after: None }
    }
}

/// One actor and, as deep as asked for, those below it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SupervisionNode {
    /// The incarnation's id.
    pub id: String,
    /// What sort of actor it is.
    pub kind: &'static str,
    /// Its name among its siblings.
    pub name: String,
    /// The names from the root, joined by `/`; `/` and `%` in a name are percent-encoded.
    pub path: String,
    /// How it is doing.
    pub status: Status,
    /// When this incarnation was started.
    pub started_at: DateTime<Utc>,
    /// How often it was started again.
    pub restarts: u32,
    /// When and why it was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<LastRestart>,
    /// What waits for it.
    pub mailbox: Mailbox,
    /// What it has handled.
    pub messages: Messages,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// How many children it has in all.
    pub child_count: usize,
    /// Those shown here, in the order in which they were started first.
    #[schema(no_recursion)]
    pub children: Vec<SupervisionNode>,
    /// Children are left: ask for this path with this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_child: Option<u64>,
}

impl Directory {
    /// The actor at `path` (the root without one) and those below it, `depth` levels deep. With `kind`, others are
    /// shown only on the way to actors of that kind. `None` if nothing has that path.
    pub fn snapshot(
        &self,
        path: Option<&str>,
        depth: u32,
        kind: Option<&str>,
        page: Page,
    ) -> Option<SupervisionNode> {
        let slot = match path {
            None | Some("") => self.root()?,
            Some(path) => self.slot_at(path)?,
        };
        let mut view = View { kind, limit: page.limit.max(1), nodes_left: NODES_MAX };
        let path = slot.path();
        Some(view.node(&slot, path, depth, page.after))
    }
}

struct View<'a> {
    kind: Option<&'a str>,
    limit: usize,
    nodes_left: usize,
}

impl View<'_> {
    fn node(&mut self, slot: &Slot, path: String, depth: u32, after: Option<u64>) -> SupervisionNode {
        self.nodes_left = self.nodes_left.saturating_sub(1);
        let (children, next_child) =
            if depth == 0 { (Vec::new(), None) } else { self.children(slot, &path, depth - 1, after) };
        let probe = &slot.probe;
        SupervisionNode {
            id: slot.id(),
            kind: probe.kind(),
            name: probe.name().to_owned(),
            path,
            status: slot.status(),
            started_at: probe.started_at(),
            restarts: probe.restarts(),
            last_restart: probe.last_restart(),
            mailbox: probe.mailbox(),
            messages: probe.messages(),
            detail: probe.detail(),
            child_count: slot.child_count(),
            children,
            next_child,
        }
    }

    fn children(
        &mut self,
        slot: &Slot,
        path: &str,
        depth: u32,
        after: Option<u64>,
    ) -> (Vec<SupervisionNode>, Option<u64>) {
        let mut shown = Vec::new();
        let mut cursor = after;
        loop {
            let chunk = slot.children_after(cursor, CHUNK);
            if chunk.is_empty() {
                return (shown, None);
            }
            for child in chunk {
                if shown.len() == self.limit || self.nodes_left == 0 {
                    return (shown, cursor);
                }
                cursor = Some(child.sequence);
                shown.extend(self.child(&child, path, depth));
            }
        }
    }

    fn child(&mut self, child: &Arc<Slot>, parent: &str, depth: u32) -> Option<SupervisionNode> {
        let wanted = self.kind.is_none_or(|kind| kind == child.probe.kind());
        if !wanted && (depth == 0 || child.child_count() == 0) {
            return None;
        }
        let path = path::join(parent, &path::escape(child.probe.name()));
        let node = self.node(child, path, depth, None);
        (wanted || !node.children.is_empty() || node.next_child.is_some()).then_some(node)
    }
}

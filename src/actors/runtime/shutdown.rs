//! How a supervisor brings its children down: in order, within their deadlines, then by force.

use std::time::Duration;

use ractor::ActorCell;
use tokio::time::timeout;
use tracing::warn;

use super::child::{AfterStop, Child, Phase, StopReply};
use super::family::Family;
use super::node::Status;
use super::spec::ShutdownOrder;
use super::supervisor::SupervisorMessage;

/// A killed actor ends at its next await; one that does not within this is left behind.
const KILL_DEADLINE: Duration = Duration::from_secs(1);
/// Leaves hold nothing that takes long to put down.
const LEAF_SHUTDOWN: Duration = Duration::from_secs(1);

impl Family {
    /// Stops leaves, then children, each within its deadline.
    pub(super) async fn stop_all(&mut self, reason: &str) {
        self.stop_leaves(reason).await;
        if self.spec.shutdown_order == ShutdownOrder::Together {
            for child in self.children.values() {
                if let Phase::Up(cell) = &child.phase {
                    cell.stop(Some(reason.to_owned()));
                }
            }
        }
        while let Some((_, mut child)) = self.children.pop_last() {
            self.bring_down(&mut child, reason).await;
            self.directory.vacate(&child.slot, Status::Stopped);
            if let Phase::Stopping(_, AfterStop::Remove(replies)) = child.phase {
                answer_all(replies);
            }
        }
    }

    /// Tells a child to stop, does not wait; past its deadline an `OverdueTick` comes.
    pub(super) fn begin_stop(&mut self, order: u64, cell: ActorCell, reason: &str, after: AfterStop) {
        let Some(child) = self.children.get_mut(&order) else { return };
        cell.stop(Some(reason.to_owned()));
        let actor = cell.get_id();
        child.phase = Phase::Stopping(cell, after);
        self.myself.send_after(child.spec.shutdown, move || SupervisorMessage::OverdueTick { order, actor });
    }

    /// Empties a child's place and waits for those who were below it: ractor kills them with their supervisor, and a
    /// next incarnation must not meet them.
    pub(super) async fn clear_place(&mut self, order: u64) {
        let Some(child) = self.children.get(&order) else { return };
        // A start that ran out of time may have left an actor.
        if let Some(cell) = child.slot.cell() {
            cell.kill();
        }
        let below = self.directory.vacate(&child.slot, Status::Restarting);
        let gone = async {
            for cell in below {
                cell.kill();
                let _cannot_time_out = cell.wait(None).await;
            }
        };
        if timeout(KILL_DEADLINE, gone).await.is_err() {
            warn!(child = child.spec.name, "actors below a child that ended are still busy");
        }
    }

    /// Stops the children after this one, the last first; they wait for its start.
    pub(super) async fn bring_down_after(&mut self, order: u64) {
        let mut later = self.children.split_off(&(order + 1));
        for child in later.values_mut().rev() {
            self.bring_down(child, "a sibling it stands on restarts").await;
            if matches!(child.phase, Phase::Waiting) {
                self.directory.vacate(&child.slot, Status::Restarting);
            }
        }
        let removed: Vec<u64> = later
            .iter()
            .filter(|(_, child)| matches!(child.phase, Phase::Stopping(_, AfterStop::Remove(_))))
            .map(|(order, _)| *order)
            .collect();
        self.children.append(&mut later);
        for order in removed {
            let replies = match self.children.get_mut(&order).map(|child| &mut child.phase) {
                Some(Phase::Stopping(_, AfterStop::Remove(replies))) => std::mem::take(replies),
                _ => Vec::new(),
            };
            self.remove(order);
            answer_all(replies);
        }
    }

    /// Stops one child and waits; what it was being stopped for, if for good, stays in its phase.
    async fn bring_down(&mut self, child: &mut Child, reason: &str) {
        let cell = match &child.phase {
            Phase::Up(cell) | Phase::Stopping(cell, _) => cell.clone(),
            Phase::Waiting | Phase::Quarantined => return,
        };
        self.by_actor.remove(&cell.get_id());
        self.dismissed.insert(cell.get_id());
        cell.stop(Some(reason.to_owned()));
        if cell.wait(Some(child.spec.shutdown)).await.is_err() {
            warn!(child = child.spec.name, "child did not stop in time, killing it");
            if cell.kill_and_wait(Some(KILL_DEADLINE)).await.is_err() {
                warn!(child = child.spec.name, "killed child is still busy");
            }
        }
        if !matches!(child.phase, Phase::Stopping(_, AfterStop::Remove(_))) {
            child.phase = Phase::Waiting;
        }
    }

    async fn stop_leaves(&self, reason: &str) {
        let mut leaves = self.slot.children_after(None, usize::MAX);
        leaves.retain(|slot| !self.children.contains_key(&slot.sequence));
        for leaf in &leaves {
            if let Some(cell) = leaf.cell() {
                cell.stop(Some(reason.to_owned()));
            }
        }
        let gone = async {
            for leaf in &leaves {
                if let Some(cell) = leaf.cell() {
                    let _cannot_time_out = cell.wait(None).await;
                }
            }
        };
        // What is left is killed with the supervisor.
        let _some_are_busy = timeout(LEAF_SHUTDOWN, gone).await;
    }
}

/// Tells all who wait that the child has ended.
pub(super) fn answer_all(replies: Vec<StopReply>) {
    for reply in replies {
        let _caller_gave_up = reply.send(Ok(()));
    }
}

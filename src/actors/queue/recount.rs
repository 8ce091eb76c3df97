//! How a queue's counts in memory are made right again.
//!
//! They are read anew while nothing of the queue is under way: then memory and store speak of the same. A queue that
//! is never idle is made quiet for that: it takes nothing from its doors and gives no lease until its last op is
//! answered and the counts are read, some milliseconds, at most [`QUIET_MAX`]. What waits at the doors meanwhile is
//! taken afterwards. Jobs born elsewhere may have been counted before the queue hears of them: that
//! is a doubt of its own, and another reading.

use tokio::time::{Duration, Instant};

use super::{actor::QueueState, messages::QueueMessage};

/// How long a queue that is asked to count waits for an idle moment.
const ASKED_PATIENCE: Duration = Duration::from_secs(1);
/// How long one that has doubts of its own does.
const OWN_PATIENCE: Duration = Duration::from_mins(1);
/// The longest quiet: then work goes on, and it is tried again after the patience.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// Where a recount stands.
#[derive(Debug, Default)]
pub(super) struct Recount {
    /// Since when there is a doubt that nothing was idle enough to settle.
    since: Option<Instant>,
    /// Somebody asked for it, whatever the queue itself believes.
    is_asked: bool,
    /// The counts are being read; whether for doubts of the queue's own.
    reading: Option<bool>,
    /// Until when the queue takes nothing.
    quiet_until: Option<Instant>,
}

impl QueueState {
    /// Whether the doors wait for a recount.
    pub(super) fn is_quiet(&self) -> bool {
        self.recount.quiet_until.is_some()
    }

    /// Reads the counts anew if they are in doubt and nothing is under way; sees to it that there is such a moment.
    /// Called at each tick.
    pub(super) fn recount(&mut self) {
        self.is_count_doubtful |= self.core.take_count_doubt();
        self.recount.is_asked |= self.args.handle.take_count_doubt();
        let now = Instant::now();
        if self.recount.quiet_until.is_some_and(|until| now >= until) {
            self.recount.since = Some(now);
            self.end_quiet();
        }
        if !self.is_recount_wanted() {
            return;
        }
        let since = *self.recount.since.get_or_insert(now);
        let patience = if self.recount.is_asked { ASKED_PATIENCE } else { OWN_PATIENCE };
        if !self.is_idle() && !self.is_quiet() && now.duration_since(since) >= patience {
            self.recount.quiet_until = Some(now + QUIET_MAX);
            self.step(|core, _now, out| core.set_granting(false, out));
        }
        self.read_counts();
    }

    fn is_recount_wanted(&self) -> bool {
        (self.is_count_doubtful || self.recount.is_asked) && self.recount.reading.is_none()
    }

    fn is_idle(&self) -> bool {
        self.core.in_journal() == 0 && self.submits_in_journal == 0
    }

    /// Reads the counts, if this is the moment.
    pub(super) fn read_counts(&mut self) {
        if !self.is_recount_wanted() || !self.is_idle() {
            return;
        }
        self.recount.reading = Some(std::mem::take(&mut self.is_count_doubtful));
        // Memory and reading call the same jobs due: those of one instant.
        let at = self.now();
        self.core.pass(at);
        let (source, myself) = (self.source(), self.myself.clone());
        let (incarnation, serial) = (self.incarnation, self.serial);
        self.tasks.spawn(async move {
            let counts = source.counts_at(at.store).await.ok().map(|(_, counts)| counts);
            drop(myself.cast(QueueMessage::Counted { incarnation, serial, counts }));
        });
    }

    /// A tick of the core. What becomes due while the counts are read makes the reading old.
    pub(super) fn tick_core(&mut self) {
        let before = *self.core.counts();
        self.step(|core, now, out| core.tick(now, out));
        if before != *self.core.counts() {
            self.serial += 1;
        }
    }

    /// The counts were read; they hold if nothing was begun meanwhile.
    pub(super) fn counted(&mut self, incarnation: u64, serial: u64, counts: Option<[i64; 9]>) {
        if incarnation != self.incarnation {
            return;
        }
        let is_own = self.recount.reading.take().unwrap_or(true);
        match counts {
            Some(counts) if serial == self.serial => {
                let wrong =
                    counts.iter().zip(self.core.counts()).filter(|(read, known)| read != known).count();
                // The queue's own doubts are known to be just: only an error that nobody knew of is worth a word.
                if !is_own && wrong > 0 {
                    tracing::warn!(queue.name = %self.args.handle.name(), wrong, "counts in memory were wrong");
                    crate::metrics::counters_healed("memory", wrong as u64);
                }
                self.step(|core, _now, out| core.counted(counts, out));
                self.recount.since = None;
                self.recount.is_asked = false;
            }
            Some(_) | None => self.is_count_doubtful |= is_own,
        }
        self.end_quiet();
        self.publish();
    }

    fn end_quiet(&mut self) {
        if self.recount.quiet_until.take().is_none() {
            return;
        }
        if !self.args.handle.is_stopping() {
            self.step(|core, _now, out| core.set_granting(true, out));
        }
        // What waited; the bell was answered, and not rung since.
        self.answer_doors();
    }
}

//! What a session decides: whom its free slots are lent to.

use std::collections::VecDeque;

/// Slots of a session, and the queues that want some. `Q` names a queue.
///
/// A slot is free, lent to a queue, or taken by a job; the three add up to the session's concurrency.
#[derive(Debug)]
pub struct Slots<Q> {
    concurrency: usize,
    lent: usize,
    taken: usize,
    wanting: VecDeque<Q>,
    lending: bool,
}

impl<Q: Clone + PartialEq> Slots<Q> {
    /// All free.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self { concurrency, lent: 0, taken: 0, wanting: VecDeque::new(), lending: true }
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.concurrency.saturating_sub(self.lent + self.taken)
    }

    /// How many are taken by jobs.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// A queue has work. It stays in line until it is lent something.
    pub fn want(&mut self, queue: Q) {
        if !self.wanting.contains(&queue) {
            self.wanting.push_back(queue);
        }
    }

    /// A lent slot was taken by a job.
    pub fn take(&mut self) {
        self.lent = self.lent.saturating_sub(1);
        self.taken += 1;
    }

    /// A job gave its slot back.
    pub fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// A queue did not need so many of the slots that it was lent.
    pub fn returned(&mut self, count: usize) {
        self.lent = self.lent.saturating_sub(count);
    }

    /// From now on nothing is lent.
    pub fn stop_lending(&mut self) {
        self.lending = false;
        self.wanting.clear();
    }

    /// Lends the free slots to the queues in line, an equal part to each, at least one.
    pub fn lend(&mut self) -> Vec<(Q, usize)> {
        let mut loans = Vec::new();
        if !self.lending {
            return loans;
        }
        while self.free() > 0 {
            let Some(queue) = self.wanting.pop_front() else { break };
            let part = self.free().div_ceil(self.wanting.len() + 1);
            self.lent += part;
            loans.push((queue, part));
        }
        loans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_slots_are_shared_equally_and_in_turn() {
        let mut slots = Slots::new(10);
        for queue in ["a", "b", "c"] {
            slots.want(queue);
        }
        slots.want("a");
        assert_eq!(slots.lend(), [("a", 4), ("b", 3), ("c", 3)]);
        slots.want("b");
        assert_eq!(slots.lend(), [], "nothing is free");
        slots.returned(2);
        assert_eq!(slots.lend(), [("b", 2)]);
    }

    #[test]
    fn slots_are_conserved() {
        let mut slots = Slots::new(3);
        slots.want("q");
        assert_eq!(slots.lend(), [("q", 3)]);
        slots.take();
        slots.take();
        slots.returned(1);
        assert_eq!((slots.free(), slots.taken()), (1, 2));
        slots.give_back();
        slots.give_back();
        assert_eq!((slots.free(), slots.taken()), (3, 0));
    }

    #[test]
    fn nothing_is_lent_after_the_stop() {
        let mut slots = Slots::new(3);
        slots.want("q");
        slots.stop_lending();
        slots.want("q");
        assert_eq!(slots.lend(), []);
    }
}

//! What a session decides: whom its free slots are lent to.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Slots of a session, and the queues that want some. `Q` names a queue.
///
/// A slot is free, lent to a queue, or taken by a job; the three add up to the session's concurrency.
/// What is lent is lent to one memory of a queue, named by its incarnation: when that is dropped, by a
/// panic or a reload, its loan is void, since nobody knows of it any longer.
#[derive(Debug)]
pub struct Slots<Q> {
    concurrency: usize,
    lent: HashMap<Q, (u64, usize)>,
    taken: usize,
    wanting: VecDeque<Q>,
    lending: bool,
}

impl<Q: Clone + Eq + Hash> Slots<Q> {
    /// All free.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self { concurrency, lent: HashMap::new(), taken: 0, wanting: VecDeque::new(), lending: true }
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        let lent: usize = self.lent.values().map(|(_, count)| count).sum();
        self.concurrency.saturating_sub(lent + self.taken)
    }

    /// How many are taken by jobs.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// A queue has a new memory: what was lent to an earlier one is free again.
    pub fn renew(&mut self, queue: &Q, incarnation: u64) {
        if self.lent.get(queue).is_none_or(|(lent_to, _)| *lent_to < incarnation) {
            self.lent.insert(queue.clone(), (incarnation, 0));
        }
    }

    /// The memory of a queue that slots are lent to now.
    #[must_use]
    pub fn incarnation(&self, queue: &Q) -> u64 {
        self.lent.get(queue).map_or(0, |(incarnation, _)| *incarnation)
    }

    /// A queue has work. It stays in line until it is lent something.
    pub fn want(&mut self, queue: Q, incarnation: u64) {
        self.renew(&queue, incarnation);
        if !self.wanting.contains(&queue) {
            self.wanting.push_back(queue);
        }
    }

    /// A slot lent to the queue was taken by a job.
    pub fn take(&mut self, queue: &Q) {
        self.returned(queue, self.incarnation(queue), 1);
        self.taken += 1;
    }

    /// A job gave its slot back.
    pub fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// This memory of a queue did not need so many of the slots that it was lent.
    pub fn returned(&mut self, queue: &Q, incarnation: u64, count: usize) {
        if let Some((lent_to, lent)) = self.lent.get_mut(queue)
            && *lent_to == incarnation
        {
            *lent = lent.saturating_sub(count);
        }
    }

    /// How many are lent.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.values().map(|(_, count)| count).sum()
    }

    /// To whom some are lent.
    pub fn borrowers(&self) -> impl Iterator<Item = &Q> {
        self.lent.iter().filter(|(_, (_, count))| *count > 0).map(|(queue, _)| queue)
    }

    /// Whether slots are lent from now on. Who is in line stays there meanwhile.
    pub fn set_lending(&mut self, lending: bool) {
        self.lending = lending;
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
            self.lent.entry(queue.clone()).or_default().1 += part;
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
            slots.want(queue, 1);
        }
        slots.want("a", 1);
        assert_eq!(slots.lend(), [("a", 4), ("b", 3), ("c", 3)]);
        slots.want("b", 1);
        assert_eq!(slots.lend(), [], "nothing is free");
        slots.returned(&"a", 1, 2);
        assert_eq!(slots.lend(), [("b", 2)]);
    }

    #[test]
    fn slots_are_conserved() {
        let mut slots = Slots::new(3);
        slots.want("q", 1);
        assert_eq!(slots.lend(), [("q", 3)]);
        slots.take(&"q");
        slots.take(&"q");
        slots.returned(&"q", 1, 1);
        assert_eq!((slots.free(), slots.taken()), (1, 2));
        slots.give_back();
        slots.give_back();
        assert_eq!((slots.free(), slots.taken()), (3, 0));
    }

    #[test]
    fn what_was_lent_to_a_memory_that_was_dropped_is_free_again() {
        let mut slots = Slots::new(4);
        slots.want("q", 1);
        assert_eq!(slots.lend(), [("q", 4)]);
        slots.take(&"q");
        slots.renew(&"q", 2);
        assert_eq!(slots.free(), 3, "one is taken, three were lost with the memory");
        slots.returned(&"q", 1, 3);
        assert_eq!(slots.free(), 3, "a late return of the former memory counts for nothing");
        slots.want("q", 2);
        assert_eq!(slots.lend(), [("q", 3)]);
        slots.renew(&"q", 2);
        assert_eq!(slots.free(), 0, "the same memory keeps its loan");
    }

    #[test]
    fn who_asked_while_nothing_was_lent_is_lent_to_afterwards() {
        let mut slots = Slots::new(3);
        slots.want("q", 1);
        slots.lend();
        slots.take(&"q");
        assert_eq!((slots.lent(), slots.borrowers().collect::<Vec<_>>()), (2, vec![&"q"]));
        slots.set_lending(false);
        slots.returned(&"q", 1, 2);
        slots.want("q", 1);
        assert_eq!((slots.lend(), slots.lent(), slots.borrowers().count()), (vec![], 0, 0));
        slots.set_lending(true);
        assert_eq!(slots.lend(), [("q", 2)]);
    }

    #[test]
    fn nothing_is_lent_after_the_stop() {
        let mut slots = Slots::new(3);
        slots.want("q", 1);
        slots.stop_lending();
        slots.want("q", 1);
        assert_eq!(slots.lend(), []);
    }
}

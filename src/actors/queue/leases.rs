//! The active jobs of a queue, and the wheel on which their leases run out.
//!
//! The table, not the lease's actor, knows when a lease ends: it outlives an actor's panic. Time is this
//! node's monotonic clock in milliseconds.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{Fence, JobId, RetryPolicy, SessionId, Timestamp, WorkerId};

/// The width of a bucket of the wheel: expiry is noticed this much late at most.
pub const TICK_MS: u64 = 250;
/// A gap between two ticks from which on the node, not the workers, is taken to have been silent.
pub const STALL_MS: u64 = 1_000;

/// What the owner keeps of an active job.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Its fence.
    pub fence: Fence,
    /// The session it was pushed to.
    pub session: SessionId,
    /// The worker.
    pub worker: WorkerId,
    /// The number of the attempt.
    pub attempt: i32,
    /// Attempts the job has.
    pub max_attempts: i32,
    /// Worker deaths under the job before this attempt.
    pub deaths: i32,
    /// What handles it.
    pub kind: String,
    /// The job's own retry policy.
    pub retry: Option<RetryPolicy>,
    /// When it was given, on the store's clock.
    pub granted_at: Timestamp,
    /// When the job became ready, on the store's clock: waiting ends at the grant.
    pub run_at: Timestamp,
    /// How long it lasts without a renewal.
    pub ttl_ms: u64,
    /// When it ends, on the monotonic clock.
    pub expires_ms: u64,
    /// When it was last renewed, on the monotonic clock.
    pub renewed_ms: u64,
    /// Whether a cancel was asked.
    pub cancel_requested: bool,
    /// When a cancel is forced, on the monotonic clock: one TTL after it was asked.
    pub cancel_by_ms: Option<u64>,
    /// When an attempt that outlives its time-out is ended, on the monotonic clock: one TTL after it.
    pub timeout_by_ms: u64,
    /// How often its actor has ended unasked.
    pub actor_failures: u32,
}

impl Lease {
    /// When it ends, renewed or not.
    #[must_use]
    pub fn end_by_ms(&self) -> u64 {
        self.cancel_by_ms.map_or(self.timeout_by_ms, |by| by.min(self.timeout_by_ms))
    }

    /// A cancel was asked at `now_ms`; the first one counts.
    pub fn request_cancel(&mut self, now_ms: u64) {
        self.cancel_requested = true;
        self.cancel_by_ms.get_or_insert(now_ms.saturating_add(self.ttl_ms));
    }
}

/// What became of the session that a lease found in the store was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// It lives.
    Live,
    /// It ended in this run of the node, which stopped its handlers: nobody died.
    Ended,
    /// Its node is gone.
    Gone,
}

/// The leases of a queue by job, and by the bucket in which they may run out.
#[derive(Debug, Default)]
pub struct LeaseTable {
    leases: HashMap<JobId, Lease>,
    // A renewal does not move an entry: a bucket is looked at when its time comes, and what was renewed
    // is put where it now belongs. One entry a lease, however often it is renewed.
    wheel: BTreeMap<u64, Vec<(JobId, Fence)>>,
    last_tick_ms: Option<u64>,
}

impl LeaseTable {
    /// How many jobs are active.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether no job is active.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The lease of a job.
    #[must_use]
    pub fn get(&self, job: JobId) -> Option<&Lease> {
        self.leases.get(&job)
    }

    /// The lease of a job, to change it.
    pub fn get_mut(&mut self, job: JobId) -> Option<&mut Lease> {
        self.leases.get_mut(&job)
    }

    /// All leases.
    pub fn iter(&self) -> impl Iterator<Item = (JobId, &Lease)> {
        self.leases.iter().map(|(job, lease)| (*job, lease))
    }

    /// Takes in a lease that was given, or found in the store.
    pub fn insert(&mut self, job: JobId, lease: Lease) {
        self.schedule(job, &lease);
        self.leases.insert(job, lease);
    }

    /// Takes out the lease of `job` with this fence.
    pub fn remove(&mut self, job: JobId, fence: Fence) -> Option<Lease> {
        if self.leases.get(&job)?.fence != fence {
            return None;
        }
        self.leases.remove(&job)
    }

    /// Has every lease last at least `ttl_ms` from its last renewal.
    pub fn prolong(&mut self, ttl_ms: u64) {
        for lease in self.leases.values_mut().filter(|lease| lease.ttl_ms < ttl_ms) {
            lease.ttl_ms = ttl_ms;
            let until = lease.renewed_ms.saturating_add(ttl_ms).min(lease.end_by_ms());
            lease.expires_ms = lease.expires_ms.max(until);
        }
    }

    /// The shortest time that a lease lasts without a renewal.
    #[must_use]
    pub fn shortest_ttl_ms(&self) -> Option<u64> {
        self.leases.values().map(|lease| lease.ttl_ms).min()
    }

    /// Renews the lease of `job` with this fence for one more TTL from `now_ms`, but not past the end that a
    /// cancel or its time-out sets; `false` if it is gone.
    pub fn renew(&mut self, job: JobId, fence: Fence, now_ms: u64) -> bool {
        match self.leases.get_mut(&job) {
            Some(lease) if lease.fence == fence => {
                let renewed = now_ms.saturating_add(lease.ttl_ms).min(lease.end_by_ms());
                lease.expires_ms = lease.expires_ms.max(renewed);
                lease.renewed_ms = now_ms;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Turns the wheel to `now_ms` and says which leases have run out. They stay in the table until the
    /// commit that ends them; ask again with [`postpone`](Self::postpone) if that commit fails.
    ///
    /// After a gap of over [`STALL_MS`] between two turns every lease gets the gap as grace: workers
    /// could not be heard while this node stood still. What a cancel or a time-out ends has had its time.
    pub fn tick(&mut self, now_ms: u64) -> Vec<(JobId, Fence)> {
        let gap = self.last_tick_ms.map_or(0, |last| now_ms.saturating_sub(last));
        self.last_tick_ms = Some(now_ms);
        if gap > STALL_MS {
            for lease in self.leases.values_mut() {
                let graced = lease.expires_ms.saturating_add(gap).min(lease.end_by_ms());
                lease.expires_ms = lease.expires_ms.max(graced);
            }
        }
        let mut expired = Vec::new();
        while let Some(entry) = self.wheel.first_entry() {
            if *entry.key() > now_ms / TICK_MS {
                break;
            }
            for (job, fence) in entry.remove() {
                let Some(lease) = self.leases.get(&job).filter(|lease| lease.fence == fence) else {
                    continue;
                };
                if lease.expires_ms <= now_ms {
                    expired.push((job, fence));
                } else {
                    let lease = lease.clone();
                    self.schedule(job, &lease);
                }
            }
        }
        expired
    }

    /// Looks at an expired lease again at `at_ms`.
    pub fn postpone(&mut self, job: JobId, fence: Fence, at_ms: u64) {
        self.wheel.entry(bucket(at_ms)).or_default().push((job, fence));
    }

    fn schedule(&mut self, job: JobId, lease: &Lease) {
        self.wheel.entry(bucket(lease.expires_ms)).or_default().push((job, lease.fence));
    }
}

/// The first bucket that is looked at when `at_ms` is over.
fn bucket(at_ms: u64) -> u64 {
    at_ms.div_ceil(TICK_MS)
}

//! What becomes of submissions: plain decisions over what was read and what the batch has made so far.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    domain::{DependencyPolicy, JobId, JobState, NewJob, OnConflict, ShardId, Timestamp},
    store::{
        ops::{LiveEntry, SubmitOp, SubmitRefusal, Submitted},
        queues::{Admission, admit},
    },
};

/// The record behind a key that holds.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) job: JobId,
    pub(super) fingerprint: Vec<u8>,
}

/// A job that others may depend on.
#[derive(Clone)]
pub(super) struct Parent {
    pub(super) tenant: String,
    /// How it ended, if it did.
    pub(super) ended: Option<JobState>,
}

/// A job to be written.
pub(super) struct Birth<'o> {
    pub(super) job: &'o NewJob,
    pub(super) shard: ShardId,
    pub(super) state: JobState,
    pub(super) run_at: Timestamp,
    pub(super) blocked_on: i64,
    pub(super) blocked_reason: Option<String>,
    /// Its parents, and whether each is met.
    pub(super) edges: Vec<(JobId, bool)>,
    /// Whether its shard's owner learns of it by an inbox row.
    pub(super) announced: bool,
}

/// The decisions of a batch.
pub(super) struct Plan<'o> {
    pub(super) now: Timestamp,
    /// Ids that exist already.
    pub(super) known: HashSet<JobId>,
    /// Keys that hold, by (tenant, key); those of this batch as well.
    pub(super) keys: HashMap<(String, String), Key>,
    /// Who has each unique key that is not free; those of this batch as well.
    pub(super) uniques: HashMap<[u8; 32], JobId>,
    /// Jobs that may be depended on; those of this batch as well.
    pub(super) parents: HashMap<JobId, Parent>,
    /// What the queues of births admit.
    pub(super) queues: BTreeMap<String, Admission>,
    /// What is to be written, in order.
    pub(super) births: Vec<Birth<'o>>,
    /// Keys to be written.
    pub(super) claims: Vec<&'o NewJob>,
    /// Jobs whose unique keys are to be written.
    pub(super) unique_claims: Vec<&'o NewJob>,
    /// How many repeats each job was answered for.
    pub(super) repeats: BTreeMap<JobId, usize>,
}

/// What one operation adds, until it is known that none of its jobs is refused.
#[derive(Default)]
struct Draft<'o> {
    births: Vec<Birth<'o>>,
    made: HashMap<JobId, Parent>,
    /// Jobs of the operation that are another's repeats: to depend on them is to depend on that one.
    aliases: HashMap<JobId, JobId>,
    claims: Vec<&'o NewJob>,
    keys: HashMap<(String, String), Key>,
    unique_claims: Vec<&'o NewJob>,
    uniques: HashMap<[u8; 32], JobId>,
    repeats: Vec<JobId>,
    answers: Vec<Submitted>,
}

impl<'o> Plan<'o> {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            known: HashSet::new(),
            keys: HashMap::new(),
            uniques: HashMap::new(),
            parents: HashMap::new(),
            queues: BTreeMap::new(),
            births: Vec::new(),
            claims: Vec::new(),
            unique_claims: Vec::new(),
            repeats: BTreeMap::new(),
        }
    }

    /// Plans one operation: all of its jobs, or none.
    pub(super) fn submit(&mut self, op: &'o SubmitOp) -> Result<Vec<Submitted>, SubmitRefusal> {
        let mut draft = Draft::default();
        for (index, job) in op.jobs.iter().enumerate() {
            self.plan(op, index, job, &mut draft)?;
        }
        // A job of the queue's owner was admitted by it.
        if op.owner.is_none() {
            let new = op.jobs.iter().enumerate().filter(|(_, job)| draft.made.contains_key(&job.id));
            admit(&mut self.queues, new)?;
        }
        self.keys.extend(draft.keys);
        self.uniques.extend(draft.uniques);
        self.unique_claims.extend(draft.unique_claims);
        for job in draft.repeats {
            *self.repeats.entry(job).or_default() += 1;
        }
        self.parents.extend(draft.made);
        self.births.extend(draft.births);
        self.claims.extend(draft.claims);
        Ok(draft.answers)
    }

    fn plan(
        &self,
        op: &'o SubmitOp,
        index: usize,
        job: &'o NewJob,
        draft: &mut Draft<'o>,
    ) -> Result<(), SubmitRefusal> {
        let shard = op.owner.map_or_else(|| ShardId::of_queue(&job.queue), |owner| owner.shard);
        if self.known.contains(&job.id) {
            // Filled in from its rows afterwards.
            draft.answers.push(made(job, JobState::Queued, self.now, self.now, None));
            return Ok(());
        }
        if let Some(((tenant, key), own)) = claim(job) {
            let name = (tenant, key);
            match draft.keys.get(&name).or_else(|| self.keys.get(&name)) {
                Some(first) if first.fingerprint == own.fingerprint => {
                    draft.aliases.insert(job.id, first.job);
                    draft.repeats.push(first.job);
                    draft.answers.push(Submitted::Duplicate(first.job));
                    return Ok(());
                }
                Some(first) => return Err(SubmitRefusal::KeyMismatch { index, job: first.job }),
                None => {
                    draft.claims.push(job);
                    draft.keys.insert(name, own);
                }
            }
        }
        if let Some(first) = self.not_unique(job, draft) {
            if let Some((name, _)) = claim(job) {
                draft.claims.pop();
                draft.keys.remove(&name);
            }
            if job.unique.as_ref().is_some_and(|unique| unique.on_conflict != OnConflict::Existing) {
                return Err(SubmitRefusal::NotUnique { index, job: first });
            }
            draft.aliases.insert(job.id, first);
            draft.repeats.push(first);
            draft.answers.push(Submitted::Duplicate(first));
            return Ok(());
        }
        let (edges, blocked_reason) = self.edges(index, job, draft)?;
        let blocked_on = edges.iter().filter(|(_, met)| !met).count();
        let run_at = job.run_at.map_or(self.now, |at| at.max(self.now));
        let state = match blocked_on {
            0 if run_at > self.now => JobState::Scheduled,
            0 => JobState::Queued,
            _ => JobState::Blocked,
        };
        draft.made.insert(job.id, Parent { tenant: job.tenant.clone(), ended: None });
        draft.answers.push(made(job, state, run_at, self.now, blocked_reason.clone()));
        draft.births.push(Birth {
            job,
            shard,
            state,
            run_at,
            blocked_on: i64::try_from(blocked_on).unwrap_or(i64::MAX),
            blocked_reason,
            edges,
            announced: op.owner.is_none(),
        });
        Ok(())
    }

    /// Who has the job's unique key; a free one becomes its own.
    fn not_unique(&self, job: &'o NewJob, draft: &mut Draft<'o>) -> Option<JobId> {
        let hash = job.unique.as_ref()?.hash;
        let holder = draft.uniques.get(&hash).or_else(|| self.uniques.get(&hash)).copied();
        if holder.is_none() {
            draft.uniques.insert(hash, job.id);
            draft.unique_claims.push(job);
        }
        holder
    }

    /// A job's parents with whether each is met, and why it may stay blocked.
    #[expect(clippy::type_complexity, reason = "two results of one walk")]
    fn edges(
        &self,
        index: usize,
        job: &NewJob,
        draft: &Draft<'o>,
    ) -> Result<(Vec<(JobId, bool)>, Option<String>), SubmitRefusal> {
        let mut edges: Vec<(JobId, bool)> = Vec::with_capacity(job.dependencies.len());
        let (mut reason, mut seen) = (None, HashSet::new());
        for dependency in &job.dependencies {
            let parent_id = draft.aliases.get(dependency).copied().unwrap_or(*dependency);
            let parent = draft.made.get(&parent_id).or_else(|| self.parents.get(&parent_id));
            // Its first job may be known by its key alone; keys are a tenant's own.
            let aliased = draft.aliases.contains_key(dependency);
            let ended = match parent.filter(|parent| parent.tenant == job.tenant) {
                Some(parent) => parent.ended,
                None if aliased => None,
                None => {
                    return Err(SubmitRefusal::UnknownDependency { index, dependency: *dependency });
                }
            };
            if !seen.insert(parent_id) {
                continue;
            }
            let met = job.dependency_policy.is_met_by(ended);
            edges.push((parent_id, met));
            if reason.is_none() && !met {
                reason = blocked_reason(parent_id, ended, job.dependency_policy);
            }
        }
        Ok((edges, reason))
    }
}

fn claim(job: &NewJob) -> Option<((String, String), Key)> {
    let idempotency = job.idempotency.as_ref()?;
    let record = Key { job: job.id, fingerprint: idempotency.fingerprint.to_vec() };
    Some(((job.tenant.clone(), idempotency.key.clone()), record))
}

fn made(
    job: &NewJob,
    state: JobState,
    run_at: Timestamp,
    created_at: Timestamp,
    blocked_reason: Option<String>,
) -> Submitted {
    let (queue, kind) = (job.queue.clone(), job.kind.clone());
    let entry = LiveEntry { job: job.id, queue, kind, state, priority: job.priority, run_at };
    Submitted::Made { entry, created_at, blocked_reason }
}

/// Why a job stays blocked by a parent that ended otherwise than it needs.
pub(super) fn blocked_reason(
    parent: JobId,
    ended: Option<JobState>,
    policy: DependencyPolicy,
) -> Option<String> {
    match ended.filter(|ended| !policy.is_met_by(Some(*ended)))? {
        JobState::Canceled => Some(format!("dependency {parent} was canceled")),
        other => Some(format!("dependency {parent} {other}")),
    }
}

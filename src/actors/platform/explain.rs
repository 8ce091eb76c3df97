//! Why a job is not running, or is.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use serde::{Deserialize, Serialize};

use super::Platform;
use crate::{
    actors::{
        queue::{
            core::Condition,
            messages::QueueRequest,
            stats::{Counted, Stats},
        },
        worker::WorkerFacts,
    },
    domain::{DependencyPolicy, JobId, JobState, JobView, Timestamp, WaitingFor},
    store::{StoreError, read::Graph},
};

/// How long a queue may take to say where a job stands; without an answer that is left out.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);
/// The throughput of this many seconds tells when a job may start.
const RATE_SECONDS: i64 = 60;

/// Something that keeps a job from running, or says how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// `queue_paused`, `queue_draining`, `no_worker`, `workers_busy`, `workers_cordoned`, `behind_others`,
    /// `rate_limited`, `concurrency_limited`, `waiting_dependency`, `scheduled`, `retry_backoff`, `running`,
    /// `finished`.
    #[schema(value_type = String)]
    pub code: std::borrow::Cow<'static, str>,
    /// The same for people.
    pub message: String,
    /// Until when it holds, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// The limit that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// The jobs it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub depends_on: Vec<JobId>,
}

impl Reason {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code: code.into(), message, until: None, policy_id: None, depends_on: Vec::new() }
    }

    fn until(mut self, at: Timestamp) -> Self {
        self.until = Some(at);
        self
    }
}

/// Why a job is not running, or is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Where it is in its life.
    pub state: JobState,
    /// What keeps it, the first thing first.
    pub reasons: Vec<Reason>,
    /// Its place in line, 1 being the next; left out when it is not known, far back in a long queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it may start, going by its time and by how many started within the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub estimated_start_at: Option<Timestamp>,
}

/// What the workers of a queue can do for a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    /// Some has room.
    Room,
    /// None has.
    Busy,
    /// All that handle it take nothing new.
    Cordoned,
    /// None handles it.
    Nobody,
}

/// What the jobs of a list wait for; what is asked of a queue's memory is asked once.
#[derive(Debug)]
pub struct Waits<'a> {
    platform: &'a Platform,
    conditions: HashMap<String, Option<Condition>>,
    help: HashMap<(String, String), Help>,
}

impl Waits<'_> {
    /// What a job waits for, going by its queue's memory.
    pub fn of(&mut self, job: &JobView) -> Option<WaitingFor> {
        let stored = job.waiting_for?;
        // Limits and holds are their own reason; what is not ready waits for that first.
        if job.state != JobState::Queued || !matches!(stored, WaitingFor::Turn | WaitingFor::Worker) {
            return Some(stored);
        }
        let platform = self.platform;
        let condition = self.conditions.entry(job.queue.clone());
        let condition = condition.or_insert_with(|| platform.condition(&job.queue)).as_ref();
        let Some(condition) = condition else { return Some(stored) };
        if condition.paused {
            return Some(WaitingFor::Pause);
        }
        if condition.is_full {
            return Some(WaitingFor::ConcurrencyLimit);
        }
        let help = self.help.entry((job.queue.clone(), job.kind.clone()));
        let help = *help.or_insert_with(|| platform.help(&job.queue, &job.kind));
        Some(match help {
            Help::Nobody | Help::Cordoned => WaitingFor::Worker,
            Help::Busy if condition.first == Some(job.id) => WaitingFor::Worker,
            Help::Busy | Help::Room => WaitingFor::Turn,
        })
    }
}

impl Platform {
    /// What jobs wait for.
    #[must_use]
    pub fn waits(&self) -> Waits<'_> {
        Waits { platform: self, conditions: HashMap::new(), help: HashMap::new() }
    }

    /// Why a job is not running, or is; `None` for an unknown one.
    ///
    /// # Errors
    /// The store's.
    pub async fn explain(&self, id: JobId) -> Result<Option<Explanation>, StoreError> {
        let Some(job) = self.store().job(id).await? else { return Ok(None) };
        let condition = self.condition(&job.queue).unwrap_or_default();
        let mut reasons = Vec::new();
        let (mut position, mut start) = (None, None);
        match job.state {
            JobState::Completed | JobState::Failed | JobState::Canceled => {
                reasons.push(Reason::new("finished", format!("the job is {}", job.state)));
            }
            JobState::Active => {
                let worker = job.worker_id.as_deref().unwrap_or("a worker");
                reasons.push(Reason::new("running", format!("{worker} runs it")));
            }
            JobState::Blocked => {
                let graph = self.store().graph(id).await?;
                reasons.push(dependency(&job, graph.as_ref()));
            }
            JobState::Scheduled => {
                reasons.push(Reason::new("scheduled", "its time has not come").until(job.run_at));
                start = Some(job.run_at);
            }
            JobState::Retrying => {
                let message = "an attempt failed, and the next one waits";
                reasons.push(Reason::new("retry_backoff", message).until(job.run_at));
                start = Some(job.run_at);
            }
            JobState::Throttled => reasons.push(limited(&job)),
            JobState::Queued => {
                position = self.position(&job).await;
                self.queued(&job, &condition, position, &mut reasons);
                start = position.and_then(|position| self.estimate(&job, position));
            }
        }
        if !job.state.is_terminal() && job.state != JobState::Active {
            if condition.paused {
                // Whatever else there is, this comes first once the job is ready.
                let place = if job.state == JobState::Queued { 0 } else { reasons.len() };
                reasons.insert(place, Reason::new("queue_paused", "its queue is paused"));
                start = None;
            }
            if condition.draining {
                let message = if condition.paused {
                    "its queue has been drained, and starts nothing until it is resumed"
                } else {
                    "its queue drains: what is queued runs, what is scheduled or blocked stays"
                };
                reasons.push(Reason::new("queue_draining", message));
            }
        }
        Ok(Some(Explanation { state: job.state, reasons, position, estimated_start_at: start }))
    }

    fn queued(
        &self,
        job: &JobView,
        condition: &Condition,
        position: Option<usize>,
        reasons: &mut Vec<Reason>,
    ) {
        if matches!(job.waiting_for, Some(WaitingFor::RateLimit | WaitingFor::ConcurrencyLimit)) {
            reasons.push(limited(job));
            return;
        }
        if condition.is_full {
            let most = condition.config.concurrency.unwrap_or_default();
            let message = format!("as many of its jobs run as its queue may have at once: {most}");
            reasons.push(Reason::new("concurrency_limited", message));
        }
        let kind = &job.kind;
        match self.help(&job.queue, kind) {
            Help::Nobody => {
                let message = format!("no worker handles {kind} in queue {}", job.queue);
                reasons.push(Reason::new("no_worker", message));
            }
            Help::Cordoned => {
                let message = format!("every worker that handles {kind} is cordoned");
                reasons.push(Reason::new("workers_cordoned", message));
            }
            Help::Busy => {
                let message = format!("every worker that handles {kind} has its hands full");
                reasons.push(Reason::new("workers_busy", message));
            }
            Help::Room => {}
        }
        match position {
            Some(1) => {}
            Some(position) => {
                let message = format!("{} ahead of it", jobs(position - 1));
                reasons.push(Reason::new("behind_others", message));
            }
            // Far back, or not in line: then it has said so above.
            None if reasons.is_empty() => {
                reasons.push(Reason::new("behind_others", "others are ahead of it"));
            }
            None => {}
        }
    }

    fn condition(&self, queue: &str) -> Option<Condition> {
        Some(self.0.shards.queues().get(queue)?.view().condition())
    }

    fn help(&self, queue: &str, kind: &str) -> Help {
        let handles = |facts: &WorkerFacts| facts.types.as_ref().is_none_or(|types| types.contains(kind));
        let mut help = Help::Nobody;
        for (_, facts) in self.0.sessions.serving(queue).iter().filter(|(_, facts)| handles(facts)) {
            match () {
                () if facts.is_cordoned() => {
                    if help == Help::Nobody {
                        help = Help::Cordoned;
                    }
                }
                () if facts.running.load(Ordering::Relaxed) < facts.concurrency => return Help::Room,
                () => help = Help::Busy,
            }
        }
        help
    }

    async fn position(&self, job: &JobView) -> Option<usize> {
        let queue = self.0.shards.queues().get(&job.queue)?;
        let (id, priority, run_at) = (job.id, job.priority, job.run_at);
        let ask = |reply| QueueRequest::Position { job: id, priority, run_at, reply };
        queue.look(LOOK_DEADLINE, ask).await?
    }

    /// When a job may start, if as many start as did within the last minute.
    fn estimate(&self, job: &JobView, position: usize) -> Option<Timestamp> {
        let queue = self.0.shards.queues().get(&job.queue)?;
        let now = self.clock().now();
        let stats: Stats = queue.view().stats(0);
        let started = stats.last(RATE_SECONDS, now).count(Counted::Started);
        let ahead = i64::try_from(position).ok()?;
        let wait_ms = (RATE_SECONDS * 1_000).checked_mul(ahead)?.checked_div(i64::try_from(started).ok()?)?;
        Some(now.plus_millis(wait_ms))
    }
}

fn limited(job: &JobView) -> Reason {
    let reason = Reason::new("rate_limited", "a limit holds it");
    match job.throttle_until {
        Some(until) => reason.until(until),
        None => reason,
    }
}

fn jobs(count: usize) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

/// The jobs that a blocked one waits for.
fn dependency(job: &JobView, graph: Option<&Graph>) -> Reason {
    let own = graph.and_then(|graph| graph.nodes.iter().find(|node| node.job_id == job.id));
    let is_met = |id: &JobId| {
        let parent = graph.and_then(|graph| graph.nodes.iter().find(|node| node.job_id == *id));
        let ended = parent.map(|node| node.state).filter(|state| state.is_terminal());
        let policy: DependencyPolicy = own.map(|node| node.dependency_policy).unwrap_or_default();
        policy.is_met_by(ended)
    };
    let depends_on: Vec<JobId> =
        own.map_or_else(Vec::new, |node| node.depends_on.iter().filter(|id| !is_met(id)).copied().collect());
    let message = job.blocked_reason.clone();
    let message = message.unwrap_or_else(|| format!("it waits for {}", jobs(depends_on.len().max(1))));
    Reason { depends_on, ..Reason::new("waiting_dependency", message) }
}

//! What a reader wants to hear of.

use std::collections::HashSet;

use super::messages::StreamEvent;
use crate::domain::JobId;

/// The most topics of one reader: enough for a page of jobs.
const TOPICS_MAX: usize = 200;

/// What a reader wants to hear of; any one of its topics is enough.
#[derive(Debug, Clone, Default)]
pub struct Topics(Option<Wanted>);

/// By scope, so that an event is looked up and not compared with each topic.
#[derive(Debug, Clone, Default)]
struct Wanted {
    jobs: HashSet<JobId>,
    queues: HashSet<String>,
    workers: HashSet<String>,
    kinds: HashSet<String>,
    prefixes: Vec<String>,
}

impl Topics {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// Whether that is everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// From `job:{id},queue:{q},worker:{id},kind:job.failed,kind:worker.*`; everything when empty.
    ///
    /// # Errors
    /// The topic that is none of these, or that there are too many.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut wanted = Wanted::default();
        let mut count = 0;
        for topic in text.split(',').map(str::trim).filter(|topic| !topic.is_empty()) {
            let Some((scope, value)) = topic.split_once(':').filter(|(_, value)| !value.is_empty()) else {
                return Err(format!("topic {topic:?} is not of the form scope:value"));
            };
            count += 1;
            match (scope, value.strip_suffix(".*")) {
                // A job that cannot be is waited for in vain, as any other that is not there.
                ("job", _) => wanted.jobs.extend(value.parse::<JobId>().ok()),
                ("queue", _) => drop(wanted.queues.insert(value.to_owned())),
                ("worker", _) => drop(wanted.workers.insert(value.to_owned())),
                ("kind", Some(prefix)) => wanted.prefixes.push(format!("{prefix}.")),
                ("kind", None) => drop(wanted.kinds.insert(value.to_owned())),
                _ => {
                    return Err(format!(
                        "unknown topic scope {scope:?}: job, queue, worker and kind are known"
                    ));
                }
            }
        }
        if count > TOPICS_MAX {
            return Err(format!("more than {TOPICS_MAX} topics"));
        }
        Ok(Self((count > 0).then_some(wanted)))
    }

    pub(super) fn matches(&self, event: &StreamEvent) -> bool {
        let Some(wanted) = &self.0 else { return true };
        let is_in = |set: &HashSet<String>, value: Option<&String>| {
            !set.is_empty() && value.is_some_and(|value| set.contains(value))
        };
        event.job_id.is_some_and(|job| wanted.jobs.contains(&job))
            || is_in(&wanted.queues, event.queue.as_ref())
            || is_in(&wanted.workers, event.worker_id.as_ref())
            || wanted.kinds.contains(event.kind.as_ref())
            || wanted.prefixes.iter().any(|prefix| event.kind.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn any_topic_is_enough_and_others_are_not_heard() {
        let job = JobId::new();
        let mut event = StreamEvent::new("job.failed", Timestamp(0));
        event.job_id = Some(job);
        event.queue = Some("mail".into());
        let hears = |topics: &str| Topics::parse(topics).expect("valid").matches(&event);
        assert!(hears("") && Topics::all().matches(&event));
        for topics in [
            &format!("job:{job}"),
            &format!("job:{}", job.to_string().to_uppercase()),
            "queue:mail",
            "kind:job.failed",
            "kind:job.*",
            "queue:other,kind:job.*",
        ] {
            assert!(hears(topics), "{topics}");
        }
        for topics in [
            &format!("job:{}", JobId::new()),
            "job:nonsense",
            "queue:other",
            "kind:job.started",
            "kind:worker.*",
            "worker:w",
        ] {
            assert!(!hears(topics), "{topics}");
        }
        assert!(Topics::parse("nonsense").is_err() && Topics::parse("planet:mars").is_err());
        assert!(Topics::parse(&"queue:q,".repeat(TOPICS_MAX + 1)).is_err());
    }
}

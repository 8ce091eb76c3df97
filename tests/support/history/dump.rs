//! The platform's own account, as its HTTP API gives it.

use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::super::http::Api;

/// Enough to keep a node busy, too few to trip its limits.
const REQUESTS_AT_ONCE: usize = 8;

/// One job: its row, its timeline oldest first, and its attempts.
#[derive(Debug, Clone, Default)]
pub struct JobDump {
    pub job: Value,
    pub events: Vec<Value>,
    pub attempts: Vec<Value>,
}

/// Every job, after all faults were healed.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    pub jobs: Vec<JobDump>,
    /// Whether the platform was given the time and the workers to finish: a job that still waits without a reason
    /// that lasts is then a lost one.
    pub drained: bool,
}

impl JobDump {
    pub fn id(&self) -> &str {
        self.text("id")
    }

    pub fn state(&self) -> &str {
        self.text("state")
    }

    pub fn text(&self, field: &str) -> &str {
        self.job[field].as_str().unwrap_or_default()
    }
}

impl Dump {
    /// Reads every job with its timeline and attempts.
    pub async fn fetch(api: &Api, drained: bool) -> Self {
        let mut ids = Vec::new();
        let mut page = Some("/api/v1/jobs?limit=1000".to_owned());
        while let Some(path) = page {
            let answer = api.get(&path).await;
            page = answer.next_page();
            let jobs = answer.expect(200);
            let jobs = jobs.as_array().expect("a list of jobs");
            ids.extend(jobs.iter().map(|job| job["id"].as_str().expect("a job has an id").to_owned()));
        }
        let inspect = |id: String| async move {
            let mut all = api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
            let mut list = |name: &str| match all[name].take() {
                Value::Array(rows) => rows,
                other => panic!("{name} of job {id} is not a list: {other}"),
            };
            let (events, attempts) = (list("events"), list("attempts"));
            JobDump { job: all["job"].take(), events, attempts }
        };
        let jobs = stream::iter(ids).map(inspect).buffer_unordered(REQUESTS_AT_ONCE).collect().await;
        Self { jobs, drained }
    }
}

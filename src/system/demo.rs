//! The demo workflow: six jobs that turn a real image into thumbnails and a summary.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::node::Node;
use crate::{
    actors::console::{StreamItem, Topics},
    domain::{DependencyPolicy, FieldError, JobId, JobOptions, JobState, NewJob, RawJson, WorkflowId},
    http::DemoWorkflow,
};

/// How long `--demo` waits for its six jobs.
const DEMO_DEADLINE: Duration = Duration::from_secs(120);

/// Builds the demo's jobs.
#[derive(Debug, Clone)]
pub struct Demo {
    /// What is ingested when the caller names nothing: an image of ours, put under the ingest root.
    pub default_source: String,
}

impl Demo {
    /// Puts the demo image under the ingest root.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub(super) fn install(ingest_root: &std::path::Path) -> Result<Self> {
        std::fs::create_dir_all(ingest_root)
            .with_context(|| format!("INGEST_ROOT: cannot make {}", ingest_root.display()))?;
        let path = ingest_root.join("demo.jpg");
        if !path.exists() {
            std::fs::write(&path, crate::worker::processors::DEMO_IMAGE)
                .with_context(|| format!("INGEST_ROOT: cannot write {}", path.display()))?;
        }
        Ok(Self { default_source: "file:///demo.jpg".to_owned() })
    }
}

impl DemoWorkflow for Demo {
    fn jobs(&self, tenant: &str, source: Option<&str>) -> Result<Vec<NewJob>, Vec<FieldError>> {
        let source = source.unwrap_or(&self.default_source);
        if source.is_empty() || source.len() > 1 << 20 {
            return Err(vec![FieldError::new("/source", "must be a file://, data: or http(s):// URL")]);
        }
        let workflow = WorkflowId::new();
        let file = format!("demo-{}", workflow.0.simple());
        let job = |kind: &str, payload: serde_json::Value, dependencies: Vec<JobId>| NewJob {
            id: JobId::new(),
            kind: kind.to_owned(),
            queue: "default".to_owned(),
            tenant: tenant.to_owned(),
            payload: RawJson::trusted(payload.to_string()),
            priority: 5,
            run_at: None,
            max_attempts: 5,
            timeout_seconds: 300,
            schema_version: 1,
            idempotency: None,
            workflow_id: Some(workflow),
            dependencies,
            dependency_policy: DependencyPolicy::Block,
            unique: None,
            options: JobOptions { tags: vec!["demo".to_owned()], ..JobOptions::default() },
        };
        let ingest = job("file.ingest", json!({ "fileId": file, "source": source }), Vec::new());
        let thumbnails = ["sm", "md", "lg"]
            .map(|size| job("image.thumbnail", json!({ "fileId": file, "size": size }), vec![ingest.id]));
        let mut parents: Vec<JobId> = thumbnails.iter().map(|thumbnail| thumbnail.id).collect();
        parents.push(ingest.id);
        parents.sort_unstable();
        let aggregate = job("metadata.aggregate", json!({ "fileId": file }), parents);
        let notify = job(
            "user.notify",
            json!({ "userId": "demo", "channel": "outbox", "message": "your thumbnails are ready" }),
            vec![aggregate.id],
        );
        let mut jobs = vec![ingest];
        jobs.extend(thumbnails);
        jobs.extend([aggregate, notify]);
        Ok(jobs)
    }
}

/// Seeds the demo on a running node, tells what happens as it happens, and where the thumbnails are.
///
/// # Errors
/// The workflow cannot be made, or one of its jobs does not complete in time.
pub async fn follow_demo(node: &Node, say: impl Fn(&str)) -> Result<Vec<PathBuf>> {
    let jobs = node.demo().jobs("default", None).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let names: Vec<(JobId, String)> = jobs
        .iter()
        .map(|job| {
            let payload: serde_json::Value = serde_json::from_str(job.payload.text()).unwrap_or_default();
            let size = payload.get("size").and_then(|size| size.as_str());
            (job.id, size.map_or_else(|| job.kind.clone(), |size| format!("{} {size}", job.kind)))
        })
        .collect();
    let file = serde_json::from_str::<serde_json::Value>(jobs[0].payload.text())?["fileId"].clone();
    let file = file.as_str().unwrap_or_default().to_owned();
    let mut events = node.platform().hub().subscribe(Topics::all(), None);
    node.platform().births(jobs).await.context("the demo could not be seeded")?;
    say("seeded: file.ingest → image.thumbnail sm, md, lg → metadata.aggregate → user.notify");
    let mut open: HashSet<JobId> = names.iter().map(|(id, _)| *id).collect();
    let follow = async {
        while !open.is_empty() {
            let StreamItem::Event(event) = events.next().await else { continue };
            let Some((id, name)) = names.iter().find(|(id, _)| Some(*id) == event.job_id) else { continue };
            say(&format!("{:<22} {}", name, event.kind));
            match event.state {
                Some(JobState::Completed) => {
                    open.remove(id);
                }
                Some(state @ (JobState::Failed | JobState::Canceled)) => {
                    let job = node.platform().store().job(*id).await?;
                    let error = job.and_then(|job| job.last_error).unwrap_or_default();
                    bail!("{name} ended {state}: {error}");
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    };
    tokio::time::timeout(DEMO_DEADLINE, follow).await.context("the demo did not end in time")??;
    let folder = node.data_dir().join("thumbnails").join("default").join(&file);
    let mut made: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    made.sort();
    Ok(made)
}

//! `ganger submit`.

use serde::Serialize;

use super::wait::{self, Waited};
use crate::{
    cli::{CliError, Outcome, args::Submit, model::Submitted, node::Node, parse, render, screen::Screen},
    domain::{JobId, JobState, JobView, RawJson, Timestamp, WorkflowId},
};

/// The body of `POST /jobs`; what was not asked for is left to the node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow_id: Option<WorkflowId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedupe_window_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_job_id: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_finish: Option<OnFinish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<i64>,
}

/// What makes it the only one of its kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unique {
    by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    states: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_conflict: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct OnFinish {
    url: String,
}

fn unique(args: &Submit) -> Option<Unique> {
    (!args.unique.is_empty()).then(|| Unique {
        by: args.unique.clone(),
        period_seconds: args.unique_period.map(|period| period.as_secs()),
        states: args.unique_states.iter().map(|state| state.name()).collect(),
        on_conflict: args.on_conflict.map(|way| way.name()),
    })
}

fn body(args: Submit) -> Result<Body, CliError> {
    let unique = unique(&args);
    let payload = args.payload.map(|text| parse::payload(&text, std::io::stdin().lock())).transpose()?;
    let metadata = args.metadata.map(|text| parse::json("--metadata", &text)).transpose()?;
    Ok(Body {
        kind: args.kind,
        payload,
        queue: args.queue,
        tenant_id: args.tenant,
        priority: args.priority,
        max_attempts: args.max_attempts,
        delay_seconds: args.delay.map(|delay| delay.as_secs_f64()),
        scheduled_at: args.at,
        timeout_seconds: args.timeout_seconds,
        idempotency_key: args.idempotency_key,
        dependencies: args.depends_on,
        dependency_policy: args.dependency_policy.map(|policy| policy.name()),
        tags: args.tag,
        workflow_id: args.workflow_id,
        expires_at: args.expires_at,
        unique,
        dedupe_window_seconds: args.dedupe_window.map(|window| window.as_secs()),
        retry: args.retry.body(),
        metadata,
        parent_job_id: args.parent_job_id,
        on_finish: args.on_finish.map(|url| OnFinish { url }),
        schema_version: args.schema_version,
    })
}

/// Submits, and waits for the end if asked to.
pub(super) async fn run(node: &Node, screen: &Screen, args: Submit) -> Result<Outcome, CliError> {
    let (wait, has_key) = (args.wait, args.idempotency_key.is_some());
    let body = serde_json::to_string(&body(args)?)
        .map_err(|error| CliError::Usage(format!("cannot write the submission: {error}")))?;
    let answer = node.post(&["jobs"], Some(body)).await;
    if let Err(CliError::Unreachable { .. }) = &answer
        && !has_key
    {
        screen.note("It is not known whether the job was made: --idempotency-key makes a repeat safe.");
    }
    let answer = answer?;
    let Some(limit) = wait else {
        if screen.json {
            screen.document(&answer.body)?;
        } else {
            screen.show(&told(&answer.read()?, screen))?;
        }
        return Ok(Outcome::Done);
    };
    let submitted: Submitted = answer.read()?;
    let id = submitted.job.id;
    if !screen.json {
        screen.show(&told(&submitted, screen))?;
    }
    let waited = wait::wait(node, id, limit).await;
    let Waited { answer, ended } =
        waited.inspect_err(|_| screen.note(&format!("Job {id} was submitted.")))?;
    let job: JobView = answer.read()?;
    if screen.json {
        screen.document(&answer.body)?;
    } else {
        screen.show(&ending(&job, screen))?;
        if !ended {
            screen.note("The wait ran out; the job goes on.");
        }
    }
    Ok(match (ended, job.state) {
        (false, _) => Outcome::StillRunning,
        (true, JobState::Completed) => Outcome::Done,
        (true, _) => Outcome::NotCompleted,
    })
}

fn told(submitted: &Submitted, screen: &Screen) -> String {
    let repeat = if submitted.duplicate_suppressed { " (its key's first job; none was made)" } else { "" };
    format!("{}{repeat}", render::brief(&submitted.job, &screen.view()))
}

fn ending(job: &JobView, screen: &Screen) -> String {
    let mut text = render::brief(job, &screen.view());
    if let Some(result) = &job.result {
        text.push_str(&format!("\n{}", crate::cli::text::clean_lines(result.text())));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    fn json(line: &[&str]) -> String {
        let args = Args::try_parse_from([&["ganger", "submit"], line].concat()).expect("well-formed");
        let Command::Submit(submit) = args.command else { panic!("a submission") };
        serde_json::to_string(&body(*submit).expect("a body")).expect("serialises")
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        assert_eq!(json(&["noop"]), r#"{"type":"noop"}"#);
    }

    #[test]
    fn every_option_is_the_field_of_the_contract() {
        const ID: &str = "0199a1b2-0000-7000-8000-000000000001";
        let line = [
            "email.send",
            "--payload",
            r#"{ "n": 9007199254740993 }"#,
            "--queue",
            "mail",
            "--tenant",
            "acme",
            "--priority",
            "9",
            "--max-attempts",
            "3",
            "--delay",
            "1500ms",
            "--timeout-seconds",
            "60",
            "--idempotency-key",
            "k",
            "--depends-on",
            ID,
            "--dependency-policy",
            "allow_failed",
            "--tag",
            "a",
            "--tag",
            "b",
            "--workflow-id",
            ID,
        ];
        assert_eq!(
            json(&line),
            format!(
                r#"{{"type":"email.send","payload":{{ "n": 9007199254740993 }},"queue":"mail","tenantId":"acme","priority":9,"maxAttempts":3,"delaySeconds":1.5,"timeoutSeconds":60,"idempotencyKey":"k","dependencies":["{ID}"],"dependencyPolicy":"allow_failed","tags":["a","b"],"workflowId":"{ID}"}}"#
            )
        );
        assert_eq!(
            json(&["noop", "--at", "2026-11-23T20:00:00+01:00"]),
            r#"{"type":"noop","scheduledAt":"2026-11-23T19:00:00.000000Z"}"#
        );
    }

    #[test]
    fn the_rarer_options_are_fields_too() {
        let line = [
            "noop",
            "--expires-at",
            "2026-11-23T20:00:00Z",
            "--unique",
            "type,/payload/a",
            "--unique-period",
            "1h",
            "--unique-states",
            "queued,active",
            "--on-conflict",
            "replace",
            "--retry",
            "fixed",
            "--retry-base",
            "5s",
            "--metadata",
            r#"{ "a":1 }"#,
            "--on-finish",
            "https://hooks.example/x",
        ];
        assert_eq!(
            json(&line),
            r#"{"type":"noop","expiresAt":"2026-11-23T20:00:00.000000Z","unique":{"by":["type","/payload/a"],"periodSeconds":3600,"states":["queued","active"],"onConflict":"replace"},"retry":{"baseSeconds":5.0,"strategy":"fixed"},"metadata":{ "a":1 },"onFinish":{"url":"https://hooks.example/x"}}"#
        );
    }

    #[test]
    fn the_node_reads_what_is_sent() {
        let sent = json(&["noop", "--payload", "[1]", "--tag", "a", "--dependency-policy", "block"]);
        let read: crate::domain::SubmitRequest = serde_json::from_str(&sent).expect("a submission");
        assert!(read.check(&crate::domain::SubmitDefaults::default(), Timestamp(0)).is_ok());
    }
}

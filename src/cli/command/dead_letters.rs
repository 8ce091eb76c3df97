//! `ganger dlq`.

use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{bulk, confirm, show, show::Listing};
use crate::{
    cli::{
        CliError, Outcome,
        args::{DeadLetterFilter, DeadLetters, ListDeadLetters, Replay, SomeDeadLetters},
        node::{Call, Node},
        parse, render,
        screen::{Screen, View},
        text::count,
    },
    domain::{JobId, RawJson},
};

/// Carries out one of them.
pub(super) async fn run(node: &Node, screen: &Screen, command: DeadLetters) -> Result<Outcome, CliError> {
    match command {
        DeadLetters::List(args) => {
            list(node, screen, &["dlq"], &args, "dead letters", render::dead_letters).await
        }
        DeadLetters::Groups(args) => {
            list(node, screen, &["dlq", "groups"], &args, "dead letters", render::error_groups).await
        }
        DeadLetters::Replay(args) => replay(node, screen, *args).await,
        DeadLetters::Delete(args) => {
            let call = Call::post(&["dlq", "delete"]).body(bulk::text(&body(&args)?)?);
            if !consents(node, &args, "forget")? {
                return Ok(confirm::left_alone(screen));
            }
            show::change(node, screen, &call, "done").await
        }
    }
}

async fn list(
    node: &Node,
    screen: &Screen,
    route: &[&str],
    args: &ListDeadLetters,
    what: &'static str,
    table: fn(&[Value], bool, &View) -> String,
) -> Result<Outcome, CliError> {
    let list: Listing<'_, Value> =
        Listing { route, query: query(&args.filter), how_many: args.some, what, table };
    list.run(node, screen).await
}

fn query(filter: &DeadLetterFilter) -> Vec<(&'static str, String)> {
    let fields = [
        ("queue", filter.queue.clone()),
        ("errorType", filter.error_type.clone()),
        ("type", filter.kind.clone()),
        ("tenantId", filter.tenant.clone()),
        ("fingerprint", filter.fingerprint.clone()),
        ("failedAfter", filter.failed_after.map(|at| at.to_string())),
        ("failedBefore", filter.failed_before.map(|at| at.to_string())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The body of a replay or a deletion.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    job_ids: Vec<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
}

fn body(which: &SomeDeadLetters) -> Result<Body, CliError> {
    let filter: Map<String, Value> =
        query(&which.filter).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let filter = bulk::chosen(&which.ids, filter, which.everything)?;
    Ok(Body { job_ids: which.ids.clone(), filter, dry_run: which.dry_run, ..Body::default() })
}

fn consents(node: &Node, which: &SomeDeadLetters, verb: &str) -> Result<bool, CliError> {
    // One that was named is no accident.
    if which.ids.len() == 1 || which.dry_run || !confirm::asked(which.consent) {
        return Ok(true);
    }
    let what = match which.ids.len() {
        0 if which.everything => "all dead letters".to_owned(),
        0 => "all dead letters that match".to_owned(),
        several => format!("{} dead letters", count(several as u64)),
    };
    confirm::agrees(&format!("{verb} {what} of {}?", node.address.shown()))
}

async fn replay(node: &Node, screen: &Screen, args: Replay) -> Result<Outcome, CliError> {
    let payload = args.set_payload.map(|text| parse::payload(&text, std::io::stdin().lock())).transpose()?;
    let body = Body {
        queue: args.set_queue,
        payload,
        job_type: args.set_type,
        priority: args.set_priority,
        ..body(&args.which)?
    };
    if !consents(node, &args.which, "replay")? {
        return Ok(confirm::left_alone(screen));
    }
    let answer = node.call(&Call::post(&["dlq", "replay"]).body(bulk::text(&body)?)).await?;
    if screen.json {
        screen.document(&answer.body)?;
        return Ok(Outcome::Done);
    }
    // The jobs, or, of very many, only their number.
    let Ok(jobs) = answer.read::<Vec<Box<RawValue>>>() else {
        screen.show(&render::changed(&answer.read()?, "replayed"))?;
        return Ok(Outcome::Done);
    };
    for job in &jobs {
        let job = serde_json::from_str(job.get()).map_err(|error| node.unreadable(&error.to_string()))?;
        screen.show(&render::brief(&job, &screen.view()))?;
    }
    screen.note(&format!(
        "{} jobs {}",
        count(jobs.len() as u64),
        if args.which.dry_run { "would run again" } else { "run again" }
    ));
    Ok(Outcome::Done)
}

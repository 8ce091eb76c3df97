//! `ganger jobs bulk`, and a job's patch: changes as JSON.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{confirm, show};
use crate::{
    cli::{
        CliError, Outcome,
        args::{Bulk, Filter, Patch, SetPatch, SomeJobs},
        node::{Call, Node},
        parse,
        screen::Screen,
        text::count,
    },
    domain::{JobId, RawJson, Timestamp},
};

/// What becomes of a job; what was not asked for stays.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct PatchBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
}

/// The body of `POST /jobs/bulk`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkBody {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    job_ids: Vec<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<PatchBody>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(rename = "async", skip_serializing_if = "std::ops::Not::not")]
    background: bool,
}

pub(super) fn text(body: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(body).map_err(|error| CliError::Usage(format!("cannot write the change: {error}")))
}

fn payload(text: Option<String>) -> Result<Option<RawJson>, CliError> {
    text.map(|text| parse::payload(&text, std::io::stdin().lock())).transpose()
}

/// `PATCH /jobs/{id}`.
pub(super) fn patch(args: Patch) -> Result<Call, CliError> {
    let tags = (args.no_tags || !args.tag.is_empty()).then_some(args.tag);
    let body = PatchBody {
        priority: args.priority,
        queue: args.queue,
        run_at: args.run_at,
        payload: payload(args.payload)?,
        max_attempts: args.max_attempts,
        tags,
    };
    let body = text(&body)?;
    if body == "{}" {
        return Err(CliError::Usage("say what to change: --priority, --queue, --run-at, …".to_owned()));
    }
    Ok(Call::new(reqwest::Method::PATCH, &["jobs", &args.id.to_string()]).body(body))
}

/// Which jobs, as the query of a list.
pub(super) fn query(args: &Filter) -> Vec<(&'static str, String)> {
    let mut query: Vec<(&'static str, String)> =
        args.state.iter().map(|state| ("state", state.name().to_owned())).collect();
    let mut add = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
    add("queue", args.queue.clone());
    add("type", args.kind.clone());
    add("tenantId", args.tenant.clone());
    add("worker", args.worker.clone());
    add("workflowId", args.workflow_id.map(|id| id.to_string()));
    add("tag", args.tag.clone());
    add("q", args.q.clone());
    add("createdAfter", args.created_after.map(|at| at.to_string()));
    add("createdBefore", args.created_before.map(|at| at.to_string()));
    query
}

/// The same as an object: what may be repeated is an array.
fn filter(args: &Filter) -> Map<String, Value> {
    let mut filter = Map::new();
    for (name, value) in query(args) {
        match filter.get_mut(name) {
            Some(Value::Array(values)) => values.push(value.into()),
            _ if name == "state" => drop(filter.insert(name.to_owned(), json!([value]))),
            _ => drop(filter.insert(name.to_owned(), value.into())),
        }
    }
    filter
}

/// By ids, by a filter, or all: exactly one of them, so that nothing is changed by a slip.
pub(super) fn chosen(
    ids: &[JobId],
    filter: Map<String, Value>,
    everything: bool,
) -> Result<Option<Value>, CliError> {
    match (ids.is_empty(), filter.is_empty(), everything) {
        (false, true, false) => Ok(None),
        (true, false, false) => Ok(Some(filter.into())),
        (true, true, true) => Ok(Some(json!({}))),
        (true, true, false) => {
            Err(CliError::Usage("say which: ids, a filter such as --queue mail, or --everything".to_owned()))
        }
        _ => Err(CliError::Usage("ids, a filter and --everything exclude one another".to_owned())),
    }
}

fn body(bulk: Bulk) -> Result<(BulkBody, SomeJobs), CliError> {
    let (action, which, patch) = match bulk {
        Bulk::Cancel(which) => ("cancel", which, None),
        Bulk::Retry(which) => ("retry", which, None),
        Bulk::Delete(which) => ("delete", which, None),
        Bulk::Update { which, patch } => ("update", which, Some(set(patch)?)),
    };
    let filter = chosen(&which.ids, filter(&which.filter), which.everything)?;
    let body = BulkBody {
        action,
        filter,
        job_ids: which.ids.clone(),
        patch,
        dry_run: which.dry_run,
        reason: which.reason.clone(),
        background: which.background,
    };
    Ok((body, which))
}

fn set(args: SetPatch) -> Result<PatchBody, CliError> {
    let body = PatchBody {
        priority: args.set_priority,
        queue: args.set_queue,
        run_at: args.set_run_at,
        payload: payload(args.set_payload)?,
        max_attempts: args.set_max_attempts,
        tags: (!args.set_tag.is_empty()).then_some(args.set_tag),
    };
    match text(&body)?.as_str() {
        "{}" => Err(CliError::Usage("say what to change: --set-priority, --set-queue, …".to_owned())),
        _ => Ok(body),
    }
}

/// Changes many jobs. On a terminal they are counted first, and it is asked for consent.
pub(super) async fn run(node: &Node, screen: &Screen, bulk: Bulk) -> Result<Outcome, CliError> {
    let (mut body, which) = body(bulk)?;
    let call = |body: &BulkBody| Ok::<_, CliError>(Call::post(&["jobs", "bulk"]).body(text(body)?));
    if !which.dry_run && confirm::asked(which.consent) {
        let wanted = (body.dry_run, body.background);
        (body.dry_run, body.background) = (true, false);
        let counted: Value = node.call(&call(&body)?).await?.read()?;
        let matched = counted["matched"].as_u64().map_or_else(|| "all matching".to_owned(), count);
        if !confirm::agrees(&format!("{} {matched} jobs of {}?", body.action, node.address.shown()))? {
            return Ok(confirm::left_alone(screen));
        }
        (body.dry_run, body.background) = wanted;
    }
    show::change(node, screen, &call(&body)?, "done").await
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199a1b2-0000-7000-8000-000000000001";

    #[test]
    fn what_is_changed_is_always_chosen() {
        let ids = [ID.parse::<JobId>().expect("an id")];
        let queue = || json!({ "queue": "a" }).as_object().cloned().expect("an object");
        assert_eq!(chosen(&ids, Map::new(), false).expect("ids"), None);
        assert_eq!(chosen(&[], queue(), false).expect("a filter"), Some(json!({ "queue": "a" })));
        assert_eq!(chosen(&[], Map::new(), true).expect("all"), Some(json!({})));
        for (ids, filter, everything) in [
            (&ids[..0], Map::new(), false),
            (&ids, queue(), false),
            (&ids, Map::new(), true),
            (&[], queue(), true),
        ] {
            assert!(matches!(chosen(ids, filter, everything), Err(CliError::Usage(_))));
        }
    }
}

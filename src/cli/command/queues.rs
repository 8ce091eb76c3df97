//! `ganger queues`.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{confirm, show, show::Listing};
use crate::cli::{
    CliError, Outcome,
    args::{Purge, Queues, SetQueue, Watching},
    node::{Call, Node},
    render,
    screen::{Screen, View},
    text::{clean, count},
};

/// Carries out one of them.
pub(super) async fn run(node: &Node, screen: &Screen, command: Queues) -> Result<Outcome, CliError> {
    let act = async |name: &str, action: &str, reason: Option<String>, done: &str| {
        let call = Call::post(&["queues", name, action]);
        let call = match reason {
            Some(reason) => call.body(json!({ "reason": reason }).to_string()),
            None => call,
        };
        show::change(node, screen, &call, &format!("{} {done}", clean(name))).await
    };
    match command {
        Queues::List(how_many) => {
            let list: Listing<'_, Value> = Listing {
                route: &["queues"],
                query: Vec::new(),
                how_many,
                what: "queues",
                table: render::queues,
            };
            list.run(node, screen).await
        }
        Queues::Get { name, watching } => {
            show::thing::<Value>(node, screen, &Call::get(&["queues", &name]), watching, render::page).await
        }
        Queues::Set(args) => {
            let settings = |queue: &Value, view: &View| {
                let name = clean(queue["name"].as_str().unwrap_or(&args.name)).into_owned();
                format!("{name} is set\n{}", render::page(&queue["config"], view))
            };
            show::thing(node, screen, &set(&args)?, Watching::default(), settings).await
        }
        Queues::Pause { name, reason } => act(&name, "pause", reason, "is paused").await,
        Queues::Resume { name, reason } => act(&name, "resume", reason, "goes on").await,
        Queues::Drain { name, reason } => act(&name, "drain", reason, "is being drained").await,
        Queues::Purge(args) => purge(node, screen, &args).await,
    }
}

/// `PUT /queues/{q}`: what was not asked for stays.
fn set(args: &SetQueue) -> Result<Call, CliError> {
    let mut body = Map::new();
    let mut add = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
    add("concurrency", args.concurrency.map(|bound| bound.json()));
    add("maxDepth", args.max_depth.map(|bound| bound.json()));
    add("retry", args.retry.body());
    if !args.weight.is_empty() && args.fairness.is_none() {
        return Err(CliError::Usage("--weight needs --fairness: of tenants, or of keys?".to_owned()));
    }
    add(
        "fairness",
        args.fairness.map(|way| {
            let mut fairness = json!({ "by": way.name() });
            if !args.weight.is_empty() {
                // Whole shares as whole numbers.
                let weight = |weight: f64| match weight.fract() == 0.0 && weight.abs() < 1e15 {
                    #[expect(clippy::cast_possible_truncation, reason = "a whole number that fits")]
                    true => json!(weight as i64),
                    false => json!(weight),
                };
                let weights = args.weight.iter().map(|(key, share)| (key.clone(), weight(*share)));
                fairness["weights"] = Value::Object(weights.collect());
            }
            fairness
        }),
    );
    add("agingSeconds", args.aging.map(|bound| bound.json()));
    add("leaseTtlSeconds", args.lease_ttl.map(|bound| bound.json()));
    add("partitions", args.partitions.map(Into::into));
    if body.is_empty() {
        return Err(CliError::Usage("say what to set: --concurrency, --max-depth, --retry, …".to_owned()));
    }
    Ok(Call::new(Method::PUT, &["queues", &args.name]).body(Value::Object(body).to_string()))
}

async fn purge(node: &Node, screen: &Screen, args: &Purge) -> Result<Outcome, CliError> {
    let call = |dry_run: bool| {
        let call = Call::post(&["queues", &args.name, "purge"]);
        let mut body = Map::new();
        body.extend(dry_run.then(|| ("dryRun".to_owned(), json!(true))));
        body.extend(args.reason.as_ref().map(|reason| ("reason".to_owned(), json!(reason))));
        call.body(Value::Object(body).to_string())
    };
    if !args.dry_run && confirm::asked(args.consent) {
        let counted: Value = node.call(&call(true)).await?.read()?;
        let matched = counted["matched"].as_u64().map_or_else(|| "all".to_owned(), count);
        let question = format!("cancel {matched} waiting jobs of {} at {}?", args.name, node.address.shown());
        if !confirm::agrees(&question)? {
            return Ok(confirm::left_alone(screen));
        }
    }
    show::change(node, screen, &call(args.dry_run), &format!("{} is purged", clean(&args.name))).await
}

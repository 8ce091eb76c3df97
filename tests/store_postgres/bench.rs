//! How many lives a second PostgreSQL takes. Runs only with `GANGER_BENCH=1`, better with `--release`:
//! `GANGER_BENCH=1 cargo test --release --test store_postgres bench -- --nocapture`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ganger::{
    domain::{
        BootId, DependencyPolicy, Fence, JobId, JobOptions, NewJob, RawJson, SessionId, ShardEpoch, ShardId,
        WorkerId,
    },
    store::{
        Op, OpResult, Store,
        ops::{EndKind, EndOp, GrantOp, SubmitOp},
        postgres::{PostgresOptions, PostgresStore},
    },
};

use super::support::PgServer;

const LANES: u16 = 4;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn job(queue: &str) -> NewJob {
    NewJob {
        id: JobId::new(),
        kind: "mail.send".into(),
        queue: queue.into(),
        tenant: "default".into(),
        payload: RawJson::trusted(format!(r#"{{"to":"someone@example.org","body":"{}"}}"#, "x".repeat(150))),
        priority: 5,
        run_at: None,
        max_attempts: 5,
        timeout_seconds: 300,
        schema_version: 1,
        idempotency: None,
        workflow_id: None,
        dependencies: Vec::new(),
        dependency_policy: DependencyPolicy::Block,
        unique: None,
        options: JobOptions::default(),
    }
}

/// What one lane did, and how long each part took.
#[derive(Default, Clone, Copy)]
struct Took {
    submit: Duration,
    grant: Duration,
    end: Duration,
}

async fn lives(store: Arc<PostgresStore>, lane: u16, owner: ShardEpoch, batches: usize, size: usize) -> Took {
    let queue = format!("bench-{lane}");
    let (worker, session, boot) = (WorkerId("w".into()), SessionId::new(), BootId::new());
    let mut took = Took::default();
    let mut counter = 0_u32;
    for _ in 0..batches {
        let ops: Vec<Op> =
            (0..size).map(|_| Op::Submit(SubmitOp { owner: Some(owner), jobs: vec![job(&queue)] })).collect();
        let ids: Vec<JobId> = ops
            .iter()
            .map(|op| match op {
                Op::Submit(op) => op.jobs[0].id,
                _ => unreachable!("only submits"),
            })
            .collect();
        let at = Instant::now();
        store.commit(lane, &ops).await.expect("submits");
        took.submit += at.elapsed();
        let ops: Vec<Op> = ids
            .iter()
            .map(|job| {
                counter += 1;
                Op::Grant(GrantOp {
                    owner,
                    job: *job,
                    fence_floor: Fence::floor(owner.epoch, counter),
                    worker: worker.clone(),
                    session,
                    boot,
                    ttl_ms: 30_000,
                })
            })
            .collect();
        let at = Instant::now();
        let granted = store.commit(lane, &ops).await.expect("grants");
        took.grant += at.elapsed();
        let ops: Vec<Op> = granted
            .into_iter()
            .map(|result| match result {
                OpResult::Granted(granted) => Op::End(EndOp {
                    owner,
                    job: granted.job,
                    fence: granted.fence,
                    kind: EndKind::Completed { result: Some(RawJson::trusted(r#"{"ok":true}"#)) },
                }),
                other => panic!("{other:?}"),
            })
            .collect();
        let at = Instant::now();
        let ended = store.commit(lane, &ops).await.expect("ends");
        took.end += at.elapsed();
        assert!(ended.iter().all(|result| matches!(result, OpResult::Ended(_))));
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bench_lives() {
    if std::env::var_os("GANGER_BENCH").is_none() {
        return;
    }
    let (size, batches) = (number("GANGER_BENCH_SIZE", 512), number("GANGER_BENCH_BATCHES", 100));
    let url = match std::env::var("GANGER_BENCH_URL") {
        Ok(url) => url,
        Err(_) => PgServer::shared().create_database().await,
    };
    let options = PostgresOptions { lanes: LANES, ..PostgresOptions::default() };
    let store = Arc::new(PostgresStore::connect(&url, options).await.expect("connects"));
    store.migrate(true).await.expect("migrates");
    let owned = store.acquire_all(BootId::new(), "bench", false).await.expect("acquires");
    for round in 0..number("GANGER_BENCH_ROUNDS", 3) {
        let at = Instant::now();
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let owner = *owned
                    .iter()
                    .find(|owner| owner.shard == ShardId::of_queue(&format!("bench-{lane}")))
                    .expect("owned");
                #[expect(clippy::disallowed_methods, reason = "a benchmark's own tasks, all awaited below")]
                tokio::spawn(lives(store.clone(), lane, owner, batches, size))
            })
            .collect();
        let mut sum = Took::default();
        for lane in lanes {
            let took = lane.await.expect("a lane");
            sum.submit += took.submit;
            sum.grant += took.grant;
            sum.end += took.end;
        }
        let jobs = usize::from(LANES) * batches * size;
        let rate = |took: Duration| jobs as f64 * f64::from(LANES) / took.as_secs_f64();
        println!(
            "round {round}: {:.0} lives/s in batches of {size}; submit {:.0}/s, grant {:.0}/s, end {:.0}/s, \
             grant + end {:.0}/s (each alone over {LANES} lanes)",
            jobs as f64 / at.elapsed().as_secs_f64(),
            rate(sum.submit),
            rate(sum.grant),
            rate(sum.end),
            rate(sum.grant + sum.end),
        );
    }
    store.close().await;
}

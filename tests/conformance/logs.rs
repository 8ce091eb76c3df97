//! What running jobs say.

use ganger::{
    domain::{Fence, JobId, JobState, RawJson, Timestamp},
    store::{
        Op, OpResult,
        logs::{LogFilter, LogRow},
        ops::{LogLevel, LogLine, LogOp},
    },
};

use super::kit::{Kit, completed, retry_after};

const Q: &str = "mail";

fn line(level: LogLevel, message: &str) -> LogLine {
    LogLine { at: None, level, message: message.into(), fields: None }
}

fn lines(messages: &[&str]) -> Vec<LogLine> {
    messages.iter().map(|message| line(LogLevel::Info, message)).collect()
}

fn op(kit: &Kit, job: JobId, fence: Fence, first: i32, lines: Vec<LogLine>) -> Op {
    Op::Log(LogOp { owner: kit.owner(Q), job, fence, first, lines })
}

async fn logged(kit: &Kit, op: Op) -> i64 {
    match kit.one(op).await {
        OpResult::Logged(seq) => seq,
        other => panic!("not logged: {other:?}"),
    }
}

async fn read(kit: &Kit, job: JobId, filter: LogFilter, after: i64, limit: i64) -> Vec<LogRow> {
    kit.store.logs(job, filter, after, limit).await.expect("reads").expect("is there")
}

async fn all(kit: &Kit, job: JobId) -> Vec<String> {
    let rows = read(kit, job, LogFilter::default(), 0, 1_000).await;
    assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq && row.job_id == job), "{rows:#?}");
    assert_eq!(kit.store.newest_log(job).await.expect("reads"), rows.len() as i64);
    rows.into_iter().map(|row| row.message).collect()
}

pub(crate) async fn lines_are_kept_in_order_and_read_by_pages(kit: Kit) {
    let (id, other) = (kit.made(Q).await, kit.made(Q).await);
    let (granted, beside) = (kit.grant(Q, id).await, kit.grant(Q, other).await);
    let before = kit.now().await;
    let mut said = lines(&["one", "two \0 \"quoted\"", "three"]);
    said[0].at = Some(Timestamp(1_000_000));
    said[2].fields = Some(RawJson::trusted(r#"{"n": 10000000000000000000000}"#));
    let results = kit
        .commit(&[
            op(&kit, id, granted.fence, 1, said),
            op(&kit, other, beside.fence, 1, lines(&["elsewhere"])),
        ])
        .await;
    assert!(matches!(results[..], [OpResult::Logged(3), OpResult::Logged(1)]), "{results:?}");
    assert_eq!(logged(&kit, op(&kit, id, granted.fence, 4, lines(&["four"]))).await, 4);

    let rows = read(&kit, id, LogFilter::default(), 0, 10).await;
    assert_eq!(rows[0].at, Timestamp(1_000_000));
    assert!(rows[1].at >= before);
    assert_eq!(rows[1].message, "two \u{fffd} \"quoted\"");
    assert_eq!(rows[2].fields.as_ref().map(RawJson::text), Some(r#"{"n": 10000000000000000000000}"#));
    assert!(rows.iter().all(|row| row.fence == granted.fence && row.attempt == 1));
    let page = read(&kit, id, LogFilter::default(), 1, 2).await;
    assert_eq!(page.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(read(&kit, id, LogFilter::default(), 4, 2).await.is_empty());
    assert_eq!(all(&kit, other).await, ["elsewhere"]);
    let unknown = kit.store.logs(JobId::new(), LogFilter::default(), 0, 1).await.expect("reads");
    assert_eq!(unknown, None);
}

pub(crate) async fn lines_are_found_by_attempt_and_level(kit: Kit) {
    let id = kit.made(Q).await;
    let first = kit.grant(Q, id).await;
    let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    logged(&kit, op(&kit, id, first.fence, 1, levels.map(|level| line(level, "x")).to_vec())).await;
    kit.end(Q, id, first.fence, retry_after(0)).await;
    let second = kit.grant(Q, id).await;
    // Numbered anew within its attempt, and on from the last within the job.
    assert_eq!(logged(&kit, op(&kit, id, second.fence, 1, lines(&["again"]))).await, 6);
    let seqs = async |attempt, level| {
        let rows = read(&kit, id, LogFilter { attempt, level }, 0, 100).await;
        rows.into_iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(Some(2), None).await, [6]);
    assert_eq!(seqs(None, Some(LogLevel::Warn)).await, [4, 5]);
    assert_eq!(seqs(Some(1), Some(LogLevel::Info)).await, [3, 4, 5]);
    assert_eq!(seqs(Some(3), None).await, [0_i64; 0]);
}

pub(crate) async fn lines_written_again_are_kept_once(kit: Kit) {
    let id = kit.made(Q).await;
    let fence = kit.grant(Q, id).await.fence;
    for _ in 0..2 {
        assert_eq!(logged(&kit, op(&kit, id, fence, 1, lines(&["a", "b"]))).await, 2);
    }
    // With some that are new behind them.
    assert_eq!(logged(&kit, op(&kit, id, fence, 2, lines(&["b", "c"]))).await, 3);
    assert_eq!(all(&kit, id).await, ["a", "b", "c"]);
}

pub(crate) async fn only_the_holder_of_the_lease_writes_lines(kit: Kit) {
    let id = kit.made(Q).await;
    let first = kit.grant(Q, id).await;
    kit.end(Q, id, first.fence, retry_after(0)).await;
    let second = kit.grant(Q, id).await;
    let elsewhere = Op::Log(LogOp {
        owner: kit.owner("reports"),
        job: id,
        fence: second.fence,
        first: 1,
        lines: lines(&["of another shard"]),
    });
    for late in [op(&kit, id, first.fence, 1, lines(&["late"])), elsewhere] {
        let answer = kit.one(late).await;
        assert!(matches!(answer, OpResult::Stale { recorded: None }), "{answer:?}");
    }
    logged(&kit, op(&kit, id, second.fence, 1, lines(&["in time"]))).await;
    kit.end(Q, id, second.fence, completed()).await;
    let answer = kit.one(op(&kit, id, second.fence, 2, lines(&["after the end"]))).await;
    assert!(matches!(answer, OpResult::Stale { .. }), "{answer:?}");
    assert_eq!(all(&kit, id).await, ["in time"]);

    let owner = kit.owner(Q);
    kit.store.raise_epoch(owner.shard, owner.epoch, kit.boot).await.expect("raises");
    let answer = kit.one(op(&kit, id, second.fence, 2, lines(&["of a former owner"]))).await;
    assert!(matches!(answer, OpResult::FenceLost(_)), "{answer:?}");
}

pub(crate) async fn lines_are_removed_with_their_job(kit: Kit) {
    let (gone, kept) = (kit.made(Q).await, kit.made(Q).await);
    for id in [gone, kept] {
        let fence = kit.grant(Q, id).await.fence;
        logged(&kit, op(&kit, id, fence, 1, lines(&["a", "b"]))).await;
        if id == gone {
            kit.end(Q, id, fence, completed()).await;
        }
    }
    kit.pass(2).await;
    let (before, states) = (kit.now().await, [JobState::Completed]);
    let removed = kit.store.remove_finished(&kit.owned, before, &states, None, None, 10).await;
    assert_eq!(removed.expect("removes"), 1);
    assert_eq!(kit.store.newest_log(gone).await.expect("reads"), 0);
    assert_eq!(kit.store.newest_log(kept).await.expect("reads"), 2);
}

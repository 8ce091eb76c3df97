//! A long mix of operations, after which everything must still agree.

use std::collections::BTreeMap;

use ganger::{
    domain::{Fence, JobId, JobState, NewJob, Timestamp},
    store::{
        Op, OpResult,
        ops::{Changed, EndKind, JobPatch, ParkOp, ReplayPatch, Submitted, UnparkOp},
    },
};

use super::{
    changes::{forget_op, update_op},
    dead_letters::replay_op,
    kit::{HOUR_MS, Kit, child, completed, error, failed, job, keyed, retry_after, tolerant_child},
};

const QUEUES: [&str; 3] = ["mail", "reports", "images"];

const GATE: &str = "hold:random";

/// The operations of a run.
const OPS: usize = 900;

/// The seed of a run, where `GANGER_TEST_SEED` names no other: its mix has something of everything.
const SEED: u64 = 0x5eed;

/// A small generator, so that a run can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[derive(Default)]
struct Known {
    jobs: Vec<(JobId, &'static str)>,
    leases: BTreeMap<JobId, Fence>,
    /// Jobs that have failed; some run again since.
    failed: Vec<JobId>,
    replays: usize,
}

fn new_job(kit: &Kit, dice: &mut Dice, known: &Known) -> Op {
    let queue = QUEUES[dice.roll(3)];
    let parents: Vec<JobId> = match known.jobs.len() {
        0 => Vec::new(),
        len => {
            let mut parents: Vec<_> = (0..dice.roll(3)).map(|_| known.jobs[dice.roll(len)].0).collect();
            parents.sort_unstable();
            parents.dedup();
            parents
        }
    };
    let priority = [0, 5, 9][dice.roll(3)];
    let new = match dice.roll(5) {
        0 => keyed(queue, ["a", "b", "c"][dice.roll(3)], [0, 900][dice.roll(2)], 1),
        1 => child(queue, &parents),
        2 => tolerant_child(queue, &parents),
        _ => job(queue),
    };
    let new = NewJob { priority, ..new };
    if dice.roll(3) == 0 { kit.birth_op(&[new]) } else { kit.submit_op(&new) }
}

fn end(dice: &mut Dice) -> EndKind {
    match dice.roll(10) {
        0 => retry_after(0),
        1 => retry_after(HOUR_MS),
        2 | 8 | 9 => failed(),
        3 => EndKind::Released { reason: "released".into() },
        4 => EndKind::Snoozed { delay_ms: 0 },
        5 => EndKind::Recovered { error: error("lost") },
        6 => EndKind::Canceled { reason: "asked".into() },
        _ => completed(),
    }
}

fn next_op(kit: &Kit, dice: &mut Dice, known: &Known, now: Timestamp) -> (Option<JobId>, Op) {
    let len = known.jobs.len();
    let choice = dice.roll(17);
    if len == 0 || choice < 3 {
        return (None, new_job(kit, dice, known));
    }
    let (id, queue) = known.jobs[dice.roll(len)];
    match choice {
        3 => (Some(id), kit.cancel_op(queue, id)),
        4 => (Some(id), kit.retry_op(queue, id)),
        5 => (None, kit.inbox_op(queue)),
        6 | 7 => (Some(id), kit.grant_op(queue, id)),
        12 => {
            let run_at = [None, Some(0), Some(HOUR_MS)][dice.roll(3)];
            let patch = JobPatch {
                priority: [None, Some(1), Some(9)][dice.roll(3)],
                run_at: run_at.map(|ms| now.plus_millis(ms)),
                ..JobPatch::default()
            };
            (Some(id), update_op(kit, queue, id, patch))
        }
        13 => {
            let to = Some(QUEUES[dice.roll(3)].to_owned());
            (Some(id), update_op(kit, queue, id, JobPatch { queue: to, ..JobPatch::default() }))
        }
        14 => (Some(id), forget_op(kit, queue, id, dice.roll(2) == 0)),
        10 => (Some(id), Op::Park(ParkOp { owner: kit.owner(queue), jobs: vec![id], gate: GATE.into() })),
        15 | 16 => {
            let failed = known.failed.get(dice.roll(known.failed.len().max(1))).copied();
            let (id, queue) =
                known.jobs.iter().find(|(job, _)| Some(*job) == failed).copied().unwrap_or((id, queue));
            let queue_now = (dice.roll(2) == 0).then(|| QUEUES[dice.roll(3)].to_owned());
            (Some(id), replay_op(kit, queue, id, ReplayPatch { queue: queue_now, ..ReplayPatch::default() }))
        }
        11 => {
            let (owner, queue) = (kit.owner(queue), queue.to_owned());
            (None, Op::Unpark(UnparkOp { owner, queue, gate: GATE.into(), limit: 3 }))
        }
        _ => {
            let fence = known.leases.get(&id).copied().unwrap_or(Fence(1));
            (Some(id), kit.end_op(queue, id, fence, end(dice)))
        }
    }
}

pub(crate) async fn a_random_mix_keeps_every_invariant(kit: Kit) {
    let seed = std::env::var("GANGER_TEST_SEED").ok().map_or(SEED, |seed| seed.parse().expect("a number"));
    println!("GANGER_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let mut known = Known::default();
    let mut done = 0;
    while done < OPS {
        let mut ops = Vec::new();
        let now = kit.now().await;
        let mut named: Vec<JobId> = Vec::new();
        for _ in 0..=dice.roll(16) {
            let (job, op) = next_op(&kit, &mut dice, &known, now);
            // A batch holds at most one operation for a job.
            if job.is_none_or(|job| !named.contains(&job)) {
                named.extend(job);
                ops.push(op);
            }
        }
        done += ops.len();
        for (op, result) in ops.iter().zip(kit.commit(&ops).await) {
            match (op, result) {
                (Op::Submit(op), OpResult::Submitted(made)) => {
                    for (job, made) in op.jobs.iter().zip(made) {
                        if matches!(made, Submitted::Made { .. }) {
                            let queue = QUEUES.iter().find(|queue| **queue == job.queue);
                            known.jobs.push((job.id, queue.expect("one of ours")));
                        }
                    }
                }
                (_, OpResult::Granted(granted)) => {
                    let last = known.leases.insert(granted.job, granted.fence);
                    assert!(last.is_none_or(|last| last < granted.fence), "fences grow");
                }
                (Op::Update(op), OpResult::Changed(Changed::Done(done))) if done.entry.is_none() => {
                    let to = QUEUES.iter().find(|queue| op.patch.queue.as_deref() == Some(**queue));
                    let moved = known.jobs.iter_mut().find(|(job, _)| *job == op.job);
                    moved.expect("known").1 = to.expect("one of ours");
                }
                (Op::Forget(op), OpResult::Changed(Changed::Done(_))) => {
                    known.jobs.retain(|(job, _)| *job != op.job);
                }
                (Op::End(op), OpResult::Ended(ended)) if ended.state == JobState::Failed => {
                    known.failed.push(op.job);
                }
                (Op::Replay(op), OpResult::Changed(Changed::Done(_))) => {
                    known.replays += 1;
                    if let Some(queue) = &op.patch.queue {
                        let queue = QUEUES.iter().find(|known| *known == queue).expect("one of ours");
                        let job = known.jobs.iter_mut().find(|(job, _)| *job == op.job);
                        job.expect("is known").1 = queue;
                    }
                }
                (op, OpResult::FenceLost(_) | OpResult::Refused(_)) => panic!("{op:?} was refused"),
                _ => (),
            }
        }
    }
    assert!(seed != SEED || known.replays >= 3, "{} of {} that failed", known.replays, known.failed.len());
    kit.check().await;
    for queue in QUEUES {
        kit.inbox(queue).await;
        let shard = ganger::domain::ShardId::of_queue(queue);
        let held: i64 =
            kit.store.gates(shard, queue).await.expect("reads").iter().map(|(_, held)| held).sum();
        let op = UnparkOp { owner: kit.owner(queue), queue: queue.into(), gate: GATE.into(), limit: 1_000 };
        match kit.one(Op::Unpark(op)).await {
            OpResult::Unparked(entries) => assert_eq!(entries.len() as i64, held, "all that was told of"),
            other => panic!("not unparked: {other:?}"),
        }
        // What is ready can be run.
        for id in kit.ready(queue).await {
            kit.run(queue, id, completed()).await;
        }
    }
    kit.check().await;
}

//! Many dead letters: how long it takes to read them, and to run them again.

use ganger::{
    domain::{NewJob, Timestamp, fingerprint},
    store::{
        Op, OpResult,
        dead_letters::{GroupCursor, LetterCursor, LetterFilter, LetterKey},
        ops::{AttemptError, EndKind, ReplayPatch, SubmitOp},
    },
};

use super::{
    dead_letters::replay_op,
    kit::{Kit, job},
};

/// What a read may take with 100,000 letters in 500 groups. The figures are printed.
const READ_MAX: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) async fn a_hundred_thousand_letters_are_grouped_in_time(kit: Kit) {
    // The whole number takes a while to make; without the switch, a twentieth has to do.
    let (letters, causes) =
        if std::env::var_os("GANGER_BENCH").is_some() { (100_000, 500) } else { (5_000, 500) };
    let queues = ["mail", "images", "reports", "hooks"];
    let word = |n: usize| -> String {
        [n / 100, n / 10, n]
            .map(|digit| ["ab", "ck", "dv", "et", "gi", "ho", "lu", "mi", "ny", "op"][digit % 10])
            .concat()
    };
    for chunk in 0..letters / 1_000 {
        let queue = queues[chunk % 4];
        let jobs: Vec<NewJob> = (0..1_000).map(|_| job(queue)).collect();
        kit.one(Op::Submit(SubmitOp { owner: Some(kit.owner(queue)), jobs: jobs.clone() })).await;
        let grants: Vec<Op> = jobs.iter().map(|job| kit.grant_op(queue, job.id)).collect();
        let ends: Vec<Op> = kit
            .commit(&grants)
            .await
            .into_iter()
            .enumerate()
            .map(|(n, result)| {
                let OpResult::Granted(granted) = result else { panic!("{result:?}") };
                let error = AttemptError {
                    error_type: "io".into(),
                    message: format!("{} after {n} of {chunk}", word(n % causes)),
                    stack_trace: Some("at a line of a file\n".repeat(100)),
                };
                kit.end_op(queue, granted.job, granted.fence, EndKind::Failed { error })
            })
            .collect();
        kit.commit(&ends).await;
    }
    let timed = async |what: &str, filter: LetterFilter| {
        let mut best = READ_MAX * 100;
        let mut count = 0;
        for _ in 0..3 {
            let at = std::time::Instant::now();
            count = match what {
                "list" => {
                    kit.store.dead_letters(&filter, LetterCursor::newest(), 100).await.expect("reads").len()
                }
                _ => {
                    let cursor = GroupCursor { as_of: Timestamp(i64::MAX / 4_000), after: None };
                    kit.store.dead_letter_groups(&filter, &cursor, 100).await.expect("reads").len()
                }
            };
            best = best.min(at.elapsed());
        }
        println!("{} {letters} letters: {what} {filter:?}: {best:?}", kit.store.engine());
        assert!(best < READ_MAX, "{what} took {best:?}");
        count
    };
    let any = LetterFilter::default;
    assert_eq!(timed("groups", any()).await, 100);
    assert_eq!(timed("groups", LetterFilter { queue: Some("hooks".into()), ..any() }).await, 100);
    assert_eq!(timed("groups", LetterFilter { tenant: Some("none".into()), ..any() }).await, 0);
    assert_eq!(timed("list", any()).await, 100);
    assert_eq!(timed("list", LetterFilter { error_type: Some("none".into()), ..any() }).await, 0);
    let print = fingerprint("io", &format!("{} after 1 of 2", word(3)));
    assert!(timed("list", LetterFilter { fingerprint: Some(print), ..any() }).await >= 10);
    let keys = kit.store.dead_letter_keys(&any(), LetterCursor::newest(), 1_024).await.expect("reads");
    for chunk in keys.chunks(256) {
        let replay = |key: &LetterKey| replay_op(&kit, &key.queue, key.place.job, ReplayPatch::default());
        let ops: Vec<Op> = chunk.iter().map(replay).collect();
        let at = std::time::Instant::now();
        kit.commit(&ops).await;
        println!("{} {} replays in one batch: {:?}", kit.store.engine(), ops.len(), at.elapsed());
    }
}

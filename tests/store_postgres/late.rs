//! Batches that began before what they waited for was written, and upkeep that read before it: what they write is
//! behind it all the same.

use ganger::{
    domain::{JobId, JobState, NewJob, ShardId},
    store::{
        Op, OpResult,
        ops::{Changed, Submitted},
    },
};
use sqlx::PgConnection;

use super::{
    conformance::{
        changes::forget_op,
        kit::{Kit, completed, job, keyed},
        unique,
    },
    kitchen::{end, fresh, pause_before_commit, plain, until_waiting},
};

/// A batch that has begun and waits for `held`; a repeat of `first` is recorded meanwhile.
async fn behind_a_repeat(
    kit: &Kit,
    url: &str,
    held: PgConnection,
    first: JobId,
    late: &[Op],
) -> Vec<OpResult> {
    let (done, ()) = tokio::join!(kit.store.commit(2, late), async {
        until_waiting(url, 1).await;
        let repeat = kit.store.commit(1, &[kit.birth_op(&[keyed("mail", "k", 60, 1)])]).await;
        match &repeat.expect("commits")[0] {
            OpResult::Submitted(all) => assert_eq!(all[..], [Submitted::Duplicate(first)]),
            other => panic!("{other:?}"),
        }
        end(held, "rollback").await;
    });
    done.expect("commits")
}

/// A transaction that holds the key of this job, so that its submission waits.
async fn hold_key(url: &str, key: &str) -> (NewJob, PgConnection) {
    let mut held = plain(url).await;
    sqlx::raw_sql("begin").execute(&mut held).await.expect("begins");
    sqlx::query(
        "insert into idempotency (tenant, key, job_id, expires_at, fingerprint)
         values ('default', $1, gen_random_uuid(), now(), '')",
    )
    .bind(key)
    .execute(&mut held)
    .await
    .expect("holds the key");
    (keyed("mail", key, 60, 2), held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_and_its_end_are_not_before_a_repeat_that_was_recorded_meanwhile() {
    let (kit, url) = fresh().await;
    let first = kit.make(&keyed("mail", "k", 60, 1)).await;
    let (other, held) = hold_key(&url, "grants").await;
    let late = [kit.birth_op(&[other]), kit.grant_op("mail", first)];
    let done = behind_a_repeat(&kit, &url, held, first, &late).await;
    let OpResult::Granted(lease) = &done[1] else { panic!("{done:?}") };
    let told = kit.events(first).await;
    assert_eq!(told.last().map(|row| row.occurred_at), Some(lease.granted_at), "as its owner heard");
    kit.timeline(first).await;

    let (other, held) = hold_key(&url, "ends").await;
    let late = [kit.birth_op(&[other]), kit.end_op("mail", first, lease.fence, completed())];
    let done = behind_a_repeat(&kit, &url, held, first, &late).await;
    let OpResult::Ended(ended) = &done[1] else { panic!("{done:?}") };
    assert_eq!(kit.view(first).await.finished_at, Some(ended.at), "as its owner heard");
    kit.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_not_before_a_repeat_that_was_recorded_meanwhile() {
    let (kit, url) = fresh().await;
    let before = kit.made("mail").await;
    let first = kit.make(&keyed("mail", "k", 60, 1)).await;
    let mut held = plain(&url).await;
    sqlx::raw_sql("begin").execute(&mut held).await.expect("begins");
    let lock = sqlx::query("select from job_live where id = $1 for update").bind(before.0);
    lock.execute(&mut held).await.expect("holds the other job");
    let late = [kit.cancel_op("mail", before), kit.cancel_op("mail", first)];
    behind_a_repeat(&kit, &url, held, first, &late).await;
    assert_eq!(kit.state(first).await, JobState::Canceled);
    kit.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_retention_removes_is_not_forgotten_a_second_time() {
    let (kit, url) = fresh().await;
    let id = kit.made("mail").await;
    kit.run("mail", id, completed()).await;
    let pause = pause_before_commit(&url, "mail", -1).await;
    let before = kit.now().await.plus_millis(1_000);
    let forgets = [forget_op(&kit, "mail", id, false)];
    let (removed, forgotten, ()) = tokio::join!(
        kit.store.remove_finished(&kit.owned, before, &[JobState::Completed], None, None, 10),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(2, &forgets).await
        },
        async {
            until_waiting(&url, 2).await;
            end(pause, "rollback").await;
        }
    );
    assert_eq!(removed.expect("removes"), 1);
    let forgotten = forgotten.expect("commits");
    assert!(matches!(forgotten[0], OpResult::Changed(Changed::NotFound)), "{forgotten:?}");
    assert_eq!(kit.queue("mail").await.counts, [0; 9]);
    kit.check().await;
}

/// Every reading of live rows waits while the advisory lock is held.
const SLOW_READS: &str = "
    create function pause() returns boolean language plpgsql volatile as $$
    begin
        perform pg_advisory_lock_shared(77);
        perform pg_advisory_unlock_shared(77);
        return true;
    end $$;
    alter table job_live rename to job_live_rows;
    create view job_live as select * from job_live_rows where pause();
    select pg_advisory_lock(77);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_key_that_is_passed_on_while_upkeep_reads_is_kept() {
    let (kit, url) = fresh().await;
    kit.made("other").await;
    let done = kit.make(&unique::unique(1)).await;
    kit.run(unique::Q, done, completed()).await;
    let mut plain = plain(&url).await;
    sqlx::raw_sql(SLOW_READS).execute(&mut plain).await.expect("slows down");
    let next = job("other").id;
    let (upkept, ()) = tokio::join!(kit.store.maintain(), async {
        until_upkeep_waits(&url).await;
        let born = "with made as (
                insert into job_live_rows (id, run_at, updated_at, shard, priority, state, queue, kind, tenant)
                values ($1, now(), now(), $2, 5, 0, 'other', 'k', 'default')
            )
            update unique_key set job_id = $1";
        let born = sqlx::query(born).bind(next.0).bind(ShardId::of_queue("other").0);
        assert_eq!(born.execute(&mut plain).await.expect("passes on").rows_affected(), 1);
        sqlx::raw_sql("select pg_advisory_unlock(77)").execute(&mut plain).await.expect("goes on");
    });
    upkept.expect("maintains");
    let holder: Option<uuid::Uuid> =
        sqlx::query_scalar("select job_id from unique_key").fetch_optional(&mut plain).await.expect("reads");
    assert_eq!(holder, Some(next.0), "it is the new job's");
}

async fn until_upkeep_waits(url: &str) {
    let watch = std::sync::Arc::new(tokio::sync::Mutex::new(plain(url).await));
    super::support::wait_for("upkeep waits", super::kitchen::SOON, || {
        let watch = watch.clone();
        async move {
            let waits: bool = sqlx::query_scalar(
                "select exists (select from pg_stat_activity where datname = current_database()
                   and wait_event = 'advisory' and query like '%unique_key%')",
            )
            .fetch_one(&mut *watch.lock().await)
            .await
            .expect("reads the activity");
            if waits { Ok(()) } else { Err("it does not") }
        }
    })
    .await;
}

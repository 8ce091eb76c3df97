//! Lost connections, lost answers, refused operations.

use ganger::{
    domain::{JobState, RawJson},
    store::{
        CommitError, OpResult, Settled, StoreError,
        postgres::{PostgresOptions, PostgresStore},
    },
};

use super::{
    conformance::kit::{Kit, completed, job},
    kitchen::{end, fresh, open, pause_before_commit, plain, until_waiting},
    support::{PgProxy, PgServer},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_backend_is_ended_is_written_once() {
    let (kit, url) = fresh().await;
    let id = kit.made("mail").await;
    let lease = kit.grant("mail", id).await;
    let pause = pause_before_commit(&url, "mail", 0).await;
    let ops = [kit.end_op("mail", id, lease.fence, completed())];
    let (results, ()) = tokio::join!(kit.store.commit(0, &ops), async {
        until_waiting(&url, 1).await;
        let mut admin = plain(&url).await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'ganger lane %'",
        )
        .execute(&mut admin)
        .await
        .expect("ends the backend");
        end(pause, "rollback").await;
    });
    assert!(matches!(results.expect("commits")[0], OpResult::Ended(_)));
    assert_eq!(kit.state(id).await, JobState::Completed);
    kit.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_settled_by_its_mark() {
    let url = PgServer::shared().create_database().await;
    let proxy = PgProxy::start(&url).await;
    let through = open(&proxy.url(&url)).await;
    let kit = Kit::new(through).await;
    kit.made("mail").await;
    let new = job("mail");
    proxy.lose_commits(1);
    let unknown = match kit.store.commit(0, &[kit.submit_op(&new)]).await {
        Err(CommitError::Unknown(unknown)) => unknown,
        other => panic!("{other:?}"),
    };
    assert_eq!(proxy.faults().answers_lost, 1);
    assert!(matches!(unknown.results[..], [OpResult::Submitted(_)]));
    // The lane goes on over another connection, whose batches do not touch the lost one's mark.
    kit.made("mail").await;
    assert_eq!(kit.store.settle(&unknown).await.expect("settles"), Settled::Committed);
    assert_eq!(kit.state(new.id).await, JobState::Queued);
    // While a transaction holds the mark it is open; without the batch's number it was undone.
    let mut holder = plain(&url).await;
    sqlx::raw_sql("begin; update journal_mark set seq = seq - 1").execute(&mut holder).await.expect("holds");
    assert!(matches!(kit.store.settle(&unknown).await, Err(StoreError::Unavailable(_))));
    end(holder, "commit").await;
    assert_eq!(kit.store.settle(&unknown).await.expect("settles"), Settled::RolledBack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_out_of_reach_says_so_and_serves_again() {
    let url = PgServer::shared().create_database().await;
    let proxy = PgProxy::start(&url).await;
    let kit = Kit::new(open(&proxy.url(&url)).await).await;
    kit.made("mail").await;
    proxy.refuse();
    let new = job("mail");
    let answer = kit.store.commit(0, &[kit.submit_op(&new)]).await;
    assert!(matches!(answer, Err(CommitError::Failed(StoreError::Unavailable(_)))), "{answer:?}");
    assert!(matches!(kit.store.ping().await, Err(StoreError::Unavailable(_))));
    proxy.heal();
    kit.make(&new).await;
    kit.store.ping().await.expect("answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_the_server_refuses_fail_alone_and_the_rest_is_one_transaction() {
    let (kit, _url) = fresh().await;
    let mut jobs: Vec<_> = (0..9).map(|_| job("mail")).collect();
    for bad in [2, 7] {
        jobs[bad].payload = RawJson::trusted("{ no json");
    }
    let ops: Vec<_> = jobs.iter().map(|job| kit.submit_op(job)).collect();
    for (index, result) in kit.commit(&ops).await.iter().enumerate() {
        let refused = matches!(result, OpResult::Refused(_));
        assert_eq!(refused, [2, 7].contains(&index), "{index}: {result:?}");
    }
    assert_eq!(kit.ready("mail").await.len(), 7);
    kit.check().await;
}

#[tokio::test]
async fn a_databases_asynchronous_default_does_not_hold_for_the_store() {
    let url = PgServer::shared().create_database().await;
    let mut admin = plain(&url).await;
    sqlx::raw_sql(
        "do $$ begin
            execute format('alter database %I set synchronous_commit = off', current_database());
        end $$",
    )
    .execute(&mut admin)
    .await
    .expect("sets");
    // The lanes refuse a session in which it is off.
    let kit = Kit::new(open(&url).await).await;
    kit.made("mail").await;
}

#[tokio::test]
async fn a_server_out_of_reach_is_not_waited_for() {
    let url = "postgres://nobody@127.0.0.1:1/none";
    let answer = PostgresStore::connect(url, PostgresOptions::default()).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

//! Bulk operations as they are kept, and the audit log as it is read.

use ganger::{
    domain::JobId,
    store::{
        Op, OpResult,
        audit::AuditFilter,
        operations::{NewOperation, OPERATIONS_WAITING_MAX, OperationState, Tally},
        ops::{AuditOp, Requester},
    },
};
use uuid::Uuid;

use super::kit::Kit;

fn audit_op(action: &'static str, object_id: &str, actor: &str) -> AuditOp {
    let by = Requester { actor: actor.into(), request_id: "r".into(), reason: None };
    let object_id = object_id.to_owned();
    AuditOp { action, object_type: "operation", object_id, by, before: None, after: None }
}

fn operation() -> NewOperation {
    NewOperation { id: Uuid::now_v7(), action: "cancel", request: "{}".into(), actor: "admin".into() }
}

pub(crate) async fn an_operation_is_kept_with_its_progress(kit: Kit) {
    let newest = {
        kit.made("mail").await;
        kit.made("mail").await
    };
    let new = operation();
    let audit = audit_op("jobs.cancel", &new.id.to_string(), "admin");
    for _ in 0..2 {
        assert!(kit.store.begin_operation(&new, &audit).await.expect("writes"));
    }
    let rows = kit.store.audit(&AuditFilter::default(), None, 10).await.expect("reads");
    assert_eq!(rows.len(), 1, "a repeat writes nothing");
    let kept = kit.store.operation(new.id).await.expect("reads").expect("is there");
    assert_eq!((kept.state, kept.bound, kept.cursor), (OperationState::Running, newest, None));
    assert_eq!((kept.request.as_str(), kept.tally), ("{}", Tally::default()));
    let (cursor, tally) = (JobId::new(), Tally { matched: 5, changed: 3, skipped: 2 });
    assert!(kit.store.save_operation(new.id, cursor, tally).await.expect("writes"));
    let [kept] = &kit.store.unfinished_operations(10).await.expect("reads")[..] else { panic!("one") };
    assert_eq!((kept.cursor, kept.tally), (Some(cursor), tally));
    let ended = (OperationState::Aborted, Some("enough"));
    assert!(kit.store.finish_operation(new.id, ended.0, ended.1).await.expect("writes"));
    let again = kit.store.finish_operation(new.id, OperationState::Completed, None).await;
    assert!(!again.expect("writes"), "it has ended already");
    let late = Tally { matched: 6, ..tally };
    assert!(!kit.store.save_operation(new.id, cursor, late).await.expect("writes"), "it was stopped");
    let kept = kit.store.operation(new.id).await.expect("reads").expect("is there");
    assert_eq!((kept.state, kept.reason.as_deref(), kept.tally), (ended.0, ended.1, late));
    assert!(kept.finished_at.is_some());
    assert!(kit.store.unfinished_operations(10).await.expect("reads").is_empty());
    assert_eq!(kit.store.operation(Uuid::now_v7()).await.expect("reads"), None);
}

pub(crate) async fn only_so_many_operations_wait(kit: Kit) {
    let audit = audit_op("jobs.cancel", "x", "admin");
    let mut first = None;
    for _ in 0..OPERATIONS_WAITING_MAX {
        let new = operation();
        assert!(kit.store.begin_operation(&new, &audit).await.expect("writes"));
        first.get_or_insert(new.id);
    }
    assert!(!kit.store.begin_operation(&operation(), &audit).await.expect("answers"), "one too many");
    let first = first.expect("there are some");
    assert!(kit.store.finish_operation(first, OperationState::Completed, None).await.expect("writes"));
    assert!(kit.store.begin_operation(&operation(), &audit).await.expect("writes"), "there is room again");
}

pub(crate) async fn operations_are_listed_newest_first(kit: Kit) {
    let mut made = Vec::new();
    for _ in 0..5 {
        let new = operation();
        let audit = audit_op("jobs.cancel", "x", "admin");
        assert!(kit.store.begin_operation(&new, &audit).await.expect("writes"));
        made.push(new.id);
    }
    made.reverse();
    let first = kit.store.operations(None, 3).await.expect("reads");
    let rest = kit.store.operations(first.last().map(|row| row.id), 3).await.expect("reads");
    let listed: Vec<Uuid> = first.iter().chain(&rest).map(|row| row.id).collect();
    assert_eq!(listed, made);
}

pub(crate) async fn the_audit_log_is_found_by_what_it_tells(kit: Kit) {
    for (action, object, actor) in [("a.b", "1", "ada"), ("a.c", "1", "bob"), ("a.b", "2", "bob")] {
        let done = kit.one(Op::Audit(audit_op(action, object, actor))).await;
        assert!(matches!(done, OpResult::Audited));
    }
    let find = async |filter: AuditFilter| {
        let rows = kit.store.audit(&filter, None, 10).await.expect("reads");
        rows.into_iter()
            .map(|row| format!("{} {} {}", row.action, row.object_id, row.actor))
            .collect::<Vec<_>>()
    };
    let any = AuditFilter::default;
    assert_eq!(find(any()).await, ["a.b 2 bob", "a.c 1 bob", "a.b 1 ada"], "newest first");
    assert_eq!(find(AuditFilter { actor: Some("ada".into()), ..any() }).await, ["a.b 1 ada"]);
    assert_eq!(find(AuditFilter { action: Some("a.c".into()), ..any() }).await, ["a.c 1 bob"]);
    let object = (Some("operation".to_owned()), Some("1".to_owned()));
    let of_object = AuditFilter { object_type: object.0, object_id: object.1, ..any() };
    assert_eq!(find(of_object).await, ["a.c 1 bob", "a.b 1 ada"]);
    let later = Some(kit.now().await.plus_millis(60_000));
    assert!(find(AuditFilter { created_after: later, ..any() }).await.is_empty());
    assert_eq!(find(AuditFilter { created_before: later, ..any() }).await.len(), 3);
    let first = kit.store.audit(&any(), None, 2).await.expect("reads");
    let rest = kit.store.audit(&any(), first.last().map(|row| row.id), 2).await.expect("reads");
    assert_eq!((first.len(), rest.len()), (2, 1));
}

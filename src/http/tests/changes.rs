//! What is refused of changes before anything is asked of the actors.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    domain::{JobId, JobState},
    http::testing::{Shelf, Stage, job},
    store::{
        StoreError,
        audit::{AuditFilter, AuditReads, AuditRow},
        operations::{NewOperation, OperationRow, OperationState, OperationStore, Tally},
        ops::AuditOp,
    },
};

type Read<T> = Result<T, StoreError>;

fn refused<T>() -> Read<T> {
    Err(StoreError::Refused("the tests' store only reads".into()))
}

#[async_trait]
impl AuditReads for Shelf {
    async fn audit(&self, _: &AuditFilter, _: Option<Uuid>, _: i64) -> Read<Vec<AuditRow>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl OperationStore for Shelf {
    async fn begin_operation(&self, _: &NewOperation, _: &AuditOp) -> Read<bool> {
        Ok(false)
    }
    async fn save_operation(&self, _: Uuid, _: JobId, _: Tally) -> Read<bool> {
        refused()
    }
    async fn finish_operation(&self, _: Uuid, _: OperationState, _: Option<&str>) -> Read<bool> {
        Ok(false)
    }
    async fn operation(&self, _: Uuid) -> Read<Option<OperationRow>> {
        Ok(None)
    }
    async fn operations(&self, _: Option<Uuid>, _: i64) -> Read<Vec<OperationRow>> {
        Ok(Vec::new())
    }
    async fn unfinished_operations(&self, _: i64) -> Read<Vec<OperationRow>> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_bulk_request_says_what_and_which() {
    let stage = Stage::new();
    let ids = |n: usize| serde_json::json!(vec![JobId::new(); n]).to_string();
    let many = format!(r#"{{"action":"cancel","jobIds":{}}}"#, ids(10_001));
    for (body, pointer) in [
        (r#"{"filter":{}}"#, "/action"),
        (r#"{"action":"explode","filter":{}}"#, "/action"),
        (r#"{"action":"cancel"}"#, "/filter"),
        (r#"{"action":"cancel","filter":{},"jobIds":[]}"#, "/jobIds"),
        (r#"{"action":"cancel","jobIds":["x"]}"#, "/jobIds/0"),
        (&many, "/jobIds"),
        (r#"{"action":"cancel","filter":{"sate":"failed"}}"#, "/filter/sate"),
        (r#"{"action":"cancel","filter":{"state":"lost"}}"#, "/filter/state"),
        (r#"{"action":"cancel","filter":{"queue":"a b","q":"\u0000"}}"#, "/filter/queue"),
        (r#"{"action":"update","filter":{}}"#, "/patch"),
        (r#"{"action":"update","filter":{},"patch":{}}"#, "/patch"),
        (r#"{"action":"update","filter":{},"patch":{"priority":10}}"#, "/patch/priority"),
        (
            r#"{"action":"update","filter":{"type":"email.send"},"patch":{"payload":{}}}"#,
            "/patch/payload/recipient",
        ),
        (r#"{"action":"retry","filter":{},"patch":{"priority":1}}"#, "/patch"),
        (r#"{"action":"retry","filter":{},"dryRun":true,"async":true}"#, "/async"),
    ] {
        let answer = stage.post("/api/v1/jobs/bulk", body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
    }
    let huge = stage.post("/api/v1/jobs/bulk", r#"{"action":"cancel","filter":{"queue":"huge"}}"#).await;
    assert_eq!((huge.status, huge.text.contains("use `async`")), (422, true), "{}", huge.text);
    let full = stage.post("/api/v1/jobs/bulk", r#"{"action":"cancel","filter":{},"async":true}"#).await;
    assert_eq!((full.status, full.code().as_str()), (429, "operations_full"), "{}", full.text);
    assert!(full.header("retry-after").is_some());
    let dry = stage.post("/api/v1/jobs/bulk", r#"{"action":"cancel","filter":{},"dryRun":true}"#).await;
    assert_eq!(dry.json(), serde_json::json!({ "matched": 0, "changed": 0, "skipped": 0 }));
}

#[tokio::test]
async fn a_change_is_checked_as_a_submission_is() {
    let stage = Stage::new();
    let mut mail = job(JobState::Queued, "{}");
    mail.kind = "email.send".into();
    let path = format!("/api/v1/jobs/{}", mail.id);
    stage.store.put(mail);
    let patch = async |body: &str| {
        stage.ask("PATCH", &path, &[("content-type", "application/json")], body.as_bytes()).await
    };
    let answer = patch(r#"{"payload":{"to":"a"}}"#).await;
    assert_eq!(
        (answer.status, answer.json()["errors"][0]["pointer"].as_str()),
        (422, Some("/payload/recipient"))
    );
    assert_eq!(patch("{}").await.status, 422);
    assert_eq!(patch("{").await.status, 400);
    let missing = format!("/api/v1/jobs/{}", JobId::new());
    let json = [("content-type", "application/json")];
    assert_eq!(stage.ask("PATCH", &missing, &json, br#"{"priority":1}"#).await.status, 404);
    for (method, path) in [("GET", "/api/v1/operations/x"), ("POST", "/api/v1/operations/x/abort")] {
        assert_eq!(stage.ask(method, path, &[], b"").await.code(), "operation_not_found");
    }
}

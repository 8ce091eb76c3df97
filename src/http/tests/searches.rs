//! Lists of what few of many jobs fit.

use async_trait::async_trait;

use crate::{
    domain::{JobId, JobState, JobView},
    http::testing::{Shelf, Stage, job},
    store::{
        StoreError,
        read::{JobCursor, JobFilter},
        search::{JobSearch, Searched},
    },
};

#[async_trait]
impl JobSearch for Shelf {
    /// The queue `endless` has jobs without end, none of which matches; those of `huge` all do.
    async fn search(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobView>, StoreError> {
        let all = self.newest_first();
        if filter.queue.as_deref() == Some("endless") {
            let from = cursor.map_or(u128::MAX, |JobCursor(id)| id.0.as_u128());
            let reached = uuid::Uuid::from_u128(from - u128::try_from(scan).expect("positive"));
            return Ok(Searched { found: Vec::new(), reached: Some(JobCursor(JobId(reached))) });
        }
        let below = |job: &JobView| cursor.is_none_or(|JobCursor(id)| job.id < id);
        let fits = |job: &JobView| filter.states.is_empty() || filter.states.contains(&job.state);
        let mut rows = all.into_iter().filter(below);
        let (mut found, mut reached) = (Vec::new(), None);
        for _ in 0..scan {
            let Some(job) = rows.next() else { return Ok(Searched { found, reached: None }) };
            reached = Some(JobCursor(job.id));
            found.extend(Some(job).filter(fits));
            if i64::try_from(found.len()).expect("fits") == limit {
                break;
            }
        }
        Ok(Searched { found, reached: reached.filter(|_| rows.next().is_some()) })
    }

    async fn search_ids(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobId>, StoreError> {
        if filter.queue.as_deref() == Some("huge") {
            let found: Vec<_> = (0..limit).map(|_| JobId::new()).collect();
            let reached = found.last().copied().map(JobCursor);
            return Ok(Searched { found, reached });
        }
        let Searched { found, reached } = self.search(filter, cursor, limit, scan).await?;
        Ok(Searched { found: found.into_iter().map(|job| job.id).collect(), reached })
    }
}

#[tokio::test]
async fn a_search_that_finds_little_is_cut_says_so_and_goes_on() {
    let stage = Stage::new();
    let mut path = "/api/v1/jobs?queue=endless&q=x".to_owned();
    let mut scopes = Vec::new();
    for _ in 0..2 {
        let answer = stage.get(&path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "[]"));
        let scope = answer.header("x-search-scope").expect("a scope").to_owned();
        assert!(scope.starts_with("jobs down to ") && scope.ends_with("; id, type, last error"), "{scope}");
        scopes.push(scope);
        let link = answer.header("link").expect("a next page");
        path = link.trim_start_matches('<').trim_end_matches(">; rel=\"next\"").to_owned();
    }
    assert!(scopes[1] < scopes[0], "it goes on where it was: {scopes:?}");
}

#[tokio::test]
async fn what_is_found_behind_many_others_fills_one_page() {
    let stage = Stage::new();
    let rare = job(JobState::Failed, "null");
    stage.store.put(rare.clone());
    for _ in 0..3_000 {
        stage.store.put(job(JobState::Queued, "null"));
    }
    let answer = stage.get("/api/v1/jobs?state=failed").await;
    assert_eq!(answer.json()[0]["id"], serde_json::json!(rare.id));
    assert!(answer.header("link").is_none() && answer.header("x-search-scope").is_none());
}

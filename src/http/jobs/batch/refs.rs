//! Jobs of a batch that name one another by place: `"#0"` is the first.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    domain::{FieldError, JobId, SubmitRequest},
    http::limits::{BATCH_EDGES_MAX, BATCH_FAULTS_MAX},
};

/// The place that a reference names; `None` for a job's id, or what is to be one.
pub(super) fn place(dependency: &str) -> Option<Result<usize, &'static str>> {
    let digits = dependency.strip_prefix('#')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // What is too long for a number is beyond every batch too.
    let place = is_number.then(|| digits.parse().unwrap_or(usize::MAX));
    Some(place.ok_or("not a place in the batch, such as \"#0\""))
}

/// Puts the ids that the jobs will have in the place of references, and returns an order in which each job comes
/// behind those of the batch that it depends on; otherwise as they came.
pub(super) fn resolve(requests: &mut [SubmitRequest], ids: &[JobId]) -> Result<Vec<usize>, Vec<FieldError>> {
    let edges: usize = requests.iter().map(|request| request.dependencies.len()).sum();
    if edges > BATCH_EDGES_MAX {
        return Err(vec![FieldError::new("/jobs", format!("at most {BATCH_EDGES_MAX} dependencies in all"))]);
    }
    let tenants: Vec<Option<String>> = requests.iter().map(|request| request.tenant_id.clone()).collect();
    let tenant = |index: usize| tenants[index].as_deref().unwrap_or("default");
    let mut faults = Vec::new();
    // Which jobs each waits for, with the place of the dependency in its list.
    let mut parents: Vec<Vec<(usize, usize)>> = vec![Vec::new(); requests.len()];
    for (index, request) in requests.iter_mut().enumerate() {
        for (at, dependency) in request.dependencies.iter_mut().enumerate() {
            let fault = match place(dependency) {
                None => continue,
                Some(Err(fault)) => fault,
                Some(Ok(parent)) if parent >= ids.len() => "there is no such job in the batch",
                Some(Ok(parent)) if parent == index => "a job cannot depend on itself",
                Some(Ok(parent)) if tenant(parent) != tenant(index) => "that job is another tenant's",
                Some(Ok(parent)) => {
                    parents[index].push((parent, at));
                    *dependency = ids[parent].to_string();
                    continue;
                }
            };
            if faults.len() < BATCH_FAULTS_MAX {
                faults.push(FieldError::new(format!("/jobs/{index}/dependencies/{at}"), fault));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    sort(&parents).map_err(|fault| vec![fault])
}

/// Parents before their children, the earliest first.
fn sort(parents: &[Vec<(usize, usize)>]) -> Result<Vec<usize>, FieldError> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut missing: Vec<usize> = parents.iter().map(Vec::len).collect();
    for (child, parents) in parents.iter().enumerate() {
        for (parent, _) in parents {
            children[*parent].push(child);
        }
    }
    let mut free: BinaryHeap<Reverse<usize>> =
        (0..parents.len()).filter(|index| missing[*index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(parents.len());
    while let Some(Reverse(index)) = free.pop() {
        order.push(index);
        for child in &children[index] {
            missing[*child] -= 1;
            if missing[*child] == 0 {
                free.push(Reverse(*child));
            }
        }
    }
    if order.len() == parents.len() { Ok(order) } else { Err(cycle(parents, &missing)) }
}

/// A dependency that closes a cycle. Who waits in vain waits for another who does: upwards among them, a job is met
/// again.
fn cycle(parents: &[Vec<(usize, usize)>], missing: &[usize]) -> FieldError {
    let mut met = vec![false; parents.len()];
    let mut index = missing.iter().position(|missing| *missing > 0).unwrap_or(0);
    loop {
        met[index] = true;
        let Some((parent, at)) = parents[index].iter().find(|(parent, _)| missing[*parent] > 0) else {
            return FieldError::new("/jobs", "jobs that wait for one another");
        };
        if met[*parent] {
            let detail = format!("a cycle: #{parent} waits for #{index} already");
            return FieldError::new(format!("/jobs/{index}/dependencies/{at}"), detail);
        }
        index = *parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Resolved = (Vec<usize>, Vec<SubmitRequest>, Vec<JobId>);

    fn resolved(jobs: &[&[&str]]) -> Result<Resolved, Vec<String>> {
        let mut requests: Vec<SubmitRequest> = jobs
            .iter()
            .map(|names| SubmitRequest {
                dependencies: names.iter().map(|name| (*name).to_owned()).collect(),
                ..SubmitRequest::default()
            })
            .collect();
        let ids: Vec<JobId> = jobs.iter().map(|_| JobId::new()).collect();
        match resolve(&mut requests, &ids) {
            Ok(order) => Ok((order, requests, ids)),
            Err(faults) => Err(faults.into_iter().map(|fault| fault.pointer).collect()),
        }
    }

    #[test]
    fn any_order_without_a_cycle_is_taken() {
        let (order, requests, ids) =
            resolved(&[&["#2"], &[], &["#1"], &["#0", "x", "#0"]]).expect("no cycle");
        assert_eq!(order, [1, 2, 0, 3]);
        assert_eq!(requests[0].dependencies, [ids[2].to_string()]);
        assert_eq!(requests[3].dependencies, [ids[0].to_string(), "x".to_owned(), ids[0].to_string()]);
        let (order, ..) = resolved(&[&[], &["#0"], &[]]).expect("no cycle");
        assert_eq!(order, [0, 1, 2], "as they came");
    }

    #[test]
    fn what_names_no_other_job_of_the_batch_is_told_by_its_place() {
        for bad in ["#", "#-1", "#+1", "#x", "# 1", "#1.0", "#3", "#99999999999", "#99999999999999999999999"]
        {
            assert_eq!(
                resolved(&[&[], &["#0", bad], &[]]).expect_err(bad),
                ["/jobs/1/dependencies/1"],
                "{bad}"
            );
        }
        assert_eq!(resolved(&[&["#0"]]).expect_err("itself"), ["/jobs/0/dependencies/0"]);
        let faults = resolved(&[&["#1"], &["#9"], &["#2"]]).expect_err("two faults");
        assert_eq!(faults, ["/jobs/1/dependencies/0", "/jobs/2/dependencies/0"]);
    }

    #[test]
    fn a_cycle_is_told_by_a_dependency_that_is_part_of_it() {
        let faults = resolved(&[&["#1"], &["#2"], &["#0"]]).expect_err("a cycle");
        assert_eq!(faults, ["/jobs/2/dependencies/0"]);
        let faults = resolved(&[&["#3"], &[], &["#1"], &["#1", "#4"], &["#2", "#3"]]).expect_err("a cycle");
        assert_eq!(faults, ["/jobs/4/dependencies/1"], "not of those that only wait for it");
    }

    #[test]
    fn another_tenants_job_is_not_named() {
        let mut requests = [SubmitRequest::default(), SubmitRequest::default()];
        requests[0].tenant_id = Some("acme".into());
        requests[1].dependencies = vec!["#0".into()];
        let faults = resolve(&mut requests, &[JobId::new(), JobId::new()]).expect_err("another's");
        assert_eq!(faults[0].pointer, "/jobs/1/dependencies/0");
    }
}

//! The API's own description, put together from the handlers and completed from the authorization
//! table: what the guard and the extractors may answer is the same for all routes of a kind.

use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Response,
        path::{Operation, ParameterIn},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    access::{Load, Needs, Rule},
    problem::{PROBLEM_JSON, Problem},
};
use crate::{actors::console::StreamEvent, domain::FieldError};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ganger",
        description = "A durable job platform: submit jobs over HTTP, have them run at least once, and see at any moment what every job and actor is doing. Errors are `application/problem+json`; programs decide by `code`.",
    ),
    tags(
        (name = "jobs", description = "Jobs and what belongs to them"),
        (name = "queues", description = "Queues and their settings"),
        (name = "dead letters", description = "Jobs that failed for good"),
        (name = "workflows", description = "Jobs that depend on one another"),
        (name = "workers", description = "Who runs jobs"),
        (name = "streams", description = "Events as they happen"),
        (name = "node", description = "The node and its actors"),
    ),
    paths(super::docs::openapi),
    components(schemas(Problem, FieldError, StreamEvent)),
)]
struct Base;

/// The description without its routes.
pub(super) fn base() -> openapi::OpenApi {
    let mut document = Base::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let header = ApiKey::Header(ApiKeyValue::new("X-Admin-Token"));
    components.add_security_scheme("adminToken", SecurityScheme::ApiKey(header));
    let ticket = ApiKey::Query(ApiKeyValue::with_description("ticket", "From `POST /api/v1/tickets`"));
    components.add_security_scheme("ticket", SecurityScheme::ApiKey(ticket));
    document
}

/// Adds what no handler says of itself.
pub(super) fn complete(document: &mut openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(rule), Some(operation)) = (Rule::of(method, path), operation.as_mut()) {
                complete_operation(rule, operation);
            }
        }
    }
}

fn complete_operation(rule: &Rule, operation: &mut Operation) {
    let requirement = |name: &str| SecurityRequirement::new(name, std::iter::empty::<String>());
    let open = SecurityRequirement::default();
    let keys = [requirement("bearer"), requirement("adminToken")];
    operation.security = match rule.needs {
        Needs::Nothing => Some(vec![open]),
        Needs::Key(_) => Some(keys.to_vec()),
        Needs::KeyOrTicket(_) => Some([&keys[..], &[requirement("ticket")]].concat()),
        Needs::KeyUnlessLoopback(_) => Some([&[open][..], &keys].concat()),
    };
    let params = operation.parameters.as_deref().unwrap_or_default();
    let queried = params.iter().any(|param| match param {
        RefOr::T(param) => matches!(param.parameter_in, ParameterIn::Query),
        RefOr::Ref(_) => false,
    });
    let (by_job, bodied) = (rule.path.contains("{id}"), operation.request_body.is_some());
    let answers: [(&str, bool, &str); 9] = [
        ("400", true, "Cannot be understood, or has a key in its URL"),
        ("401", rule.needs != Needs::Nothing, "No valid credentials"),
        ("403", true, "Without the right, or from a foreign origin"),
        ("404", by_job || rule.path.contains("/supervision"), "Nothing there"),
        ("408", bodied, "The body took too long to arrive"),
        ("413", bodied, "The body is larger than 2 MiB"),
        ("415", bodied, "The body is not `application/json`"),
        ("422", bodied || queried, "Not valid; `errors` says where"),
        ("500", true, "A fault of the node"),
    ];
    for (status, applies, description) in answers {
        if applies {
            problem(operation, status, description);
        }
    }
    if rule.load != Load::Free {
        problem(operation, "503", "Overloaded or not ready: come back after `Retry-After`");
    }
}

fn problem(operation: &mut Operation, status: &str, description: &str) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let mut response = Response::new(description);
        response.content.insert(PROBLEM_JSON.to_owned(), RefOr::T(content));
        RefOr::T(response)
    });
}

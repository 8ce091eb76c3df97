//! Every route of a node, in one place. What each asks of its caller is in
//! `access::RULES`.

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access, audit, demo, dlq,
    docs::{self, Document},
    edge, jobs, openapi, operations, overview, probes,
    problem::ApiError,
    queues,
    state::HttpState,
    stream, supervision, tickets, workers,
};

/// The node's whole face.
pub fn app(state: HttpState) -> Router {
    let (router, document) = routes(&state);
    let document = Document::new(&document);
    let shown = Router::new()
        .route("/api/v1/openapi.json", get(docs::openapi))
        .route("/", get(docs::root))
        .route("/docs", get(docs::page))
        .route("/docs/", get(docs::page))
        .route("/docs/{file}", get(docs::file))
        .with_state(document);
    router
        .merge(shown)
        .fallback(nothing_here)
        .layer(from_fn_with_state(state.clone(), access::guard))
        .layer(from_fn_with_state(state, access::frontier))
        .layer(from_fn(edge::edge))
}

/// The routes of the API, with their description.
fn routes(state: &HttpState) -> (Router, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(jobs::list, jobs::submit))
        .routes(routes!(jobs::batch))
        .routes(routes!(jobs::get, jobs::update, jobs::forget))
        .routes(routes!(operations::bulk))
        .routes(routes!(operations::list))
        .routes(routes!(operations::get))
        .routes(routes!(operations::abort))
        .routes(routes!(audit::list))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::attempts))
        .routes(routes!(jobs::logs))
        .routes(routes!(jobs::graph))
        .routes(routes!(jobs::inspection))
        .routes(routes!(jobs::wait))
        .routes(routes!(jobs::explain))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(dlq::list))
        .routes(routes!(dlq::groups))
        .routes(routes!(dlq::replay))
        .routes(routes!(dlq::delete))
        .routes(routes!(demo::thumbnail))
        .routes(routes!(queues::list))
        .routes(routes!(queues::get, queues::configure))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::drain))
        .routes(routes!(queues::purge))
        .routes(routes!(overview::overview))
        .routes(routes!(overview::dashboard))
        .routes(routes!(workers::list))
        .routes(routes!(workers::get))
        .routes(routes!(workers::cordon))
        .routes(routes!(workers::resume))
        .routes(routes!(workers::drain))
        .routes(routes!(supervision::tree))
        .routes(routes!(supervision::restart))
        .routes(routes!(tickets::create))
        .routes(routes!(stream::ws))
        .routes(routes!(stream::sse))
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .with_state(state.clone())
        .split_for_parts();
    openapi::complete(&mut document);
    (router, document)
}

async fn nothing_here() -> ApiError {
    ApiError::not_found("not_found", "there is nothing at this path")
}

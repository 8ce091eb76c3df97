//! The guard before every route: credentials, rights, and room for the request.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{AuthConfig, Capability, Load, Needs, Principal, Role, Rule};
use crate::http::{
    extract::Params,
    problem::{ApiError, RETRY_SOON},
    state::HttpState,
};

/// A stream's place among the streams; travels with the request into its task.
#[derive(Debug, Clone)]
pub struct StreamPlace(
    #[expect(dead_code, reason = "held for its drop")] pub(in crate::http) Arc<OwnedSemaphorePermit>,
);

/// Lets a request through to its handler, or says why not.
pub async fn guard(State(state): State<HttpState>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let Some(rule) = Rule::of(request.method().as_str(), path.as_str()) else {
        return method_not_allowed(path.as_str());
    };
    match admit(&state, rule, &request) {
        Ok((principal, place)) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            let place = match (rule.load, place) {
                (Load::Stream, Some(permit)) => {
                    request.extensions_mut().insert(StreamPlace(Arc::new(permit)));
                    None
                }
                (_, place) => place,
            };
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(error) => error.into_response(),
    }
}

fn admit(
    state: &HttpState,
    rule: &Rule,
    request: &Request,
) -> Result<(Option<Principal>, Option<OwnedSemaphorePermit>), ApiError> {
    let principal = authorize(state, rule.needs, request)?;
    let place = match rule.load {
        Load::Free => None,
        Load::Request => Some(place(&state.places.requests, "too many requests at once")?),
        Load::Wait => Some(place(&state.places.waits, "too many waits at once")?),
        Load::Stream => Some(place(&state.places.streams, "too many streams at once")?),
    };
    Ok((principal, place))
}

fn place(places: &Arc<Semaphore>, detail: &str) -> Result<OwnedSemaphorePermit, ApiError> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| ApiError::unavailable("overloaded", detail, RETRY_SOON))
}

fn authorize(state: &HttpState, needs: Needs, request: &Request) -> Result<Option<Principal>, ApiError> {
    let (capability, principal) = match needs {
        Needs::Nothing => return Ok(None),
        Needs::KeyUnlessLoopback(_) if is_local(request) => return Ok(None),
        Needs::Key(capability) | Needs::KeyUnlessLoopback(capability) => {
            (capability, by_key(&state.auth, request.headers())?)
        }
        Needs::KeyOrTicket(capability) => {
            let by_key = by_key(&state.auth, request.headers())?;
            (capability, by_key.or_else(|| by_ticket(state, request)))
        }
    };
    let principal = principal.ok_or_else(ApiError::unauthorized)?;
    if !principal.role.may(capability) {
        return Err(forbidden(capability));
    }
    Ok(Some(principal))
}

fn forbidden(capability: Capability) -> ApiError {
    ApiError::forbidden("forbidden", format!("this key has no right to this ({capability:?})"))
}

/// Who shows a key: `None` when none is shown.
fn by_key(auth: &AuthConfig, headers: &HeaderMap) -> Result<Option<Principal>, ApiError> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let admin = headers.get_all("x-admin-token").iter().map(|value| value.to_str().ok());
    let mut principal = None;
    // Every key that is shown must be good: a bad one beside a good one is a confused caller.
    for key in bearer.chain(admin) {
        let key = key.filter(|key| auth.admin_token.matches(key)).ok_or_else(ApiError::unauthorized)?;
        debug_assert!(!key.is_empty());
        principal = Some(Principal { role: Role::Admin });
    }
    Ok(principal)
}

fn by_ticket(state: &HttpState, request: &Request) -> Option<Principal> {
    let params = Params::parse(request.uri().query().unwrap_or_default())?;
    state.tickets.take(params.one("ticket").ok().flatten()?)
}

/// Whether the peer is on this machine and speaks for itself: a proxy on this machine speaks for the
/// world.
fn is_local(request: &Request) -> bool {
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback())
        && !forwarded.iter().any(|name| request.headers().contains_key(*name))
}

fn method_not_allowed(path: &str) -> Response {
    let allowed = Rule::allowed(path);
    let detail = format!("this path takes {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = error.into_response();
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

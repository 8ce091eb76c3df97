//! Tickets for streams.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use super::{access::Principal, limits::TICKET_TTL, state::HttpState};
use crate::domain::Timestamp;

/// A ticket.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketView {
    /// What goes into the URL of a stream, as `?ticket=`.
    pub ticket: String,
    /// It is good once, and until then.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Gives a ticket for a stream
///
/// For browsers, which cannot send a header with a WebSocket: good once, for 30 seconds.
#[utoipa::path(
    post,
    path = "/api/v1/tickets",
    tag = "streams",
    operation_id = "createTicket",
    responses((status = 201, description = "The ticket", body = TicketView)),
)]
pub async fn create(State(state): State<HttpState>, principal: Principal) -> (StatusCode, Json<TicketView>) {
    let ticket = state.tickets.give(principal);
    let ttl = i64::try_from(TICKET_TTL.as_millis()).unwrap_or(i64::MAX);
    let expires_at = state.platform.clock().now().plus_millis(ttl);
    (StatusCode::CREATED, Json(TicketView { ticket, expires_at }))
}

//! The description for people: Swagger UI, served from the binary, with nothing from another host.
//!
//! Open like every static file. Its copy of the description is a static file too: the same on every
//! node of a version, and without any of its data.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::problem::ApiError;

/// The finished description, as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn new(document: &OpenApi) -> Self {
        // A map with text keys and no value that JSON cannot hold always serialises.
        Self(serde_json::to_vec(document).unwrap_or_default().into())
    }

    fn answer(&self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.clone()).into_response()
    }
}

/// Only what the page needs: its own files. Swagger UI sets styles of its own on its elements.
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = r##"<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Ganger API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="/docs/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"##;

const START: &str = r##"window.addEventListener('load', () => {
  window.ui = SwaggerUIBundle({
    url: '/docs/openapi.json',
    dom_id: '#swagger-ui',
    deepLinking: true,
    displayRequestDuration: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    layout: 'BaseLayout',
  });
});
"##;

/// The files of Swagger UI that the page uses; no other is served.
const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

/// Sends to the description.
pub(super) async fn root() -> Redirect {
    Redirect::temporary("/docs")
}

/// The page.
pub(super) async fn page() -> Response {
    with_csp(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response())
}

/// The page's files.
pub(super) async fn file(
    State(document): State<Document>,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("not_found", "there is no such file");
    let Path(name) = name.map_err(|_| missing())?;
    match name.as_str() {
        "openapi.json" => Ok(document.answer()),
        "start.js" => {
            Ok(with_csp(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], START).into_response()))
        }
        name if FILES.contains(&name) => {
            let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("/docs/openapi.json")))
                .map_err(ApiError::internal)?
                .ok_or_else(missing)?;
            let mut response =
                ([(header::CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response();
            let headers = response.headers_mut();
            if file.gzpipped {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            // The same for as long as the node runs, and large.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
            Ok(with_csp(response))
        }
        _ => Err(missing()),
    }
}

fn with_csp(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CSP);
    response
}

/// Describes every route
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "node",
    operation_id = "getOpenApi",
    responses((status = 200, description = "This document", body = serde_json::Value, content_type = "application/json")),
)]
pub(super) async fn openapi(State(document): State<Document>) -> Response {
    document.answer()
}

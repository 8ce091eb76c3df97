//! A small client of the HTTP API, which shows everything that came back.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// The key that a node without `ADMIN_TOKEN` prints and accepts.
pub const DEV_TOKEN: &str = "dev-admin-token";

/// Past the longest wait that the contract allows (`/wait` at 60 s).
const TIMEOUT: Duration = Duration::from_secs(70);

/// A node's API, with a key.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
}

/// One response. `body` is `Null` when empty and a string when it is not JSON.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body, provided the status is the one expected.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "unexpected status; body: {}", self.body);
        self.body
    }

    /// A header's text, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The path of the list's next page.
    pub fn next_page(&self) -> Option<String> {
        let link = self.header("link")?.split(',').find(|link| link.contains(r#"rel="next""#))?;
        let target = link.split_once('<')?.1.split_once('>')?.0;
        // Absolute or not: only what follows the host is of interest.
        Some(match url::Url::parse(target) {
            Ok(url) => format!("{}?{}", url.path(), url.query().unwrap_or_default()),
            Err(_) => target.to_owned(),
        })
    }
}

impl Api {
    /// A client of the node at `base` (`http://127.0.0.1:8080`); an empty token sends no credentials.
    pub fn new(base: &str, token: &str) -> Self {
        let client = reqwest::Client::builder()
            // The environment's proxy must not come between a test and its node.
            .no_proxy()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("build an HTTP client");
        let token = (!token.is_empty()).then(|| token.to_owned());
        Self { base: base.trim_end_matches('/').to_owned(), token, client }
    }

    /// The same node with another key, over the same connections.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: (!token.is_empty()).then(|| token.to_owned()), ..self.clone() }
    }

    /// The node's address, without a trailing slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.sure(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.sure(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.sure(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.sure(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.sure(Method::DELETE, path, None).await
    }

    /// Sends bytes as they are, with these headers and no `Content-Type` of its own.
    pub async fn post_raw(&self, path: &str, headers: &[(&str, &str)], bytes: impl Into<Vec<u8>>) -> Answer {
        let mut request = self.request(Method::POST, path).body(bytes.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request).await.unwrap_or_else(|error| panic!("POST {path}: {error:?}"))
    }

    /// For use under faults: an `Err` means that the outcome is unknown.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let request = self.request(method, path);
        read(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    async fn sure(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.send(method.clone(), path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    };
    Ok(Answer { status, headers, body })
}

//! A node, as it is reached over HTTP.

use std::error::Error;
use std::time::Duration;

use reqwest::{
    Body, Client, Method, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER},
    redirect::Policy,
};
use serde::de::DeserializeOwned;

use super::{
    CliError,
    args::Global,
    link,
    problem::Refusal,
    settings::{self, Address},
};

/// A host that does not even answer the knock is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A node and the key for it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) address: Address,
    client: Client,
    key: Option<HeaderValue>,
    /// How long a request may take, beyond what it waits for.
    pub(super) timeout: Duration,
}

/// An answer with a good status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// The query of the list's next page.
    pub(super) next: Option<String>,
    url: String,
}

/// A request, as a value.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path's segments below `/api/v1`; each is one, whatever it holds.
    pub(super) route: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    /// JSON.
    pub(super) body: Option<String>,
}

impl Call {
    pub(super) fn new(method: Method, route: &[&str]) -> Self {
        let route = route.iter().map(|&segment| segment.to_owned()).collect();
        Self { method, route, query: Vec::new(), body: None }
    }

    pub(super) fn get(route: &[&str]) -> Self {
        Self::new(Method::GET, route)
    }

    pub(super) fn post(route: &[&str]) -> Self {
        Self::new(Method::POST, route)
    }

    pub(super) fn query(mut self, query: Vec<(&'static str, String)>) -> Self {
        self.query = query;
        self
    }

    /// With a body, which must be JSON already.
    pub(super) fn body(mut self, body: String) -> Self {
        self.body = Some(body);
        self
    }
}

impl Node {
    pub(super) fn new(global: &Global) -> Result<Self, CliError> {
        let address = Address::new(global.url.as_deref())?;
        let admin = std::env::var("ADMIN_TOKEN").ok();
        let given = global.token.clone().filter(|token| !token.is_empty());
        let given = given.or_else(|| std::env::var("GANGER_KEY").ok());
        let key = settings::token(given, admin, &address)
            .map(|token| {
                let mut key = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| CliError::Usage("the token holds what no key can".to_owned()))?;
                key.set_sensitive(true);
                Ok::<_, CliError>(key)
            })
            .transpose()?;
        Ok(Self { client: client(&address)?, address, key, timeout: global.timeout })
    }

    pub(super) async fn get(&self, route: &[&str], query: &[(&str, String)]) -> Result<Answer, CliError> {
        self.get_within(route, query, self.timeout).await
    }

    /// For requests that the node holds back for a while.
    pub(super) async fn get_within(
        &self,
        route: &[&str],
        query: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Answer, CliError> {
        self.send(self.request(Method::GET, route, query).timeout(timeout)).await
    }

    /// The page that an answer called the next.
    pub(super) async fn get_page(&self, route: &[&str], query: &str) -> Result<Answer, CliError> {
        let mut url = self.api(route, &[]);
        url.set_query(Some(query));
        self.send(self.client.request(Method::GET, url).timeout(self.timeout)).await
    }

    /// Makes a request.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, CliError> {
        let route: Vec<&str> = call.route.iter().map(String::as_str).collect();
        let mut request = self.request(call.method.clone(), &route, &call.query).timeout(self.timeout);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        self.send(request).await
    }

    /// Sends a body of any length and hands the answer over before it is whole. No time is set for it: the caller
    /// watches that it moves.
    pub(super) async fn upload(
        &self,
        route: &[&str],
        media: &'static str,
        body: Body,
    ) -> Result<Response, CliError> {
        let mut request = self.request(Method::POST, route, &[]).header(CONTENT_TYPE, media).body(body);
        if let Some(key) = &self.key {
            request = request.header(reqwest::header::AUTHORIZATION, key);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// Asks outside of the API, without the key; the answer's status may be any.
    pub(super) async fn probe(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(u16, String), CliError> {
        let request =
            self.client.request(Method::GET, self.address.route(&[path], query)).timeout(self.timeout);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.map_err(|error| self.unreachable(&error))?))
    }

    /// Sends JSON, or nothing.
    pub(super) async fn post(&self, route: &[&str], body: Option<String>) -> Result<Answer, CliError> {
        let mut request = self.request(Method::POST, route, &[]).timeout(self.timeout);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.send(request).await
    }

    /// Asks for another protocol on the connection at `route`, outside of the API; without the key.
    pub(super) async fn upgrade(
        &self,
        route: &[&str],
        query: &[(&str, String)],
        headers: HeaderMap,
    ) -> Result<Response, CliError> {
        let url = self.address.route(route, query);
        let asked = self.client.request(Method::GET, url).headers(headers).send();
        let answered = tokio::time::timeout(self.timeout, asked).await;
        let response = answered.map_err(|_| self.silent())?.map_err(|error| self.unreachable(&error))?;
        match response.status().as_u16() {
            101 => Ok(response),
            // A good status that is no upgrade is no WebSocket.
            200..=299 => Err(self.unreadable("it does not speak WebSocket there")),
            _ => Err(self.refused(response).await),
        }
    }

    fn api(&self, route: &[&str], query: &[(&str, String)]) -> url::Url {
        self.address.route(&[&["api", "v1"], route].concat(), query)
    }

    fn request(&self, method: Method, route: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        self.client.request(method, self.api(route, query))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CliError> {
        let request = match &self.key {
            Some(key) => request.header(reqwest::header::AUTHORIZATION, key),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let status = response.status().as_u16();
        let next = header(response.headers(), &LINK).and_then(|link| link::next_query(&link));
        let body = response.text().await.map_err(|error| self.unreachable(&error))?;
        // Nothing to say is an answer too.
        if !body.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(self.unreadable("it is not JSON"));
        }
        Ok(Answer { status, body, next, url: self.address.shown().to_owned() })
    }

    async fn refused(&self, response: Response) -> CliError {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let media_type = header(&headers, &CONTENT_TYPE).unwrap_or_default();
        let body = response.text().await.unwrap_or_default();
        let refusal = Refusal::new(status, &media_type, &body)
            .with_retry_after(header(&headers, &RETRY_AFTER))
            .with_location(header(&headers, &LOCATION).filter(|_| (300..400).contains(&status)));
        CliError::Refused(Box::new(refusal))
    }

    pub(super) fn unreadable(&self, why: &str) -> CliError {
        CliError::Unreadable { url: self.address.shown().to_owned(), why: why.to_owned() }
    }

    pub(super) fn silent(&self) -> CliError {
        let why = format!("no answer within {:?}", self.timeout);
        CliError::Unreachable { url: self.address.shown().to_owned(), why }
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_timeout() && !error.is_connect() {
            return self.silent();
        }
        // The outer texts repeat the URL and say "error sending request"; the innermost says what happened.
        let mut cause: &dyn Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        CliError::Unreachable { url: self.address.shown().to_owned(), why: cause.to_string() }
    }
}

impl Answer {
    /// The body, as what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        let mut reader = serde_json::Deserializer::from_str(&self.body);
        serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| CliError::Unreadable { url: self.url.clone(), why: error.to_string() })
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn client(address: &Address) -> Result<Client, CliError> {
    let mut builder = Client::builder()
        .user_agent(concat!("ganger/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // WebSockets need HTTP/1.1, and nothing here gains from more.
        .http1_only()
        // A redirect would turn a POST into a GET, or take the key to another place.
        .redirect(Policy::none());
    if address.is_loopback() {
        builder = builder.no_proxy();
    }
    if !address.is_encrypted() {
        // Without TLS, a machine without root certificates must do.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        CliError::Usage(format!("cannot set up HTTPS: {why}"))
    })
}

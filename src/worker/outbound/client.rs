//! Requests that leave the platform, with every bound that they need.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, StatusCode};
use tokio_util::io::StreamReader;
use url::{Host, Url};

use super::address::{refusal, refusal_of_name};
use super::resolver::{AddressesRefused, GuardedResolver};
use super::{GuardError, NameResolver, OutboundAllow, SystemResolver};
use crate::worker::job_error::chain;
use crate::worker::{ContentReader, JobError};

/// A receiver that does not accept in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last one read: a slow receiver must not hold a worker's slot for long.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer is kept; the rest is not read.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// How often a source may have moved.
const REDIRECTS_MAX: usize = 3;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The guard does not let it out.
    #[error("refused by the outbound guard: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("the request timed out")]
    TimedOut,
    /// The connection failed.
    #[error("the request failed: {0}")]
    Transport(String),
    /// The source answered, but not with content.
    #[error("the source answered {0}")]
    Status(StatusCode),
}

impl OutboundError {
    pub(crate) fn into_job_error(self) -> JobError {
        let message = self.to_string();
        match self {
            Self::Refused(_) => JobError::fatal("outbound_refused", message),
            Self::TimedOut => JobError::retryable("outbound_timeout", message),
            Self::Transport(_) => JobError::retryable("outbound_failed", message),
            Self::Status(status)
                if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) =>
            {
                JobError::retryable(format!("http_{}", status.as_u16()), message)
            }
            Self::Status(status) => JobError::fatal(format!("http_{}", status.as_u16()), message),
        }
    }
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct OutboundRequest {
    /// Where to; checked again when sent.
    pub url: String,
    /// How.
    pub method: Method,
    /// With which headers.
    pub headers: HeaderMap,
    /// With which body.
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct OutboundResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first 64 KiB of its body.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
    /// From sending to the last byte read.
    pub latency: Duration,
}

/// A source being read.
pub struct Download {
    /// Where it was found in the end.
    pub url: Url,
    /// The media type that its server names.
    pub content_type: Option<String>,
    /// Its bytes.
    pub content: ContentReader,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// The guarded HTTP client. Cheap to clone; share one, it pools connections.
#[derive(Clone)]
pub struct Outbound {
    allow: Arc<OutboundAllow>,
    guarded: Client,
    trusted: Client,
}

impl Outbound {
    /// A client that reaches the public Internet and what `allow` names.
    pub fn new(allow: OutboundAllow) -> Result<Self, OutboundError> {
        Self::with_resolver(allow, Arc::new(SystemResolver))
    }

    /// As [`new`](Self::new), with another source of addresses.
    pub fn with_resolver(allow: OutboundAllow, names: Arc<dyn NameResolver>) -> Result<Self, OutboundError> {
        let allow = Arc::new(allow);
        let client = |filter| {
            Client::builder()
                .dns_resolver(Arc::new(GuardedResolver { names: names.clone(), filter }))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TOTAL_TIMEOUT)
                .user_agent(concat!("ganger/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| OutboundError::Transport(chain(&error)))
        };
        Ok(Self { guarded: client(Some(allow.clone()))?, trusted: client(None)?, allow })
    }

    /// The operator's exceptions.
    pub fn allow(&self) -> &OutboundAllow {
        &self.allow
    }

    /// Sends `request` and reads the beginning of the answer.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundResponse, OutboundError> {
        let started = Instant::now();
        let (url, client) = self.admit(&request.url)?;
        let sent =
            client.request(request.method, url).headers(request.headers).body(request.body).send().await;
        let mut response = sent.map_err(failure)?;
        let mut body = Vec::new();
        let mut truncated = false;
        while let Some(part) = response.chunk().await.map_err(failure)? {
            let room = RESPONSE_BYTES_MAX - body.len();
            body.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() > room {
                truncated = true;
                break;
            }
        }
        Ok(OutboundResponse {
            status: response.status(),
            headers: response.headers().clone(),
            body,
            truncated,
            latency: started.elapsed(),
        })
    }

    /// Opens a source for reading, following at most three redirects, each checked like the first URL.
    pub async fn download(&self, url: &str) -> Result<Download, OutboundError> {
        let mut next = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let (url, client) = self.admit(&next)?;
            let response = client.get(url.clone()).send().await.map_err(failure)?;
            let status = response.status();
            if status.is_redirection() {
                let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let target = target.and_then(|target| url.join(target).ok());
                next = target.ok_or(OutboundError::Status(status))?.into();
                continue;
            }
            if !status.is_success() {
                return Err(OutboundError::Status(status));
            }
            let content_type = response.headers().get(CONTENT_TYPE).and_then(media_type);
            let bytes = response.bytes_stream().map_err(|error| io::Error::other(failure(error)));
            return Ok(Download { url, content_type, content: Box::pin(StreamReader::new(bytes)) });
        }
        Err(OutboundError::Refused(format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn admit(&self, url: &str) -> Result<(Url, &Client), OutboundError> {
        let url = self.allow.check_url(url).map_err(|error| OutboundError::Refused(error.to_string()))?;
        let named = match (url.host(), url.port_or_known_default()) {
            (Some(host), Some(port)) => self.allow.allows_host(&host, port),
            _ => false,
        };
        Ok((url, if named { &self.trusted } else { &self.guarded }))
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl OutboundAllow {
    /// Checks what can be told without asking the network; the rest is checked at each connect.
    pub fn check_url(&self, url: &str) -> Result<Url, GuardError> {
        let never = |why: String| Err(GuardError::NeverAllowed(why));
        // `url` brings decimal, octal and hexadecimal addresses into their one normal form.
        let url = Url::parse(url).map_err(|error| GuardError::Invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return never(format!("only http and https leave the platform, not {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return never("credentials in a URL".to_owned());
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(GuardError::Invalid("no host".to_owned()));
        };
        if self.allows_host(&host, port) {
            return Ok(url);
        }
        let refused = match host {
            Host::Domain(name) => refusal_of_name(name).filter(|_| !self.allows_loopback_name(name)),
            Host::Ipv4(v4) => Some(v4.into()).filter(|ip| !self.allows_address(*ip)).and_then(refusal),
            Host::Ipv6(v6) => Some(v6.into()).filter(|ip| !self.allows_address(*ip)).and_then(refusal),
        };
        match refused {
            Some(why) => never(format!("{host} is {why}")),
            None => Ok(url),
        }
    }

    /// `localhost` is as good as the address that it stands for; the resolver still checks what it gets.
    fn allows_loopback_name(&self, name: &str) -> bool {
        let local = name.trim_end_matches('.').eq_ignore_ascii_case("localhost");
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        local && loopback.into_iter().any(|address| self.allows_address(address))
    }
}

/// What went wrong, by its cause; the URL stays out of it, since paths and queries may be secret.
fn failure(error: reqwest::Error) -> OutboundError {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(here) = cause {
        if let Some(refused) = here.downcast_ref::<AddressesRefused>() {
            return OutboundError::Refused(refused.to_string());
        }
        cause = here.source();
    }
    if error.is_timeout() { OutboundError::TimedOut } else { OutboundError::Transport(chain(&error)) }
}

fn media_type(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    text.contains('/').then_some(text)
}

/// Headers that frame or route the message: a caller that could set them could speak for the platform.
const RESERVED: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "proxy-authorization",
];

impl OutboundRequest {
    /// Adds a header that a job asked for; says why if it must not.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
            return Err(format!("{name} is set by the platform"));
        }
        let value =
            HeaderValue::try_from(value).map_err(|_| format!("the value of {name} is not allowed"))?;
        self.headers.insert(name, value);
        Ok(())
    }
}

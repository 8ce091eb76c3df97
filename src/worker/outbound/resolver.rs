//! Resolves names for the HTTP client, and leaves out every address that is not to be reached.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::OutboundAllow;
use super::address::refusal;

/// Looks names up; a test puts its own in.
#[async_trait]
pub trait NameResolver: Send + Sync + 'static {
    /// All addresses of `name`.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl NameResolver for SystemResolver {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// A name whose every address is refused.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to addresses that are not allowed ({why})")]
pub(super) struct AddressesRefused {
    name: String,
    why: &'static str,
}

/// The client's resolver: what it leaves out cannot be connected to.
pub(super) struct GuardedResolver {
    pub(super) names: Arc<dyn NameResolver>,
    /// `None` lets all addresses through, for hosts that the operator named.
    pub(super) filter: Option<Arc<OutboundAllow>>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, filter) = (self.names.clone(), self.filter.clone());
        Box::pin(async move {
            let name = name.as_str();
            let found = names.lookup(name).await?;
            let mut why = "no address";
            let mut reachable = Vec::with_capacity(found.len());
            for address in found {
                match filter.as_ref().filter(|allow| !allow.allows_address(address)).and(refusal(address)) {
                    Some(refused) => why = refused,
                    // Port 0 takes the URL's own.
                    None => reachable.push(SocketAddr::new(address, 0)),
                }
            }
            if reachable.is_empty() {
                return Err(AddressesRefused { name: name.to_owned(), why }.into());
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}

//! Tickets: what a browser puts into the URL of a stream, since it cannot send a header there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Principal;
use crate::http::limits::{TICKET_TTL, TICKETS_MAX};

/// The tickets that were given and not yet used. Kept by their hash, so that a look-up's timing tells
/// nothing of a ticket.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    live: HashMap<[u8; 32], (Instant, Principal)>,
    /// In the order they were given, which is the order they expire in.
    order: VecDeque<[u8; 32]>,
}

impl Book {
    /// Forgets what has expired, and the oldest beyond the bound.
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let keep = match self.live.get(oldest) {
                Some((expires, _)) => *expires > now && self.live.len() < TICKETS_MAX,
                None => false,
            };
            if keep {
                return;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.live.remove(&oldest);
            }
        }
    }
}

impl Tickets {
    /// Gives a ticket that stands for `principal` once, within [`TICKET_TTL`].
    #[must_use]
    pub fn give(&self, principal: Principal) -> String {
        let ticket = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let hash: [u8; 32] = Sha256::digest(&ticket).into();
        let now = Instant::now();
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.trim(now);
        book.live.insert(hash, (now + TICKET_TTL, principal));
        book.order.push_back(hash);
        ticket
    }

    /// Whom a ticket stands for. It stands for nobody after this.
    pub fn take(&self, ticket: &str) -> Option<Principal> {
        let hash: [u8; 32] = Sha256::digest(ticket).into();
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, principal) = book.live.remove(&hash)?;
        (expires > Instant::now()).then_some(principal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::access::Role;

    const WHO: Principal = Principal { role: Role::Viewer };

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_and_for_thirty_seconds() {
        let tickets = Tickets::default();
        let ticket = tickets.give(WHO);
        assert_eq!(tickets.take(&ticket), Some(WHO));
        assert_eq!(tickets.take(&ticket), None);
        let (late, early) = (tickets.give(WHO), tickets.give(WHO));
        tokio::time::advance(TICKET_TTL - Duration::from_millis(1)).await;
        assert_eq!(tickets.take(&early), Some(WHO));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tickets.take(&late), None);
        assert_eq!(tickets.take(""), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_when_there_are_too_many() {
        let tickets = Tickets::default();
        let first = tickets.give(WHO);
        let second = tickets.give(WHO);
        for _ in 0..TICKETS_MAX - 1 {
            let _kept = tickets.give(WHO);
        }
        assert_eq!(tickets.take(&first), None);
        assert_eq!(tickets.take(&second), Some(WHO));
        tokio::time::advance(TICKET_TTL).await;
        let last = tickets.give(WHO);
        let book = tickets.0.lock().expect("not poisoned");
        assert_eq!((book.live.len(), book.order.len()), (1, 1));
        drop(book);
        assert_eq!(tickets.take(&last), Some(WHO));
    }
}

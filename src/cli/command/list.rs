//! Lists of any length.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cli::{
    CliError,
    node::{Answer, Node},
    screen::Screen,
};

/// The most items a node puts into a page.
const PAGE_MAX: u64 = 1_000;

/// The pages of a list, one after the other.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    node: &'a Node,
    route: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    /// The query of the page to come; `None` before the first.
    next: Option<String>,
    begun: bool,
    /// Items still wanted; `None` for all.
    left: Option<u64>,
}

impl<'a> Pages<'a> {
    /// At most `limit` items of the list, in pages as large as the node gives.
    pub(super) fn new(
        node: &'a Node,
        route: &'a [&'a str],
        mut query: Vec<(&'static str, String)>,
        limit: Option<u64>,
    ) -> Self {
        query.push(("limit", limit.unwrap_or(PAGE_MAX).min(PAGE_MAX).to_string()));
        Self { node, route, query, next: None, begun: false, left: limit }
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Answer>, CliError> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let answer = match self.next.take() {
            Some(query) => {
                let answer = self.node.get_page(self.route, &query).await?;
                if answer.next.as_ref() == Some(&query) {
                    return Err(self.node.unreadable("its list goes round in a circle"));
                }
                answer
            }
            None if self.begun => return Ok(None),
            None => self.node.get(self.route, &self.query).await?,
        };
        self.begun = true;
        let items = answer.read::<Vec<IgnoredAny>>()?.len();
        self.left = self.left.map(|left| left.saturating_sub(items as u64));
        self.next.clone_from(&answer.next);
        Ok(Some(answer))
    }

    /// Whether items are left behind those that were wanted.
    pub(super) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Writes all as one document: a page alone as it came, several as one array of the same items.
    pub(super) async fn write_json(&mut self, screen: &Screen) -> Result<(), CliError> {
        let wanted = self.left;
        let Some(first) = self.next().await? else { return screen.document("[]") };
        if self.left == Some(0) || !self.has_more() {
            // A node that gives more than was asked for is taken at its word.
            return screen.document(&first.body);
        }
        let (mut page, mut written) = (Some(first), 0_u64);
        screen.part("[")?;
        while let Some(answer) = page {
            for item in answer.read::<Vec<Box<RawValue>>>()? {
                if wanted.is_some_and(|wanted| written >= wanted) {
                    break;
                }
                screen.part(if written == 0 { "" } else { ",\n" })?;
                screen.part(item.get())?;
                written += 1;
            }
            page = self.next().await?;
        }
        screen.document("]")
    }
}

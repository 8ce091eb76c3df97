//! A body, line by line.

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;

use crate::http::limits::LINE_BYTES_MAX;

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line over the limit; it was skipped.
    TooLong,
    /// Nothing: the body is over.
    End,
    /// Nothing: the body ended before its end. A line that had begun is dropped.
    CutOff,
}

/// Lines of a body; blank ones are left out. Holds one line and one read at most.
#[derive(Debug)]
pub(super) struct Lines {
    body: BodyDataStream,
    read: Vec<u8>,
    /// Where the next line begins in `read`.
    start: usize,
    /// Up to where no line ends.
    scanned: usize,
    is_skipping: bool,
    is_over: bool,
}

impl Lines {
    pub(super) fn of(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            read: Vec::new(),
            start: 0,
            scanned: 0,
            is_skipping: false,
            is_over: false,
        }
    }

    /// What comes next. May be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            while let Some(line) = self.take() {
                if std::mem::take(&mut self.is_skipping) || line.len() > LINE_BYTES_MAX {
                    return Next::TooLong;
                }
                if !line.iter().all(u8::is_ascii_whitespace) {
                    return Next::Line(line);
                }
            }
            if self.is_over {
                return Next::End;
            }
            self.read.drain(..self.start);
            (self.scanned, self.start) = (self.scanned - self.start, 0);
            if self.read.len() > LINE_BYTES_MAX {
                self.read.clear();
                self.scanned = 0;
                self.is_skipping = true;
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.read.extend_from_slice(&bytes),
                Some(Err(_)) => return Next::CutOff,
                None => self.is_over = true,
            }
        }
    }

    /// The next whole line of what was read; the rest, when the body is over.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.read[self.scanned..].iter().position(|byte| *byte == b'\n');
        let (until, next) = match end {
            Some(end) => (self.scanned + end, self.scanned + end + 1),
            None if self.is_over && self.start < self.read.len() => (self.read.len(), self.read.len()),
            // The end of a line that is skipped, at the end of the body.
            None if self.is_over && self.is_skipping => (self.read.len(), self.read.len()),
            None => {
                self.scanned = self.read.len();
                return None;
            }
        };
        let line = self.read[self.start..until].to_vec();
        (self.start, self.scanned) = (next, next);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    async fn lines(parts: &[&[u8]]) -> Vec<Next> {
        let parts: Vec<Result<Vec<u8>, Infallible>> = parts.iter().map(|part| Ok(part.to_vec())).collect();
        let mut lines = Lines::of(Body::from_stream(stream::iter(parts)));
        let mut found = Vec::new();
        loop {
            found.push(lines.next().await);
            if let Some(Next::End | Next::CutOff) = found.last() {
                return found;
            }
        }
    }

    fn line(text: &str) -> Next {
        Next::Line(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn lines_are_put_together_whatever_the_reads() {
        let expected = [line("one"), line("two\r"), line(" three"), Next::End];
        assert_eq!(lines(&[b"one\n\n \r\ntwo\r\n three"]).await, expected);
        assert_eq!(lines(&[b"on", b"e", b"\n", b"two", b"\r", b"\n thr", b"ee\n"]).await, expected);
        assert_eq!(lines(&[]).await, [Next::End]);
        assert_eq!(lines(&[b"\n\n"]).await, [Next::End]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_skipped_and_the_next_is_not() {
        let part = vec![b'x'; LINE_BYTES_MAX / 2 + 1];
        let found = lines(&[b"a\n", &part, &part, &part, b"x\nb\n"]).await;
        assert_eq!(found, [line("a"), Next::TooLong, line("b"), Next::End]);
        assert_eq!(lines(&[&part, &part]).await, [Next::TooLong, Next::End], "at the end of the body");
        let edge = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&[&edge, b"\n"]).await, [Next::Line(edge.clone()), Next::End]);
        assert_eq!(lines(&[&edge, b"x\n"]).await, [Next::TooLong, Next::End]);
    }

    #[tokio::test]
    async fn a_line_that_is_cut_off_is_no_line() {
        let parts: Vec<Result<Vec<u8>, std::io::Error>> =
            vec![Ok(b"a\nb".to_vec()), Err(std::io::Error::other("gone"))];
        let mut lines = Lines::of(Body::from_stream(stream::iter(parts)));
        assert_eq!(lines.next().await, line("a"));
        assert_eq!(lines.next().await, Next::CutOff);
    }
}

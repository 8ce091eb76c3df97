//! Places at which a test makes a node die, fail, panic or stand still, to see what is left of its promises.
//!
//! Only in builds with debug assertions; in others a point is nothing. A point is named `site.kind`, such as
//! `before_commit.complete`. Two environment variables of the node's process are read, once:
//!
//! - `GANGER_CRASH_POINT=name:action:n` takes the action at the `n`-th passage (from 1) and, but for `kill`, never
//!   again. Actions: `kill` (the process ends at once, as by SIGKILL: nothing is flushed, no destructor runs),
//!   `error` (where the site can fail: it does), `panic`, `stall` (the site's thread stands still for
//!   [`STALL`]).
//! - `GANGER_CRASH_HITS=file` gets the name of each point when it is passed for the first time: a sweep shows by it
//!   that it missed none.

/// A point was told to fail.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a crash point was told to fail here")]
pub struct Injected;

/// How long a site stands still: longer than the shortest lease of a sweep, and than what a stalled queue forgives.
pub const STALL: std::time::Duration = std::time::Duration::from_millis(3_500);

/// Passes a point.
///
/// # Errors
/// [`Injected`] when this passage was chosen to fail. A site that cannot fail ignores it.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "a release build holds nothing of it")]
pub fn pass(_site: &str, _kind: &str) -> Result<(), Injected> {
    Ok(())
}

/// Passes a point.
///
/// # Errors
/// [`Injected`] when this passage was chosen to fail. A site that cannot fail ignores it.
#[cfg(debug_assertions)]
pub fn pass(site: &str, kind: &str) -> Result<(), Injected> {
    armed::pass(site, kind)
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        collections::HashSet,
        fs::File,
        io::Write as _,
        sync::{
            Mutex, OnceLock, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::{Injected, STALL};

    struct Point {
        name: String,
        action: String,
        nth: u64,
        passed: AtomicU64,
    }

    fn chosen() -> Option<&'static Point> {
        static POINT: OnceLock<Option<Point>> = OnceLock::new();
        POINT.get_or_init(|| parse(&std::env::var("GANGER_CRASH_POINT").ok()?)).as_ref()
    }

    fn parse(text: &str) -> Option<Point> {
        let mut parts = text.split(':');
        let (name, action) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let nth = parts.next().map_or(Some(1), |text| text.parse().ok())?;
        Some(Point { name, action, nth, passed: AtomicU64::new(0) })
    }

    /// The file of passed points, and those it holds.
    type Hits = Mutex<(File, HashSet<String>)>;

    fn hits() -> Option<&'static Hits> {
        static HITS: OnceLock<Option<Hits>> = OnceLock::new();
        let open = || {
            let path = std::env::var_os("GANGER_CRASH_HITS")?;
            let file = File::options().create(true).append(true).open(path).ok()?;
            Some(Mutex::new((file, HashSet::new())))
        };
        HITS.get_or_init(open).as_ref()
    }

    pub(super) fn pass(site: &str, kind: &str) -> Result<(), Injected> {
        if let Some(hits) = hits() {
            let mut hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
            let (file, seen) = &mut *hits;
            let name = format!("{site}.{kind}");
            if !seen.contains(&name) {
                // One write: it is there even if the process ends by it.
                let _ = file.write_all(format!("{name}\n").as_bytes());
                seen.insert(name);
            }
        }
        let Some(point) = chosen() else { return Ok(()) };
        let is_here = point.name.split_once('.') == Some((site, kind));
        if !is_here || point.passed.fetch_add(1, Ordering::Relaxed) + 1 != point.nth {
            return Ok(());
        }
        match point.action.as_str() {
            "kill" => std::process::abort(),
            "panic" => panic!("crash point {site}.{kind}"),
            "stall" => {
                std::thread::sleep(STALL);
                Ok(())
            }
            _ => Err(Injected),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_named_by_site_kind_action_and_passage() {
            let point = parse("before_commit.complete:kill:3").expect("parses");
            assert_eq!(
                (point.name.as_str(), point.action.as_str(), point.nth),
                ("before_commit.complete", "kill", 3)
            );
            assert_eq!(parse("a.b:error").expect("parses").nth, 1);
            assert!(parse("a.b").is_none() && parse("a.b:kill:x").is_none());
        }
    }
}

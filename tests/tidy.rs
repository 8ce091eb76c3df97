//! The rules of the house that no compiler checks, each with its reason, a violation that it must report and a
//! sample that it must not.
//!
//! To add a rule, add an entry to `RULES`: both samples are then tested with it. An exception is an entry of a list
//! here with its own reason, never a comment in the code.

#![allow(clippy::allow_attributes, clippy::expect_used, reason = "a failed step fails the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A tracked file. `code` is its text with Rust comments blanked, for rules about code.
struct Source {
    path: String,
    text: String,
    code: String,
}

struct Rule {
    name: &'static str,
    why: &'static str,
    check: fn(&[Source]) -> Vec<String>,
    bad: &'static [(&'static str, &'static str)],
    good: &'static [(&'static str, &'static str)],
}

/// This file holds the violations that the rules are tested with.
const SELF: &str = "tests/tidy.rs";
/// Longer files were each split later, at a cost, by every team whose rules we read.
const LINES_MAX: usize = 500;
/// Who may import whom; a layer may always import itself, `metrics` holds declarations only, whose labels are the
/// domain's names. `config` and `telemetry` are read by the top, which passes parts down.
const LAYERS: [(&str, &[&str]); 7] = [
    ("domain", &[]),
    ("cli", &["domain"]),
    ("store", &["domain", "metrics"]),
    ("worker", &["domain", "metrics"]),
    ("actors", &["domain", "metrics", "store", "worker"]),
    ("http", &["actors", "domain", "metrics", "store", "worker"]),
    ("metrics", &["domain"]),
];
/// Modules that the layers above are forbidden unless listed there.
const MODULES: [&str; 10] =
    ["domain", "store", "worker", "actors", "http", "metrics", "system", "config", "telemetry", "cli"];
/// Actor folders that lack one of the files, and why.
const OTHER_ACTOR_FOLDERS: [(&str, &str); 2] = [
    ("runtime", "what all actors share: supervisor, probe, door; no actor of its own"),
    ("platform", "the face of all actors; no actor of its own"),
];
/// Whoever names one is bound to it: a mirror or an offline build then fails. `Cargo.lock` cannot avoid it.
const HOSTS: [&str; 12] = [
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("crates.io", "-index"),
    concat!("py", "pi.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("deb.", "debian.org"),
    concat!("archive.", "ubuntu.com"),
    concat!("registry-1.", "docker.io"),
    concat!("proxy.", "golang.org"),
    concat!("apt.", "postgresql.org"),
];

const RULES: [Rule; 15] = [
    Rule {
        name: "sqlx only in the store",
        why: "SQL has one home, so both engines keep the same promises",
        check: |files| words_outside(files, &["sqlx::", "use sqlx"], &["src/store/", "src/system"]),
        bad: &[("src/http/jobs.rs", "let row = sqlx::query(Q);")],
        good: &[("src/store/jobs.rs", "use sqlx::PgPool;"), ("src/http/a.rs", "// not sqlx::query")],
    },
    Rule {
        name: "redis only in the store",
        why: "Redis can be rebuilt at any moment; only the ledger behind the store's contract may rely on it",
        check: |files| words_outside(files, &["redis::", "use redis"], &["src/store/"]),
        bad: &[("src/actors/leader/actor.rs", "use redis::Client;")],
        good: &[
            ("src/actors/a.rs", "use crate::store::redis::Ledger;"),
            ("src/store/redis/a.rs", "redis::cmd"),
        ],
    },
    Rule {
        name: "ractor only in the actors",
        why: "mailboxes are unbounded: everyone else goes through a handle and its bounded door",
        check: |files| words_outside(files, &["ractor::", "use ractor"], &["src/actors/"]),
        bad: &[("src/http/jobs.rs", "ractor::call!(actor, M)")],
        good: &[("src/actors/queue/actor.rs", "use ractor::Actor;")],
    },
    Rule {
        name: "axum only in http",
        why: "what a job platform decides must not depend on how it was asked",
        check: |files| words_outside(files, &["axum::", "use axum"], &["src/http/", "src/system"]),
        bad: &[("src/actors/queue/core.rs", "use axum::Json;")],
        good: &[("src/http/mod.rs", "axum::Router::new()"), ("src/system.rs", "axum::serve(l, r)")],
    },
    Rule {
        name: "no upward import",
        why: "bin → system → http → actors → store → domain, worker → domain: a cycle cannot be tested in parts",
        check: upward_imports,
        bad: &[
            ("src/store/jobs.rs", "use crate::actors::queue::QueueHandle;"),
            ("src/worker/client.rs", "use crate::{domain::Job, store::{a, b}};"),
            ("src/http/app.rs", "fn f(_: crate::config::Config) {}"),
        ],
        good: &[
            ("src/http/jobs.rs", "use crate::{actors::{queue::http_ish}, worker::protocol};"),
            ("src/system.rs", "use crate::http::router;"),
        ],
    },
    Rule {
        name: "no file over 500 lines",
        why: "a file that nobody reads whole is a file that nobody reviews",
        check: long_files,
        bad: &[("src/domain/job.rs", "LONG"), ("web/src/routes/page.svelte", "LONG")],
        good: &[("web/src/api/schema.generated.ts", "LONG"), ("Cargo.lock", "LONG"), ("src/a.rs", "a\n")],
    },
    Rule {
        name: "no sleep in tests",
        why: "a sleep guesses; `support::wait` waits on state and says what it saw",
        check: |files| words_in(files, &["sleep(", "sleep_until("], &["tests/"], &["tests/support/wait.rs"]),
        bad: &[("tests/api.rs", "tokio::time::sleep(SECOND).await")],
        good: &[("tests/support/wait.rs", "sleep(POLL)"), ("tests/a.rs", "execute(\"select pg_sleep(1)\")")],
    },
    Rule {
        name: "actor folders have the same files",
        why: "who knows one actor can read all of them",
        check: actor_folders,
        bad: &[("src/actors/queue/mod.rs", "")],
        good: &[
            ("src/actors/runtime/door.rs", ""),
            ("src/actors/lease/mod.rs", ""),
            ("src/actors/lease/messages.rs", ""),
            ("src/actors/lease/handle.rs", ""),
            ("src/actors/lease/core/mod.rs", ""),
            ("src/actors/lease/actor.rs", ""),
        ],
    },
    Rule {
        name: "metrics are declared in metrics.rs",
        why: "metrics are an API: dashboards and alerts break when one is renamed in passing",
        check: undeclared_metrics,
        bad: &[("src/metrics.rs", ""), ("src/http/a.rs", "counter!(\"ganger_jobs_total\")")],
        good: &[
            ("src/metrics.rs", "\"ganger_jobs_total\""),
            ("src/http/a.rs", "counter!(\"ganger_jobs_total\")"),
        ],
    },
    Rule {
        name: "no panic = abort",
        why: "supervision needs unwinding: with abort one bad job ends every job of the node",
        check: aborting_profiles,
        bad: &[("Cargo.toml", "[profile.release]\npanic=\"abort\"")],
        good: &[("Cargo.toml", "# refuses `panic = \"abort\"`\npanic = \"unwind\"")],
    },
    Rule {
        name: "nothing left undone or skipped",
        why: "a marker is a promise that nobody tracks, and a skipped test reads as a passed one",
        check: |files| words_anywhere(files, &["todo!", "unimplemented!", "FIXME", "#[ignore"]),
        bad: &[("src/a.rs", "todo!()"), ("tests/a.rs", "#[ignore]"), ("web/src/a.ts", "// FIXME later")],
        good: &[("docs/a.md", "FIXME is not allowed"), ("src/a.rs", "// ignored")],
    },
    Rule {
        name: "tasks have owners",
        why: "a dropped handle detaches its task: it outlives shutdown and hides its panic",
        check: |files| {
            let owners = ["src/actors/", "src/system", "src/worker/attempt.rs"];
            words_outside(files, &["tokio::spawn(", "task::spawn(", "use tokio::spawn"], &owners)
        },
        bad: &[("src/http/sse.rs", "tokio::spawn(async {});")],
        good: &[("src/actors/runtime/tasks.rs", "tokio::spawn(f)"), ("src/http/a.rs", "tracker.spawn(f)")],
    },
    Rule {
        name: "time comes from the clock",
        why: "decisions take `now` as an argument, so tests choose it and two clocks are never compared",
        check: |files| {
            words_outside(files, &["Utc::now", "SystemTime::now"], &["src/domain/clock.rs", "src/bin/"])
        },
        bad: &[("src/actors/queue/core.rs", "let now = chrono::Utc::now();")],
        good: &[("src/domain/clock.rs", "Utc::now()"), ("src/bin/bench.rs", "SystemTime::now()")],
    },
    Rule {
        name: "migrations open with a comment",
        why: "they are the entry to the schema, and what runs once must say why",
        check: bare_migrations,
        bad: &[("migrations/sqlite/0001_jobs.sql", "create table job (id blob);")],
        good: &[("migrations/sqlite/0001_jobs.sql", "\n-- Jobs, as submitted.\ncreate table job (id blob);")],
    },
    Rule {
        name: "no package registry is named",
        why: "builds go through each tool's own configuration, so mirrors and offline builds work",
        check: registry_hosts,
        bad: &[("web/package-lock.json", concat!("https://registry.", "npmjs.org/a.tgz"))],
        good: &[("Cargo.lock", concat!("registry+https://github.com/rust-lang/crates.io", "-index"))],
    },
];

#[test]
fn the_tree_is_tidy() {
    let files = tracked_files();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the list of files is wrong");
    let report: String = RULES
        .iter()
        .flat_map(|rule| {
            let found = (rule.check)(&files);
            found.into_iter().map(|found| format!("{found}\n    {}: {}\n", rule.name, rule.why))
        })
        .collect();
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn each_rule_reports_each_planted_violation() {
    for rule in &RULES {
        let found = (rule.check)(&sources(rule.bad));
        assert!(!found.is_empty(), "{}: reported nothing", rule.name);
        // Empty ones are only there for what they lack or for another's sake.
        for (path, _) in rule.bad.iter().filter(|(path, text)| !text.is_empty() && *path != "src/metrics.rs")
        {
            assert!(
                found.iter().any(|found| found.contains(path)),
                "{}: not in {found:?}: {path}",
                rule.name
            );
        }
    }
}

#[test]
fn no_rule_reports_what_is_allowed() {
    for rule in &RULES {
        assert_eq!((rule.check)(&sources(rule.good)), Vec::<String>::new(), "{}", rule.name);
        assert!((rule.check)(&[]).is_empty(), "{}: an empty tree is tidy", rule.name);
    }
}

#[test]
fn comments_are_not_code_and_strings_are() {
    let text = "a // b\n\"// c\" /* d /* e */ */ '\"' // f\nr#\"// g\"# 'x /* h */";
    assert_eq!(
        without_comments(text).split_whitespace().collect::<Vec<_>>().join(" "),
        "a \"// c\" '\"' r#\"// g\"# 'x"
    );
}

// The files

fn tracked_files() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git lists the files of this checkout");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    // Deleted but still listed, or not text: nothing to read.
    let read = |path: &str| Some(source(path, std::fs::read_to_string(root.join(path)).ok()?));
    paths.split_terminator('\0').filter_map(read).collect()
}

fn source(path: &str, text: String) -> Source {
    let code = if path.ends_with(".rs") { without_comments(&text) } else { text.clone() };
    Source { path: path.to_owned(), text, code }
}

fn sources(samples: &[(&str, &str)]) -> Vec<Source> {
    let long = "line\n".repeat(LINES_MAX + 1);
    let text = |text: &str| if text == "LONG" { long.clone() } else { text.to_owned() };
    samples.iter().map(|(path, sample)| source(path, text(sample))).collect()
}

/// Rust text with comments blanked; strings stay, whatever they hold.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[end..];
            continue;
        } else if rest.starts_with("/*") {
            rest = &rest[block_comment(rest)..];
            code.push(' ');
            continue;
        } else if first == '"' {
            string(rest)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with(r#"'\"'"#) {
            4
        } else {
            first.len_utf8()
        };
        code.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

// The checks

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Lines of `code` where `word` stands by itself: not within a longer name, and not a part of another path.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let by_itself = |at: usize| {
        let before = &code[..at];
        let of_a_path = word.ends_with("::") && before.ends_with("::") && !before.ends_with(" ::");
        !before.ends_with(is_word) && !of_a_path
    };
    let found = code.match_indices(word).filter(|(at, _)| by_itself(*at));
    found.map(|(at, _)| code[..at].matches('\n').count() + 1).collect()
}

fn words_in(files: &[Source], words: &[&str], within: &[&str], except: &[&str]) -> Vec<String> {
    let starts = |path: &str, with: &[&str]| with.iter().any(|with| path.starts_with(with));
    let files = files.iter().filter(|file| file.path.ends_with(".rs") && file.path != SELF);
    files
        .filter(|file| starts(&file.path, within) && !starts(&file.path, except))
        .flat_map(|file| words.iter().map(move |word| (file, word)))
        .flat_map(|(file, word)| {
            lines_with(&file.code, word)
                .into_iter()
                .map(move |line| format!("{}:{line}: `{word}`", file.path))
        })
        .collect()
}

fn words_outside(files: &[Source], words: &[&str], allowed: &[&str]) -> Vec<String> {
    words_in(files, words, &["src/"], allowed)
}

fn words_anywhere(files: &[Source], words: &[&str]) -> Vec<String> {
    let is_code = |path: &str| [".rs", ".ts", ".svelte", ".js", ".py"].iter().any(|end| path.ends_with(end));
    let files = files.iter().filter(|file| is_code(&file.path) && file.path != SELF);
    let files = files.filter(|file| !file.path.starts_with("web/dist/"));
    // In comments too: that is where such markers live.
    let found = files.flat_map(|file| {
        words.iter().filter(|word| file.text.contains(**word)).map(|word| format!("{}: `{word}`", file.path))
    });
    found.collect()
}

fn upward_imports(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let top = file.path.strip_prefix("src/").and_then(|path| path.split(['/', '.']).next());
        let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| Some(*layer) == top) else { continue };
        for module in imported(&file.code) {
            if MODULES.contains(&module) && module != *layer && !allowed.contains(&module) {
                found.push(format!("{}: {layer} imports {module}", file.path));
            }
        }
    }
    found
}

/// The crate's top modules that this code names: in `crate::a` and in `crate::{a::b, c::{d}}`.
fn imported(code: &str) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let after = &code[at + prefix.len()..];
        let Some(group) = after.strip_prefix('{') else {
            modules.extend(after.split(|c| !is_word(c)).next());
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    modules.extend(group[start..at].trim().split(|c| !is_word(c)).next());
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    modules
}

fn long_files(files: &[Source]) -> Vec<String> {
    let counted = |path: &str| {
        let written = path.starts_with("src/") || path.starts_with("tests/") || path.starts_with("web/src/");
        let kind = [".rs", ".ts", ".js", ".svelte", ".css"].iter().any(|end| path.ends_with(end));
        written && kind && !path.contains("generated")
    };
    let long = files.iter().filter(|file| counted(&file.path) && file.text.lines().count() > LINES_MAX);
    long.map(|file| format!("{}: {} lines", file.path, file.text.lines().count())).collect()
}

fn actor_folders(files: &[Source]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let folders: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.strip_prefix("src/actors/")?.split_once('/').map(|(folder, _)| folder))
        .filter(|folder| OTHER_ACTOR_FOLDERS.iter().all(|(other, _)| other != folder))
        .collect();
    let has = |folder: &str, name: &str| paths.contains(format!("src/actors/{folder}/{name}.rs").as_str());
    let mut found = Vec::new();
    for folder in folders {
        for name in ["mod", "messages", "handle", "actor"].into_iter().filter(|name| !has(folder, name)) {
            found.push(format!("src/actors/{folder}/{name}.rs is missing"));
        }
        // A core of several files is a folder.
        if !["state", "core", "core/mod"].into_iter().any(|name| has(folder, name)) {
            found.push(format!("src/actors/{folder}/state.rs or core.rs is missing"));
        }
    }
    found
}

fn undeclared_metrics(files: &[Source]) -> Vec<String> {
    let is_home = |path: &str| path == "src/metrics.rs" || path.starts_with("src/metrics/");
    let names = |code: &str| -> BTreeSet<String> {
        let names = code.match_indices("\"ganger_").filter_map(|(at, _)| {
            let name = &code[at + 1..];
            let end = name.find(|c: char| !is_word(c))?;
            name[end..].starts_with('"').then(|| name[..end].to_owned())
        });
        names.collect()
    };
    if !files.iter().any(|file| is_home(&file.path)) {
        return Vec::new();
    }
    let declared: BTreeSet<String> =
        files.iter().filter(|file| is_home(&file.path)).flat_map(|file| names(&file.code)).collect();
    let users = files.iter().filter(|file| file.path.starts_with("src/") && !is_home(&file.path));
    let used = users.flat_map(|file| names(&file.code).into_iter().map(|name| (&file.path, name)));
    used.filter(|(_, name)| !declared.contains(name))
        .map(|(path, name)| format!("{path}: `{name}`"))
        .collect()
}

fn aborting_profiles(files: &[Source]) -> Vec<String> {
    let settings = files.iter().filter(|file| file.path.ends_with(".toml"));
    let aborts = |line: &str| line.replace([' ', '\''], "").replace('"', "").starts_with("panic=abort");
    settings.filter(|file| file.text.lines().any(aborts)).map(|file| file.path.clone()).collect()
}

fn bare_migrations(files: &[Source]) -> Vec<String> {
    let migrations =
        files.iter().filter(|file| file.path.starts_with("migrations/") && file.path.ends_with(".sql"));
    migrations
        .filter(|file| !file.text.trim_start().starts_with("--"))
        .map(|file| file.path.clone())
        .collect()
}

fn registry_hosts(files: &[Source]) -> Vec<String> {
    let files = files.iter().filter(|file| file.path != "Cargo.lock");
    let found = files.flat_map(|file| {
        HOSTS.iter().filter(|host| file.text.contains(**host)).map(|host| format!("{}: `{host}`", file.path))
    });
    found.collect()
}

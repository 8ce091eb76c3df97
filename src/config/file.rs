//! The settings file: TOML, one key a setting.

use std::{collections::BTreeMap, io::Read, path::Path};

use toml::{Spanned, Value};

use super::ConfigError;

/// Settings are a page of text: a larger file is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A key this far from every known one is no slip of the finger.
const NEAR_MAX: usize = 4;

/// A value of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As a flag would have it.
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
}

/// The settings of the file at `path`, by key in snake case. `known` are the keys that there are.
pub(super) fn read(path: &Path, known: &[String]) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let shown = path.display();
    let fault = |why: String| ConfigError::Bad(format!("the settings file {shown} cannot be read: {why}"));
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(fault("it is larger than 1 MiB".to_owned()));
    }
    parse(&text, known).map_err(|(line, why)| ConfigError::Bad(format!("{shown}:{line}: {why}")))
}

fn parse(text: &str, known: &[String]) -> Result<BTreeMap<String, Entry>, (usize, String)> {
    let line_at = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    // The message alone: the parser's picture of the line would print a secret.
    let table: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        (line, format!("not TOML: {}", error.message()))
    })?;
    let mut in_order: Vec<_> = table.into_iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (key, value) in in_order {
        let line = line_at(key.span().start);
        let name = key.get_ref();
        let snake = name.replace('-', "_");
        if !known.contains(&snake) {
            return Err((line, format!("{name:?} is no setting{}", hint(&snake, known))));
        }
        let Some(text) = plain(value.get_ref()) else {
            return Err((
                line,
                format!("{name}: must be text, a whole number, true or false, or a list of texts"),
            ));
        };
        if let Some(first) = entries.insert(snake, Entry { text, line }) {
            return Err((line, format!("{name}: was given in line {} already", first.line)));
        }
    }
    Ok(entries)
}

/// As a flag would have it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            // A comma within an item would make two of it.
            texts.filter(|texts| texts.iter().all(|text| !text.contains(','))).map(|texts| texts.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

fn hint(key: &str, known: &[String]) -> String {
    let key = key.to_ascii_lowercase();
    let near = known.iter().min_by_key(|known| strsim::damerau_levenshtein(&key, known));
    match near.filter(|near| strsim::damerau_levenshtein(&key, near) <= NEAR_MAX) {
        Some(near) => format!("; did you mean {near}?"),
        None => "; `ganger-node config` lists them all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        ["lease_ttl", "http_addr", "worker_queues", "auto_migrate", "lease_actors_max"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn keys_are_flags_in_either_case_and_know_their_line() {
        let text = "# a comment\nlease_ttl = \"30s\"\n\nhttp-addr = '127.0.0.1:0' # why\nauto_migrate = false\n\
                    lease-actors-max = 12\nworker_queues = [\n  \"a\",\n  \"b\",\n]\n";
        let entries = parse(text, &known()).expect("sound");
        let seen: Vec<_> =
            entries.iter().map(|(key, entry)| (key.as_str(), entry.text.as_str(), entry.line)).collect();
        assert_eq!(
            seen,
            [
                ("auto_migrate", "false", 5),
                ("http_addr", "127.0.0.1:0", 4),
                ("lease_actors_max", "12", 6),
                ("lease_ttl", "30s", 2),
                ("worker_queues", "a,b", 7),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, part) in [
            ("\nlese_ttl = '30s'", 2, "did you mean lease_ttl?"),
            ("LEASE_TTL = '30s'", 1, "did you mean lease_ttl?"),
            ("something_else_entirely = 1", 1, "lists them all"),
            ("[lease_ttl]\nx = 1", 1, "must be text"),
            ("lease_ttl = 1.5", 1, "must be text"),
            ("worker_queues = ['a,b']", 1, "must be text"),
            ("lease_ttl = '1s'\nlease-ttl = '2s'", 2, "already"),
            ("lease_ttl = '1s'\nlease_ttl = '2s'", 2, "not TOML"),
            ("\n\nlease_ttl: 30s", 3, "not TOML"),
        ] {
            let (at, why) = parse(text, &known()).expect_err("refused");
            assert!(at == line && why.contains(part), "{text}: {at}: {why}");
        }
    }

    #[test]
    fn a_fault_shows_nothing_of_the_values() {
        let (_, why) = parse("admin_token = 'hunter2\nx = 1", &known()).expect_err("refused");
        assert!(!why.contains("hunter2"), "{why}");
    }
}

//! `ganger-node config`: every setting with its value and origin. Secrets are masked.

use serde_json::{Value, json};

use super::{Origin, Setting};

/// A table for people.
#[must_use]
pub fn table(settings: &[Setting]) -> String {
    let rows: Vec<[String; 3]> = settings
        .iter()
        .map(|setting| {
            let value = setting.shown().unwrap_or_else(|| "-".to_owned());
            let value = if value.is_empty() { "\"\"".to_owned() } else { value.escape_debug().to_string() };
            [setting.name.clone(), value, setting.origin.to_string()]
        })
        .collect();
    let title = ["SETTING", "VALUE", "FROM"].map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&title]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let (names, values) = (width(0), width(1));
    let line = |[name, value, origin]: &[String; 3]| format!("{name:names$}  {value:values$}  {origin}\n");
    std::iter::once(&title).chain(&rows).map(line).collect()
}

/// An array for programs: `name`, `key`, `flag`, `value` where there is one, `secret`, and `origin` with its `kind`
/// and where it is.
#[must_use]
pub fn json(settings: &[Setting]) -> String {
    let rows: Vec<Value> = settings
        .iter()
        .map(|setting| {
            let mut origin = json!({ "kind": setting.origin.kind() });
            match &setting.origin {
                Origin::Default => {}
                Origin::File { path, line } => {
                    origin["path"] = json!(path.to_string_lossy());
                    origin["line"] = json!(line);
                }
                Origin::Environment { variable } => origin["variable"] = json!(variable),
                Origin::Flag { flag } => origin["flag"] = json!(flag),
            }
            let mut row = json!({
                "name": setting.name,
                "key": setting.key(),
                "flag": format!("--{}", setting.flag),
                "secret": setting.is_secret,
                "origin": origin,
            });
            if let Some(value) = setting.shown() {
                row["value"] = json!(value);
            }
            row
        })
        .collect();
    format!("{:#}\n", Value::from(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Vec<Setting> {
        let setting = |name: &str, given: Option<&str>, origin, is_secret| Setting {
            name: name.to_owned(),
            flag: name.to_lowercase().replace('_', "-"),
            given: given.map(Into::into),
            origin,
            is_secret,
        };
        vec![
            setting("HTTP_ADDR", Some("127.0.0.1:8080"), Origin::Default, false),
            setting(
                "ADMIN_TOKEN",
                Some("hunter2"),
                Origin::Environment { variable: "ADMIN_TOKEN".into() },
                true,
            ),
            setting("NODE_ID", None, Origin::Default, false),
            setting("LEASE_TTL", Some("9s"), Origin::File { path: "ganger.toml".into(), line: 3 }, false),
        ]
    }

    #[test]
    fn the_table_has_a_line_a_setting() {
        insta::assert_snapshot!(table(&settings()), @r"
        SETTING      VALUE           FROM
        HTTP_ADDR    127.0.0.1:8080  default
        ADMIN_TOKEN  ***             environment variable ADMIN_TOKEN
        NODE_ID      -               default
        LEASE_TTL    9s              ganger.toml:3
        ");
    }

    #[test]
    fn programs_get_the_same() {
        let rows: Value = serde_json::from_str(&json(&settings())).expect("JSON");
        assert_eq!(rows[1]["value"], "***");
        assert!(rows[2].get("value").is_none());
        assert_eq!(rows[3]["origin"], json!({ "kind": "file", "path": "ganger.toml", "line": 3 }));
        assert_eq!((&rows[3]["key"], &rows[3]["flag"]), (&json!("lease_ttl"), &json!("--lease-ttl")));
    }
}

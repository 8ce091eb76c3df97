//! The description says what the router does.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::http::{
    access::{Needs, RULES},
    testing::{KEY, Stage, request},
};

async fn document(stage: &Stage) -> Value {
    stage.get("/api/v1/openapi.json").await.json()
}

#[tokio::test]
async fn every_described_route_has_a_rule_and_every_rule_is_described() {
    let document = document(&Stage::new()).await;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let static_files = ["/", "/docs", "/docs/", "/docs/{file}"];
    let ruled: BTreeSet<_> = RULES
        .iter()
        .filter(|rule| !static_files.contains(&rule.path))
        .map(|rule| (rule.method.to_owned(), rule.path.to_owned()))
        .collect();
    assert_eq!(described, ruled);
}

#[tokio::test]
async fn every_rule_has_its_route() {
    let stage = Stage::new();
    for rule in RULES {
        let path =
            rule.path.replace("{id}", "01890000-0000-7000-8000-000000000000").replace("{file}", "start.js");
        let asked = || request(rule.method, &path, &[("x-admin-token", KEY)], "");
        let (status, _) = stage.status(asked()).await;
        assert_ne!(status, 405, "{} {}", rule.method, rule.path);
        // Streams have no end to read to; they are never a 404.
        if status == 404 {
            assert_ne!(stage.send(asked()).await.code(), "not_found", "{} {}", rule.method, rule.path);
        }
    }
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_complete() {
    let document = document(&Stage::new()).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let mut ids = BTreeSet::new();
    for rule in RULES {
        let operation = &document["paths"][rule.path][rule.method.to_lowercase()];
        if operation.is_null() {
            continue;
        }
        let at = format!("{} {}", rule.method, rule.path);
        assert!(ids.insert(operation["operationId"].to_string()), "{at}: its id is another's");
        assert!(operation["summary"].is_string(), "{at}");
        let responses = operation["responses"].as_object().expect("responses");
        assert_eq!(responses.contains_key("401"), rule.needs != Needs::Nothing, "{at}");
        for (status, response) in responses {
            let error = status.starts_with('4') || status.starts_with('5');
            assert_eq!(response["content"]["application/problem+json"].is_object(), error, "{at} {status}");
        }
        let params = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in rule.path.split(['{', '}']).skip(1).step_by(2) {
            assert!(
                params.iter().any(|param| param["in"] == "path" && param["name"] == name),
                "{at}: {name}"
            );
        }
    }
    assert_eq!(references(&document).len(), references_found(&document), "a reference leads nowhere");
}

fn references(document: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.insert(target.clone());
                }
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
            _ => (),
        }
    }
    let mut found = BTreeSet::new();
    walk(document, &mut found);
    found
}

fn references_found(document: &Value) -> usize {
    let exists = |target: &String| document.pointer(target.trim_start_matches('#')).is_some();
    let all = references(document);
    for missing in all.iter().filter(|target| !exists(target)) {
        eprintln!("{missing} is not there");
    }
    all.iter().filter(|target| exists(target)).count()
}

#[tokio::test]
async fn the_docs_take_nothing_from_another_host() {
    let stage = Stage::new();
    for path in ["/docs", "/docs/"] {
        let page = stage.get(path).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
        assert!(!page.text.contains("http://") && !page.text.contains("https://"));
        for file in page.text.split(['"']).filter(|part| part.starts_with("/docs/")) {
            assert_eq!(stage.get(file).await.status, 200, "{file}");
        }
    }
    assert_eq!(stage.get("/docs/openapi.json").await.json(), document(&stage).await);
    for missing in ["/docs/index.html", "/docs/..%2fCargo.toml", "/docs/%ff", "/docs/a/b"] {
        assert_eq!(stage.get(missing).await.status, 404, "{missing}");
    }
    assert_eq!(stage.get("/").await.header("location"), Some("/docs"));
}

//! What a submission can already be told about a built-in type's payload.

use serde_json::{Map, Value};

use crate::worker::OutboundAllow;

use super::cleanup::STATES;
use super::email::mailbox;
use super::payload::Id;
use super::webhook::METHODS;

/// One thing that is wrong with a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFault {
    /// JSON pointer into the payload; empty for the payload itself.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// Checks the payload of a built-in job type; other types have nothing wrong here. `allow` is what the operator
/// lets through the outbound guard.
pub fn payload_check(job_type: &str, payload: &Value, allow: &OutboundAllow) -> Vec<PayloadFault> {
    let mut check = Check { faults: Vec::new(), allow };
    let nothing = Map::new();
    let members = match payload {
        Value::Object(members) => members,
        _ if needs_an_object(job_type) => {
            check.fault("", "must be an object");
            return check.faults;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => &nothing,
    };
    match job_type {
        "noop" => (),
        "cleanup.run" => check.cleanup(members),
        "email.send" => check.email(members),
        "file.ingest" => {
            check.id(members, "fileId");
            check.source(members);
        }
        "image.thumbnail" => {
            check.id(members, "fileId");
            check.one_of(members, "size", &["sm", "md", "lg"], true);
        }
        "metadata.aggregate" => check.id(members, "fileId"),
        "report.generate" => {
            check.id(members, "reportId");
            check.one_of(members, "format", &["csv", "html", "both"], false);
        }
        "user.notify" => check.notify(members),
        "webhook.dispatch" => check.webhook(members),
        _ => return Vec::new(),
    }
    check.rehearsal(members);
    check.faults
}

fn needs_an_object(job_type: &str) -> bool {
    matches!(
        job_type,
        "email.send"
            | "file.ingest"
            | "image.thumbnail"
            | "metadata.aggregate"
            | "report.generate"
            | "user.notify"
            | "webhook.dispatch"
    )
}

struct Check<'a> {
    faults: Vec<PayloadFault>,
    allow: &'a OutboundAllow,
}

impl Check<'_> {
    fn fault(&mut self, pointer: &str, message: impl Into<String>) {
        self.faults.push(PayloadFault { pointer: pointer.to_owned(), message: message.into() });
    }

    fn id(&mut self, members: &Map<String, Value>, name: &str) {
        match members.get(name).map(Id::of) {
            None => self.fault(&format!("/{name}"), "is required"),
            Some(Err(why)) => self.fault(&format!("/{name}"), why),
            Some(Ok(_)) => (),
        }
    }

    /// The text under `name`; says so if it is required and missing, or no text.
    fn text<'v>(&mut self, members: &'v Map<String, Value>, name: &str, required: bool) -> Option<&'v str> {
        match members.get(name) {
            None | Some(Value::Null) if !required => None,
            Some(Value::String(text)) if !(required && text.trim().is_empty()) => Some(text),
            found => {
                let message = match found {
                    None => "is required",
                    Some(Value::String(_)) => "must not be empty",
                    Some(_) => "must be a string",
                };
                self.fault(&format!("/{name}"), message);
                None
            }
        }
    }

    fn one_of(&mut self, members: &Map<String, Value>, name: &str, choices: &[&str], required: bool) {
        if let Some(text) = self.text(members, name, required)
            && !choices.contains(&text)
        {
            self.fault(&format!("/{name}"), format!("must be one of {}", choices.join(", ")));
        }
    }

    fn whole_number(&mut self, members: &Map<String, Value>, name: &str) {
        if members.get(name).is_some_and(|value| !value.is_null() && !value.is_u64()) {
            self.fault(&format!("/{name}"), "must be a whole number, not negative");
        }
    }

    fn url(&mut self, members: &Map<String, Value>, name: &str) {
        if let Some(url) = self.text(members, name, true)
            && let Err(error) = self.allow.check_url(url)
        {
            self.fault(&format!("/{name}"), error.to_string());
        }
    }

    fn email(&mut self, members: &Map<String, Value>) {
        if let Some(text) = self.text(members, "recipient", true)
            && let Err(why) = mailbox(text)
        {
            self.fault("/recipient", why);
        }
        let subject = self.text(members, "subject", false);
        if subject.is_some_and(|subject| subject.contains(char::is_control)) {
            self.fault("/subject", "must not contain control characters");
        }
        for name in ["text", "html", "body"] {
            self.text(members, name, false);
        }
    }

    fn source(&mut self, members: &Map<String, Value>) {
        let Some(source) = self.text(members, "source", true) else { return };
        let scheme = source.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("file") => (),
            Some("data") if source.contains(',') => (),
            Some("data") => self.fault("/source", "a data: URL has a comma before its data"),
            Some("http" | "https") => self.url(members, "source"),
            _ => self.fault("/source", "must be a file:, data:, http: or https: URL"),
        }
    }

    fn notify(&mut self, members: &Map<String, Value>) {
        self.id(members, "userId");
        if self.text(members, "channel", true) == Some("webhook") {
            self.url(members, "url");
        }
        for name in ["subject", "message"] {
            self.text(members, name, false);
        }
    }

    fn webhook(&mut self, members: &Map<String, Value>) {
        self.url(members, "url");
        if let Some(method) = self.text(members, "method", false)
            && !METHODS.contains(&method.to_ascii_uppercase().as_str())
        {
            self.fault("/method", format!("must be one of {}", METHODS.join(", ")));
        }
        match members.get("headers") {
            None | Some(Value::Null) => (),
            Some(Value::Object(headers)) if headers.values().all(Value::is_string) => (),
            Some(_) => self.fault("/headers", "must be an object of strings"),
        }
    }

    fn cleanup(&mut self, members: &Map<String, Value>) {
        self.whole_number(members, "olderThanSeconds");
        self.whole_number(members, "limit");
        self.text(members, "queue", false);
        match members.get("states") {
            None | Some(Value::Null) => (),
            Some(Value::Array(states))
                if states.iter().all(|state| state.as_str().is_some_and(|state| STATES.contains(&state))) => {
            }
            Some(_) => self.fault("/states", format!("must be a list of {}", STATES.join(", "))),
        }
    }

    fn rehearsal(&mut self, members: &Map<String, Value>) {
        self.whole_number(members, "durationMs");
        if !matches!(members.get("forceError"), None | Some(Value::Null | Value::Bool(_) | Value::String(_)))
        {
            self.fault("/forceError", "must be true, false or a message");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(job_type: &str, payload: Value) -> Vec<String> {
        let faults = payload_check(job_type, &payload, &OutboundAllow::none());
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn what_each_type_needs_is_asked_for_by_pointer() {
        let needs: [(&str, &[&str]); 8] = [
            ("noop", &[]),
            ("cleanup.run", &[]),
            ("email.send", &["/recipient"]),
            ("report.generate", &["/reportId"]),
            ("file.ingest", &["/fileId", "/source"]),
            ("image.thumbnail", &["/fileId", "/size"]),
            ("user.notify", &["/userId", "/channel"]),
            ("webhook.dispatch", &["/url"]),
        ];
        for (job_type, expected) in needs {
            assert_eq!(pointers(job_type, json!({})), expected, "{job_type}");
        }
        assert_eq!(pointers("email.send", json!(null)), [""]);
        assert_eq!(pointers("noop", json!([1])), [""; 0]);
        assert_eq!(pointers("mine", json!({"durationMs": "x"})), [""; 0]);
    }

    #[test]
    fn good_payloads_pass() {
        for (job_type, payload) in [
            ("email.send", json!({"recipient": "Ada <ada@example.com>", "subject": "hi", "text": "x"})),
            ("report.generate", json!({"reportId": 7, "format": "both"})),
            ("file.ingest", json!({"fileId": "a", "source": "https://example.com/a.jpg"})),
            ("file.ingest", json!({"fileId": "a", "source": "data:,hello"})),
            ("image.thumbnail", json!({"fileId": "a", "size": "md"})),
            ("user.notify", json!({"userId": "u", "channel": "webhook", "url": "https://example.com"})),
            (
                "webhook.dispatch",
                json!({"url": "https://example.com", "method": "put", "headers": {"a": "b"}}),
            ),
            ("cleanup.run", json!({"olderThanSeconds": 5, "states": ["failed"], "durationMs": 3})),
        ] {
            assert_eq!(pointers(job_type, payload.clone()), [""; 0], "{job_type} {payload}");
        }
    }

    #[test]
    fn bad_values_are_found_where_they_are() {
        assert_eq!(pointers("email.send", json!({"recipient": "a@b\r\nBcc: x@y"})), ["/recipient"]);
        assert_eq!(pointers("image.thumbnail", json!({"fileId": "", "size": "xl"})), ["/fileId", "/size"]);
        assert_eq!(pointers("webhook.dispatch", json!({"url": "http://169.254.169.254/"})), ["/url"]);
        assert_eq!(
            pointers("webhook.dispatch", json!({"url": "http://0x7f.1/", "method": "TRACE"})),
            ["/url", "/method"]
        );
        assert_eq!(pointers("file.ingest", json!({"fileId": "a", "source": "ftp://x"})), ["/source"]);
        assert_eq!(
            pointers("noop", json!({"durationMs": -1, "forceError": 3})),
            ["/durationMs", "/forceError"]
        );
        let allow: OutboundAllow = "127.0.0.0/8".parse().unwrap();
        assert_eq!(payload_check("webhook.dispatch", &json!({"url": "http://localhost:1/"}), &allow), []);
    }
}

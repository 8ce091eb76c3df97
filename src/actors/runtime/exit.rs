//! How an actor ended, read from what ractor reports.

use std::error::Error;

use ractor::{ActorCell, SpawnErr, SupervisionEvent};

/// What ractor says of an actor that was killed; also when its task was dropped with the runtime.
const KILLED: [&str; 2] = ["killed", "actor_task_cancelled"];

/// A panic in a handler, as an error; ractor itself reports a panic like any other error.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// From what `catch_unwind` caught.
    pub(super) fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "(no text)".to_owned()))
    }
}

/// How an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was stopped, or stopped itself; with the reason given, if any.
    Normal(Option<String>),
    /// It panicked (`panicked: …`), gave an error (its text), or was killed (`killed`).
    Failed(String),
}

impl Exit {
    /// The reason in words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Normal(reason) => reason.as_deref().unwrap_or("stopped"),
            Self::Failed(reason) => reason,
        }
    }
}

/// Who ended and how; `None` for events that are no end. For actors that supervise without being a supervisor.
pub fn exit_of(event: SupervisionEvent) -> Option<(ActorCell, Exit)> {
    match event {
        SupervisionEvent::ActorTerminated(cell, _, reason) => {
            let killed = reason.as_deref().is_some_and(|reason| KILLED.contains(&reason));
            Some((cell, if killed { Exit::Failed("killed".to_owned()) } else { Exit::Normal(reason) }))
        }
        SupervisionEvent::ActorFailed(cell, error) => Some((cell, Exit::Failed(in_words(&*error)))),
        SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => None,
    }
}

/// An error and what caused it, in one line.
pub(super) fn in_words(error: &(dyn Error + 'static)) -> String {
    // ractor words every failed start as a panic; what failed is inside.
    if let Some(SpawnErr::StartupFailed(inner)) = error.downcast_ref() {
        return in_words(&**inner);
    }
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

//! The authorization table: what each route needs.

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Read the API's own description.
    Describe,
    /// Read jobs.
    ReadJobs,
    /// Read the node: its supervision tree.
    ReadNode,
    /// Submit jobs and workflows.
    Submit,
    /// Cancel and retry jobs.
    ControlJobs,
    /// Act on queues, workers and actors.
    Operate,
    /// Make and revoke keys.
    ManageKeys,
    /// Speak the worker protocol.
    Work,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Describe,
        Self::ReadJobs,
        Self::ReadNode,
        Self::Submit,
        Self::ControlJobs,
        Self::Operate,
        Self::ManageKeys,
        Self::Work,
    ];
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: open to all.
    Nothing,
    /// A key with this capability.
    Key(Capability),
    /// The same, or a ticket in the URL.
    KeyOrTicket(Capability),
    /// The same, unless the peer is on this machine.
    KeyUnlessLoopback(Capability),
}

/// How a route weighs on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Nothing to speak of; answered in any overload.
    Free,
    /// A request.
    Request,
    /// A request that waits for something to happen.
    Wait,
    /// A stream.
    Stream,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `GET` stands for `HEAD` too.
    pub method: &'static str,
    /// The route, as it is written in the router.
    pub path: &'static str,
    /// What it asks of its caller.
    pub needs: Needs,
    /// How it weighs on the node.
    pub load: Load,
}

const fn rule(method: &'static str, path: &'static str, needs: Needs, load: Load) -> Rule {
    Rule { method, path, needs, load }
}

/// Every route of the node.
pub const RULES: &[Rule] = {
    use {Capability as C, Load as L, Needs as N};
    &[
        rule("POST", "/api/v1/jobs", N::Key(C::Submit), L::Request),
        rule("POST", "/api/v1/jobs/batch", N::Key(C::Submit), L::Request),
        rule("GET", "/api/v1/jobs", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}", N::Key(C::ReadJobs), L::Request),
        rule("PATCH", "/api/v1/jobs/{id}", N::Key(C::Operate), L::Request),
        rule("DELETE", "/api/v1/jobs/{id}", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/jobs/bulk", N::Key(C::Operate), L::Request),
        rule("GET", "/api/v1/operations", N::Key(C::ReadNode), L::Request),
        rule("GET", "/api/v1/operations/{id}", N::Key(C::ReadNode), L::Request),
        rule("POST", "/api/v1/operations/{id}/abort", N::Key(C::Operate), L::Request),
        rule("GET", "/api/v1/audit", N::Key(C::ReadNode), L::Request),
        rule("GET", "/api/v1/jobs/{id}/events", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}/attempts", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}/logs", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}/graph", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}/inspection", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/jobs/{id}/wait", N::Key(C::ReadJobs), L::Wait),
        rule("GET", "/api/v1/jobs/{id}/explain", N::Key(C::ReadJobs), L::Request),
        rule("POST", "/api/v1/jobs/{id}/cancel", N::Key(C::ControlJobs), L::Request),
        rule("POST", "/api/v1/jobs/{id}/retry", N::Key(C::ControlJobs), L::Request),
        rule("GET", "/api/v1/dlq", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/dlq/groups", N::Key(C::ReadJobs), L::Request),
        rule("POST", "/api/v1/dlq/replay", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/dlq/delete", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/workflows/demo/thumbnail", N::Key(C::Submit), L::Request),
        rule("GET", "/api/v1/queues", N::Key(C::ReadNode), L::Request),
        rule("GET", "/api/v1/queues/{queue}", N::Key(C::ReadNode), L::Request),
        rule("PUT", "/api/v1/queues/{queue}", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/queues/{queue}/pause", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/queues/{queue}/resume", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/queues/{queue}/drain", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/queues/{queue}/purge", N::Key(C::Operate), L::Request),
        rule("GET", "/api/v1/overview", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/dashboard", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/workers", N::Key(C::ReadNode), L::Request),
        rule("GET", "/api/v1/workers/{id}", N::Key(C::ReadNode), L::Request),
        rule("POST", "/api/v1/workers/{id}/cordon", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/workers/{id}/resume", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/workers/{id}/drain", N::Key(C::Operate), L::Request),
        rule("GET", "/api/v1/supervision", N::Key(C::ReadNode), L::Request),
        rule("POST", "/api/v1/supervision/restart", N::Key(C::Operate), L::Request),
        rule("POST", "/api/v1/tickets", N::Key(C::ReadJobs), L::Request),
        rule("GET", "/api/v1/openapi.json", N::Key(C::Describe), L::Free),
        rule("GET", "/ws/events", N::KeyOrTicket(C::ReadJobs), L::Stream),
        rule("GET", "/sse/events", N::KeyOrTicket(C::ReadJobs), L::Stream),
        rule("GET", "/healthz", N::Nothing, L::Free),
        rule("GET", "/readyz", N::Nothing, L::Free),
        rule("GET", "/metrics", N::KeyUnlessLoopback(C::ReadNode), L::Free),
        // Static: the same for everybody, and nothing of the node's data is in it.
        rule("GET", "/", N::Nothing, L::Free),
        rule("GET", "/docs", N::Nothing, L::Free),
        rule("GET", "/docs/", N::Nothing, L::Free),
        rule("GET", "/docs/{file}", N::Nothing, L::Free),
    ]
};

impl Rule {
    /// The row for a route; `HEAD` is its `GET`.
    #[must_use]
    pub fn of(method: &str, path: &str) -> Option<&'static Self> {
        let method = if method == "HEAD" { "GET" } else { method };
        RULES.iter().find(|rule| rule.method == method && rule.path == path)
    }

    /// The methods that a route has, as `Allow` lists them.
    #[must_use]
    pub fn allowed(path: &str) -> String {
        let methods = RULES.iter().filter(|rule| rule.path == path).map(|rule| match rule.method {
            "GET" => "GET, HEAD",
            method => method,
        });
        methods.collect::<Vec<_>>().join(", ")
    }
}

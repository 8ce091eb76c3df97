//! A node: started from its settings, stopped in good order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{demo::Demo, history::StoreHistory, identity, tree::Seeds};
use crate::{
    actors::{
        console::{StreamEvent, hub},
        journal::JournalHandle,
        operations::handle::OperationsHandle,
        platform::{Platform, PlatformParts},
        queue::handle::{QueueHandle, Queues},
        runtime::{Directory, SupervisorHandle, door},
        shard::{QueueParts, ShardWaker, Shards},
        upkeep::{Round, StoreHealth},
        worker::{Sessions, handle::session_door},
    },
    config::{Config, DEVELOPMENT_KEY},
    domain::{BootId, Clock, RetryPolicy, SubmitDefaults, WorkerId},
    http::{self, AuthConfig, Digest, HttpLimits, HttpParts, HttpState, PayloadCheck},
    store::{
        Store,
        postgres::{PostgresOptions, PostgresStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
    worker::{
        FileContent, FileOutbox, Outbound, Platform as WorkerPlatform, ProcessorSettings, Registry,
        SmtpSettings, processors,
    },
};

/// What handlers that are told to stop have, after the grace, to obey and to report.
const STOP_MARGIN: Duration = Duration::from_secs(8);
/// How long what was begun over HTTP may take to end.
const HTTP_DRAIN: Duration = Duration::from_secs(5);
/// How often the shutdown looks whether the workers are done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it says what it waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The types whose payloads are checked when they are submitted.
const CHECKED_TYPES: &[&str] = &[
    "email.send",
    "report.generate",
    "cleanup.run",
    "webhook.dispatch",
    "file.ingest",
    "image.thumbnail",
    "metadata.aggregate",
    "user.notify",
    "noop",
];

/// Makes a node.
///
/// ```no_run
/// # async fn run() -> anyhow::Result<()> {
/// use clap::Parser as _;
/// use ganger::{config::Config, system::NodeBuilder, worker::{JobContext, Registry}};
///
/// let mut handlers = Registry::new();
/// handlers.handle_fn("greet", |_ctx: JobContext, name: String| async move { Ok(format!("hello, {name}")) });
/// let node = NodeBuilder::new(Config::parse_from(["ganger-node"])).handlers(handlers).start().await?;
/// println!("listening on {}", node.address());
/// node.shutdown().await
/// # }
/// ```
#[derive(Debug)]
pub struct NodeBuilder {
    config: Config,
    handlers: Registry,
}

impl NodeBuilder {
    /// A node with these settings and the built-in processors.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, handlers: Registry::new() }
    }

    /// With these handlers besides the built-in ones; a type of theirs wins.
    #[must_use]
    pub fn handlers(mut self, handlers: Registry) -> Self {
        self.handlers.extend(handlers);
        self
    }

    /// Starts the node: returns when it listens and its actors run.
    ///
    /// # Errors
    /// A setting is bad, the store is out of reach or taken, or the address is.
    pub async fn start(self) -> Result<Node> {
        Node::start(self.config, self.handlers).await
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    platform: Platform,
    root: SupervisorHandle,
    sessions: Arc<Sessions>,
    journal: JournalHandle,
    batches: TaskTracker,
    stop_handlers: CancellationToken,
    http: HttpState,
    http_stop: CancellationToken,
    server: JoinHandle<()>,
    address: SocketAddr,
    demo: Demo,
    config: Config,
}

impl Node {
    async fn start(config: Config, own_handlers: Registry) -> Result<Self> {
        config.check()?;
        crate::metrics::install();
        identity::prepare(&config.data_dir)?;
        // Before the store is taken: an address that is taken is found out without a take-over.
        let listener = http::listen(config.http_addr)
            .with_context(|| format!("HTTP_ADDR: cannot listen on {}", config.http_addr))?;
        let address = listener.local_addr()?;
        let store = open_store(&config).await?;
        store.migrate(config.auto_migrate).await.context("the store's schema")?;
        let boot = BootId::new();
        let clock = Arc::new(Clock::default());
        let before = Clock::local();
        clock.adjust(before, store.now().await.context("the store's clock")?, Clock::local());
        let epochs = store.acquire_all(boot, &address.to_string(), config.restored).await;
        let epochs: Arc<[_]> = epochs.context("the store cannot be taken over")?.into();

        let node_id = identity::node_id(&config.data_dir, config.node_id.as_deref())?;
        let directory = Directory::new();
        let sessions = Arc::new(Sessions::default());
        let queues = Arc::new(Queues::default());
        let (hub, hub_door) = hub(boot);
        let lanes: Vec<_> =
            (0..store.lanes()).map(|_| door(crate::actors::journal::handle::LANE_DOOR_MAX)).collect();
        let journal = JournalHandle::new(lanes.iter().map(|(door, _)| door.clone()).collect());
        let waker = ShardWaker::default();
        let parts = QueueParts {
            store: store.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            boot,
            sessions: sessions.clone(),
            hub: hub.clone(),
            waker: waker.clone(),
            retry: RetryPolicy::exponential(config.base_retry_delay, config.max_retry_delay),
            lease_ttl_ms: u64::try_from(config.lease_ttl.as_millis()).unwrap_or(30_000),
        };
        let shards = Shards::new(parts, directory.clone(), epochs.clone(), queues, waker.clone());
        let health = Arc::new(StoreHealth::default());
        let handlers = handlers(&config, &store, &epochs, own_handlers).await?;
        let stop_handlers = CancellationToken::new();
        let batches = TaskTracker::new();
        let operations = OperationsHandle::default();
        let platform = Platform::new(PlatformParts {
            clock: clock.clone(),
            store: store.clone(),
            journal: journal.clone(),
            node: node_id.clone(),
            boot,
            shards: shards.clone(),
            sessions: sessions.clone(),
            hub: hub.clone(),
            directory: directory.clone(),
            health: health.clone(),
            operations: operations.clone(),
        });
        let seeds = Seeds {
            lanes,
            batches: batches.clone(),
            round: Round {
                store: store.clone(),
                boot,
                clock: clock.clone(),
                waker,
                health: health.clone(),
                journal: journal.clone(),
                shards: shards.clone(),
            },
            hub: hub.clone(),
            hub_door,
            shards: shards.clone(),
            sessions: sessions.clone(),
            handlers: Arc::new(handlers),
            // Without a slash, so that it stands in a path as it is.
            worker: WorkerId(format!("{node_id}:local").into()),
            node: node_id,
            session_door: session_door(config.concurrency()),
            stop_handlers: stop_handlers.clone(),
            platform: platform.clone(),
            operations,
        };
        let (told, now) = (hub.clone(), clock.clone());
        directory.watch_restarts(move |path, last| {
            let mut event = StreamEvent::new("actor.restarted", now.now());
            event.message =
                Some(last.map_or_else(|| path.to_owned(), |last| format!("{path}: {}", last.reason)));
            told.tell(vec![event]);
        });
        let root = SupervisorHandle::start_root(seeds.tree(&config), &directory).await;
        let root = root.context("the actors did not start")?;
        for row in store.all_queues().await.context("the store's queues")? {
            // One queue too many, or one that cannot be started, does not keep the others from serving.
            if let Err(error) = shards.queue(&row.name) {
                tracing::error!(queue.name = row.name, %error, "a queue was not started");
            }
        }
        let demo = Demo::install(&config.ingest_root())?;
        let http = http_state(&config, &platform, &demo);
        let http_stop = CancellationToken::new();
        let app = http::app(http.clone());
        #[expect(clippy::disallowed_methods, reason = "owned here, and awaited by the shutdown")]
        let server = tokio::spawn(http::serve(listener, app, http_stop.clone(), HTTP_DRAIN));
        Ok(Self {
            platform,
            root,
            sessions,
            journal,
            batches,
            stop_handlers,
            http,
            http_stop,
            server,
            address,
            demo,
            config,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The face of its actors.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Builds the demo's jobs.
    #[must_use]
    pub fn demo(&self) -> &Demo {
        &self.demo
    }

    /// Where its files are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// Waits until the node cannot go on: its tree has ended, or a shard is another node's. Why.
    pub async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            last = self.root.ended() => {
                let why = last.map_or_else(|| "without a reason".to_owned(), |last| last.reason);
                anyhow!("the supervision tree has ended: {why}")
            }
            shard = self.platform.shards().waker().lost() => {
                anyhow!("shard {} was taken over by another node; this one stops", shard.0)
            }
        }
    }

    /// Stops in good order: no new leases, running jobs end or are given back uncharged, everything under way
    /// is written.
    ///
    /// # Errors
    /// Something did not end in time; what was acknowledged is durable all the same.
    pub async fn shutdown(self) -> Result<()> {
        let soft = Instant::now() + self.config.shutdown_grace;
        let deadline = soft + STOP_MARGIN;
        let queues = self.platform.shards().queues().all();
        tracing::info!(
            jobs.running = self.sessions.running(),
            "stopping: no new leases, requests under way end"
        );
        queues.iter().for_each(QueueHandle::stop_granting);
        self.http.stop();
        self.http_stop.cancel();
        let drained = self.http.drained(HTTP_DRAIN).await;
        let served = tokio::time::timeout(HTTP_DRAIN * 2, self.server).await;
        // A lease that is on its way to the worker, or back, is nowhere running: the queues know of it.
        let is_busy = || self.sessions.running() > 0 || queues.iter().any(|queue| queue.view().is_busy());
        wait_while(
            &is_busy,
            &self.sessions,
            soft,
            "waiting for running jobs to end, for as long as SHUTDOWN_GRACE says",
        )
        .await;
        self.stop_handlers.cancel();
        wait_while(&is_busy, &self.sessions, deadline, "running jobs were told to stop and are given back")
            .await;
        let left = self.sessions.running();
        tracing::info!(jobs.running = left, "writing what is under way, then stopping the actors");
        let flushed = self.journal.barrier(STOP_MARGIN).await;
        self.root.shutdown("the node stops").await;
        self.batches.close();
        let written = tokio::time::timeout(STOP_MARGIN, self.batches.wait()).await;
        self.platform.store().close().await;
        if left > 0 {
            bail!("{left} jobs did not stop in time; they are recovered at the next start");
        }
        flushed.map_err(|error| anyhow!("the journal was not flushed: {error}"))?;
        written.context("the journal's last batches did not end in time")?;
        if !drained || served.is_err() {
            tracing::warn!("connections were cut at the deadline");
        }
        Ok(())
    }
}

/// Waits while jobs are under way, until `deadline`, and says now and then what for.
async fn wait_while(is_busy: &impl Fn() -> bool, sessions: &Sessions, deadline: Instant, what: &str) {
    let mut told: Option<Instant> = None;
    while is_busy() && Instant::now() < deadline {
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs();
            tracing::info!(jobs.running = sessions.running(), seconds.left = left, "{what}");
            told = Some(Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    match &config.postgres_url {
        Some(url) => {
            let store = PostgresStore::connect(url, PostgresOptions::default()).await;
            Ok(Arc::new(store.context("POSTGRES_URL")?))
        }
        None => {
            let store = SqliteStore::open(&config.data_dir, SqliteOptions::default()).await;
            Ok(Arc::new(store.context("DATA_DIR: the embedded store")?))
        }
    }
}

async fn handlers(
    config: &Config,
    store: &Arc<dyn Store>,
    epochs: &Arc<[crate::domain::ShardEpoch]>,
    own: Registry,
) -> Result<Registry> {
    let content = FileContent::open(&config.data_dir).await.context("DATA_DIR: the content store")?;
    let smtp = config.smtp_url.as_deref().map(SmtpSettings::parse).transpose();
    let settings = ProcessorSettings {
        ingest_root: config.ingest_root(),
        smtp: smtp.context("SMTP_URL")?,
        mail_from: config.smtp_from.clone(),
        webhook_signer: identity::webhook_signer(&config.data_dir, config.webhook_secret.as_deref())?,
    };
    let outbox: PathBuf = config.data_dir.join("outbox");
    let platform = WorkerPlatform::new(
        Arc::new(content),
        Arc::new(StoreHistory { store: store.clone(), owners: epochs.clone() }),
        Arc::new(FileOutbox::new(outbox)),
        Outbound::new(config.outbound_allow.clone()).context("the outbound client")?,
        settings,
    );
    let mut handlers = processors::builtin(platform);
    handlers.extend(own);
    Ok(handlers)
}

fn http_state(config: &Config, platform: &Platform, demo: &Demo) -> HttpState {
    let allow = config.outbound_allow.clone();
    let token = config.admin_token.as_deref();
    HttpState::new(HttpParts {
        platform: platform.clone(),
        auth: AuthConfig {
            admin_token: Digest::of(token.unwrap_or(DEVELOPMENT_KEY)),
            dashboard_origin: config.dashboard_origin.clone(),
            development: token.is_none(),
        },
        limits: HttpLimits::default(),
        defaults: SubmitDefaults {
            retry_base: config.base_retry_delay,
            retry_max: config.max_retry_delay,
            dedupe_window: config.default_dedupe_window,
        },
        checked_types: CHECKED_TYPES,
        check_payload: PayloadCheck::new(move |kind, payload| {
            let faults = processors::payload_check(kind, payload, &allow);
            faults.into_iter().map(|fault| (fault.pointer, fault.message)).collect()
        }),
        demo: Arc::new(demo.clone()),
    })
}

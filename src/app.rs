//! Puts the service together, runs it, and takes it apart in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{self, Readiness, Scrape},
    api::{self, Desk},
    artifacts::{self, ArtifactStore},
    broker::{
        BrokerOutbox, ConsumerSettings, Consumers, Inbound, Publisher, Standing,
        target::{self, TargetPublisher},
        topology::Topology,
    },
    config::Config,
    domain, files,
    flow::{Couriers, Directory, Flow, FlowSettings, LaneFigures, StopSignals, TryOut},
    memory,
    policy::share::Share,
    store::{StoreSource, Subscriptions},
    telemetry::{
        metrics::{Metrics, Readings},
        trace::{Tracer, TracingError},
    },
    webhook::{BuildError, Client},
};

/// After the grace period, in all: for settling what was cut off, and for the last confirms and acks.
const LAST_WORDS: Duration = Duration::from_secs(8);

/// Room for a `Parked` besides its event: nothing larger comes from docrelay itself.
const PARKED_OVERHEAD: u64 = 4 * 1024 * 1024;

/// More requests in flight than this make one process slower and larger, not faster.
const MOST_IN_FLIGHT: u32 = 256;

type Flows = Flow<Couriers>;

/// Runs the service until SIGTERM or SIGINT, then stops it in order. SIGHUP reads the subscriptions again. A second
/// signal ends the process at once.
///
/// # Errors
/// When the service cannot start: what to mend is in the error. A broker that is not there is no such reason.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    files::raise_limit();
    memory::take_small_pages();
    let service = Service::start(config).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => service.reload.notify_one(),
        }
    }
    tokio::select! {
        drained = service.stop() => {
            tracing::info!(finished = drained.finished, told = drained.told, "Stopped");
            Ok(())
        }
        _ = terminate.recv() => Err(anyhow::anyhow!("a second signal: ended at once")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("a second signal: ended at once")),
    }
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Where health is served.
    pub admin: SocketAddr,
    /// Where the API and exported files are served; `None` when neither is.
    pub api: Option<SocketAddr>,
    /// Notified, it makes the service read its subscriptions again.
    pub reload: Arc<Notify>,
    stopping: CancellationToken,
    stop: StopSignals,
    stopped: CancellationToken,
    give_up: CancellationToken,
    grace: Duration,
    /// What is done with messages.
    messages: TaskTracker,
    /// Everything else.
    tasks: TaskTracker,
    /// Says whether all acks were taken.
    consuming: JoinHandle<bool>,
    publishing: JoinHandle<()>,
}

/// How a service stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether everything in flight finished within the grace period.
    pub finished: bool,
    /// Whether everything was told to the broker: every confirm of the last connections came, and every ack is taken. What was
    /// not, it gives again to whoever comes next.
    pub told: bool,
}

impl Service {
    /// Starts the service: reads the subscriptions, then connects, then consumes.
    ///
    /// # Errors
    /// When the subscriptions cannot be read, the address is taken, or TLS cannot be set up.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let (subscriptions, store) = sources(&config).await?;
        let artifacts = ArtifactStore::from_config(&config.artifacts)?;
        let (listener, admin) = listen_for_health(config.admin.listen).await?;
        let (messages, tasks, reload) = (TaskTracker::new(), TaskTracker::new(), Arc::new(Notify::new()));
        let (stopping, stopped, give_up) = Default::default();
        let (metrics, tracer) = (Metrics::new(config.metrics.organizations), tracer(&config, &tasks, &stopped)?);
        let couriers = couriers(&config, &metrics, &tasks, &stopped)?;
        let server = listen_for_others(config.api.listen).await?;
        warn_of(artifacts.as_ref());
        let downloads = artifacts.as_ref().and_then(|store| artifacts::serve::router(store, domain::now));
        let stop = StopSignals::default();
        let topology = Arc::new(Topology::new(&config.broker));

        let (broker, lost) = (config.broker.clone(), CancellationToken::clone(&give_up));
        let (publisher, publishing) = Publisher::new(broker, Arc::clone(&topology), metrics.clone(), lost);
        let publishing = tasks.spawn(publishing);
        let standing = publisher.standing();
        let outbox = BrokerOutbox::new(publisher, topology.names.clone());
        let directory: Arc<dyn Directory> = Arc::clone(&subscriptions) as _;
        let flow = Flow::new(outbox, couriers, directory, standing.clone(), flow_settings(&config), stop.clone());
        let spans = tracer.clone();
        let flow = flow.with_artifacts(artifacts).with_tracer(tracer).with_metrics(metrics.clone());
        let flow: Arc<Flows> = Arc::new(flow);

        let consumers = consumers(&config, topology, &standing, &tasks).with_metrics(metrics.clone());
        let consuming = consumers.consuming();
        tasks.spawn(follow_consuming(Arc::clone(&flow), consuming.clone(), CancellationToken::clone(&stopping)));
        tasks.spawn(follow_share(Arc::clone(&flow), consumers.share(), CancellationToken::clone(&stopping)));
        subscriptions.watch(&tasks, CancellationToken::clone(&stopping), Arc::clone(&reload));
        let readiness =
            Readiness::new(standing, consuming, subscriptions.loaded(), CancellationToken::clone(&stopping))
                .with_store(store.as_ref().map(StoreSource::answers))
                .with_share(consumers.share());
        let desk = store.as_ref().map(|store| desk(store, &subscriptions, &flow));
        let (api, answered) = (server.as_ref().map(api::Server::address), CancellationToken::new());
        if let Some(store) = store {
            // The last requests still need it.
            store.follow(Arc::clone(&subscriptions), &tasks, CancellationToken::clone(&answered));
        }
        tasks.spawn(serve_others(server, api::routes(desk, downloads), CancellationToken::clone(&stopped), answered));
        let scrape = scrape(metrics, &flow, readiness.clone(), spans);
        tasks.spawn(serve_admin(listener, readiness, scrape, CancellationToken::clone(&stopped)));
        let run =
            consumers.run(hand_to(flow, messages.clone()), stop.draining.clone(), CancellationToken::clone(&stopped));
        let consuming = tasks.spawn(once_loaded(subscriptions.loaded(), stop.draining.clone(), run));
        Ok(Self {
            admin,
            api,
            reload,
            stopping,
            stop,
            stopped,
            give_up,
            grace: config.shutdown.grace,
            messages,
            tasks,
            consuming,
            publishing,
        })
    }

    /// Stops the service in order. What cannot be settled any more is left to the broker, which gives it again.
    pub async fn stop(self) -> Drained {
        // 1 No new traffic is sent to us.
        self.stopping.cancel();
        // 2 No new messages; what stands in line is parked.
        self.stop.draining.cancel();
        // 3 What is in flight finishes.
        self.messages.close();
        let finished = timeout(self.grace, self.messages.wait()).await.is_ok();
        // 4 The rest is cut off, settled as interrupted, and parked.
        self.stop.abandon.cancel();
        let end = Instant::now() + LAST_WORDS;
        let settled = timeout_at(end, self.messages.wait()).await.is_ok();
        // 5 Last acks, last confirms.
        let acked = matches!(timeout_at(end, self.consuming).await, Ok(Ok(true)));
        self.stopped.cancel();
        let published = timeout_at(end, self.publishing).await.is_ok();
        self.give_up.cancel();
        let told = settled && acked && published;
        if !told {
            tracing::warn!(
                settled,
                acked,
                published,
                "Not everything could be told to the broker; it gives those messages again"
            );
        }
        // 6 The rest of the tasks.
        self.tasks.close();
        drop(timeout_at(end, self.tasks.wait()).await);
        Drained { finished, told }
    }
}

/// Where subscriptions come from: the file, which is read here, and the store, which may be away.
async fn sources(config: &Config) -> anyhow::Result<(Arc<Subscriptions>, Option<StoreSource>)> {
    let subscriptions = Subscriptions::load(config.subscriptions.file.clone(), config.into()).await?;
    let Some(url) = config.store.url.clone() else { return Ok((Arc::new(subscriptions), None)) };
    let store = StoreSource::open(url, config.secrets.keys.clone()).await?;
    Ok((Arc::new(subscriptions.beside_a_store()), Some(store)))
}

/// Whoever takes deliveries to their targets. The connection to exchanges is closed when `stopped` says so: after all that
/// was under way.
fn couriers(
    config: &Config,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stopped: &CancellationToken,
) -> Result<Couriers, BuildError> {
    let http = Client::new(&config.egress, config.delivery.connect_timeout, &[])?.with_metrics(metrics.clone());
    let (amqp, publishing) =
        TargetPublisher::new(config.targets.amqp.clone(), target::IDLE, metrics.clone(), stopped.clone());
    tasks.spawn(publishing);
    Ok(Couriers { http, amqp })
}

fn consumers(
    config: &Config,
    topology: Arc<Topology>,
    publishing: &watch::Receiver<Standing>,
    tasks: &TaskTracker,
) -> Consumers {
    let largest_message = config.events.max_bytes + PARKED_OVERHEAD;
    let settings = ConsumerSettings { broker: config.broker.clone(), topology, largest_message };
    Consumers::new(settings, publishing.clone(), tasks.clone())
}

/// Whoever records spans. What is told before `stopped` says so is still sent.
fn tracer(config: &Config, tasks: &TaskTracker, stopped: &CancellationToken) -> Result<Tracer, TracingError> {
    let (tracer, exporting) = Tracer::start(&config.tracing, &config.broker, stopped.clone())?;
    tasks.spawn(exporting);
    Ok(tracer)
}

/// Where health is served.
async fn listen_for_health(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address} (admin.listen)"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What the API works at. It tries subscriptions out through the flow, and asks it how lanes stand; it keeps it from
/// nothing.
fn desk(store: &StoreSource, subscriptions: &Arc<Subscriptions>, flow: &Arc<Flows>) -> Desk {
    let (trials, figures): (Arc<dyn TryOut>, Arc<dyn LaneFigures>) = (Arc::clone(flow) as _, Arc::clone(flow) as _);
    Desk::new(store.handle(), Arc::clone(subscriptions), domain::now)
        .with_trials(Arc::downgrade(&trials))
        .with_figures(Arc::downgrade(&figures))
}

fn flow_settings(config: &Config) -> FlowSettings {
    FlowSettings {
        max_event_bytes: config.events.max_bytes,
        delay_unit: config.broker.delay_unit,
        max_age: config.delivery.max_age,
        window: u32::from(config.broker.prefetch).min(MOST_IN_FLIGHT),
        slow_bytes: config.broker.window_bytes / 4,
    }
}

/// What `/metrics` shows. It asks the flow how lanes stand, and keeps it from nothing.
fn scrape(metrics: Metrics, flow: &Arc<Flows>, readiness: Readiness, spans: Tracer) -> Scrape {
    let flow = Arc::downgrade(flow);
    Scrape::new(metrics, move || Readings {
        service: Some(readiness.report().into()),
        lanes: flow.upgrade().map(|flow| flow.lane_readings()),
        spans_dropped: spans.dropped(),
    })
}

/// Every message is a task of its own.
fn hand_to(flow: Arc<Flows>, messages: TaskTracker) -> impl Fn(Inbound) + Send + Sync + 'static {
    move |message| {
        let flow = Arc::clone(&flow);
        messages.spawn(async move { flow.on_message(message).await });
    }
}

/// Nothing is consumed before every source of subscriptions was loaded once: an event would find nobody.
async fn once_loaded(
    mut loaded: watch::Receiver<Option<usize>>,
    draining: CancellationToken,
    consuming: impl Future<Output = bool>,
) -> bool {
    let is_complete = async { loaded.wait_for(Option::is_some).await.is_ok() };
    if draining.run_until_cancelled(is_complete).await != Some(true) {
        return true; // Nothing was consumed.
    }
    consuming.await
}

async fn follow_consuming(flow: Arc<Flows>, mut consuming: watch::Receiver<bool>, stopping: CancellationToken) {
    loop {
        let now = *consuming.borrow_and_update();
        flow.consuming(now);
        tokio::select! {
            changed = consuming.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => return,
        }
    }
}

/// The limits are those of all replicas together.
async fn follow_share(flow: Arc<Flows>, mut share: watch::Receiver<Share>, stopping: CancellationToken) {
    loop {
        let now = *share.borrow_and_update();
        flow.use_share(now);
        tokio::select! {
            changed = share.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => return,
        }
    }
}

/// Says what is to be known about the store that links are made for.
fn warn_of(artifacts: Option<&ArtifactStore>) {
    for warning in artifacts.iter().flat_map(|store| store.warnings()) {
        tracing::warn!("{warning}");
    }
}

async fn listen_for_others(listen: Option<SocketAddr>) -> anyhow::Result<Option<api::Server>> {
    let Some(listen) = listen else { return Ok(None) };
    let bound = api::Server::bind(listen).await;
    bound.map(Some).with_context(|| format!("cannot listen on {listen} (api.listen)"))
}

/// Serves the API and downloads until `stop`, and says when the last answer was given.
async fn serve_others(
    server: Option<api::Server>,
    routes: api::Routes,
    stop: CancellationToken,
    answered: CancellationToken,
) {
    match server {
        Some(server) => server.serve(routes, stop).await,
        None => stop.cancelled().await,
    }
    answered.cancel();
}

async fn serve_admin(listener: TcpListener, readiness: Readiness, scrape: Scrape, stop: CancellationToken) {
    if let Err(error) = admin::serve(listener, readiness, scrape, stop).await {
        tracing::error!(%error, "Health and metrics are not served any more");
    }
}

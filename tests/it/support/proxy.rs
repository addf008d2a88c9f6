//! A proxy between the service and RabbitMQ that breaks connections on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::frames::{Acks, Reader};

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing gets through to the service: what the broker says is held back, such as confirms.
    Mute,
    /// Nothing gets through at all, but nothing is closed either.
    Stall,
    /// New connections are closed at once.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections of an earlier one are cut.
    generation: u64,
}

/// Listens on a port of its own, and passes everything on to one address. Dropped, it cuts everything.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    acks: Acks,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of the broker that an AMQP URL names.
    pub(crate) async fn before(url: &str) -> Self {
        let broker = url::Url::parse(url).unwrap();
        let target = format!("{}:{}", broker.host_str().unwrap(), broker.port().unwrap_or(5672));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { mode: Mode::Pass, generation: 0 });
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (mut tasks, acks) = (JoinSet::new(), Acks::default());
        let counts = (Arc::clone(&accepted), Arc::clone(&open));
        tasks.spawn(accept(listener, target, state.subscribe(), counts, acks.clone()));
        Self { address, state, accepted, open, acks, _tasks: tasks }
    }

    /// The same URL, but through the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_ip_host(self.address.ip()).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// How many connections have come so far, refused ones included.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The acks that came through, on connections without TLS.
    pub(crate) fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Cuts every connection; what is under way in it is lost. New ones are welcome.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Cuts every connection, and closes new ones at once.
    pub(crate) fn refuse(&self) {
        self.state.send_modify(|state| *state = State { mode: Mode::Refuse, generation: state.generation + 1 });
    }

    /// Holds back what the broker says, on connections that are there and on new ones.
    pub(crate) fn mute(&self) {
        self.state.send_modify(|state| state.mode = Mode::Mute);
    }

    /// Holds back everything, on connections that are there and on new ones.
    pub(crate) fn stall(&self) {
        self.state.send_modify(|state| state.mode = Mode::Stall);
    }

    /// Passes everything on again, and what was held back first.
    pub(crate) fn pass(&self) {
        self.state.send_modify(|state| state.mode = Mode::Pass);
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    state: watch::Receiver<State>,
    (accepted, open): (Arc<AtomicUsize>, Arc<AtomicUsize>),
    acks: Acks,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        if state.borrow().mode == Mode::Refuse {
            continue;
        }
        let (target, state, open) = (target.clone(), state.clone(), Arc::clone(&open));
        let reader = Reader::new(acks.clone());
        connections.spawn(async move {
            // No broker there: the client sees its connection closed.
            let Ok(broker) = TcpStream::connect(&target).await else { return };
            open.fetch_add(1, Ordering::Relaxed);
            between(client, broker, state, reader).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes both ways until either side closes, or the connection is cut.
async fn between(client: TcpStream, broker: TcpStream, mut state: watch::Receiver<State>, mut reader: Reader) {
    for stream in [&client, &broker] {
        stream.set_nodelay(true).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let generation = state.borrow().generation;
    let (up, down) = (state.clone(), state.clone());
    tokio::select! {
        biased;
        // First, so that nothing that was held back gets through.
        _ = state.wait_for(|state| state.generation != generation) => {}
        () = pump(from_client, to_broker, up, |mode| mode == Mode::Stall, |bytes| reader.read(bytes)) => {}
        () = pump(from_broker, to_client, down, |mode| matches!(mode, Mode::Stall | Mode::Mute), |_| ()) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    held_back: fn(Mode) -> bool,
    mut read_along: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        // An error means that the proxy is gone.
        if state.wait_for(|state| !held_back(state.mode)).await.is_err() {
            return;
        }
        read_along(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

//! The receivers of the second part: many targets, one address of 127/8 for each, served by one thread of this process.
//!
//! They run where the publisher runs, so that one monotonic clock tells when an event was scheduled and when the first byte
//! of its request came. A request is read and answered with as little work as possible: no HTTP library stands between the
//! first byte and the clock.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{self, Handle},
    task::JoinSet,
    time::{Instant, sleep},
};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A request of ours is two kilobytes; nothing longer than this is read.
const MOST_BYTES: usize = 64 * 1024;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What a target does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers 200 at once.
    Answers,
    /// It answers 200, but later.
    AnswersAfter(Duration),
    /// It takes the request and never answers.
    Hangs,
}

/// A request that came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Which target.
    pub target: usize,
    /// Which event of the run.
    pub event: usize,
    /// When its first byte was there.
    pub at: Instant,
}

/// What is going on now.
#[derive(Default)]
struct Run {
    /// What stands before the number in an event's id, as it is found in the body.
    marker: Vec<u8>,
    manners: HashMap<usize, Manner>,
    arrivals: Vec<Arrival>,
    /// Requests that were no event of this run.
    strange: usize,
}

/// All targets.
pub struct Targets {
    run: Arc<Mutex<Run>>,
    handle: Handle,
    port: u16,
}

impl Targets {
    /// Starts the thread that serves them.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start() -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("targets".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        let mut targets = Self { run: Arc::default(), handle, port: 0 };
        let door = targets.closed_door()?;
        targets.port = door.port;
        targets.open(door)?;
        Ok(targets)
    }

    /// The URL of a target.
    #[must_use]
    pub fn url(&self, target: usize) -> String {
        url(target, self.port)
    }

    /// A port where connecting is refused until it is opened.
    ///
    /// # Errors
    /// When there is none.
    pub fn closed_door(&self) -> Result<Door> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        Ok(Door { port: socket.local_addr()?.port(), socket })
    }

    /// Serves at that port from now on.
    ///
    /// # Errors
    /// When it cannot be listened at.
    pub fn open(&self, door: Door) -> Result<()> {
        let _inside = self.handle.enter();
        let listener = door.socket.listen(BACKLOG)?;
        self.handle.spawn(serve(listener, Arc::clone(&self.run)));
        Ok(())
    }

    /// Begins a run: whatever came before is forgotten.
    pub fn begin(&self, run: &str, manners: impl IntoIterator<Item = (usize, Manner)>) {
        let marker = format!("\"id\":\"{run}-").into_bytes();
        *lock(&self.run) = Run { marker, manners: manners.into_iter().collect(), ..Run::default() };
    }

    /// How many requests came to targets that are asked for.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(usize) -> bool) -> usize {
        lock(&self.run).arrivals.iter().filter(|arrival| wanted(arrival.target)).count()
    }

    /// Ends a run: what came, in its order, and how many requests were none of it.
    #[must_use]
    pub fn end(&self) -> (Vec<Arrival>, usize) {
        let run = std::mem::take(&mut *lock(&self.run));
        (run.arrivals, run.strange)
    }
}

/// A port that is taken, but closed.
pub struct Door {
    socket: TcpSocket,
    port: u16,
}

impl Door {
    /// The URL of a target behind it.
    #[must_use]
    pub fn url(&self, target: usize) -> String {
        url(target, self.port)
    }
}

fn url(target: usize, port: u16) -> String {
    format!("http://127.1.{}.{}:{port}/hook", target / 250, target % 250 + 1)
}

/// Which target lives at an address.
fn target_at(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [127, 1, high, low] if low > 0 => Some(usize::from(high) * 250 + usize::from(low) - 1),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, run: Arc<Mutex<Run>>) {
    let mut connections = JoinSet::new();
    loop {
        // Without a file handle for one more there is nothing to do but to wait for one that ends.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Only this machine is served, though all of its addresses are listened at.
        if let Some(target) = stream.local_addr().ok().and_then(|address| target_at(address.ip())) {
            connections.spawn(converse(stream, target, Arc::clone(&run)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Takes one request after the other, until the other side has had enough.
async fn converse(mut stream: TcpStream, target: usize, run: Arc<Mutex<Run>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::with_capacity(4096);
    loop {
        request.clear();
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let at = Instant::now();
        let body = loop {
            if let Some(body) = body_of(&request)? {
                break body;
            }
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        };
        let manner = {
            let mut run = lock(&run);
            match number_in(request.get(body..).unwrap_or_default(), &run.marker) {
                Some(event) => run.arrivals.push(Arrival { target, event, at }),
                None => run.strange += 1,
            }
            run.manners.get(&target).copied().unwrap_or(Manner::Answers)
        };
        match manner {
            Manner::Answers => {}
            Manner::AnswersAfter(pause) => sleep(pause).await,
            // Until the other side hangs up.
            Manner::Hangs => drop(stream.read_buf(&mut request).await?),
        }
        if manner == Manner::Hangs {
            return Ok(());
        }
        stream.write_all(ANSWER).await?;
    }
}

/// Where the body of a request begins; `None` while it is not whole.
fn body_of(request: &[u8]) -> Result<Option<usize>> {
    let Some(end) = find(request, b"\r\n\r\n") else {
        return if request.len() > MOST_BYTES { Err(too_long()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(request.get(..end).unwrap_or_default())?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>()));
    let length = length.context("a request without content-length")??;
    if length > MOST_BYTES {
        return Err(too_long());
    }
    Ok((request.len() >= end + 4 + length).then_some(end + 4))
}

fn too_long() -> anyhow::Error {
    io::Error::other("a request that is too long").into()
}

/// The number behind the marker.
fn number_in(body: &[u8], marker: &[u8]) -> Option<usize> {
    let from = find(body, marker).filter(|_| !marker.is_empty())? + marker.len();
    let digits: Vec<u8> = body.get(from..)?.iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_an_address_of_its_own() {
        for target in [0, 1, 249, 250, 509, 9_999] {
            let url = url(target, 80);
            let host = url.trim_start_matches("http://").split(':').next().expect("a host");
            assert_eq!(target_at(host.parse().expect("an address")), Some(target), "{url}");
        }
        assert_eq!(target_at("10.1.2.3".parse().expect("an address")), None);
    }

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let whole = b"POST /hook HTTP/1.1\r\nContent-Length: 16\r\n\r\n{\"id\":\"run-1-42\"";
        for end in 0..whole.len() {
            assert_eq!(body_of(&whole[..end]).expect("nothing is wrong"), None, "{end}");
        }
        let body = body_of(whole).expect("nothing is wrong").expect("a whole request");
        assert_eq!(number_in(&whole[body..], b"\"id\":\"run-1-"), Some(42));
        assert_eq!(number_in(&whole[body..], b"\"id\":\"run-2-"), None);
    }

    #[tokio::test]
    async fn what_comes_is_answered_as_the_target_does_and_kept_with_its_time() {
        let targets = Targets::start().expect("it starts");
        targets.begin("r", [(3, Manner::Hangs)]);
        let request = b"POST /hook HTTP/1.1\r\ncontent-length: 12\r\n\r\n{\"id\":\"r-7\"}";
        let before = Instant::now();
        for (target, answered) in [(2_u8, true), (3, false)] {
            let mut stream =
                TcpStream::connect((Ipv4Addr::new(127, 1, 0, target + 1), targets.port)).await.expect("open");
            stream.write_all(request).await.expect("written");
            if answered {
                let mut answer = vec![0; ANSWER.len()];
                stream.read_exact(&mut answer).await.expect("an answer");
                assert_eq!(answer, ANSWER);
            } else {
                stream.shutdown().await.expect("half closed");
                let mut nothing = Vec::new();
                stream.read_to_end(&mut nothing).await.expect("closed");
                assert!(nothing.is_empty(), "{nothing:?}");
            }
        }
        let (arrivals, strange) = targets.end();
        assert_eq!(arrivals.iter().map(|a| (a.target, a.event)).collect::<Vec<_>>(), [(2, 7), (3, 7)]);
        assert!(strange == 0 && arrivals.iter().all(|arrival| arrival.at >= before));
    }
}

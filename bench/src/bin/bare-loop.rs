//! The bare loop, the least that any such service must do: consume (prefetch 500), POST the event's bytes as they are
//! (256 in flight over kept-alive connections), publish a result for each POST with pipelined confirms, and ack each
//! event after its last confirm. It decodes nothing, matches nothing, and any failure ends it.
//!
//! Without `--post-to` it leaves the POSTs out: consume, publish, ack.
//!
//! Prints `done SECONDS` (from the last warm-up event's ack to the last ack) and then waits for the end of its standard
//! input, so that its CPU time can still be read.

#![expect(clippy::print_stdout, reason = "the parent waits for the line")]
#![expect(clippy::disallowed_methods, reason = "nothing here is stopped in order; an error ends the process")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use docrelay_bench::broker::{EVENTS_QUEUE, RESULTS_EXCHANGE};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use lapin::{
    Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::Instant,
};

const PREFETCH: u16 = 500;
const POSTS_IN_FLIGHT: usize = 256;
const CONFIRMS_OUTSTANDING: usize = 500;
/// About as long as a `DeliveryResult` of docrelay's.
const RESULT: [u8; 256] = [b'r'; 256];

#[derive(Parser)]
struct Arguments {
    /// The broker.
    #[arg(long)]
    url: String,
    /// POST to this address; without it nothing is posted.
    #[arg(long)]
    post_to: Option<SocketAddr>,
    /// How many POSTs and results an event makes.
    #[arg(long)]
    fan_out: usize,
    /// How many events pass before the clock starts.
    #[arg(long)]
    warm_up: usize,
    /// How many events there are in all.
    #[arg(long)]
    total: usize,
}

/// An event in hand, with how many results it still owes.
struct Event {
    acker: Acker,
    owed: AtomicUsize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let connection = Connection::connect(&arguments.url, ConnectionProperties::default()).await?;
    let publishing = connection.create_channel().await?;
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    let (posted, to_publish) = mpsc::channel(POSTS_IN_FLIGHT);
    let publisher = tokio::spawn(publish(publishing.clone(), to_publish, arguments.warm_up));
    let consuming = connection.create_channel().await?;
    consume(&consuming, &arguments, posted).await?;
    let seconds = publisher.await??;
    println!("done {seconds}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    // In order: a socket that is just dropped may take the last acks with it.
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Takes every event in hand, and ends when the last one is on its way.
async fn consume(channel: &Channel, arguments: &Arguments, posted: mpsc::Sender<Result<Arc<Event>>>) -> Result<()> {
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(EVENTS_QUEUE.into(), "bare".into(), options, FieldTable::default()).await?;
    let pool = arguments.post_to.map(Pool::new).map(Arc::new);
    for _ in 0..arguments.total {
        let delivery = consumer.next().await.context("the consumer was cancelled")??;
        let event = Arc::new(Event { acker: delivery.acker, owed: AtomicUsize::new(arguments.fan_out) });
        let body = Bytes::from(delivery.data);
        for path in 0..arguments.fan_out {
            let (event, posted) = (Arc::clone(&event), posted.clone());
            let Some(pool) = pool.clone() else {
                posted.send(Ok(event)).await?;
                continue;
            };
            let permit = Arc::clone(&pool.permits).acquire_owned().await?;
            let body = body.clone();
            tokio::spawn(async move {
                let outcome = pool.post(path, body).await;
                drop(permit);
                posted.send(outcome.map(|()| event)).await
            });
        }
    }
    Ok(())
}

/// Publishes a result for every POST and acks what owes no more. Returns the seconds after the warm-up.
async fn publish(channel: Channel, mut posted: mpsc::Receiver<Result<Arc<Event>>>, warm_up: usize) -> Result<f64> {
    let mut confirms = FuturesUnordered::new();
    let mut began = Instant::now();
    let mut acked = 0;
    loop {
        tokio::select! {
            Some(event) = posted.recv(), if confirms.len() < CONFIRMS_OUTSTANDING => {
                let event = event?;
                let confirm = channel
                    .basic_publish(
                        RESULTS_EXCHANGE.into(),
                        "delivered.document_predict.organization.inbox-1".into(),
                        BasicPublishOptions::default(),
                        &RESULT,
                        BasicProperties::default().with_delivery_mode(2),
                    )
                    .await?;
                confirms.push(async move { (confirm.await, event) });
            }
            Some((confirmation, event)) = confirms.next() => {
                ensure!(matches!(confirmation?, Confirmation::Ack(None)), "the broker refused a result");
                if event.owed.fetch_sub(1, Ordering::AcqRel) == 1 {
                    ensure!(event.acker.ack(BasicAckOptions::default()).await?, "the channel is gone");
                    acked += 1;
                    if acked == warm_up {
                        began = Instant::now();
                    }
                }
            }
            else => return Ok(began.elapsed().as_secs_f64()),
        }
    }
}

/// Kept-alive connections to one address.
struct Pool {
    address: SocketAddr,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    fn new(address: SocketAddr) -> Self {
        Self { address, permits: Arc::new(Semaphore::new(POSTS_IN_FLIGHT)), idle: Mutex::default() }
    }

    async fn post(&self, path: usize, body: Bytes) -> Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let request = Request::post(format!("/hook/{path}"))
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = connection.send_request(request).await?;
        if !response.status().is_success() {
            bail!("the receiver answered {}", response.status());
        }
        response.into_body().collect().await?;
        connection.ready().await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

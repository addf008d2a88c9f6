//! What traces cost: docrelay without an endpoint, with 1 % of its events recorded and with all of them, one after the other
//! in changing order, against a collector in this process that counts spans and forgets them. Writes `tracing.json`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::{
    convert::Infallible,
    fs,
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    round::{Bench, Loop, Measured, WARM_UP, config_file, traced_config_file},
    summary::{Figures, Spread},
};

/// The shares that are compared with no endpoint at all, in percent.
const SHARES: [u8; 2] = [1, 100];

/// What one event that is delivered at once makes: taking it in, its attempt, its result.
const SPANS: u64 = 3;

/// Spans that have come so far.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// As much of an export as is needed to count its spans.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    of_resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    of_scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Wanted {
    /// How many rounds.
    pub rounds: usize,
    /// Where results go.
    pub output: PathBuf,
}

/// Runs the rounds. The configuration of fan-out 1 must be there.
///
/// # Errors
/// When it cannot be measured.
pub async fn run(bench: &mut Bench, wanted: &Wanted) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let mut serving = JoinSet::new();
    serving.spawn(collect(listener));
    let plain = fs::read_to_string(config_file(&wanted.output, 1))?;
    for share in SHARES {
        let sample = f64::from(share) / 100.0;
        let section = format!("\n[tracing]\nendpoint = \"{endpoint}\"\nprotocol = \"http\"\nsample = {sample:?}\n");
        fs::write(traced_config_file(&wanted.output, share), format!("{plain}{section}"))?;
    }
    println!(
        "\ntraces: {} rounds of {} events; the broker writes to {}; CPU-s of docrelay per 1,000, deliveries/s",
        wanted.rounds,
        bench.events,
        bench.broker.file_system()
    );
    let mut rounds = Vec::new();
    for number in 0..wanted.rounds {
        rounds.push(round(bench, number).await?);
    }
    report(bench, wanted, &rounds)
}

/// One run of each, in changing order, with how many spans came of it.
async fn round(bench: &mut Bench, number: usize) -> Result<Vec<(Loop, Measured, u64)>> {
    let mut order = vec![Loop::Docrelay];
    order.extend(SHARES.map(Loop::Traced));
    let turns = number % order.len();
    order.rotate_left(turns);
    let mut round = Vec::new();
    for which in order {
        let before = COUNTED.load(Ordering::SeqCst);
        let measured = bench.measure(which, 1, &format!("traced-{number}-{which:?}")).await?;
        let spans = COUNTED.load(Ordering::SeqCst) - before;
        println!(
            "  round {}: {which:<12} {:.4}   {:>6.0}/s   {:>3.0} MiB   {spans:>6} spans {}",
            number + 1,
            measured.service_cpu,
            measured.rate,
            measured.rss_mib,
            measured.faults.join("; "),
            which = format!("{which:?}"),
        );
        let events = (WARM_UP + bench.events) as u64;
        ensure!(expected(which, events).contains(&spans), "{which:?}: {spans} spans of {events} events");
        round.push((which, measured, spans));
    }
    Ok(round)
}

/// How many spans are believed: what nobody exports costs nothing.
fn expected(which: Loop, events: u64) -> RangeInclusive<u64> {
    let all = SPANS * events;
    match which {
        // A hundredth may be dropped where a queue was full.
        Loop::Traced(100) => all - all / 100..=all,
        // Which events are recorded is left to chance.
        Loop::Traced(share) => all * u64::from(share) / 200..=all * u64::from(share) / 50,
        Loop::Docrelay | Loop::Bare | Loop::WithoutHttp => 0..=0,
    }
}

fn report(bench: &Bench, wanted: &Wanted, rounds: &[Vec<(Loop, Measured, u64)>]) -> Result<()> {
    let of = |which: Loop| rounds.iter().filter_map(move |round| round.iter().find(|(it, ..)| *it == which));
    let figures = |which| Figures::of(&of(which).map(|(_, measured, _)| measured).collect::<Vec<_>>());
    let mut summary = Map::new();
    summary.insert("rounds".to_owned(), rounds.len().into());
    summary.insert("broker_file_system".to_owned(), bench.broker.file_system().into());
    summary.insert("without".to_owned(), json!(figures(Loop::Docrelay)));
    for share in SHARES {
        let pairs: Vec<_> = of(Loop::Docrelay).zip(of(Loop::Traced(share))).collect();
        let ratio = |figure: fn(&Measured) -> f64| Spread::of(pairs.iter().map(|(a, b)| figure(&b.1) / figure(&a.1)));
        let cpu = ratio(|measured| measured.service_cpu).context("no rounds")?;
        let rate = ratio(|measured| measured.rate).context("no rounds")?;
        println!(
            "{share:>3} %: CPU {:.3} times that without an endpoint ({:.3} to {:.3}), rate {:.3} times",
            cpu.median, cpu.min, cpu.max, rate.median
        );
        let spans: Vec<_> = pairs.iter().map(|(_, traced)| traced.2).collect();
        let faults: Vec<_> = pairs.iter().flat_map(|(a, b)| a.1.faults.iter().chain(&b.1.faults)).collect();
        summary.insert(
            format!("sampled_{share}_percent"),
            json!({
                "cpu_ratio": cpu, "rate_ratio": rate, "spans": spans, "faults": faults,
                "figures": figures(Loop::Traced(share)),
            }),
        );
    }
    let file = wanted.output.join("tracing.json");
    fs::write(&file, serde_json::to_string_pretty(&Value::Object(summary))? + "\n")?;
    println!("wrote {}", file.display());
    Ok(())
}

async fn collect(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(count)));
        while connections.try_join_next().is_some() {}
    }
}

async fn count(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await
        && let Ok(export) = Export::decode(body.to_bytes())
    {
        let of_scopes = export.of_resources.iter().flat_map(|of_resource| &of_resource.of_scopes);
        let spans: usize = of_scopes.map(|of_scope| of_scope.spans.len()).sum();
        COUNTED.fetch_add(spans as u64, Ordering::SeqCst);
    }
    // An answer without a word is a whole answer in protobuf.
    Ok(Response::new(Full::default()))
}

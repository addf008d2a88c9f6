//! `docrelay receive`: a webhook receiver for trying things. It shows what comes and can fail, be slow, or hang.
//!
//! It keeps a count per `webhook-id` in memory and nothing else; it is no part of the service.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::domain::now;

/// The largest body that is taken; the service's events end at 8 MiB by default.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// How much of a body is shown to people.
const SHOWN_BODY_CHARS: usize = 120;

/// Receive webhooks and show them.
///
/// Every request is answered with --status and printed on one line: time (UTC), status,
/// method, path, docrelay-event, docrelay-attempt, webhook-id, body. Ctrl-C ends it with a
/// summary; "repeats" are requests whose webhook-id had been seen before.
///
/// A receiver that answers at once:     docrelay receive
/// One that fails twice per delivery:   docrelay receive --fail-first 2
/// One that is slow but gets there:     docrelay receive --delay 3s
/// One that never answers:              docrelay receive --hang
///
/// The service sends nothing to loopback addresses unless egress.allow permits them,
/// for example as 127.0.0.0/8.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Where to listen. Port 0 takes a free one and says which.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,

    /// The status to answer with. 2xx is a success to docrelay, 410 is final, everything else is tried again.
    #[arg(long, value_name = "STATUS", default_value = "200")]
    pub status: StatusCode,

    /// Answer the first N attempts of each delivery (by webhook-id) with 500.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub fail_first: u32,

    /// Answer this part of the other requests with 500, by chance: 0 never, 1 always.
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = rate)]
    pub fail_rate: f64,

    /// Wait this long before answering. Longer than the target's timeout (15s by default) is a failure to docrelay.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub delay: Duration,

    /// Never answer: each request waits until docrelay gives up.
    #[arg(long)]
    pub hang: bool,

    /// The body to answer with. docrelay puts it into the delivery's result.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub body: String,

    /// Print no requests, only the summary.
    #[arg(long)]
    pub quiet: bool,

    /// Print each request, and the summary, as a line of JSON, bodies in full.
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.0..=1.0).contains(&rate) { Ok(rate) } else { Err("expected a number from 0 to 1".to_owned()) }
}

/// Receives until `stop` is cancelled or standard output is closed.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    serve(args, listener, io::stdout(), stop).await
}

/// Receives on `listener` and prints to `out` until `stop` is cancelled or `out` is closed.
///
/// # Errors
/// When the listener breaks.
pub async fn serve<W: Write + Send + 'static>(
    args: Args,
    listener: TcpListener,
    out: W,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the listener's address")?;
    let desk = Arc::new(Desk {
        args,
        stop: stop.clone(),
        seen: Mutex::new(Seen { counts: HashMap::new(), requests: 0, out }),
    });
    if !desk.args.json {
        desk.print(&format!("receiving on http://{address}, Ctrl-C to end"));
    }
    let routes =
        Router::new().fallback(receive::<W>).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(Arc::clone(&desk));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("receiving broke off")?;
    desk.print_summary();
    Ok(())
}

/// Where requests are counted and shown.
struct Desk<W> {
    args: Args,
    stop: CancellationToken,
    seen: Mutex<Seen<W>>,
}

struct Seen<W> {
    /// Requests per `webhook-id`.
    counts: HashMap<String, u32>,
    requests: u64,
    out: W,
}

async fn receive<W: Write + Send + 'static>(
    State(desk): State<Arc<Desk<W>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = text(headers.get("webhook-id"));
    let status = desk.judge(desk.count(id));
    if !desk.args.quiet {
        let shown = Shown {
            status: (!desk.args.hang).then_some(status),
            method: &method,
            uri: &uri,
            headers: &headers,
            body: &body,
        };
        desk.print(&if desk.args.json { shown.as_json() } else { shown.as_columns() });
    }
    tokio::select! {
        () = desk.wait() => answer(status, &desk.args.body),
        () = desk.stop.cancelled() => answer(StatusCode::SERVICE_UNAVAILABLE, "the receiver was stopped\n"),
    }
}

fn answer(status: StatusCode, body: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.to_owned()).into_response()
}

impl<W: Write> Desk<W> {
    /// Counts a request; says how many its delivery has made, this one included.
    fn count(&self, id: &str) -> u32 {
        let mut seen = self.seen();
        seen.requests += 1;
        if id.is_empty() {
            return 1;
        }
        let count = seen.counts.entry(id.to_owned()).or_insert(0);
        *count += 1;
        *count
    }

    fn judge(&self, count: u32) -> StatusCode {
        let fails = count <= self.args.fail_first || fastrand::f64() < self.args.fail_rate;
        if fails { StatusCode::INTERNAL_SERVER_ERROR } else { self.args.status }
    }

    async fn wait(&self) {
        if self.args.hang {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.args.delay).await;
    }

    /// Prints a line. Nobody reads any more when that fails, so it ends the receiver.
    fn print(&self, line: &str) {
        let out = &mut self.seen().out;
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            self.stop.cancel();
        }
    }

    fn print_summary(&self) {
        let (requests, deliveries, repeats) = {
            let seen = self.seen();
            let repeats: u64 = seen.counts.values().map(|count| u64::from(count.saturating_sub(1))).sum();
            (seen.requests, seen.counts.len(), repeats)
        };
        self.print(&if self.args.json {
            serde_json::json!({"requests": requests, "deliveries": deliveries, "repeats": repeats}).to_string()
        } else {
            format!("{requests} requests, {deliveries} deliveries, {repeats} repeats")
        });
    }

    fn seen(&self) -> MutexGuard<'_, Seen<W>> {
        // A panic elsewhere leaves counts that are still true.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request as it is printed.
struct Shown<'a> {
    /// The status it is answered with, if it is answered.
    status: Option<StatusCode>,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Shown<'_> {
    fn header(&self, name: &str) -> &str {
        text(self.headers.get(name))
    }

    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    fn as_columns(&self) -> String {
        let time = now().to_rfc3339();
        let time = time.get(11..23).unwrap_or(&time); // hours to milliseconds, UTC
        let status = self.status.as_ref().map_or("-", StatusCode::as_str);
        let dash = |text: &'_ str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        format!(
            "{time}  {status:<3}  {:<6}  {:<24}  {:<17}  #{:<2}  {:<36}  {}",
            self.method,
            self.path(),
            dash(self.header("docrelay-event")),
            dash(self.header("docrelay-attempt")),
            dash(self.header("webhook-id")),
            shortened(self.body),
        )
    }

    fn as_json(&self) -> String {
        let headers: serde_json::Map<_, _> =
            self.headers.iter().map(|(name, value)| (name.to_string(), text(Some(value)).into())).collect();
        serde_json::json!({
            "time": now().to_rfc3339(),
            "status": self.status.map(|status| status.as_u16()),
            "method": self.method.as_str(),
            "path": self.path(),
            "event": self.header("docrelay-event"),
            "attempt": self.header("docrelay-attempt").parse::<u32>().ok(),
            "webhook_id": self.header("webhook-id"),
            "headers": headers,
            "body": String::from_utf8_lossy(self.body),
        })
        .to_string()
    }
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// One line of the body: control characters shown as escapes, the rest cut with its size.
fn shortened(body: &[u8]) -> String {
    // A character has at most four bytes.
    let start = body.get(..SHOWN_BODY_CHARS * 4).unwrap_or(body);
    let mut line = String::new();
    for character in String::from_utf8_lossy(start).chars().take(SHOWN_BODY_CHARS) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if body.len() > SHOWN_BODY_CHARS && String::from_utf8_lossy(body).chars().nth(SHOWN_BODY_CHARS).is_some() {
        write!(line, "… ({} bytes)", body.len()).ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_with_its_size_and_stays_on_one_line() {
        assert_eq!(shortened(b"{\"a\":\n1}"), "{\"a\":\\n1}");
        let long = shortened("é".repeat(200).as_bytes());
        assert_eq!(long, format!("{}… (400 bytes)", "é".repeat(SHOWN_BODY_CHARS)));
        assert_eq!(shortened("é".repeat(SHOWN_BODY_CHARS).as_bytes()), "é".repeat(SHOWN_BODY_CHARS));
    }

    #[test]
    fn the_help_shows_examples_line_by_line() {
        let help = <Args as clap::Args>::augment_args(clap::Command::new("receive")).render_long_help().to_string();
        for line in
            ["A receiver that answers at once:     docrelay receive", "--fail-first <N>", "[default: 127.0.0.1:9000]"]
        {
            assert!(help.contains(line), "{line:?} in\n{help}");
        }
    }

    #[test]
    fn a_rate_is_between_nothing_and_everything() {
        assert_eq!(rate("0.3"), Ok(0.3));
        for wrong in ["-0.1", "1.1", "NaN", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}

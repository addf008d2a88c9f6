//! What a real Prometheus makes of the service, the dashboards and the alerts. Skipped, loudly, where there is none.

use std::{net::SocketAddr, time::Duration};

use docrelay::{
    broker::codec,
    domain::{DocumentEvent, Outcome},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Query, alerts, dashboard_queries, path, yaml};
use crate::support::{
    broker::{docrelay, eventually, ran},
    node::Node,
    prometheus::{Prometheus, promtool},
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, subscription, with},
};

/// How often Prometheus asks here.
const SCRAPE: Duration = Duration::from_millis(500);

/// How long it may take until everything that is asked for is there: some of it is asked of the broker every few seconds.
const ANSWERED: Duration = Duration::from_mins(1);

/// The trace that upstream began for every event of these tests.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn the_configuration_and_every_alert_pass_promtool() {
    for (arguments, file) in [
        (["check", "config"], "deploy/prometheus/prometheus.yml"),
        (["test", "rules"], "deploy/prometheus/alerts_test.yml"),
    ] {
        let file = path(file);
        let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
        let Some((content, said)) = promtool(&arguments, "").await else { return };
        assert!(content, "{said}");
    }
}

#[tokio::test]
async fn every_query_of_dashboards_and_alerts_is_answered_with_data() {
    let node = Node::start_with(&["--prometheus"]).await;
    let world = World::on(&node).await;
    let service = world.surroundings.run().await;
    let Some(prometheus) = Prometheus::start(&configuration(&node, service.admin())).await else { return };
    // Twice, so that each counter is seen to grow.
    for round in 0..2 {
        world.let_things_happen(round).await;
        sleep(SCRAPE * 3).await;
    }
    plain_metrics_pass_promtool(service.admin()).await;
    let mut unanswered = queries();
    let began = Instant::now();
    while began.elapsed() < ANSWERED && !unanswered.is_empty() {
        let mut still = Vec::new();
        for query in unanswered {
            let values = prometheus.query(&query.text).await;
            // What is wrong today is wrong tomorrow.
            if values.unwrap_or_else(|wrong| panic!("{}: {}: {wrong}", query.place, query.text)).is_empty() {
                still.push(query);
            }
        }
        unanswered = still;
        sleep(SCRAPE).await;
    }
    assert!(unanswered.is_empty(), "without data: {unanswered:#?}");
    exemplars_lead_to_the_trace(&prometheus).await;
    alerts_see_what_happened(&prometheus).await;
    prometheus.stop().await;
    service.stop().await;
}

/// `deploy/prometheus/prometheus.yml`, for the service and the broker of this test.
fn configuration(node: &Node, admin: SocketAddr) -> Value {
    let mut config = yaml("deploy/prometheus/prometheus.yml");
    let every = humantime::format_duration(SCRAPE).to_string();
    config["global"] = json!({"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every});
    config["rule_files"] = json!([path("deploy/prometheus/alerts.yml")]);
    let port = std::fs::read_to_string(node.folder().join("prometheus-port")).unwrap();
    let jobs = config["scrape_configs"].as_array_mut().unwrap();
    jobs.retain(|job| job["job_name"] == "docrelay" || job["job_name"] == "rabbitmq");
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        let target =
            if job["job_name"] == "docrelay" { admin.to_string() } else { format!("127.0.0.1:{}", port.trim()) };
        job.as_object_mut().unwrap().shift_remove("dns_sd_configs");
        job["static_configs"] = json!([{"targets": [target]}]);
    }
    config
}

/// All queries of the dashboards, and each series that an alert looks at: an alert itself answers only when it fires.
fn queries() -> Vec<Query> {
    let mut queries = dashboard_queries("1m");
    for alert in alerts() {
        let text = alert["expr"].as_str().unwrap();
        for begin in ["docrelay_", "up{"] {
            for (at, _) in text.match_indices(begin) {
                let rest = &text[at..];
                let name = rest.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).unwrap_or(rest.len());
                let end = if rest[name..].starts_with('{') { rest.find('}').unwrap() + 1 } else { name };
                queries.push(Query { place: alert["alert"].to_string(), text: rest[..end].to_owned() });
            }
        }
    }
    queries
}

/// Receivers for everything that can become of a delivery.
struct World {
    surroundings: Surroundings,
    _folder: TempDir,
    _receivers: Vec<Receiver>,
}

impl World {
    async fn on(node: &Node) -> Self {
        let folder = TempDir::new().unwrap();
        let store = format!("sqlite://{}", folder.path().join("store.db").display());
        let mut making = docrelay(&["store", "init"]);
        making.env("DOCRELAY__STORE__URL", &store);
        ran(making).await.fine();
        let surroundings = Surroundings::on(node.url(), &[("STORE__URL", &store)]).await;

        let good = Receiver::ok().await;
        let once_more = Receiver::scripted(|it| Reply::status(if it.attempt() < 3 { 503 } else { 200 })).await;
        let broken = Receiver::scripted(|_| Reply::status(500)).await;
        let refuses = Receiver::scripted(|_| Reply::status(404)).await;
        let gone = Receiver::scripted(|_| Reply::status(410)).await;
        let slow = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(300))).await;
        // A port that nobody listens at any more.
        let nobody = Receiver::ok().await.url("/");
        let no_retry = json!({"retry": {"on": "no_response"}});
        surroundings.subscribe(&[
            subscription("good", &good.url("/")),
            subscription("once-more", &once_more.url("/")),
            subscription("broken", &broken.url("/")),
            with(subscription("refuses", &refuses.url("/")), no_retry),
            subscription("gone", &gone.url("/")),
            with(subscription("slow", &slow.url("/")), json!({"max_in_flight": 1})),
            subscription("nobody", &nobody),
        ]);
        Self { surroundings, _folder: folder, _receivers: vec![good, once_more, broken, refuses, gone, slow] }
    }

    /// Events for all of them, one for nobody, and one that cannot be read; returns when all have ended.
    async fn let_things_happen(&self, round: usize) {
        const EVENTS: usize = 10;
        for number in 0..EVENTS {
            self.publish(&event(&format!("evt-{round}-{number}"))).await;
        }
        let nobodys = DocumentEvent { organization: "nobody".parse().unwrap(), ..event(&format!("evt-{round}")) };
        self.publish(&nobodys).await;
        self.surroundings.publish_raw(properties(), b"no event").await;
        let wait = |outcome, count| self.surroundings.results.wait_for_outcome(outcome, count, GENEROUS);
        wait(Outcome::Delivered, (round + 1) * EVENTS * 3).await;
        wait(Outcome::Exhausted, (round + 1) * EVENTS * 2).await;
    }

    /// As an upstream does that traces.
    async fn publish(&self, event: &DocumentEvent) {
        self.surroundings.publish_raw(properties(), &codec::encode_event(event)).await;
    }
}

fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    BasicProperties::default()
        .with_content_type(codec::CONTENT_TYPE.into())
        .with_type(codec::EVENT_TYPE.into())
        .with_headers(headers)
        .with_delivery_mode(2)
}

/// What is served to those that ask for plain text.
async fn plain_metrics_pass_promtool(admin: SocketAddr) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{admin}/metrics")).header("accept", "text/plain;version=0.0.4");
    let text = request.send().await.unwrap().text().await.unwrap();
    let (content, said) = promtool(&["check", "metrics"], &text).await.unwrap();
    assert!(content, "{said}\n{text}");
}

async fn exemplars_lead_to_the_trace(prometheus: &Prometheus) {
    for name in ["docrelay_delivery_latency_seconds_bucket", "docrelay_attempt_duration_seconds_bucket"] {
        let traces = eventually(&format!("exemplars of {name}"), || async {
            let now = docrelay::domain::now().to_rfc3339();
            let asked = [("query", name), ("start", "2020-01-01T00:00:00Z"), ("end", now.as_str())];
            let found = prometheus.ask("query_exemplars", &asked).await.unwrap();
            let series =
                found.as_array()?.iter().flat_map(|it| it["exemplars"].as_array().cloned().unwrap_or_default());
            let traces: Vec<_> =
                series.map(|it| it["labels"]["trace_id"].as_str().unwrap_or_default().to_owned()).collect();
            (!traces.is_empty()).then_some(traces)
        })
        .await;
        assert!(traces.iter().all(|it| it == TRACE), "{traces:?}");
    }
}

/// The rules are in force, and those that something happened for know of it.
async fn alerts_see_what_happened(prometheus: &Prometheus) {
    let rules = prometheus.ask("rules", &[]).await.unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(rules.len(), alerts().len());
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    // Pending, until they have lasted.
    for name in ["DocrelayTargetDown", "DocrelayDeadLetters"] {
        eventually(name, || async {
            let all = prometheus.ask("alerts", &[]).await.unwrap();
            all["alerts"].as_array()?.iter().any(|it| it["labels"]["alertname"] == name).then_some(())
        })
        .await;
    }
}

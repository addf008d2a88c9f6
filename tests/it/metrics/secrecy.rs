//! No secret comes out: not in a log line at any level, not in a metric or a span, not in a result, not in an answer of the
//! API. What upstream says for itself does not go to receivers.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use docrelay::{
    domain::{DocumentEvent, Happening, Outcome, Secret, now},
    secrets::{Key, KeyRing},
    store::database::{KeyOwner, Store},
};
use lapin::{
    Channel,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    support::{
        broker::eventually,
        collector::Collector,
        node::Node,
        program::Program,
        receiver::{Receiver, Reply},
        scrape::Scraped,
        service::{GENEROUS, Surroundings, event, subscription, with},
    },
    traces::UPSTREAM,
};

/// Everything that is secret, each with a text that stands nowhere else. Each is looked for as it is, and in base64.
const PLANTED: [&str; 20] = [
    BROKER,
    STORE,
    HEADER,
    AUTHORIZATION,
    QUERY,
    USER,
    LOGIN_BODY,
    LOGIN_QUERY,
    CLIENT,
    TOKEN,
    PAYLOAD,
    METADATA,
    BAD_KEY,
    API_HEADER,
    API_QUERY,
    API_CLIENT,
    SIGNING,
    TARGETS,
    COLLECTOR,
    BAGGAGE,
];

const BROKER: &str = "planted-broker-password";
const STORE: &str = "planted-store-password";
const HEADER: &str = "planted-header-value";
const AUTHORIZATION: &str = "planted-authorization";
const QUERY: &str = "planted-query-value";
const USER: &str = "planted-user-password";
const LOGIN_BODY: &str = "planted-login-body";
const LOGIN_QUERY: &str = "planted-login-query";
const CLIENT: &str = "planted-client-secret";
const TOKEN: &str = "planted-token";
const PAYLOAD: &str = "planted-document-text";
const METADATA: &str = "planted-metadata";
const BAD_KEY: &str = "planted-bad-key";
const API_HEADER: &str = "planted-api-header";
const API_QUERY: &str = "planted-api-query";
const API_CLIENT: &str = "planted-api-client-secret";
const SIGNING: &str = "planted-signing-secret-1";
const TARGETS: &str = "planted-targets-password";
const COLLECTOR: &str = "planted-collector-key";
const BAGGAGE: &str = "planted-baggage";

/// A key of the program's own making, and what it encrypts with.
struct Stored {
    _folder: tempfile::TempDir,
    url: String,
    key: String,
    encryption: String,
}

impl Stored {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store = Store::create(&Secret::new(url.clone()), KeyRing::default()).await.unwrap();
        let (_, key) = store.create_key(KeyOwner::Organization("acme".parse().unwrap()), "test", now()).await.unwrap();
        store.close().await;
        let encryption = Key::generate().unwrap().reveal().to_owned();
        Self { _folder: folder, url, key: key.reveal().to_owned(), encryption }
    }
}

/// Subscriptions with every secret that a file may give, to targets that take and to such that refuse.
fn subscriptions(good: &Receiver, bad: &Receiver, logins: &Receiver) -> Vec<Value> {
    let with_user = |url: String| url.replace("http://", &format!("http://someone:{USER}@"));
    let signing = format!("whsec_{}", BASE64_STANDARD.encode(SIGNING));
    let headers = json!({"x-secret": HEADER});
    let mut all = Vec::new();
    for (name, receiver) in [("good", good), ("bad", bad)] {
        let url = with_user(receiver.url(&format!("/hook?token={QUERY}")));
        let plain = with(subscription(&format!("plain-{name}"), &url), json!({"signing_secrets": [signing]}));
        all.push(with(plain, json!({"target": {"headers": headers}})));
        let fixed = json!({"auth": {"authorization": format!("Bearer {AUTHORIZATION}")}});
        all.push(with(subscription(&format!("fixed-{name}"), &url), fixed));
        let login = with_user(logins.url(&format!("/{name}?key={LOGIN_QUERY}")));
        let body = json!({"username": "root", "password": LOGIN_BODY});
        let login = json!({"auth": {"login": {"url": login, "body": body, "headers": {"x-secret": HEADER}}}});
        all.push(with(subscription(&format!("login-{name}"), &url), login));
        let oauth =
            json!({"token_url": logins.url(&format!("/{name}")), "client_id": "docrelay", "client_secret": CLIENT});
        all.push(with(subscription(&format!("oauth-{name}"), &url), json!({"auth": {"oauth2": oauth}})));
    }
    // Nobody is there, and no such name.
    let nobody = format!("http://someone:{USER}@127.0.0.1:1/?token={QUERY}");
    all.push(subscription("nobody", &nobody));
    all.push(subscription("unknown", &format!("http://someone:{USER}@nowhere.invalid/?token={QUERY}")));
    // An exchange that is there, and one that is not.
    for (id, exchange) in [("exchange-there", "erp.in"), ("exchange-missing", "nowhere")] {
        let mut published = with(subscription(id, ""), json!({"payload": "cloudevents"}));
        published["target"] = json!({"type": "amqp", "exchange": exchange, "routing_key": "documents"});
        all.push(published);
    }
    all
}

/// A node with an account for the service and one for exchanges of subscribers; gives the URLs of both.
async fn node() -> (Node, [String; 2]) {
    let node = Node::start().await;
    let urls = [("planted", BROKER), ("targets", TARGETS)].map(|(user, password)| {
        let url = node.url().replace("guest:guest", &format!("{user}:{password}"));
        (user, password, url)
    });
    for (user, password, _) in &urls {
        node.ctl(&["add_user", user, password]).await;
        node.ctl(&["set_permissions", user, ".*", ".*", ".*"]).await;
    }
    (node, urls.map(|(_, _, url)| url))
}

/// The subscriber's queue behind `erp.in`, while the channel lasts.
async fn queue(channel: &Channel) -> String {
    let (kind, options) = (lapin::ExchangeKind::Topic, ExchangeDeclareOptions::default());
    channel.exchange_declare("erp.in".into(), kind, options, FieldTable::default()).await.unwrap();
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap().name().clone();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.clone(), "erp.in".into(), "#".into(), options, none).await.unwrap();
    queue.to_string()
}

/// Calls the API with a good key and a bad one, well and badly; gives what it answers to what it takes, and its problems.
async fn call(api: &str, key: &str) -> (String, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    let target = json!({"url": format!("http://127.0.0.1:1/?q={API_QUERY}"), "headers": {"x-secret": API_HEADER}});
    let oauth = json!({"token_url": "http://127.0.0.1:1/", "client_id": "a", "client_secret": API_CLIENT});
    let good = json!({"events": ["document_text"], "target": target, "auth": {"oauth2": oauth}});
    let bad = with(good.clone(), json!({"events": ["nonsense"], "auth": {"oauth2": {"client_secret": [API_CLIENT]}}}));
    let (mut told, mut problems) = (String::new(), String::new());
    for key in [key, BAD_KEY] {
        for body in [good.to_string(), bad.to_string(), format!("{{\"broken\": \"{API_HEADER}")] {
            for path in ["/v1/subscriptions", "/document_webhooks"] {
                let request = client.post(format!("{api}{path}")).bearer_auth(key).header("x-api-key", key);
                let answer =
                    request.header("content-type", "application/json").body(body.clone()).send().await.unwrap();
                let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
                let text = format!("{status} {headers} {}\n", answer.text().await.unwrap());
                if status.is_success() { &mut told } else { &mut problems }.push_str(&text);
            }
        }
        let listed = client.get(format!("{api}/v1/subscriptions")).bearer_auth(key).send().await.unwrap();
        if listed.status().is_success() { &mut told } else { &mut problems }.push_str(&listed.text().await.unwrap());
    }
    assert!(problems.contains("422") || problems.contains("400"), "{problems}");
    assert!(problems.contains("401"), "{problems}");
    (told, problems)
}

/// Fails where a secret stands in a text, with the line.
fn none_in(what: &str, text: &str, secrets: &[String]) {
    let found =
        text.lines().find_map(|line| Some((secrets.iter().find(|secret| line.contains(secret.as_str()))?, line)));
    if let Some((secret, line)) = found {
        panic!("{secret} stands in {what}: {}", line.get(..2000).unwrap_or(line));
    }
}

/// Whatever is looked for: each secret as it is, in base64, and as bytes are written for debugging.
fn forms(secrets: &[&str]) -> Vec<String> {
    secrets
        .iter()
        .flat_map(|secret| {
            let bytes: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
            // In base64 only what is behind the first bytes is always the same.
            let shifts = (0..3).map(|shift| {
                let text = BASE64_STANDARD.encode([&b"xxx"[..shift], secret.as_bytes()].concat());
                text.get(4..text.len() - 4).unwrap().to_owned()
            });
            [(*secret).to_owned(), bytes.join(", ")].into_iter().chain(shifts).collect::<Vec<_>>()
        })
        .collect()
}

fn read(program: &Program) -> String {
    std::fs::read_to_string(program.log()).unwrap()
}

/// What a service says whose store is away, and whose broker refuses it.
async fn log_of_one_without_store_and_broker(surroundings: &Surroundings, url: &str) -> String {
    let away = format!("postgres://someone:{STORE}@127.0.0.1:1/docrelay");
    let refused = url.replace(BROKER, &format!("{BROKER}-not"));
    let program =
        surroundings.run_unready(&[("LOG__LEVEL", "trace"), ("STORE__URL", &away), ("BROKER__URL", &refused)]);
    let log = eventually("lines about a store and a broker that are away", || async {
        let log = read(&program);
        (log.contains("Cannot publish yet") && log.contains("The store")).then_some(log)
    })
    .await;
    program.kill().await;
    log
}

/// What a service says whose collector refuses its spans, and whose account for exchanges does not exist.
async fn log_of_one_that_is_refused(surroundings: &Surroundings, targets: &str) -> String {
    let collector = Receiver::scripted(|_| Reply::status(401)).await;
    let (endpoint, refused) = (collector.url(""), targets.replace(TARGETS, &format!("{TARGETS}-not")));
    let key = format!("x-key={COLLECTOR}");
    let settings = [
        ("LOG__LEVEL", "trace"),
        ("TARGETS__AMQP__URL", refused.as_str()),
        ("TRACING__ENDPOINT", endpoint.as_str()),
        ("TRACING__PROTOCOL", "http"),
        ("OTEL_EXPORTER_OTLP_HEADERS", key.as_str()),
    ];
    let program = surroundings.run_with(&settings).await;
    surroundings.publish(&event("evt-2")).await;
    let log = eventually("lines about a collector and a broker that refuse", || async {
        let log = read(&program);
        let both =
            log.contains("Spans cannot be exported") && log.contains("No connection to the broker of AMQP targets");
        both.then_some(log)
    })
    .await;
    assert_eq!(collector.recorded()[0].header("x-key"), COLLECTOR);
    program.kill().await;
    log
}

/// Gives a token to who comes for the good target, and none to others.
async fn logins() -> Receiver {
    Receiver::scripted(|request| {
        if request.path.starts_with("/good") {
            Reply::ok().body(format!("{{\"access_token\": \"{TOKEN}\"}}"))
        } else {
            Reply::status(401)
        }
    })
    .await
}

/// What a service tells that has everything to do, each as a name and a text; and what its API answers to what it takes.
async fn told(surroundings: &Surroundings, stored: &Stored, signing: &str) -> ([(&'static str, String); 5], String) {
    let collector = Collector::grpc().await;
    let collector_key = format!("x-key={COLLECTOR}");
    let folder = format!("file://{}", std::env::temp_dir().display());
    let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let settings = [
        ("LOG__LEVEL", "trace"),
        ("LOG__FORMAT", "json"),
        ("STORE__URL", stored.url.as_str()),
        ("SECRETS__KEYS", stored.encryption.as_str()),
        ("API__LISTEN", api.as_str()),
        ("ARTIFACTS__URL", folder.as_str()),
        ("ARTIFACTS__PUBLIC_URL", "https://relay.example/artifacts"),
        ("ARTIFACTS__SIGNING_KEYS", signing),
        ("TRACING__ENDPOINT", collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_HEADERS", collector_key.as_str()),
    ];
    let program = surroundings.run_with(&settings).await;
    let text = Happening::Text { text: PAYLOAD.to_owned() };
    let metadata = [("note".to_owned(), METADATA.to_owned())].into();
    let event = DocumentEvent { happening: text, metadata, ..event("evt-1") };
    let baggage = format!("{BAGGAGE}-name={BAGGAGE}-value");
    surroundings.publish_with(&event, &[("traceparent", UPSTREAM), ("baggage", &baggage)]).await;
    let (answers, problems) = call(&format!("http://{api}"), &stored.key).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 5, GENEROUS).await;
    surroundings.results.wait_for_outcome(Outcome::Exhausted, 7, GENEROUS).await;
    surroundings.publish_raw(lapin::BasicProperties::default(), PAYLOAD.as_bytes()).await;
    surroundings.nothing_is_left(1).await;
    let metrics = Scraped::open(program.admin()).await.text;
    let results = format!("{:#?} {:#?}", surroundings.results.all(), surroundings.results.headers());
    let log = read(&program);
    program.stop().await;
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "it must speak");
    assert!(log.contains("docrelay.delivery"), "of deliveries too");
    let spans = format!("{:#?} {:#?}", collector.spans(), collector.resource());
    assert!(spans.contains("erp.in") && spans.contains("POST login"), "of all that was tried: {spans}");
    assert_eq!(collector.header("x-key"), COLLECTOR, "it is sent");
    let told = [
        ("the log", log),
        ("the metrics", metrics),
        ("the spans", spans),
        ("the results", results),
        ("the problems of the API", problems),
    ];
    (told, answers)
}

#[tokio::test]
async fn no_secret_comes_out_in_logs_metrics_spans_results_and_answers() {
    let (_node, [url, targets]) = node().await;
    let stored = Stored::new().await;
    let (good, bad) = (Receiver::ok().await, Receiver::scripted(|_| Reply::status(500)).await);
    let logins = logins().await;
    let allowed = "acme:erp.in,acme:nowhere";
    let settings =
        [("BROKER__URL", url.as_str()), ("TARGETS__AMQP__URL", targets.as_str()), ("TARGETS__AMQP__ALLOW", allowed)];
    let surroundings = Surroundings::on(&url, &settings).await;
    let (_connection, channel) = surroundings.channel().await;
    let queue = queue(&channel).await;
    surroundings.subscribe(&subscriptions(&good, &bad, &logins));
    let signing = format!("k:{}", BASE64_STANDARD.encode([7; 32]));
    let (told, answers) = told(&surroundings, &stored, &signing).await;
    let away = log_of_one_without_store_and_broker(&surroundings, &url).await;
    let refused = log_of_one_that_is_refused(&surroundings, &targets).await;

    let (key, encryption) = (stored.key.as_str(), stored.encryption.split(':').next_back().unwrap());
    let own = [key, encryption, signing.trim_start_matches("k:")];
    let mut secrets = forms(&PLANTED);
    secrets.extend(own.map(str::to_owned));
    for (what, text) in &told {
        none_in(what, text, &secrets);
    }
    none_in("the log of a service without store and broker", &away, &secrets);
    none_in("the log of a service that is refused", &refused, &secrets);
    // Whose URL it is sees its query.
    let queries = [QUERY, LOGIN_QUERY, API_QUERY];
    let others: Vec<_> = PLANTED.into_iter().filter(|secret| !queries.contains(secret)).collect();
    none_in("the answers of the API", &answers, &forms(&others));
    // What upstream carries along for itself is nobody else's.
    let message = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let mut got = format!("{:?}\n", message.delivery.properties);
    for receiver in [&good, &bad, &logins] {
        got.extend(receiver.recorded().iter().map(|request| format!("{:?}\n", request.headers)));
    }
    assert!(got.matches("traceparent").count() > 8, "{got}");
    none_in("what receivers get", &got, &forms(&[BAGGAGE, BROKER, TARGETS, COLLECTOR]));
}

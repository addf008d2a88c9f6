//! Logins and signatures in the whole service: when a login is called, what upstream hears when it fails, and that no
//! secret comes out anywhere.

use std::{net::SocketAddr, time::Duration};

use docrelay::domain::Outcome;
use serde_json::{Value, json};

use crate::support::{
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{ATTEMPTS, GENEROUS, Surroundings, event, subscription, with},
};

/// How many logins went well, and how many failed, as `/metrics` says.
async fn counted(admin: SocketAddr) -> [Option<f64>; 2] {
    let scraped = Scraped::plain(admin).await;
    ["ok", "failed"].map(|outcome| scraped.value("docrelay_logins_total", &[("outcome", outcome)]))
}

const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A subscription with a login that sends a form.
fn logging_in(id: &str, target: &str, login: &str) -> Value {
    let form = json!({"Content-Type": "application/x-www-form-urlencoded"});
    let body = json!({"username": "root", "password": "root"});
    with(subscription(id, target), json!({"auth": {"login": {"url": login, "headers": form, "body": body}}}))
}

#[tokio::test]
async fn a_login_is_called_when_the_webhook_fires_and_not_before() {
    let logins = Receiver::scripted(|_| Reply::ok().body(r#"{"access_token": "abc"}"#)).await;
    let target = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.write_subscriptions(&format!(
        "
subscriptions:
  - id: erp
    organization: acme
    events: [document_text]
    target: {{url: '{}', headers: {{authorization: Basic x}}}}
    auth:
      login:
        url: '{}'
        headers: {{Content-Type: application/x-www-form-urlencoded}}
        body: {{username: root, password: root}}
    signing_secrets: [{SIGNING_SECRET}]
",
        target.url("/hook"),
        logins.url("/login")
    ));
    let service = surroundings.start().await;
    assert_eq!((logins.count(), counted(service.admin).await), (0, [Some(0.0); 2]));
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;

    let (asked, sent) = (logins.recorded().remove(0), target.recorded().remove(0));
    assert!(asked.arrived < sent.arrived);
    assert_eq!(&asked.body[..], b"username=root&password=root");
    assert_eq!(sent.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer abc"]);
    let library = standardwebhooks::Webhook::new(SIGNING_SECRET).unwrap();
    library.verify(&sent.body, &sent.headers).unwrap();
    surroundings.end(service, &[(&logins, 1), (&target, 1)]).await;
}

#[tokio::test]
async fn a_fixed_authorization_is_sent_as_it_is_and_no_login_is_called() {
    let (logins, target) = (Receiver::ok().await, Receiver::ok().await);
    let surroundings = Surroundings::new().await;
    let fixed = json!({"auth": {"authorization": "Key  as it is"}});
    surroundings.subscribe(&[with(logging_in("erp", &target.url("/"), &logins.url("/")), fixed)]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    assert_eq!(target.recorded()[0].header("authorization"), "Key  as it is");
    surroundings.end(service, &[(&logins, 0), (&target, 1)]).await;
}

#[tokio::test]
async fn a_delivery_whose_login_fails_is_tried_again_and_never_sent_without_its_token() {
    let logins = Receiver::scripted(|request| match request.index {
        0 => Reply::status(500),
        1 => Reply::ok().body("no JSON"),
        _ => Reply::ok().body(r#"{"access_token": "abc"}"#),
    })
    .await;
    let (target, silent) = (Receiver::ok().await, Receiver::scripted(|_| Reply::status(401)).await);
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[
        logging_in("erp", &target.url("/erp"), &logins.url("/")),
        logging_in("crm", &target.url("/crm"), &silent.url("/")),
    ]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    let results = surroundings.results.wait_for(3 + usize::try_from(ATTEMPTS).unwrap(), GENEROUS).await;

    let of = |id: &str| {
        let of_it = results.iter().filter(|result| result.subscription.as_ref().unwrap().as_str() == id);
        of_it.map(|result| (result.outcome, result.error, result.status_code)).collect::<Vec<_>>()
    };
    let failed = (Outcome::AttemptFailed, Some("auth"), None);
    assert_eq!(of("erp"), [failed, failed, (Outcome::Delivered, None, Some(200))]);
    assert_eq!(of("crm"), [failed, failed, failed, (Outcome::Exhausted, Some("auth"), None)]);
    let [sent] = &target.recorded()[..] else { panic!("{target:?}") };
    assert_eq!((sent.path.as_str(), sent.attempt(), sent.header("authorization")), ("/erp", 3, "Bearer abc"));
    assert_eq!(counted(service.admin).await, [Some(1.0), Some(6.0)], "an answer without a token is no login");
    surroundings.end(service, &[(&logins, 3), (&silent, 4), (&target, 1)]).await;
}

#[tokio::test]
async fn many_deliveries_make_one_login_while_its_token_is_good() {
    const EVENTS: usize = 50;
    let answer = r#"{"access_token": "abc", "expires_in": 3600}"#;
    let logins = Receiver::scripted(move |_| Reply::ok().body(answer).after(Duration::from_millis(50))).await;
    let target = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[logging_in("erp", &target.url("/"), &logins.url("/"))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    let results = surroundings.results.wait_for(EVENTS, GENEROUS).await;
    assert!(results.iter().all(|result| (result.outcome, result.attempt) == (Outcome::Delivered, 1)), "{results:#?}");
    assert_eq!(counted(service.admin).await, [Some(1.0), Some(0.0)]);
    surroundings.end(service, &[(&logins, 1), (&target, EVENTS)]).await;
}

#[tokio::test]
async fn no_secret_of_a_login_or_a_signature_comes_out_in_results_or_logs() {
    const PLANTED: &str = "hunter2";
    let answer = |request: &crate::support::receiver::Recorded| match request.index {
        0 => Reply::status(500).body(PLANTED),
        1 => Reply::ok().body(format!("{{\"token\": \"{PLANTED}\"}}")),
        _ => Reply::ok().body(format!("{{\"access_token\": \"{PLANTED}\", \"expires_in\": 3600}}")),
    };
    let (logins, endpoint) = (Receiver::scripted(answer).await, Receiver::scripted(answer).await);
    let target = Receiver::scripted(|request| Reply::status(if request.index == 0 { 401 } else { 200 })).await;
    let surroundings = Surroundings::new().await;
    let secrets = json!({"auth": {"login": {"body": {"password": PLANTED}, "headers": {"X-Key": PLANTED}}}});
    let login = logging_in("erp", &target.url("/"), &logins.url(&format!("/?key={PLANTED}")));
    let signed = json!({"signing_secrets": ["whsec_hunter2/aaaaaaaaaaaaaaaaaaaaaaaa"]});
    let token_url = endpoint.url(&format!("/{PLANTED}")).replace("http://", &format!("http://user:{PLANTED}@"));
    let client = json!({"token_url": token_url, "client_id": "docrelay", "client_secret": PLANTED});
    surroundings.subscribe(&[
        with(with(login, secrets), signed),
        with(subscription("crm", &target.url("/")), json!({"auth": {"oauth2": client}})),
    ]);
    let program = surroundings.run_with(&[("LOG__LEVEL", "trace")]).await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let results = format!("{:#?}", surroundings.results.all());
    assert!(results.contains("its answer has no access_token"), "{results}");
    assert!(!results.contains(PLANTED), "{results}");
    let made = u32::try_from(logins.count() + endpoint.count()).unwrap();
    let log = std::fs::read_to_string(program.log()).unwrap();
    // Two failed at each; a token that is refused is asked for once more.
    let [ok, failed] = counted(program.admin()).await;
    assert_eq!((ok.unwrap() + failed.unwrap(), failed), (f64::from(made), Some(4.0)));
    program.stop().await;
    let shown = log.lines().find(|line| line.contains(PLANTED));
    assert_eq!(shown, None);
    assert!(log.contains("DEBUG"), "it must have had everything to say");
}

#[tokio::test]
async fn a_login_that_hangs_holds_up_nobody_who_goes_to_the_same_target_without_it() {
    const EVENTS: usize = 40;
    let (logins, target) = (Receiver::scripted(|_| Reply::hang()).await, Receiver::ok().await);
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s")]).await;
    let gives_up = json!({"target": {"timeout": "1s"}, "retry": {"max_attempts": 1}});
    // Both go through the one lane of their target, which takes 32 requests at once.
    let stuck = with(logging_in("stuck", &target.url("/stuck"), &logins.url("/login")), gives_up);
    surroundings.subscribe(&[stuck, subscription("free", &target.url("/free"))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, EVENTS, GENEROUS).await;
    let failed_before = surroundings.results.all().iter().filter(|it| it.outcome == Outcome::Exhausted).count();
    assert!(failed_before <= 16, "the others waited for {failed_before} logins that hung");
    let stuck = surroundings.results.wait_for_outcome(Outcome::Exhausted, EVENTS, GENEROUS).await;
    assert!(stuck.iter().all(|result| (result.error, result.attempt) == (Some("auth"), 1)), "{stuck:#?}");
    let logged_in = logins.count();
    surroundings.end(service, &[(&target, EVENTS), (&logins, logged_in)]).await;
}

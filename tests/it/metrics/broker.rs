//! What happens between the service and its broker, counted: connections that are lost, results that are refused.

use docrelay::domain::Outcome;
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    broker::{eventually, url},
    proxy::Proxy,
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription},
};

#[tokio::test]
async fn connections_that_are_made_again_are_counted_and_so_is_what_comes_again_over_them() {
    let released = CancellationToken::new();
    let release = released.clone();
    let (quick, slow) = (Receiver::ok().await, Receiver::scripted(move |_| Reply::ok().once(&released)).await);
    let proxy = Proxy::before(&url()).await;
    let surroundings = Surroundings::new().await.set("BROKER__URL", &proxy.url(&url()));
    surroundings.subscribe(&[subscription("quick", &quick.url("/")), subscription("slow", &slow.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    slow.wait_for(1, GENEROUS).await;
    proxy.cut();
    let made = ["publishing", "consuming"].map(|link| ("docrelay_broker_connections_total", [("connection", link)]));
    eventually("new connections, and the event once more", || async {
        let scraped = Scraped::open(service.admin).await;
        let came = scraped.value("docrelay_events_total", &[("source", "events")]);
        let again = made.iter().all(|(name, labels)| scraped.value(name, labels) == Some(2.0));
        (again && came == Some(2.0)).then_some(())
    })
    .await;
    release.cancel();
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    // The first delivery had ended when its event came again, and so has the second by now.
    let scraped = eventually("two that were settled already", || async {
        let scraped = Scraped::open(service.admin).await;
        (scraped.value("docrelay_duplicates_total", &[]) == Some(2.0)).then_some(scraped)
    })
    .await;
    for link in ["publishing", "consuming"] {
        assert_eq!(scraped.value("docrelay_broker_connected", &[("connection", link)]), Some(1.0), "{link}");
    }
    assert_eq!(scraped.value("docrelay_broker_connected", &[("connection", "targets")]), None, "nobody needs it");
    surroundings.end(service, &[(&quick, 1), (&slow, 1)]).await;
}

#[tokio::test]
async fn a_result_that_the_broker_goes_on_refusing_is_counted_and_kept() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    // Somebody bound a queue that is full.
    let (connection, channel) = surroundings.channel().await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongLongInt(0));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, full).await.unwrap().name().clone();
    let (exchange, options) = (surroundings.topology.names.results_exchange.as_str(), QueueBindOptions::default());
    channel.queue_bind(queue, exchange.into(), "#".into(), options, FieldTable::default()).await.unwrap();

    surroundings.publish(&event("evt-1")).await;
    let scraped = eventually("a result that is kept", || async {
        let scraped = Scraped::open(service.admin).await;
        let kept = scraped.value("docrelay_dead_letters_total", &[("reason", "result_refused")]) == Some(1.0);
        kept.then_some(scraped)
    })
    .await;
    assert_eq!(scraped.value("docrelay_results_refused_total", &[]), Some(1.0));
    assert_eq!(scraped.value("docrelay_results_total", &[]), Some(0.0));
    // Tried for five seconds; what it is kept as is taken.
    assert!(scraped.value("docrelay_confirms_total", &[("verdict", "nack")]).unwrap() >= 2.0);
    assert_eq!(scraped.value("docrelay_confirms_total", &[("verdict", "ack")]), Some(1.0));
    connection.close(200, "done".into()).await.unwrap();
    surroundings.end_with_dead(service, &[(&receiver, 1)], 1).await;
}

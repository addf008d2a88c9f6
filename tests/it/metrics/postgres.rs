//! Whether the store answers, as `/metrics` says, with a server that ends and comes back.

use docrelay::{domain::Secret, secrets::KeyRing, store::database::Store};

use crate::support::{
    broker::eventually,
    database::Server,
    scrape::Scraped,
    service::{Surroundings, subscription},
};

#[tokio::test]
async fn a_store_is_up_until_its_server_ends_and_again_once_it_is_back() {
    let server = Server::new();
    let url = server.start().await;
    Store::create(&Secret::new(url.clone()), KeyRing::default()).await.unwrap().close().await;
    let surroundings = Surroundings::with(&[("STORE__URL", &url)]).await;
    surroundings.subscribe(&[subscription("erp", "http://127.0.0.1:1/")]);
    let service = surroundings.start().await;
    let until = async |expected: f64| {
        eventually(&format!("a store that is {expected}"), || async {
            let scraped = Scraped::plain(service.admin).await;
            (scraped.value("docrelay_store_up", &[]) == Some(expected)).then_some(scraped)
        })
        .await
    };
    until(1.0).await;
    server.kill().await;
    let away = until(0.0).await;
    // What was loaded stays in force, and says so with everything else.
    assert_eq!((away.value("docrelay_subscriptions", &[]), away.value("docrelay_ready", &[])), (Some(1.0), Some(0.0)));
    server.start().await;
    until(1.0).await;
    assert!(service.stop().await.finished);
}

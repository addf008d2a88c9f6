//! Links to exported files: made by the service's store, and followed by a client that has nothing but the link.

mod azure;
mod folder;
mod google;
mod s3;

use std::{collections::BTreeMap, time::Duration};

use docrelay::{
    artifacts::ArtifactStore,
    config::{self, Config},
    domain::{Timestamp, now},
};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::sleep;

const HOUR: Duration = Duration::from_hours(1);

/// What a link to it must give back.
const CONTENT: &[u8] = b"%PDF-1.7 not really";

/// Settings such as `("ARTIFACTS__URL", "...")`.
fn settings(settings: &[(&str, &str)]) -> Config {
    let named = settings.iter().map(|(name, value)| (format!("DOCRELAY__{name}"), (*value).to_owned()));
    config::load(&[], named).unwrap()
}

fn store(all: &[(&str, &str)]) -> ArtifactStore {
    ArtifactStore::from_config(&settings(all).artifacts).unwrap().expect("a store")
}

async fn ask(method: Method, url: &str) -> Response {
    let client = Client::builder().no_proxy().build().unwrap();
    client.request(method, url).send().await.unwrap()
}

async fn get(url: &str) -> Response {
    ask(Method::GET, url).await
}

async fn status(url: &str) -> StatusCode {
    get(url).await.status()
}

/// The link with another value of one parameter.
fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    let pairs: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert!(pairs.contains_key(name), "{name} is not in {url}");
    let pairs: Vec<_> =
        pairs.into_iter().map(|(key, old)| if key == name { (key, value.to_owned()) } else { (key, old) }).collect();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

/// The same with one letter of it changed.
fn with_other_letter(url: &str, name: &str) -> String {
    let parsed = url::Url::parse(url).unwrap();
    let (_, value) = parsed.query_pairs().find(|(key, _)| key == name).unwrap();
    let first = if value.starts_with('a') { "b" } else { "a" };
    with_parameter(url, name, &format!("{first}{}", &value[1..]))
}

/// Waits until a moment of the wall clock is past.
async fn until_past(moment: Timestamp) {
    while now() <= moment.after(Duration::from_millis(100)) {
        sleep(Duration::from_millis(50)).await;
    }
}

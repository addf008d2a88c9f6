//! What the product pages say: every call is run as it stands, against a real service, and what is shown is what comes.

mod contractfit;
mod idexa;
mod smartdocumentor;

use docrelay::{
    app::Service,
    domain::{DocumentEvent, Secret, now},
    secrets::{Key, KeyRing},
    store::database::{KeyOwner, Store},
};
use tempfile::TempDir;

use crate::{
    store::organization,
    support::{
        page::{Block, blocks, run, timeless},
        receiver::Receiver,
        service::{GENEROUS, Surroundings},
    },
};

/// A service with a store, and somebody who reads a page about it.
struct Reader {
    surroundings: Surroundings,
    service: Service,
    page: &'static str,
    address: String,
    key: String,
    /// What `$ID` is: the first one that was made.
    id: String,
    _folder: TempDir,
}

impl Reader {
    async fn of(page: &'static str, name: &str) -> Self {
        Self::with(page, name, &[]).await
    }

    /// Somebody of this organization; the service has further settings.
    async fn with(page: &'static str, name: &str, settings: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store = Store::create(&Secret::new(url.clone()), KeyRing::default()).await.unwrap();
        let (_, key) = store.create_key(KeyOwner::Organization(organization(name)), "test", now()).await.unwrap();
        store.close().await;
        let ring = Key::generate().unwrap();
        let mut all = vec![("STORE__URL", &*url), ("SECRETS__KEYS", ring.reveal()), ("API__LISTEN", "127.0.0.1:0")];
        all.extend(settings);
        let surroundings = Surroundings::with(&all).await;
        let service = surroundings.start().await;
        let address = format!("http://{}", service.api.unwrap());
        let key = key.reveal().to_owned();
        Self { surroundings, service, page, address, key, id: String::new(), _folder: folder }
    }

    /// Runs one of the page's commands and gives what it printed.
    async fn run(&mut self, script: &str) -> String {
        let environment = [("DOCRELAY", &*self.address), ("KEY", &self.key), ("ID", &self.id)];
        let printed = run(script, &environment).await;
        if self.id.is_empty() {
            let made: serde_json::Value = serde_json::from_str(&printed).unwrap();
            made["id"].as_str().unwrap().clone_into(&mut self.id);
        }
        printed
    }

    /// Runs every command of the page, in its order, and compares every answer that follows one. Says how many there were.
    async fn run_all(&mut self) -> (usize, usize) {
        let (mut commands, mut answers, mut printed) = (0, 0, String::new());
        for block in blocks(self.page) {
            match block.language.as_str() {
                "sh" => {
                    commands += 1;
                    printed = self.run(&block.text).await;
                }
                "json" if block.before.contains("The answer") => {
                    answers += 1;
                    assert_eq!(timeless(&printed), timeless(&block.text), "{}: another answer came", self.page);
                }
                _ => {}
            }
        }
        (commands, answers)
    }

    /// Publishes an event and waits until upstream is told what became of it: so many results in all so far.
    async fn publish(&self, event: &DocumentEvent, results: usize) -> Vec<docrelay::domain::DeliveryResult> {
        self.surroundings.publish(event).await;
        self.surroundings.results.wait_for(results, GENEROUS).await
    }

    async fn end(self, requests: &[(&Receiver, usize)]) {
        self.surroundings.end(self.service, requests).await;
    }
}

/// The only command of a page that has these words.
fn command(page: &str, words: &[&str]) -> String {
    let is_it = |block: &Block| block.language == "sh" && words.iter().all(|word| block.text.contains(word));
    let mut found: Vec<_> = blocks(page).into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{page}: {words:?}");
    found.remove(0).text
}

/// The body that the page shows under "What comes".
fn body(page: &str) -> String {
    let mut found: Vec<_> = blocks(page).into_iter().filter(|block| block.before.contains("## What comes")).collect();
    assert_eq!(found.len(), 1, "{page}: what comes");
    assert_eq!(found[0].language, "json");
    found.remove(0).text
}

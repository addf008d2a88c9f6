//! `docrelay healthcheck` against the real endpoints.

use docrelay::{
    admin::{self, Readiness, Scrape},
    broker::Standing,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::support::broker::{docrelay, ran};

#[tokio::test]
async fn a_living_service_that_is_not_ready_is_healthy_but_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let readiness = Readiness::new(
        watch::channel(Standing::Blocked).1,
        watch::channel(true).1,
        watch::channel(Some(1)).1,
        CancellationToken::new(),
    );
    let asking = async {
        let healthcheck = |arguments: &[&str]| {
            let mut command = docrelay(arguments);
            command.env("DOCRELAY__ADMIN__LISTEN", &listen).env("http_proxy", "http://127.0.0.1:1");
            ran(command)
        };
        assert_eq!(healthcheck(&["healthcheck"]).await.fine(), "");
        let told = healthcheck(&["healthcheck", "--ready"]).await.failed();
        assert!(told.contains("503") && told.contains("publishing: blocked"), "{told}");
        let url = format!("http://{listen}/livez");
        healthcheck(&["healthcheck", "--url", &url]).await.fine();
        stop.cancel();
    };
    let (served, ()) = tokio::join!(admin::serve(listener, readiness, Scrape::default(), stop.clone()), asking);
    served.unwrap();
    let mut gone = docrelay(&["healthcheck"]);
    gone.env("DOCRELAY__ADMIN__LISTEN", &listen);
    assert!(ran(gone).await.failed().contains("does not answer"));
}

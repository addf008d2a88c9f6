//! `/metrics`: all metrics, with how things stand just now, in the format that is asked for.

use std::sync::Arc;

use axum::http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use tokio::task::spawn_blocking;

use crate::telemetry::metrics::{Format, Metrics, Readings};

/// What `/metrics` shows. Cheap to clone.
#[derive(Clone)]
pub struct Scrape {
    metrics: Metrics,
    read: Arc<dyn Fn() -> Readings + Send + Sync>,
}

impl Scrape {
    /// These metrics, and how things stand as `read` says.
    pub fn new(metrics: Metrics, read: impl Fn() -> Readings + Send + Sync + 'static) -> Self {
        Self { metrics, read: Arc::new(read) }
    }

    /// The answer to a request with these headers. It is written beside the event loop: it may be long.
    pub(super) async fn answer(
        self,
        headers: HeaderMap,
    ) -> Result<([(axum::http::HeaderName, &'static str); 1], String), StatusCode> {
        let format = format(&headers);
        let written = spawn_blocking(move || self.metrics.write(format, &(self.read)())).await;
        match written {
            Ok(Ok(text)) => Ok(([(CONTENT_TYPE, format.content_type())], text)),
            Ok(Err(_)) | Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl Default for Scrape {
    /// No happenings, and nothing is read.
    fn default() -> Self {
        Self::new(Metrics::default(), Readings::default)
    }
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrape").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

/// `OpenMetrics` for whoever names it and likes nothing else better; the text format of Prometheus for everybody else.
fn format(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
    let (mut open, mut plain) = (0.0_f64, 0.0_f64);
    for range in accepted {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
        if name.eq_ignore_ascii_case("application/openmetrics-text") {
            open = open.max(quality);
        } else if name.eq_ignore_ascii_case("text/plain") {
            plain = plain.max(quality);
        }
    }
    if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_openmetrics_gets_it_and_everybody_else_the_plain_text() {
        for (accept, expected) in [
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.1", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
            ("*/*", Format::Plain),
            ("text/html", Format::Plain),
        ] {
            let headers = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
            assert_eq!(format(&headers), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Plain);
    }
}

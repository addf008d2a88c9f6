//! What `/metrics` shows, read by the rules of its format. Whatever breaks one is a failure of the test that reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// All metrics of one answer.
#[derive(Debug)]
pub(crate) struct Scraped {
    pub(crate) content_type: String,
    pub(crate) text: String,
    /// The types of all families, by name.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
    /// The labels of its exemplar.
    pub(crate) exemplar: Option<BTreeMap<String, String>>,
}

/// What Prometheus asks for.
const OPEN: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

impl Scraped {
    /// As Prometheus asks: with exemplars.
    pub(crate) async fn open(admin: SocketAddr) -> Self {
        Self::of(admin, Some(OPEN)).await
    }

    /// As curl asks.
    pub(crate) async fn plain(admin: SocketAddr) -> Self {
        Self::of(admin, None).await
    }

    async fn of(admin: SocketAddr, accept: Option<&str>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.get(format!("http://{admin}/metrics"));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        Self::read(content_type, &answer.text().await.unwrap())
    }

    /// Reads an answer.
    pub(crate) fn read(content_type: String, text: &str) -> Self {
        let is_open = content_type.starts_with("application/openmetrics-text");
        let mut scraped = Self { content_type, text: text.to_owned(), types: BTreeMap::new(), samples: Vec::new() };
        let (mut family, mut ended) = (String::new(), false);
        let mut series = BTreeSet::new();
        for line in text.lines() {
            assert!(!ended && !line.is_empty(), "{line:?} behind the end, or empty");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (word, name) = (words.next().unwrap(), words.next().unwrap_or_default());
                match word {
                    "EOF" => ended = true,
                    "TYPE" => {
                        let kind = words.next().unwrap().to_owned();
                        assert_eq!(scraped.types.insert(name.to_owned(), kind), None, "{name} has two types");
                        name.clone_into(&mut family);
                    }
                    "HELP" => assert!(words.next().is_some_and(|help| !help.is_empty()), "{name} has no help"),
                    "UNIT" => assert!(is_open && name.ends_with(words.next().unwrap()), "{line}"),
                    other => panic!("unknown comment {other}"),
                }
                continue;
            }
            let sample = sample(line);
            assert!(is_open || sample.exemplar.is_none(), "an exemplar in plain text: {line}");
            scraped.check(&family, &sample, is_open);
            assert!(series.insert((sample.name.clone(), sample.labels.clone())), "{line} is there twice");
            scraped.samples.push(sample);
        }
        assert_eq!(ended, is_open, "only OpenMetrics says where it ends");
        scraped.check_histograms();
        scraped
    }

    /// The value of the series with exactly these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.all(name).find(|sample| sample.labels == labels).map(|sample| sample.value)
    }

    /// All series of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The values that a label has.
    pub(crate) fn labels(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.all(name).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    fn check(&self, family: &str, sample: &Sample, is_open: bool) {
        let kind = self.types.get(family).map_or("", String::as_str);
        let suffix = sample.name.strip_prefix(family).unwrap_or_else(|| panic!("{} is not of {family}", sample.name));
        let suffixes: &[&str] = match (kind, is_open) {
            ("counter", true) => &["_total"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("info", true) => &["_info"],
            ("counter" | "gauge", _) => &[""],
            other => panic!("{family}: unknown type {other:?}"),
        };
        assert!(suffixes.contains(&suffix), "{} is no {kind}", sample.name);
        assert!(kind != "counter" || sample.value >= 0.0, "{sample:?}");
        assert!(sample.labels.values().all(|value| !value.is_empty()), "an empty label: {sample:?}");
        if let Some(exemplar) = &sample.exemplar {
            assert_eq!(suffix, "_bucket", "{sample:?}");
            assert!(exemplar.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= 128);
        }
    }

    fn check_histograms(&self) {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut by_labels: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for bucket in self.all(&format!("{name}_bucket")) {
                let mut labels = bucket.labels.clone();
                let end = labels.remove("le").unwrap();
                let end = if end == "+Inf" { f64::INFINITY } else { end.parse().unwrap() };
                by_labels.entry(labels).or_default().push((end, bucket.value));
            }
            for (labels, buckets) in by_labels {
                assert!(
                    buckets.is_sorted() && buckets.iter().map(|(_, count)| count).is_sorted(),
                    "{name}: {buckets:?}"
                );
                let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let count = self.value(&format!("{name}_count"), &labels);
                assert_eq!(
                    buckets.last().map(|(end, count)| (*end, Some(*count))),
                    Some((f64::INFINITY, count)),
                    "{name}"
                );
            }
        }
    }
}

fn sample(line: &str) -> Sample {
    let (line, exemplar) = match line.split_once(" # ") {
        Some((sample, exemplar)) => (sample, Some(labels(exemplar.strip_prefix('{').unwrap()).0)),
        None => (line, None),
    };
    let (name, labels, rest) = if let Some((name, rest)) = line.split_once('{') {
        let (labels, rest) = labels(rest);
        (name, labels, rest)
    } else {
        let (name, rest) = line.split_once(' ').unwrap();
        (name, BTreeMap::new(), rest)
    };
    let value = rest.split_whitespace().next().unwrap().parse().unwrap();
    Sample { name: name.to_owned(), labels, value, exemplar }
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return (labels, rest);
        }
        let (key, rest) = text.split_once("=\"").unwrap();
        let (mut value, mut letters) = (String::new(), rest.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        assert_eq!(labels.insert(key.to_owned(), value), None, "{key} is there twice");
        text = &rest[end + 1..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
}

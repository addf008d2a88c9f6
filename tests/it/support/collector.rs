//! An OTLP collector in the test's own process, over gRPC or HTTP: keeps every span, and shows traces as trees.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;

use super::receiver::{Receiver, Reply};

/// What a tree shows of each span, unless everything.
const SHORT: [&str; 6] = [
    "docrelay.subscription",
    "docrelay.attempt",
    "docrelay.outcome",
    "docrelay.wait",
    "http.response.status_code",
    "error.type",
];

/// Everything that has come so far.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    spans: Vec<Span>,
    resource: Option<Resource>,
    /// Those of the last request.
    headers: HeaderMap,
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        self.keep(headers, request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Kept {
    fn keep(&self, headers: HeaderMap, request: ExportTraceServiceRequest) {
        let mut inner = self.0.lock().unwrap();
        inner.headers = headers;
        for of_resource in request.resource_spans {
            inner.resource = of_resource.resource;
            inner.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
}

/// A collector, listening until it is dropped.
pub(crate) struct Collector {
    endpoint: String,
    kept: Kept,
    _serving: JoinSet<()>,
    _receiver: Option<Receiver>,
}

impl Collector {
    /// Over gRPC.
    pub(crate) async fn grpc() -> Self {
        Self::grpc_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Over gRPC, where somebody looks for it already.
    pub(crate) async fn grpc_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let kept = Kept::default();
        let service = TraceServiceServer::new(kept.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let router = tonic::transport::Server::builder().add_service(service);
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { endpoint, kept, _serving: serving, _receiver: None }
    }

    /// Over HTTP, in protobuf.
    pub(crate) async fn http() -> Self {
        let kept = Kept::default();
        let keeping = kept.clone();
        let receiver = Receiver::scripted(move |request| {
            assert_eq!(
                (request.path.as_str(), request.header("content-type")),
                ("/v1/traces", "application/x-protobuf")
            );
            let exported = ExportTraceServiceRequest::decode(request.body.clone()).unwrap();
            keeping.keep(request.headers.clone(), exported);
            Reply::ok()
        })
        .await;
        Self { endpoint: receiver.url(""), kept, _serving: JoinSet::new(), _receiver: Some(receiver) }
    }

    /// `tracing.endpoint`
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every span that has come so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.0.lock().unwrap().spans.clone()
    }

    /// A header of the last request; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> String {
        let inner = self.kept.0.lock().unwrap();
        inner.headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    /// What the spans' process says of itself.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        let resource = self.kept.0.lock().unwrap().resource.clone().unwrap();
        resource.attributes.iter().map(|attribute| (attribute.key.clone(), shown(attribute))).collect()
    }

    /// The only trace that has come.
    pub(crate) fn trace(&self) -> Trace {
        let mut traces = self.traces();
        assert_eq!(traces.len(), 1, "{}", traces.iter().map(Trace::tree).collect::<Vec<_>>().join("\n"));
        traces.remove(0)
    }

    /// Each trace that has come.
    pub(crate) fn traces(&self) -> Vec<Trace> {
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for span in self.spans() {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        traces.into_values().map(Trace).collect()
    }
}

/// The spans of one trace.
pub(crate) struct Trace(Vec<Span>);

impl Trace {
    /// Its id, as it stands in a `traceparent`.
    pub(crate) fn id(&self) -> String {
        hex(&self.0[0].trace_id)
    }

    /// Spans by their name, in the order in which they began.
    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        let mut found: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        found.sort_by_key(|span| span.start_time_unix_nano);
        found
    }

    /// The trace as text: every span below its parent, with what became of it.
    pub(crate) fn tree(&self) -> String {
        self.drawn(&|name| SHORT.contains(&name))
    }

    /// The same with everything that a span says; what differs from run to run is replaced, or left out.
    pub(crate) fn tree_in_full(&self) -> String {
        self.drawn(&|name| name != "docrelay.wait_ms")
    }

    fn drawn(&self, is_shown: &dyn Fn(&str) -> bool) -> String {
        let is_here = |id: &[u8]| self.0.iter().any(|span| span.span_id == id);
        let mut roots: Vec<_> = self.0.iter().map(|span| &span.parent_span_id).filter(|id| !is_here(id)).collect();
        roots.sort();
        roots.dedup();
        let mut tree = String::new();
        for root in roots {
            let (parent, depth) = if root.is_empty() { ("", 0) } else { ("(upstream)\n", 1) };
            tree.push_str(parent);
            self.below(root, depth, is_shown, &mut tree);
        }
        tree
    }

    fn below(&self, parent: &[u8], depth: usize, is_shown: &dyn Fn(&str) -> bool, tree: &mut String) {
        let mut children: Vec<_> = self.0.iter().filter(|span| span.parent_span_id == parent).collect();
        // Several deliveries go on at once: one after the other here.
        children.sort_by_key(|span| (attribute(span, "docrelay.subscription"), span.start_time_unix_nano));
        for span in children {
            write!(tree, "{:depth$}{}", "", line(span, is_shown), depth = depth * 2).unwrap();
            self.below(&span.span_id, depth + 1, is_shown, tree);
        }
    }
}

/// The `traceparent` that a span gives to who comes after it.
pub(crate) fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

/// What a span says of one thing; empty when it says nothing.
pub(crate) fn attribute(span: &Span, name: &str) -> String {
    span.attributes.iter().find(|attribute| attribute.key == name).map(shown).unwrap_or_default()
}

fn line(span: &Span, is_shown: &dyn Fn(&str) -> bool) -> String {
    let kind = SpanKind::try_from(span.kind).unwrap();
    let kind = kind.as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
    let mut line = format!("{} ({kind}", steady(&span.name));
    if span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error) {
        line.push_str(", error");
    }
    line.push(')');
    for attribute in span.attributes.iter().filter(|attribute| is_shown(&attribute.key)) {
        let value = match attribute.key.as_str() {
            "server.port" | "messaging.message.body.size" => "N".to_owned(),
            _ => steady(&shown(attribute)),
        };
        write!(line, " {}={value}", attribute.key).unwrap();
    }
    for link in &span.links {
        write!(line, " link={}-{}", hex(&link.trace_id), hex(&link.span_id)).unwrap();
    }
    line.push('\n');
    line
}

/// A name on the broker without what makes it this test's own.
fn steady(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let last = word.rsplit('.').next().unwrap_or_default();
        let is_own = word.starts_with("test") && word.contains('.');
        words.push(match last {
            "events" if is_own => "docrelay.events".to_owned(),
            "results" if is_own => "documents.results".to_owned(),
            _ => word.to_owned(),
        });
    }
    words.join(" ")
}

fn shown(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

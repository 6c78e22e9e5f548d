//! How a job went, as its buyer's and its provider's collectors are told it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Told;
use prost::Message as _;
use tradewind_proto::trace::Context;

use crate::market::{BUYER, LEDGER, Market, PROVIDER};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const KEY: &str = "Bearer a-collector-s-key";

/// Takes OTLP over HTTP, as the specification has it; the first request finds it busy.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    is_awake: Arc<AtomicBool>,
}

impl Collector {
    async fn open(&self) -> String {
        let this = self.clone();
        let take = |headers: HeaderMap, body: Bytes| async move { this.take(headers, &body) };
        let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn take(&self, headers: HeaderMap, body: &[u8]) -> (StatusCode, Vec<u8>) {
        if !self.is_awake.swap(true, Ordering::Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, Vec::new());
        }
        let Ok(request) = ExportTraceServiceRequest::decode(body) else {
            return (StatusCode::BAD_REQUEST, Vec::new());
        };
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().expect("spans").extend(scopes.flat_map(|scope| scope.spans));
        self.headers.lock().expect("headers").push(headers);
        (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
    }

    fn all(&self) -> Vec<Span> {
        self.spans.lock().expect("spans").clone()
    }

    /// The spans of this name in a trace.
    fn named(&self, name: &str, trace: [u8; 16]) -> Vec<Span> {
        self.all().into_iter().filter(|span| span.name == name && span.trace_id == trace).collect()
    }

    /// The steps below a span, in their order.
    fn steps(&self, of: &Span) -> Vec<String> {
        let mut below: Vec<Span> = self.all();
        below.retain(|span| span.parent_span_id == of.span_id && span.name != "lease");
        below.sort_by_key(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
        below.into_iter().map(|span| span.name).collect()
    }
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = span
        .attributes
        .iter()
        .map(|pair| (pair.key.clone(), text(pair.value.clone().and_then(|value| value.value))));
    pairs.collect()
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == i32::from(Told::Error))
}

#[test]
fn a_job_is_one_trace_from_its_caller_to_its_provider_and_each_role_tells_its_own() {
    let mut market = Market::new();
    let (at_buyer, at_provider) = (Collector::default(), Collector::default());
    let buyers = market.block_on(at_buyer.open());
    let providers = market.block_on(at_provider.open());
    let headers = market.path("headers");
    std::fs::write(&headers, format!("authorization: {KEY}\n")).expect("written");
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).expect("private");
    let traces = |endpoint: &str| format!("[traces]\nendpoint = \"{endpoint}\"\n");
    market.start_ledger(LEDGER);
    market.start("provider", &format!("{PROVIDER}{}", traces(&providers)));
    let file = format!("headers_file = \"{}\"\n", headers.display());
    market.start("buyer", &format!("{BUYER}{}{file}", traces(&buyers)));
    market.hears_of(1);

    let job = market.submit(
        "name: surveying\nrun: |\n  printf %s \"$TRACEPARENT\" > place\n  echo begun\n  sleep 4\noutputs: [place]\n\
         resources: {cpus: 1, memory: 64MiB, disk: 64MiB}\n",
    );
    market.said(&job, "begun");
    market.kill("provider");
    market.again("provider");
    let attempt = market.settled(&job);
    let place = std::fs::read_to_string(job.output.join("place")).expect("an output");
    let place: Context = place.parse().expect("a traceparent");
    market.until("both collectors have it", || {
        [(&at_buyer, "job"), (&at_provider, "hosting")]
            .iter()
            .all(|(collector, name)| collector.named(name, place.trace).len() == 1)
    });
    let [whole, lease] = ["job", "lease"].map(|name| at_buyer.named(name, place.trace).remove(0));
    let hosting = at_provider.named("hosting", place.trace).remove(0);
    assert_eq!(lease.span_id, place.span, "the job's own spans come below its lease's");
    assert_eq!((&lease.parent_span_id, &hosting.parent_span_id), (&whole.span_id, &lease.span_id));
    assert!(whole.parent_span_id.is_empty(), "{whole:?}");
    assert_eq!(at_buyer.steps(&whole), ["placing"]);
    assert!(at_buyer.steps(&lease).contains(&"running".to_owned()), "{:?}", at_buyer.steps(&lease));
    let seen = at_provider.steps(&hosting);
    assert!(seen.contains(&"running".to_owned()), "as the life after the crash saw it: {seen:?}");
    let start = attempt.supervision.terms.start.unix() * 1_000_000_000;
    assert_eq!(hosting.start_time_unix_nano, start, "the whole is there: its beginning was stored");
    assert!([&whole, &lease, &hosting].iter().all(|span| !failed(span)));
    assert_eq!(attributes(&whole)["tradewind.job.name"], "surveying");
    let told = attributes(&hosting);
    assert_eq!(told["tradewind.lease"], attempt.supervision.id.to_string());
    assert_eq!(told["tradewind.paid"], attempt.supervision.signed.base_units().to_string());

    let job = market.submit(&format!(
        "run: exit 3\nenvs: {{TRACEPARENT: {CALLER}}}\nresources: {{cpus: 1, memory: 64MiB, disk: 64MiB}}\n"
    ));
    market.settled(&job);
    let caller: Context = CALLER.parse().expect("a traceparent");
    market.until("the caller's trace goes on", || {
        at_buyer.named("job", caller.trace).len() + at_provider.named("hosting", caller.trace).len() == 2
    });
    let [whole, lease] = ["job", "lease"].map(|name| at_buyer.named(name, caller.trace).remove(0));
    assert_eq!(whole.parent_span_id, caller.span);
    assert!(failed(&whole) && failed(&lease));
    assert_eq!(attributes(&whole)["tradewind.exit_code"], "3");

    let buyers = at_buyer.all();
    assert!(!buyers.iter().any(|span| span.name == "hosting"), "{buyers:?}");
    let providers = format!("{:?}", at_provider.all());
    assert!(!providers.contains("surveying") && !providers.contains("placing"), "{providers}");
    let keys = |collector: &Collector| -> Vec<Option<String>> {
        let headers = collector.headers.lock().expect("headers");
        headers.iter().map(|all| Some(all.get("authorization")?.to_str().ok()?.to_owned())).collect()
    };
    assert!(keys(&at_buyer).iter().all(|key| key.as_deref() == Some(KEY)));
    assert!(keys(&at_provider).iter().all(Option::is_none));
    assert!(!market.logged("buyer", KEY), "a key is in no log");
}

//! How jobs and leases go, as OpenTelemetry traces, sent to a collector by OTLP over HTTP where `[traces]` says.
//!
//! ```text
//! buyer      job ─┬─ placing
//!                 ├─ lease ─┬─ opening, preparing, running, collecting, finished
//!                 │         └─ the job's own spans, by `TRACEPARENT`
//!                 └─ placing ─ lease …
//! provider   hosting, below the lease's span ─── the same steps as the provider sees them
//! ```
//!
//! Each role's spans are its own: a provider sends nothing of what runs in a lease, a buyer nothing of other tenants. They are read off
//! what the roles show, five times a second, and sent once what they are about is over. Nothing is stored for them: a node that is started anew
//! goes on with the jobs and leases that are under way, from their beginning and without the steps that it did not see, and what a
//! collector does not take within a minute is gone.

mod hosts;
mod jobs;
mod timeline;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::hosts::Hosts;
use self::jobs::Jobs;
use super::api::Served;
use super::config::TracesSection;
use super::keys;

/// How often the roles are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a collector may take for one request.
const ANSWER: Duration = Duration::from_secs(10);
/// How long one batch is tried for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Spans that wait for the collector; more are dropped.
const WAITING: usize = 8_192;
/// Spans in a request.
const BATCH: usize = 512;
/// Longest file of headers, in bytes.
const MAX_HEADERS: usize = 16 << 10;

/// What sends spans.
pub(super) struct Exporter(opentelemetry_otlp::SpanExporter);

impl fmt::Debug for Exporter {
    /// The library's would show the headers, a collector's key among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// Opens no connection yet.
    pub(super) fn new(section: &TracesSection) -> anyhow::Result<Self> {
        let endpoint = endpoint(&section.endpoint).context("`traces.endpoint` in node.toml")?;
        let headers = section.headers_file.as_deref().map(headers).transpose();
        let headers = headers.context("`traces.headers_file` in node.toml")?.unwrap_or_default();
        // A redirect would take the headers elsewhere.
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().timeout(ANSWER).redirect(none).build()?;
        let retry = RetryPolicy::recommended()
            .with_max_retries(16)
            .with_initial_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(8));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_headers(headers)
            .with_retry_policy(retry)
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()?;
        Ok(Self(exporter))
    }
}

fn endpoint(text: &str) -> anyhow::Result<Url> {
    let mut url: Url = text.parse().with_context(|| format!("`{text}` is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        bail!(
            "`{}://…` cannot be used; it must be `http://HOST:PORT` or `https://HOST`, keys in `headers_file`",
            url.scheme()
        );
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn headers(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let text = keys::private(path)?;
    if text.len() > MAX_HEADERS {
        bail!("{} is longer than {MAX_HEADERS} bytes", path.display());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let header = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
            let fits = |(name, value): &(&str, &str)| {
                name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
            };
            let (name, value) = header.filter(fits).with_context(|| {
                format!("line {} of {} is no header; write `name: value`", at + 1, path.display())
            })?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Follows the node's roles from now on, until it shuts down.
pub(super) fn start(Exporter(mut exporter): Exporter, served: Arc<Served>) {
    let resource = Resource::builder_empty().with_service_name("tradewind").with_attributes([
        KeyValue::new("service.version", served.status.version.clone()),
        KeyValue::new("service.instance.id", served.status.account.clone()),
    ]);
    exporter.set_resource(&resource.build());
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(send(exporter, receiver));
    tokio::spawn(follow(served, sender));
}

async fn follow(served: Arc<Served>, sender: mpsc::Sender<SpanData>) {
    let (mut jobs, mut hosts) = (Jobs::default(), Hosts::default());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = served.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (mut spans, now) = (Vec::new(), SystemTime::now());
        if let Some(provider) = &served.provider {
            spans.extend(hosts.look(provider.traced(), now));
        }
        if let Some(buyer) = &served.buyer {
            let last = |id| buyer.watch(id).ok().map(|record| record.borrow().clone());
            spans.extend(jobs.look(&buyer.unfinished(), last, now));
        }
        let dropped = spans.into_iter().filter_map(|span| sender.try_send(span).err()).count();
        if dropped > 0 {
            tracing::warn!(dropped, "spans are dropped: the collector takes them too slowly, or not at all");
        }
    }
}

async fn send(exporter: opentelemetry_otlp::SpanExporter, mut receiver: mpsc::Receiver<SpanData>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        let spans = batch.len();
        if let Err(error) = exporter.export(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, spans, "spans are lost: the collector did not take them");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_collector_is_an_address_without_keys_in_it() {
        let read = |text: &str| endpoint(text).map(String::from).map_err(|error| format!("{error:#}"));
        assert_eq!(read("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(read("https://otlp.example/tenant/").unwrap(), "https://otlp.example/tenant/v1/traces");
        for bad in ["127.0.0.1:4318", "localhost", "ftp://otlp.example", "https://me:secret@otlp.example"] {
            let problem = read(bad).unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn headers_are_read_from_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        std::fs::write(&path, "authorization: Bearer abc:def\n\nx-scope: lab\n").unwrap();
        assert!(format!("{:#}", headers(&path).unwrap_err()).contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let read = headers(&path).unwrap();
        assert_eq!(read["authorization"], "Bearer abc:def");
        assert_eq!(read["x-scope"], "lab");
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (endpoint, headers_file) = ("http://127.0.0.1:4318".into(), Some(path.clone()));
        let shown = format!("{:?}", Exporter::new(&TracesSection { endpoint, headers_file }).unwrap());
        assert!(!shown.contains("abc"), "{shown}");
        for bad in ["secret", "na me: secret", "x: secret\u{7}"] {
            std::fs::write(&path, format!("x-scope: lab\n{bad}\n")).unwrap();
            let problem = format!("{:#}", headers(&path).unwrap_err());
            assert!(problem.contains("line 2") && !problem.contains("secret"), "{problem}");
        }
    }
}

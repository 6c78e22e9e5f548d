//! A Jupyter server in a running job, in the browser of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use serde_json::json;
use tradewind_buyer::job::record::JobRecord;
use tradewind_proto::ids::JobId;

use super::exec::find;
use super::forward::{bind, serve};
use crate::client::{NodeClient, Told};
use crate::printer::Printer;

/// The secret that Jupyter itself reads its token from.
const TOKEN: &str = "JUPYTER_TOKEN";
/// Where Jupyter listens unless told otherwise.
const PORT: u16 = 8888;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);

pub(super) async fn jupyter(
    named: &str,
    local: Option<u16>,
    node: &NodeClient,
    printer: Printer,
) -> anyhow::Result<u8> {
    let job = find(named, node).await?;
    let token = node.generated(job.id, TOKEN).await?;
    let port = port(&job);
    let listener = bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), local.unwrap_or(port))).await?;
    let waiting = printer.spinner("waiting for the Jupyter server");
    ready(job.id, port, &token, node).await?;
    waiting.finish_and_clear();
    // A server without the lab has the older pages at its root.
    let lab = look(job.id, port, "/lab", &token, node).await? != StatusCode::NOT_FOUND;
    let address = listener.local_addr()?;
    let url = format!("http://{address}/{}?token={token}", if lab { "lab" } else { "" });
    printer.data(&json!({ "job": job.id, "port": port, "local": address, "url": url }), |_| url.clone())?;
    tokio::select! {
        ended = serve(listener, node.clone(), job.id, port, printer) => ended.map(|()| 0),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| 0).map_err(Into::into),
    }
}

/// Jupyter's usual port, or the only one that the job names.
fn port(job: &JobRecord) -> u16 {
    match job.spec.ports.as_slice() {
        [only] => *only,
        _ => PORT,
    }
}

/// Waits until the server takes the token.
async fn ready(job: JobId, port: u16, token: &str, node: &NodeClient) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let why = match look(job, port, "/api/status", token, node).await {
            Ok(StatusCode::OK) => return Ok(()),
            Ok(status @ (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)) => {
                let hint =
                    format!("let Jupyter take its token from {TOKEN}, and set no other one or a password");
                return Err(Told::error(format!("the server does not take the token ({status})"), hint));
            }
            Ok(status) => format!("it answers {status}"),
            Err(error) => format!("{error:#}"),
        };
        let record = node.job(job).await?;
        if record.is_over() || begin.elapsed() > PATIENCE {
            let hint =
                "`tradewind logs` shows what the job says; it must run Jupyter on a port that it names";
            return Err(Told::error(format!("no Jupyter server answers in the job: {why}"), hint));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks the server for a page, and returns what it says of it.
async fn look(
    job: JobId,
    port: u16,
    path: &str,
    token: &str,
    node: &NodeClient,
) -> anyhow::Result<StatusCode> {
    let asking = async {
        let connection = node.connect(job, port).await?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(connection.into_inner()).await?;
        let driving = tokio::spawn(driver);
        let request = Request::builder()
            .uri(path)
            .header("host", format!("127.0.0.1:{port}"))
            .header("authorization", format!("token {token}"))
            .body(Empty::<Bytes>::new())?;
        let status = sender.send_request(request).await.map(|response| response.status());
        driving.abort();
        Ok(status?)
    };
    tokio::time::timeout(LOOK, asking).await.context("the server does not answer in time")?
}

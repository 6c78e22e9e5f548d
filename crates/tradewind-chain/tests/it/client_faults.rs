//! A JSON-RPC endpoint that misbehaves on command, in front of a real one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use alloy::primitives::{Bytes, keccak256};
use alloy::providers::{DynProvider, Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::transports::{BoxTransport, TransportError, TransportErrorKind, TransportFut};
use serde_json::value::RawValue;
use tower::Service;

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives, and the connection hangs.
    Hang,
    /// It never arrives, and the connection breaks.
    Break,
    /// It never arrives, and the answer says it did: a raw transaction that is accepted and dropped.
    Swallow,
    /// It arrives and is done, and the answer is a failure.
    DoneButFailed,
    /// It never arrives, and the answer is this.
    Answer(String),
}

/// The endpoint. Clones share the script.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: BoxTransport,
    script: Arc<Mutex<VecDeque<(String, Fault)>>>,
    down: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    raw: Arc<Mutex<Vec<Bytes>>>,
}

impl Faulty {
    pub(crate) fn new(inner: BoxTransport) -> Self {
        Self {
            inner,
            script: Arc::default(),
            down: Arc::default(),
            calls: Arc::default(),
            raw: Arc::default(),
        }
    }

    /// The next request of `method` meets `fault`.
    pub(crate) fn next(&self, method: &str, fault: Fault) {
        self.script.lock().unwrap().push_back((method.into(), fault));
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Every raw transaction that was handed over, in order.
    pub(crate) fn raw(&self) -> Vec<Bytes> {
        self.raw.lock().unwrap().clone()
    }

    pub(crate) fn is_played(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }

    pub(crate) fn boxed(&self) -> BoxTransport {
        BoxTransport::new(self.clone())
    }

    pub(crate) fn provider(&self) -> DynProvider {
        RootProvider::new(RpcClient::new(self.clone(), true)).erased()
    }

    fn fault_for(&self, method: &str) -> Option<Fault> {
        let mut script = self.script.lock().unwrap();
        let at = script.iter().position(|(wanted, _)| wanted == method)?;
        script.remove(at).map(|(_, fault)| fault)
    }

    async fn serve(mut self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(TransportErrorKind::custom_str("connection refused"));
        }
        let one = request.as_single().expect("no batches here").clone();
        let raw = raw_transaction(&one);
        if let Some(raw) = &raw {
            self.raw.lock().unwrap().push(raw.clone());
        }
        match self.fault_for(one.method()) {
            None => self.inner.call(request).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Break) => Err(TransportErrorKind::custom_str("connection reset")),
            Some(Fault::Swallow) => {
                let hash = keccak256(raw.expect("a raw transaction"));
                Ok(success(&one, &format!("\"{hash}\"")))
            }
            Some(Fault::DoneButFailed) => {
                self.inner.call(request).await?;
                Err(TransportErrorKind::http_error(502, "bad gateway".into()))
            }
            Some(Fault::Answer(json)) => Ok(success(&one, &json)),
        }
    }
}

impl Service<RequestPacket> for Faulty {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

fn success(request: &SerializedRequest, json: &str) -> ResponsePacket {
    let payload = ResponsePayload::Success(RawValue::from_string(json.into()).expect("JSON"));
    ResponsePacket::Single(Response { id: request.id().clone(), payload })
}

fn raw_transaction(request: &SerializedRequest) -> Option<Bytes> {
    if request.method() != "eth_sendRawTransaction" {
        return None;
    }
    let (raw,): (Bytes,) = serde_json::from_str(request.params()?.get()).expect("a raw transaction");
    Some(raw)
}

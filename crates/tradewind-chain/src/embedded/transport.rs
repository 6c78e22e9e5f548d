//! An alloy transport that calls the ledger's handler in the same process.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{
    ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest,
};
use alloy::transports::{TransportError, TransportFut};
use futures::future::join_all;
use tower::Service;

use super::rpc::Rpc;

/// Carries JSON-RPC requests to an embedded ledger without a socket.
#[derive(Clone)]
pub struct InProcess {
    rpc: Arc<Rpc>,
}

impl InProcess {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        Self { rpc }
    }

    async fn answer(&self, request: SerializedRequest) -> Response {
        let payload = match self.rpc.answer(request.method(), request.params()).await {
            Ok(result) => ResponsePayload::Success(result),
            Err(fault) => ResponsePayload::Failure(ErrorPayload {
                code: fault.code,
                message: fault.message,
                data: fault.data,
            }),
        };
        Response { id: request.id().clone(), payload }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("chain_id", &self.rpc.shared.rules.chain_id).finish_non_exhaustive()
    }
}

impl Service<RequestPacket> for InProcess {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match packet {
                RequestPacket::Single(request) => ResponsePacket::Single(this.answer(request).await),
                RequestPacket::Batch(requests) => ResponsePacket::Batch(
                    join_all(requests.into_iter().map(|request| this.answer(request))).await,
                ),
            })
        })
    }
}

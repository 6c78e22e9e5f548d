//! Transactions in.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U64};

use super::super::engine::{Command, LedgerError};
use super::super::fault::Fault;
use super::super::pool::Pooled;
use super::{Answer, Params, Rpc, raw};

/// How long `eth_sendRawTransactionSync` waits for the receipt unless it is told, and at most.
const SYNC_WAIT: Duration = Duration::from_secs(30);

impl Rpc {
    /// Submits a raw transaction; answered once it is durable, in a block or in the pool.
    pub(super) async fn send_raw(&self, params: &Params) -> Result<B256, Fault> {
        let bytes: Bytes = params.required(0)?;
        let pooled = Pooled::decode(&bytes, self.shared.rules.chain_id).map_err(LedgerError::from)?;
        let hash = pooled.hash;
        self.command(|reply| Command::Submit { pooled: Box::new(pooled), reply }).await?;
        Ok(hash)
    }

    /// Submits a raw transaction and answers its receipt (EIP-7966).
    pub(super) async fn send_raw_sync(self: &Arc<Self>, params: &Params) -> Answer {
        let wait: Option<U64> = params.optional(1)?;
        let wait = wait.map_or(SYNC_WAIT, |wait| Duration::from_millis(wait.to::<u64>()).min(SYNC_WAIT));
        let hash = self.send_raw(params).await?;
        let mut tip = self.tip.clone();
        let receipt = async {
            loop {
                tip.borrow_and_update();
                let rpc = self.clone();
                let found = tokio::task::spawn_blocking(move || {
                    let view = rpc.shared.store.view()?;
                    Ok::<_, Fault>(
                        rpc.mined(&view, hash)?.and_then(|(block, index)| block.rpc_receipt(index)),
                    )
                });
                if let Some(receipt) = found.await.map_err(|_| LedgerError::Closed)?? {
                    return raw(&receipt);
                }
                tip.changed().await.map_err(|_| LedgerError::Closed)?;
            }
        };
        match tokio::time::timeout(wait, receipt).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::not_mined_yet(hash)),
        }
    }
}

//! Methods that bend time and history, for tests.

use std::sync::Arc;

use alloy::primitives::{B256, U64, U256};
use serde::Deserialize;

use super::super::engine::{Control, Dropped};
use super::super::fault::Fault;
use super::{Answer, Params, Rpc, raw};

/// Blocks that one request may mine.
const MINE: u64 = 10_000;

/// Anvil's tools send quantities both as hex strings and as JSON numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(u64),
    Hex(U256),
}

impl From<Quantity> for u64 {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Number(number) => number,
            Quantity::Hex(number) => number.saturating_to(),
        }
    }
}

impl Rpc {
    pub(super) async fn bend(self: &Arc<Self>, method: &str, params: &Params) -> Answer {
        let quantity = |index| params.required::<Quantity>(index).map(u64::from);
        match method {
            "evm_increaseTime" => {
                let seconds = quantity(0)?;
                raw(&self.command(|reply| Control::AdvanceTime { seconds, reply }).await?)
            }
            "evm_setNextBlockTimestamp" => {
                let timestamp = quantity(0)?;
                if timestamp < self.tip().header.timestamp {
                    return Err(Fault::params("timestamp is before the newest block's"));
                }
                self.command(|reply| Control::NextTimestamp { timestamp, reply }).await?;
                raw(&())
            }
            "evm_mine" => {
                let timestamp = params.optional::<Quantity>(0)?.map(u64::from);
                self.command(|reply| Control::Mine { blocks: 1, timestamp, reply }).await?;
                raw(&U64::ZERO)
            }
            "tradewind_mine" => {
                let blocks = quantity(0)?;
                if blocks > MINE {
                    return Err(Fault::limit(format!("more than {MINE} blocks")));
                }
                self.command(|reply| Control::Mine { blocks, timestamp: None, reply }).await?;
                raw(&())
            }
            "evm_setAutomine" => {
                let on = params.required(0)?;
                self.command(|reply| Control::Automine { on, reply }).await?;
                raw(&true)
            }
            "evm_snapshot" => {
                let tip = self.tip();
                raw(&format!("0x{:x}{:x}", tip.header.number, tip.hash))
            }
            "evm_revert" => {
                let (number, hash) = parse_snapshot(&params.required::<String>(0)?)?;
                raw(&self.command(|reply| Control::Rewind { number, hash, reply }).await?)
            }
            "tradewind_reorg" => {
                let depth = quantity(0)?;
                let requeue = params.optional(1)?.unwrap_or(false);
                let dropped = if requeue { Dropped::Requeue } else { Dropped::Forget };
                self.command(|reply| Control::Reorg { depth, dropped, reply }).await?;
                raw(&())
            }
            _ => Err(Fault::method(method)),
        }
    }
}

/// A snapshot's name is its block's number followed by its hash.
fn parse_snapshot(name: &str) -> Result<(u64, B256), Fault> {
    let unknown = || Fault::params("unknown snapshot");
    let digits = name.strip_prefix("0x").ok_or_else(unknown)?;
    let (number, hash) =
        digits.len().checked_sub(64).and_then(|at| digits.split_at_checked(at)).ok_or_else(unknown)?;
    let number = u64::from_str_radix(number, 16).map_err(|_| unknown())?;
    Ok((number, hash.parse().map_err(|_| unknown())?))
}

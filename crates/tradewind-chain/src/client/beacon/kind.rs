//! Which beacon a deployment has.

use alloy::primitives::{Address, B256};
use alloy::providers::DynProvider;
use tradewind_proto::units::Seconds;

use crate::client::bindings::court::abi::{Beacon, DrandBeacon};
use crate::client::reader::Reader;
use crate::ledger::LedgerError;

/// Where a beacon's seeds come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeaconKind {
    /// From the hashes of blocks: whoever makes those chooses.
    Local,
    /// From drand.
    Drand {
        /// By which drand's nodes name the chain.
        chain: B256,
        /// By how much a block's timestamp may be late.
        lag: Seconds,
    },
}

impl Reader {
    /// Which kind the beacon at `beacon` is.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] where it is of neither kind; others when the chain does not answer.
    pub async fn beacon_kind(&self, beacon: Address) -> Result<BeaconKind, LedgerError> {
        let drand = DrandBeacon::new(beacon, self.provider());
        match self.ask(drand.chainHash()).await {
            Ok(chain) => {
                let lag = Seconds::new(self.ask(drand.lag()).await?.into());
                Ok(BeaconKind::Drand { chain, lag })
            }
            // Only the local one has a round 0.
            Err(LedgerError::Rejected(_)) => match self.ask(self.beacon(beacon).timeOf(0)).await {
                Ok(_) => Ok(BeaconKind::Local),
                Err(LedgerError::Rejected(_)) => {
                    Err(LedgerError::Invalid(format!("the beacon {beacon} is neither local nor drand's")))
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) fn beacon(&self, beacon: Address) -> Beacon::BeaconInstance<&DynProvider> {
        Beacon::new(beacon, self.provider())
    }
}

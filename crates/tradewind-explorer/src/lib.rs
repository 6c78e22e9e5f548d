//! The explorer: who provides, what is offered, which leases run, and what was paid, for anyone, live.
//!
//! ```text
//! ledger events ─► index (rolls back on a reorg) ─┐
//! mesh directory ─► offers ───────────────────────┼─► Overview ─► HTML page, its JSON twin, and a stream of "look again"
//! watchers' testimony ─► reputations ─────────────┘
//! ```
//!
//! The index is derived from the chain alone and made anew at every start: losing an explorer loses nothing, and two explorers
//! show the same. Offers are hostile text and are escaped; lists are bounded.

mod index;
mod page;
mod server;

pub use index::{Index, LeaseRow, Overview, ProviderRow, SettlementRow};
pub use page::{DeviceRow, OfferRow};
pub use server::{Explorer, ExplorerError, Parts};

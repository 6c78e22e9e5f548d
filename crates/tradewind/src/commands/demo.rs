//! `tradewind demo`: a whole market on this machine, of separate processes that know only the network's profile.
//!
//! ```text
//! demo                       three providers, a buyer, an explorer ─► digits on the best offer ─► receipt
//! demo --scenario <name>     a market with a court ─► something goes wrong ─► who paid what, read from the chain and checked
//! ```

mod blackout;
mod chain;
mod digits;
mod hostile;
mod lonely;
mod market;
mod proof;
mod proxy;
mod report;
mod scene;

use anyhow::Context;

use crate::cli::{Demo, Scenario};
use crate::printer::Printer;
use market::Market;

pub(crate) use hostile::{Lie, serve as serve_hostile};

pub(super) async fn demo(options: &Demo, printer: Printer) -> anyhow::Result<u8> {
    let program = match options.scenario {
        None => Some(digits::find(options.digits.as_deref())?),
        Some(_) => None,
    };
    let (dir, temporary) = match &options.dir {
        Some(dir) => (std::path::absolute(dir)?, None),
        None => {
            let temporary = tempfile::Builder::new().prefix("tradewind-demo-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut market = Market::new(dir);
    // What a scenario stands on outlives it: the nodes of a market that stays up reach the ledger through it.
    let shown = match (options.scenario, &program) {
        (Some(Scenario::Blackout), _) => blackout::show(printer, &mut market).await.map(Some),
        (Some(Scenario::Cheat), _) => {
            proof::show("cheat", Lie::Element, printer, &mut market).await.map(Some)
        }
        (Some(Scenario::Equivocate), _) => {
            proof::show("equivocate", Lie::Statement, printer, &mut market).await.map(Some)
        }
        (Some(Scenario::Lonely), _) => lonely::show(printer, &mut market).await.map(Some),
        (None, Some(program)) => digits::show(printer, &mut market, program).await.map(|()| None),
        (None, None) => Ok(None),
    };
    let kept = match &shown {
        Ok(_) if !options.exit => {
            printer.step("the market stays up; Ctrl-C ends it");
            tokio::signal::ctrl_c().await.map_err(anyhow::Error::from)
        }
        Ok(_) | Err(_) => Ok(()),
    };
    if shown.is_err() {
        printer.step(&market.last_words());
    }
    market.end().await;
    drop(temporary);
    kept?;
    shown.map(|_| 0)
}

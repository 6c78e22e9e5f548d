//! The wallet's money: balances, and what moves between the wallet and the contract.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tradewind_chain::ledger::{Action, ActionStatus, LedgerError, Reference};
use tradewind_proto::units::Money;

use super::view::{Problem, Transfer, WalletView};
use super::{Answer, Failure, Served, Shared};

/// How long an answer waits for the chain.
const PATIENCE: Duration = Duration::from_secs(45);

/// Balances.
#[utoipa::path(get, path = "/v1/wallet", tag = "wallet", responses(
    (status = OK, body = WalletView),
    (status = SERVICE_UNAVAILABLE, description = "The chain does not answer", body = Problem),
))]
pub(super) async fn wallet(State(roles): Shared) -> Answer<WalletView> {
    look(&roles).await.map(Json)
}

/// Moves money of the wallet into its free balance in the contract.
#[utoipa::path(post, path = "/v1/wallet/deposit", tag = "wallet", request_body = Transfer, responses(
    (status = OK, body = WalletView),
    (status = "4XX", description = "The amount cannot be moved", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn deposit(State(roles): Shared, Json(transfer): Json<Transfer>) -> Answer<WalletView> {
    let token = roles.asset.address;
    let held = roles.ledger.holdings(token, roles.ledger.account()).await.map_err(silent)?;
    let amount = amount(&roles, &transfer, held, "in the wallet")?;
    let reference = Reference(B256::from(rand::random::<[u8; 32]>()));
    carry_out(&roles, Action::Deposit { reference, token, amount }).await?;
    look(&roles).await.map(Json)
}

/// Moves free balance out of the contract, to the wallet or to another account.
#[utoipa::path(post, path = "/v1/wallet/withdraw", tag = "wallet", request_body = Transfer, responses(
    (status = OK, body = WalletView),
    (status = "4XX", description = "The amount cannot be moved", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn withdraw(State(roles): Shared, Json(transfer): Json<Transfer>) -> Answer<WalletView> {
    let (token, account) = (roles.asset.address, roles.ledger.account());
    let free = roles.ledger.balance(token, account).await.map_err(silent)?;
    let to: Address = match transfer.to.as_deref() {
        None => account,
        Some(text) => text.parse().map_err(|_| {
            let hint = "an account is 0x and 40 hex digits";
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{text}` is no account"), hint)
        })?,
    };
    // A relayer's fee is paid out of the free balance too, so everything is a little less than all of it.
    let most = match transfer.amount {
        Some(_) => free,
        None => free.saturating_sub(fee(&roles)),
    };
    let amount = amount(&roles, &transfer, most, "free in the contract")?;
    let reference = Reference(B256::from(rand::random::<[u8; 32]>()));
    carry_out(&roles, Action::Withdraw { reference, token, to, amount }).await?;
    look(&roles).await.map(Json)
}

/// What is kept back for a relayer's fee: a hundredth of a token.
pub(super) fn fee(roles: &Served) -> Money {
    Money::parse("0.01", roles.asset.decimals).unwrap_or(Money::ZERO)
}

fn amount(roles: &Served, transfer: &Transfer, most: Money, place: &str) -> Result<Money, Failure> {
    let refuse = |error: String, hint: &str| Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint));
    let (decimals, symbol) = (roles.asset.decimals, &roles.asset.symbol);
    let amount = match transfer.amount.as_deref().map(|text| Money::parse(text, decimals)) {
        None => most,
        Some(Ok(amount)) => amount,
        Some(Err(error)) => {
            return refuse(error.to_string(), &format!("{symbol} has {decimals} places after the point"));
        }
    };
    if amount.is_zero() || amount > most {
        let error = format!("only {} {symbol} are {place}", most.display(decimals));
        return refuse(error, "`tradewind wallet` shows the balances");
    }
    Ok(amount)
}

/// Submits an action and waits until the chain took it.
pub(super) async fn carry_out(roles: &Served, action: Action) -> Result<(), Failure> {
    let submitted = roles.ledger.submit(action).await.map_err(silent)?;
    let settled = tokio::time::timeout(PATIENCE, roles.ledger.settled(&submitted.key)).await;
    let late = |_| {
        let error = "the chain has not taken it yet; it is tried on";
        Failure::new(StatusCode::GATEWAY_TIMEOUT, error, "look again in a while; do not ask for it twice")
    };
    match settled.map_err(late)?.map_err(silent)? {
        ActionStatus::Included { .. } | ActionStatus::Final { .. } | ActionStatus::Pending => Ok(()),
        ActionStatus::Failed { reason } => {
            let error = format!("the chain refused: {reason}");
            Err(Failure::new(StatusCode::BAD_GATEWAY, error, "`tradewind wallet` shows the balances"))
        }
    }
}

pub(super) fn silent(error: LedgerError) -> Failure {
    if error.is_transient() {
        let hint = "the chain does not answer; try again, `tradewind status` names its RPC";
        return Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, hint);
    }
    Failure::new(StatusCode::BAD_GATEWAY, error, "`tradewind wallet` shows the balances")
}

async fn look(roles: &Served) -> Result<WalletView, Failure> {
    let (account, token) = (roles.ledger.account(), roles.asset.address);
    let wallet = roles.ledger.holdings(token, account).await.map_err(silent)?.base_units();
    let free = roles.ledger.balance(token, account).await.map_err(silent)?.base_units();
    Ok(WalletView { account: account.to_string(), asset: roles.asset.clone(), wallet, free })
}

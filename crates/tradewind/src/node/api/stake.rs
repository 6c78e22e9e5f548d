//! Stakes for devices of others: this account sponsors them, and gets the stakes back.

use alloy::primitives::B256;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tradewind_chain::ledger::{Action, DeviceRecord, Reference};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::profile::Asset;
use tradewind_proto::units::Money;

use super::market::{shown, unbond};
use super::view::{BackedDevice, Problem, StakeRequest};
use super::wallet::{carry_out, fee, silent};
use super::{Answer, Failure, Served, Shared};
use crate::node::provider::joining::stake_reference;

/// Stakes a device that names this account as its sponsor; what the free balance lacks comes from the wallet.
#[utoipa::path(post, path = "/v1/wallet/stake", tag = "wallet", request_body = StakeRequest, responses(
    (status = OK, body = BackedDevice),
    (status = "4XX", description = "No such device, another sponsor's, or too little money", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn stake(State(roles): Shared, Json(request): Json<StakeRequest>) -> Answer<BackedDevice> {
    let record = sponsored(&roles, request.device).await?;
    let amount = amount(&roles, &request.amount)?;
    fund(&roles, amount).await?;
    let (device, now) = (record.device, (roles.clock)());
    let reference =
        stake_reference(roles.ledger.as_ref(), device, "stake", record.stake, now).await.map_err(silent)?;
    carry_out(&roles, Action::Stake { reference, device, amount }).await?;
    look(&roles, request.device).await
}

#[derive(Deserialize)]
pub(super) struct Which {
    device: DeviceId,
}

/// Begins to return the stake of a device that this account sponsors; returns it once it is unbonded.
#[utoipa::path(post, path = "/v1/wallet/unstake", tag = "wallet", params(
    ("device" = String, Query, description = "The device"),
), responses(
    (status = OK, body = BackedDevice),
    (status = "4XX", description = "No such device, or another sponsor's", body = Problem),
    (status = "5XX", description = "The chain refused, or does not answer", body = Problem),
))]
pub(super) async fn unstake(State(roles): Shared, Query(which): Query<Which>) -> Answer<BackedDevice> {
    let record = sponsored(&roles, which.device).await?;
    unbond(&roles, &record).await?;
    look(&roles, which.device).await
}

async fn sponsored(roles: &Served, device: DeviceId) -> Result<DeviceRecord, Failure> {
    let Some(record) = roles.ledger.device(device).await.map_err(silent)? else {
        let error = format!("the registry has no device {device}");
        let hint = "its owner joins first, with `--sponsor` and this account";
        return Err(Failure::new(StatusCode::NOT_FOUND, error, hint));
    };
    if record.sponsor == roles.ledger.account() {
        return Ok(record);
    }
    let error = format!("the device {device} is staked by {}", record.sponsor);
    let hint =
        "its owner says who stakes it when the device is added: `tradewind provider join --sponsor ACCOUNT`";
    Err(Failure::new(StatusCode::FORBIDDEN, error, hint))
}

fn amount(roles: &Served, text: &str) -> Result<Money, Failure> {
    let (decimals, symbol) = (roles.staked.decimals, &roles.staked.symbol);
    let hint = format!("an amount such as 50; {symbol} has {decimals} places after the point");
    let refused = |error: String| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, &hint);
    match Money::parse(text, decimals) {
        Ok(amount) if !amount.is_zero() => Ok(amount),
        Ok(_) => Err(refused("nothing is nothing to stake".into())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Brings what is to be staked into the free balance, with something for relayers.
async fn fund(roles: &Served, stake: Money) -> Result<(), Failure> {
    let fees = fee(roles).checked_add(fee(roles)).unwrap_or_default();
    if roles.staked.address == roles.asset.address {
        return bring(roles, &roles.asset, stake.checked_add(fees).unwrap_or(stake), stake).await;
    }
    // Relayers are paid in the quote asset, also for this deposit.
    bring(roles, &roles.asset, fees, Money::ZERO).await?;
    bring(roles, &roles.staked, stake, stake).await
}

/// Brings the free balance up to `wanted` from the wallet, as far as that goes; to `least` it has to.
async fn bring(roles: &Served, asset: &Asset, wanted: Money, least: Money) -> Result<(), Failure> {
    let (token, account) = (asset.address, roles.ledger.account());
    let free = roles.ledger.balance(token, account).await.map_err(silent)?;
    let held = roles.ledger.holdings(token, account).await.map_err(silent)?;
    let amount = wanted.saturating_sub(free).min(held);
    let short = least.saturating_sub(free).saturating_sub(held);
    if !short.is_zero() {
        let error = format!("{} {} are missing", short.display(asset.decimals), asset.symbol);
        let hint = format!("send them to {account}; `tradewind wallet` shows the balances");
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error, &hint));
    }
    if amount.is_zero() {
        return Ok(());
    }
    let reference = Reference(B256::from(rand::random::<[u8; 32]>()));
    carry_out(roles, Action::Deposit { reference, token, amount }).await
}

async fn look(roles: &Served, device: DeviceId) -> Answer<BackedDevice> {
    let record = sponsored(roles, device).await?;
    let free = roles.ledger.balance(roles.staked.address, roles.ledger.account()).await.map_err(silent)?;
    let device = shown(&record, (roles.clock)());
    Ok(Json(BackedDevice { device, staked: roles.staked.clone(), free: free.base_units() }))
}

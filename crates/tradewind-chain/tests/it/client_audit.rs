//! Attestations of places through the user's ledger: an auditor holds no gas, and nobody speaks for another.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use tradewind_chain::client::bindings::audit::{abi, attestation};
use tradewind_chain::client::reader::Reader;
use tradewind_chain::client::relayed::{RelayedConfig, RelayedLedger};
use tradewind_chain::client::store::Store;
use tradewind_chain::client::wallet::{Contracts, Wallet};
use tradewind_chain::embedded::Embedded;
use tradewind_chain::ledger::audit::AuditAction;
use tradewind_chain::ledger::{Action, ActionStatus, Ledger as _};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::offer::Region;
use tradewind_proto::place::{Audit, PlaceWord, schema};
use tradewind_proto::units::{Money, Seconds};

use crate::client_market::{Market, act, dollars, key, outcome};
use crate::fixture::open;

const DEVICE: B256 = B256::repeat_byte(3);

async fn market() -> (Embedded, Market, RelayedLedger) {
    let ledger = open();
    let market = Market::open(ledger.provider()).await;
    let auditor = market.funded(key(1), dollars(1)).await;
    (ledger, market, auditor)
}

/// That the device stands in Frankfurt, for so many seconds from now.
async fn frankfurt(market: &Market, issuer: Address, span: u64) -> Audit {
    let region = Region { country: "DE".into(), label: Some("fra-1".into()) };
    let expires = market.now().await.after(Seconds::new(span));
    PlaceWord { issuer, expires }.audit(DeviceId::new(DEVICE), &region)
}

const fn attest(audit: Audit) -> Action {
    Action::Audit(AuditAction::Attest(audit))
}

fn revoke(audit: &Audit) -> Action {
    Action::Audit(AuditAction::Revoke { id: audit.id() })
}

async fn refusal(ledger: &RelayedLedger, action: Action) -> String {
    let status = outcome(ledger, action).await;
    let ActionStatus::Failed { reason } = status else { panic!("{status:?}") };
    reason
}

#[tokio::test]
async fn an_attestation_holds_until_it_expires_or_is_taken_back() {
    let (ledger, market, auditor) = market().await;
    let account = auditor.account();
    let (audit, brief) = (frankfurt(&market, account, 3_600).await, frankfurt(&market, account, 60).await);
    let at = market.deployment.contracts.attestations.unwrap();
    let contract = abi::Attestations::new(at, &market.provider);
    assert_eq!(contract.attestationId(attestation(&audit)).call().await.unwrap(), audit.id());
    let chain = auditor.auditing().unwrap();
    assert!(!chain.holds(audit.id()).await.unwrap());
    assert_eq!(chain.audit(audit.id()).await.unwrap(), None);

    act(&auditor, attest(audit)).await;
    act(&auditor, attest(brief)).await;
    assert!(chain.holds(audit.id()).await.unwrap() && chain.holds(brief.id()).await.unwrap());
    assert_eq!(chain.audit(audit.id()).await.unwrap(), Some(audit));
    assert_eq!(chain.audits(DEVICE, schema(), &[]).await.unwrap(), [audit, brief]);
    assert_eq!(chain.audits(DEVICE, schema(), &[Address::repeat_byte(9), account]).await.unwrap().len(), 2);
    for (device, schema, issuer) in [
        (B256::repeat_byte(4), schema(), account),
        (DEVICE, B256::repeat_byte(4), account),
        (DEVICE, schema(), Address::repeat_byte(9)),
    ] {
        assert_eq!(chain.audits(device, schema, &[issuer]).await.unwrap(), []);
    }
    assert_eq!(market.provider.get_balance(account).await.unwrap(), U256::ZERO, "no gas");
    let (token, fees) = (market.deployment.stablecoin, Money::from_base_units(3_000));
    let free = auditor.balance(token, account).await.unwrap();
    assert_eq!(free, dollars(1).saturating_sub(fees), "a fee for the deposit and for each attestation");

    ledger.advance_time(120).await.unwrap();
    ledger.mine(1).await.unwrap();
    assert!(chain.holds(audit.id()).await.unwrap() && !chain.holds(brief.id()).await.unwrap());
    act(&auditor, revoke(&audit)).await;
    assert!(!chain.holds(audit.id()).await.unwrap());
    assert_eq!(chain.audit(audit.id()).await.unwrap(), Some(audit), "what was said stays on record");
}

#[tokio::test]
async fn who_was_overtaken_is_done_and_a_stranger_says_nothing_for_another() {
    let (_ledger, market, auditor) = market().await;
    let stranger = market.funded(key(2), dollars(1)).await;
    let audit = frankfurt(&market, auditor.account(), 3_600).await;
    let forged = refusal(&stranger, attest(audit)).await;
    assert!(forged.starts_with("InvalidSignature"), "{forged}");
    act(&auditor, attest(audit)).await;
    // A new outbox that knows nothing of the first: the chain remembers.
    let again = market.ledger(key(1));
    act(&again, attest(audit)).await;
    let taken = refusal(&stranger, revoke(&audit)).await;
    assert!(taken.starts_with("InvalidSignature"), "{taken}");
    assert!(again.auditing().unwrap().holds(audit.id()).await.unwrap());
    act(&auditor, revoke(&audit)).await;
    act(&again, revoke(&audit)).await;
}

#[tokio::test]
async fn a_refused_attestation_fails_with_the_contracts_words() {
    let (ledger, market, auditor) = market().await;
    let late = frankfurt(&market, auditor.account(), 10).await;
    ledger.advance_time(60).await.unwrap();
    ledger.mine(1).await.unwrap();
    let reason = refusal(&auditor, attest(late)).await;
    assert!(reason.starts_with("AlreadyExpired"), "{reason}");
    let never = frankfurt(&market, auditor.account(), 3_600).await;
    let reason = refusal(&auditor, revoke(&never)).await;
    assert!(reason.starts_with("NotStanding"), "{reason}");
    let poor = market.ledger(key(5));
    let reason = refusal(&poor, attest(frankfurt(&market, poor.account(), 3_600).await)).await;
    assert!(reason.starts_with("InsufficientBalance"), "the fee: {reason}");
}

#[tokio::test]
async fn a_network_without_the_contract_says_so() {
    let (_ledger, market, _) = market().await;
    let contracts = Contracts { attestations: None, ..market.deployment.contracts };
    let decoder = std::sync::Arc::new(tradewind_chain::client::artifacts::decoder());
    let reader = Reader::new(market.provider.clone(), contracts, 0, decoder);
    let config = RelayedConfig::local(vec![market.relayer_url.clone()], market.deployment.block);
    let wallet = Wallet::new(key(1), contracts);
    let old = RelayedLedger::start(reader, wallet, None, Store::in_memory().unwrap(), config).unwrap();
    assert!(old.auditing().is_none());
    let reason = refusal(&old, attest(frankfurt(&market, old.account(), 60).await)).await;
    assert_eq!(reason, "this network has no contract of attestations");
    // The relayer of the same market, which knows the contract, still serves it.
    let mesh_key = tradewind_proto::ids::MeshKey::from_bytes([1; 32]);
    let reference = crate::client_market::reference("entry");
    act(&old, Action::Register { reference, mesh_key, metadata: B256::ZERO }).await;
}

//! The EIP-712 vectors that the contracts wrote: ids, digests and signatures agree to the bit.

use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol_types::{SolStruct, SolType};
use serde_json::Value;
use tradewind_chain::client::bindings::abi;
use tradewind_chain::client::wallet::{Contracts, Wallet, typed};
use tradewind_chain::ledger::Checkpoint;
use tradewind_proto::ids::{BuyerId, DeviceId, LeaseId, ProviderId};
use tradewind_proto::signature::SigningKey;
use tradewind_proto::terms::{LeaseKind, LeaseTerms};
use tradewind_proto::units::{Money, RatePerSecond, Seconds, Timestamp};
use tradewind_proto::voucher::Voucher;

struct Golden {
    document: Value,
    contracts: Contracts,
}

impl Golden {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/test/golden/eip712.json");
        let text = std::fs::read_to_string(path)
            .expect("the vectors; `forge script test/golden/Write.s.sol` writes them");
        let document: Value = serde_json::from_str(&text).unwrap();
        let verifying =
            |at: usize| document["domains"][at]["verifyingContract"].as_str().unwrap().parse().unwrap();
        let contracts = Contracts {
            chain_id: number(&document["chainId"]),
            leases: verifying(0),
            registry: verifying(1),
            court: None,
            attestations: None,
        };
        Self { document, contracts }
    }

    fn list(&self, name: &str) -> &Vec<Value> {
        let list = self.document[name].as_array().unwrap();
        assert!(!list.is_empty());
        list
    }

    fn key(&self, account: Address) -> SigningKey {
        let keys = self.list("keys");
        let entry =
            keys.iter().find(|entry| address(&entry["address"]) == account).expect("a key of the vectors");
        SigningKey::from_bytes(word(&entry["privateKey"]).0).unwrap()
    }

    fn named(&self, name: &str) -> SigningKey {
        let keys = self.list("keys");
        let entry = keys.iter().find(|entry| entry["name"] == name).unwrap();
        self.key(address(&entry["address"]))
    }

    fn wallet(&self, account: Address) -> Wallet {
        Wallet::new(self.key(account), self.contracts)
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn address(value: &Value) -> Address {
    value.as_str().unwrap().parse().unwrap()
}

fn word(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

fn bytes(value: &Value) -> Bytes {
    value.as_str().unwrap().parse().unwrap()
}

fn money(value: &Value) -> Money {
    Money::new(number(value)).unwrap()
}

fn timestamp(value: &Value) -> Timestamp {
    Timestamp::from_unix(number(value))
}

fn seconds(value: &Value) -> Seconds {
    Seconds::new(number(value))
}

fn terms(message: &Value) -> LeaseTerms {
    let schedule = &message["schedule"];
    LeaseTerms {
        buyer: BuyerId::new(address(&message["buyer"])),
        provider: ProviderId::new(address(&message["provider"])),
        device: DeviceId::new(word(&message["device"])),
        units: number(&message["units"]),
        unstaked: message["unstaked"].as_bool().unwrap(),
        meter: address(&message["meter"]),
        meter_may_sign_last: message["meterMaySignLast"].as_bool().unwrap(),
        token: address(&message["token"]),
        rate: RatePerSecond::from_scaled(number(&message["rate"])),
        deposit: money(&message["deposit"]),
        prepay: money(&message["prepay"]),
        bond: money(&message["bond"]),
        compensation_cap: money(&message["compensationCap"]),
        provider_break_fee: money(&message["providerBreakFee"]),
        buyer_break_fee: money(&message["buyerBreakFee"]),
        kind: LeaseKind::try_from(number::<u8>(&message["kind"])).unwrap(),
        start: timestamp(&schedule["start"]),
        end: timestamp(&schedule["end"]),
        open_by: timestamp(&schedule["openBy"]),
        prepare: seconds(&schedule["prepare"]),
        notice: seconds(&schedule["notice"]),
        slack: seconds(&schedule["slack"]),
        uptime_promise: number(&message["uptimePromise"]),
        version: number(&message["version"]),
        job: word(&message["jobDigest"]),
        terms_of_service: word(&message["tosHash"]),
        parent: word(&message["parent"]),
    }
}

#[test]
fn terms_have_the_contracts_ids_and_signatures() {
    let golden = Golden::read();
    for entry in golden.list("terms") {
        if number::<u8>(&entry["message"]["kind"]) > 2 {
            continue;
        }
        let terms = terms(&entry["message"]);
        assert_eq!(
            terms.id(&golden.contracts.domain()).unwrap().get(),
            word(&entry["digest"]),
            "{}",
            entry["name"]
        );
        for (party, field) in [("buyer", "buyerSignature"), ("provider", "providerSignature")] {
            let wallet = Wallet::new(golden.named(party), golden.contracts);
            let signature = wallet.sign_terms(&terms).unwrap();
            assert_eq!(signature.as_bytes()[..], bytes(&entry[field])[..], "{} {field}", entry["name"]);
        }
    }
}

#[test]
fn vouchers_and_checkpoints_have_the_contracts_signatures() {
    let golden = Golden::read();
    for entry in golden.list("vouchers") {
        let message = &entry["message"];
        let voucher = Voucher {
            lease: LeaseId::new(word(&message["lease"])),
            cumulative: money(&message["cumulative"]),
            not_before: timestamp(&message["notBefore"]),
            last: message["last"].as_bool().unwrap(),
        };
        let signed =
            voucher.sign(&golden.contracts.domain(), &golden.key(address(&entry["signer"]))).unwrap();
        assert_eq!(signed.signature.as_bytes()[..], bytes(&entry["signature"])[..]);
        assert_eq!(signed.signer(&golden.contracts.domain()).unwrap(), address(&entry["signer"]));
    }
    for entry in golden.list("checkpoints") {
        let message = &entry["message"];
        let checkpoint = Checkpoint {
            lease: LeaseId::new(word(&message["lease"])),
            paid_at: money(&message["paidAt"]),
            root: word(&message["root"]),
            at: timestamp(&message["at"]),
        };
        let wallet = Wallet::new(golden.named("provider"), golden.contracts);
        let signature = wallet.sign_checkpoint(&checkpoint);
        assert_eq!(signature.as_bytes()[..], bytes(&entry["providerSignature"])[..]);
    }
}

/// The wallet's signature of the encoded action, whose type has to be the contracts'.
fn sign<T: SolStruct>(golden: &Golden, entry: &Value) -> [u8; 65] {
    let action = <T as SolType>::abi_decode(&bytes(&entry["encoded"])).unwrap();
    assert_eq!(T::eip712_encode_type(), entry["type"].as_str().unwrap());
    assert_eq!(keccak256(T::eip712_encode_type().as_bytes()), word(&entry["typeHash"]));
    let contract =
        if entry["contract"] == "Registry" { golden.contracts.registry } else { golden.contracts.leases };
    *golden.wallet(address(&entry["signer"])).sign(contract, &action).as_bytes()
}

#[test]
fn every_action_has_the_contracts_signature() {
    let golden = Golden::read();
    for entry in golden.list("actions") {
        let name = entry["type"].as_str().unwrap().split('(').next().unwrap();
        let signature = match name {
            "Deposit" => sign::<typed::Deposit>(&golden, entry),
            "Withdraw" => sign::<typed::Withdraw>(&golden, entry),
            "FeeAuthorization" => sign::<abi::FeeAuthorization>(&golden, entry),
            "Notice" => sign::<typed::Notice>(&golden, entry),
            "Close" => sign::<typed::Close>(&golden, entry),
            "RequestClose" => sign::<typed::RequestClose>(&golden, entry),
            "Challenge" => sign::<typed::Challenge>(&golden, entry),
            "Answer" => sign::<typed::Answer>(&golden, entry),
            "Dispute" => sign::<typed::Dispute>(&golden, entry),
            "Register" => sign::<typed::Register>(&golden, entry),
            "UpdateAccount" => sign::<typed::UpdateAccount>(&golden, entry),
            "AddDevice" => sign::<typed::AddDevice>(&golden, entry),
            "Stake" => sign::<typed::Stake>(&golden, entry),
            "PayRent" => sign::<typed::PayRent>(&golden, entry),
            "BeginUnbond" => sign::<typed::BeginUnbond>(&golden, entry),
            // Sponsors are named when a device is added; the client offers no later change.
            "SetSponsor" => continue,
            other => panic!("the client signs no {other}"),
        };
        assert_eq!(signature[..], bytes(&entry["signature"])[..], "{name}");
    }
}

#[test]
fn devices_have_the_contracts_ids() {
    let golden = Golden::read();
    for entry in golden.list("devices") {
        let id = DeviceId::derive(address(&entry["provider"]), address(&entry["key"]));
        assert_eq!(id.get(), word(&entry["id"]));
    }
}

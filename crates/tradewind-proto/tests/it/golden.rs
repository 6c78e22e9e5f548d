//! `contracts/test/golden/trust.json`: what the contracts have to compute alike.

use std::collections::BTreeSet;
use std::path::PathBuf;

use alloy_primitives::{Address, B256, keccak256};
use serde_json::{Value, json};
use tradewind_proto::challenge::{
    Challenge, Claim, LEAF, RowOpening, Size, Tree, WrongElement, element, next_seed, row_root,
};
use tradewind_proto::evidence::{
    Body as _, Court, Epoch, Finding, Instance, Jury, Pong, ProductRoots, Seat, Statement, Sworn, Vote,
    commitment, topic,
};
use tradewind_proto::ids::DeviceId;
use tradewind_proto::signature::SigningKey;

const ROW: u32 = 300;
const COLUMN: u32 = 290;

fn court() -> Court {
    Court { chain_id: 31_337, contract: Address::repeat_byte(0xc0) }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(B256::left_padding_from(&[0xd0]).0).unwrap()
}

fn challenge() -> Challenge {
    Challenge {
        court: court(),
        beacon: keccak256("beacon"),
        device: DeviceId::derive(Address::repeat_byte(0xa0), key().address()),
        epoch: Epoch::new(7),
    }
}

fn document() -> Value {
    let case = court().case(challenge().device, challenge().epoch);
    let seat = Seat::new(5);
    let transcript = keccak256("transcript");
    let pong = Pong { nonce: keccak256("nonce"), watcher: seat, unix_millis: 1_800_000_000_123 };
    let statement =
        Statement { topic: topic::pong(), device: challenge().device, sequence: 9, body: pong.body() };
    let vote = Vote { case, instance: Instance::Committee, finding: Finding::Guilty, transcript };
    json!({
        "court": {"chainId": court().chain_id, "contract": court().contract},
        "device": {"provider": Address::repeat_byte(0xa0), "key": key().address(), "id": challenge().device.get()},
        "case": {"device": challenge().device.get(), "epoch": 7, "id": case.get()},
        "pong": {"nonce": pong.nonce, "seat": 5, "unixMillis": pong.unix_millis, "body": pong.body()},
        "statement": {
            "topic": statement.topic, "device": statement.device.get(), "sequence": 9, "body": statement.body,
            "digest": statement.digest(&court()),
        },
        "vote": {
            "caseId": case.get(), "instance": 1, "finding": 1, "transcript": transcript,
            "digest": vote.digest(&court()),
        },
        "commitment": {
            "caseId": case.get(), "seat": 5, "finding": 1, "transcript": transcript, "salt": keccak256("salt"),
            "hash": commitment(case, seat, Finding::Guilty, transcript, keccak256("salt")),
        },
        "seeds": {
            "beacon": challenge().beacon, "first": challenge().seed(),
            "root": keccak256("root"), "second": next_seed(challenge().seed(), keccak256("root")),
        },
        "dots": dots(),
        "draws": draws(),
        "element": wrong_element(),
    })
}

fn dots() -> Vec<Value> {
    let at = |(rows, row, column): (u32, u32, u32)| {
        let seed = keccak256(rows.to_be_bytes());
        let value = element(seed, row, column, Size::new(rows).unwrap());
        json!({"seed": seed, "size": rows, "row": row, "column": column, "value": value})
    };
    [(256, 0, 0), (256, 255, 254), (4_096, 4_095, 1), (16_384, 9_999, 16_383)].map(at).to_vec()
}

fn draws() -> Value {
    let (jury, case) = (Jury::default(), court().case(challenge().device, challenge().epoch));
    let [first, second, third] = ["first", "second", "third"].map(keccak256);
    let predraw = jury.predraw(first, case, 40);
    let committed: BTreeSet<Seat> =
        predraw.seats().iter().copied().filter(|seat| seat.get() % 5 != 0).collect();
    let committee = predraw.committee(&jury, second, case, &committed).unwrap();
    let appeal = committee.appeal(&jury, third, case, 40).unwrap();
    json!({
        "caseId": case.get(), "seats": 40, "seeds": [first, second, third],
        "predraw": predraw.seats(),
        "committed": predraw.seats().iter().filter(|seat| committed.contains(seat)).collect::<Vec<_>>(),
        "committee": committee.seats(), "appeal": appeal.seats(),
    })
}

/// One wrong element of a product of which nothing else was computed.
fn wrong_element() -> Value {
    let size = Size::new(512).unwrap();
    let second = next_seed(challenge().seed(), keccak256("root"));
    let mut values = vec![0; size.width()];
    let index = |number: u32| usize::try_from(number).unwrap();
    values[index(COLUMN)] = element(second, ROW, COLUMN, size) + 1;
    let mut rows: Vec<B256> = (0..size.get()).map(|row| keccak256(row.to_be_bytes())).collect();
    rows[index(ROW)] = row_root(&values);
    let tree = Tree::new(rows);
    let roots = vec![keccak256("root"), tree.root()];
    let list = ProductRoots::new(challenge().device, challenge().epoch, size, roots.clone()).unwrap();
    let signed = Sworn::sign(list, &court(), &key());
    let claim = Claim::accept(signed.clone(), &challenge(), key().address(), size, 2).unwrap();
    let opening = RowOpening { row: ROW, values, path: tree.path(index(ROW)) };
    let proof = WrongElement::of(&claim, 1, &opening, COLUMN);
    let found = proof.judge(&challenge(), key().address()).unwrap();
    assert_eq!((proof.leaf.len(), proof.path.len()), (LEAF, size.depth()));
    let leaf: Vec<u8> = proof.leaf.iter().flat_map(|value| value.to_be_bytes()).collect();
    json!({
        "epoch": 7, "size": size.get(), "roots": roots, "signature": signed.signature,
        "digest": signed.body.digest(&court()), "round": 1, "row": ROW, "column": COLUMN,
        "leaf": alloy_primitives::Bytes::from(leaf), "path": proof.path,
        "claimed": found.claimed, "computed": found.right,
    })
}

#[test]
fn the_contracts_vectors_are_what_the_rules_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contracts/test/golden/trust.json");
    let right = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
    if std::env::var_os("TRADEWIND_WRITE_PAGES").is_some() {
        std::fs::write(&path, right).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text, right,
        "hint: run this test with TRADEWIND_WRITE_PAGES=1, and the contracts' tests after it"
    );
}

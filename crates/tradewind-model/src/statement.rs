//! Who signed what: a signature is a key, a digest and a form; it counts where all three are as they should be.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::{Eip712Domain, SolStruct, eip712_domain};
use tradewind_chain::client::wallet::Contracts;
use tradewind_proto::evidence::Court;
use tradewind_proto::signature::SigningKey;

/// The order of secp256k1.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
    0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

alloy::sol! {
    #[derive(Debug)]
    struct SetSponsor { bytes32 device; address sponsor; uint256 nonce; uint40 deadline; }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the contracts want it.
    Plain,
    /// The same with `s` in the upper half of the order.
    Twin,
    /// Without its last byte.
    Cut,
    /// Empty.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) by: Address,
    pub(crate) digest: B256,
    pub(crate) form: Form,
}

impl Signed {
    pub(crate) const ABSENT: Self = Self { by: Address::ZERO, digest: B256::ZERO, form: Form::Absent };

    pub(crate) fn counts(&self, signer: Address, digest: B256) -> bool {
        self.form == Form::Plain && self.by == signer && self.digest == digest
    }

    pub(crate) fn given(&self) -> bool {
        self.form != Form::Absent
    }

    /// The bytes that go on chain.
    pub(crate) fn bytes(&self, key: impl Fn(Address) -> SigningKey) -> Bytes {
        if self.form == Form::Absent {
            return Bytes::new();
        }
        let mut bytes = key(self.by).sign(self.digest).as_bytes().to_vec();
        match self.form {
            Form::Plain | Form::Absent => {}
            Form::Twin => {
                let s = U256::from_be_slice(&bytes[32..64]);
                let twin: [u8; 32] = (U256::from_be_bytes(ORDER) - s).to_be_bytes();
                bytes[32..64].copy_from_slice(&twin);
                bytes[64] = 55 - bytes[64];
            }
            Form::Cut => bytes.truncate(64),
        }
        bytes.into()
    }
}

/// How an account agrees to an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auth {
    pub(crate) nonce: U256,
    pub(crate) deadline: u64,
    pub(crate) signed: Signed,
}

/// The domains that statements are made in.
#[derive(Debug, Clone)]
pub(crate) struct Domains {
    pub(crate) leases: B256,
    pub(crate) registry: B256,
    pub(crate) court: B256,
    tokens: Vec<(Address, B256)>,
}

impl Domains {
    pub(crate) fn new(contracts: &Contracts, court: &Court, tokens: &[(Address, &'static str)]) -> Self {
        let registry: Eip712Domain = eip712_domain! {
            name: "Tradewind Registry",
            version: "1",
            chain_id: contracts.chain_id,
            verifying_contract: contracts.registry,
        };
        let token = |token: Address, name: &'static str| -> Eip712Domain {
            eip712_domain! {
                name: name,
                version: "1",
                chain_id: contracts.chain_id,
                verifying_contract: token,
            }
        };
        Self {
            leases: contracts.domain().eip712().separator(),
            registry: registry.separator(),
            court: court.eip712().separator(),
            tokens: tokens.iter().map(|&(at, name)| (at, token(at, name).separator())).collect(),
        }
    }

    pub(crate) fn at_leases<T: SolStruct>(&self, statement: &T) -> B256 {
        digest(self.leases, statement)
    }

    pub(crate) fn at_registry<T: SolStruct>(&self, statement: &T) -> B256 {
        digest(self.registry, statement)
    }

    pub(crate) fn at_court<T: SolStruct>(&self, statement: &T) -> B256 {
        digest(self.court, statement)
    }

    pub(crate) fn at_token<T: SolStruct>(&self, token: Address, statement: &T) -> B256 {
        let found = self.tokens.iter().find(|(at, _)| *at == token);
        digest(found.expect("a token of the model").1, statement)
    }
}

fn digest<T: SolStruct>(separator: B256, statement: &T) -> B256 {
    keccak256([&[0x19, 0x01], separator.as_slice(), statement.eip712_hash_struct().as_slice()].concat())
}

//! Network profiles: the one file that a newcomer needs, `network.toml`, signed by whoever publishes the network.
//!
//! ```text
//! NetworkProfile ──toml──► text ──publisher's key, domain "profile"──► text + "# signature: 0x…" ──verify──► NetworkProfile
//! ```
//!
//! The signature is the file's last line, a comment to every other reader of TOML, over exactly the bytes before it. Whose
//! signature counts is the operator's decision: `tradewind setup` shows the signer and remembers it.
//!
//! ```
//! use tradewind_proto::profile::NetworkProfile;
//!
//! let error = NetworkProfile::parse("network.toml", "name = \"dev\"\n[chain]\nid = \"one\"\n").unwrap_err();
//! assert_eq!(error.to_string(), "network.toml:3:6: invalid type: string \"one\", expected u64");
//! ```

use std::fmt;
use std::net::SocketAddr;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::challenge::{MAX_ROUNDS, Size, WalkProfile};
use crate::ids::MeshKey;
use crate::signature::{Signature, SignatureError, Signed, SigningKey};
use crate::terms::Domain;

/// The largest profile.
pub const MAX_PROFILE_BYTES: usize = 64 << 10;

const DOMAIN: &str = "profile";
const SIGNATURE_LINE: &str = "# signature: ";
const MAX_ENTRIES: usize = 64;
const MAX_URL: usize = 512;

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Larger than [`MAX_PROFILE_BYTES`].
    #[error("{file}: the profile has {size} bytes, at most {MAX_PROFILE_BYTES} are accepted")]
    Size {
        /// The file.
        file: String,
        /// Its length.
        size: usize,
    },
    /// Not TOML, or not these fields.
    #[error("{file}:{line}:{column}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, counted from one.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A value makes no sense.
    #[error("{file}: {field} {problem}")]
    Value {
        /// The file.
        file: String,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No signature, or one that is none.
    #[error("the profile is not signed: its last line must be `{SIGNATURE_LINE}0x…`")]
    Unsigned,
    /// The signature is somebody else's.
    #[error("the profile's signature does not count")]
    Signature(#[source] SignatureError),
    /// It cannot be written as TOML.
    #[error("the profile cannot be written")]
    Encode,
}

/// Where money moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainProfile {
    /// The chain's id.
    pub id: u64,
    /// JSON-RPC endpoints, the preferred one first.
    pub rpc: Vec<String>,
    /// Blocks until a decision about money counts; zero where blocks never go back.
    #[serde(default)]
    pub finality: u32,
}

/// The deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contracts {
    /// The leases.
    pub leases: Address,
    /// Accounts, devices and stakes.
    pub registry: Address,
    /// The registry's arbiter, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub court: Option<Address>,
    /// The network's own token, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_token: Option<Address>,
    /// Multicall3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicall: Option<Address>,
    /// What auditors vouch for, where the network has a contract for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Address>,
}

/// What watchers ask of a device once an epoch: products of this many rows and columns, so many in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeProfile {
    /// A power of two from 256 to 16,384.
    pub size: u32,
    /// At most 64.
    pub rounds: u32,
}

/// How a token takes a signed deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetKind {
    /// `receiveWithAuthorization`.
    Erc3009,
    /// `permit`.
    Erc2612,
    /// Only `approve` from the owner's own transaction.
    Plain,
}

/// A token that leases are paid in, or that is staked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// For people.
    pub symbol: String,
    /// Its contract.
    pub address: Address,
    /// Places after the point.
    pub decimals: u8,
    /// How it takes a signed deposit.
    pub kind: AssetKind,
}

/// A node to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Its key on the mesh.
    pub key: MeshKey,
    /// Where it listens; empty where only a relay reaches it.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
}

/// Everything that a node needs to take part in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkProfile {
    /// For people.
    pub name: String,
    /// Money without value: a faucet and short windows are expected.
    #[serde(default)]
    pub development: bool,
    /// Who submits for users without gas.
    #[serde(default)]
    pub relayers: Vec<String>,
    /// Where development money comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faucet: Option<String>,
    /// Relays of the mesh.
    #[serde(default)]
    pub relays: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explorer: Option<String>,
    /// Who pays a new device's test job; nobody where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<Address>,
    /// Where money moves.
    pub chain: ChainProfile,
    /// The deployment.
    pub contracts: Contracts,
    /// The hardware challenge; none where nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeProfile>,
    /// How devices' memory is measured; none where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<WalkProfile>,
    /// What devices and seats stake; the quote asset where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<Asset>,
    /// What leases are paid in; the first is the quote asset.
    pub assets: Vec<Asset>,
    /// Nodes to begin with.
    #[serde(default)]
    pub bootstrap: Vec<Bootstrap>,
}

impl NetworkProfile {
    /// Reads a profile, signed or not. `file` names it in errors.
    ///
    /// # Errors
    /// [`ProfileError::Size`], [`ProfileError::Syntax`] with the place, [`ProfileError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        if text.len() > MAX_PROFILE_BYTES {
            return Err(ProfileError::Size { file: file.into(), size: text.len() });
        }
        let profile: Self = toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            ProfileError::Syntax {
                file: file.into(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().lines().collect::<Vec<_>>().join("; "),
            }
        })?;
        profile.check(file)?;
        Ok(profile)
    }

    /// The profile as TOML, unsigned.
    ///
    /// # Errors
    /// [`ProfileError::Value`], [`ProfileError::Encode`].
    pub fn encode(&self) -> Result<String, ProfileError> {
        self.check("profile")?;
        toml::to_string(self).map_err(|_| ProfileError::Encode)
    }

    /// The profile as TOML with `key`'s signature.
    ///
    /// # Errors
    /// As [`NetworkProfile::encode`].
    pub fn sign(&self, key: &SigningKey) -> Result<String, ProfileError> {
        let mut text = self.encode()?;
        let signature = Signed::new(DOMAIN, text.clone().into_bytes(), key).signature;
        fmt::Write::write_fmt(
            &mut text,
            format_args!("{SIGNATURE_LINE}0x{}\n", alloy_primitives::hex::encode(signature.as_bytes())),
        )
        .map_err(|_| ProfileError::Encode)?;
        Ok(text)
    }

    /// Identifies the network: the digest of chain and contracts, whatever else the profile says.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut bytes = self.chain.id.to_be_bytes().to_vec();
        bytes.extend(self.contracts.leases.as_slice());
        bytes.extend(self.contracts.registry.as_slice());
        keccak256(bytes)
    }

    /// Where leases and vouchers are signed for.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.id, contract: self.contracts.leases }
    }

    /// The asset that prices are quoted in.
    #[must_use]
    pub fn quote(&self) -> Option<&Asset> {
        self.assets.first()
    }

    /// The asset that is staked.
    #[must_use]
    pub fn staked(&self) -> Option<&Asset> {
        self.stake.as_ref().or_else(|| self.quote())
    }

    /// The asset with this contract.
    #[must_use]
    pub fn asset(&self, address: Address) -> Option<&Asset> {
        self.assets.iter().find(|asset| asset.address == address)
    }

    fn check(&self, file: &str) -> Result<(), ProfileError> {
        let rule = |holds: bool, field, problem| {
            if holds { Ok(()) } else { Err(ProfileError::Value { file: file.into(), field, problem }) }
        };
        let word = |text: &str, most| {
            (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        };
        rule(word(&self.name, 64), "name", "must be 1 to 64 printable characters")?;
        rule(self.chain.id != 0, "chain.id", "must not be zero")?;
        rule((1..=MAX_ENTRIES).contains(&self.chain.rpc.len()), "chain.rpc", "must list 1 to 64 endpoints")?;
        rule(self.chain.rpc.iter().all(|url| is_url(url)), "chain.rpc", "must hold http or https addresses")?;
        let distinct = self.contracts.leases != self.contracts.registry;
        let deployed = self.contracts.leases != Address::ZERO && self.contracts.registry != Address::ZERO;
        rule(distinct && deployed, "contracts", "must be two different accounts")?;
        let challenge = self.challenge.is_none_or(|asked| {
            Size::new(asked.size).is_ok() && (1..=MAX_ROUNDS).contains(&(asked.rounds as usize))
        });
        rule(challenge, "challenge", "asks for 1 to 64 products of 256 to 16384 rows, a power of two")?;
        let walk = "fills 1 MiB to 1 TiB, makes at most 65,536 checkpoints, opens 1 to 64 stretches, and spells models as jobs do";
        rule(self.walk.as_ref().is_none_or(WalkProfile::is_sound), "walk", walk)?;
        rule((1..=MAX_ENTRIES).contains(&self.assets.len()), "assets", "must list 1 to 64 tokens")?;
        let shown = |asset: &Asset| word(&asset.symbol, 16) && asset.decimals <= 36;
        let symbol = "must have a symbol of 1 to 16 characters and at most 36 decimals";
        rule(self.assets.iter().all(shown), "assets", symbol)?;
        rule(self.stake.iter().all(shown), "stake", symbol)?;
        let mut addresses: Vec<Address> = self.assets.iter().map(|asset| asset.address).collect();
        addresses.sort_unstable();
        rule(addresses.windows(2).all(|pair| pair[0] != pair[1]), "assets", "list a token twice")?;
        let lists = [&self.relayers, &self.relays];
        rule(lists.iter().all(|list| list.len() <= MAX_ENTRIES), "relays", "are more than 64")?;
        rule(
            lists.iter().all(|l| l.iter().all(|url| is_url(url))),
            "relays",
            "must be http or https addresses",
        )?;
        let single = [&self.faucet, &self.explorer];
        let urls = single.iter().all(|url| url.as_deref().is_none_or(is_url));
        rule(urls, "faucet and explorer", "must be http or https addresses")?;
        rule(self.development || self.faucet.is_none(), "faucet", "exists on development networks only")?;
        rule(self.bootstrap.len() <= MAX_ENTRIES, "bootstrap", "has more than 64 nodes")?;
        let few = self.bootstrap.iter().all(|node| node.addresses.len() <= 16);
        rule(few, "bootstrap.addresses", "are more than 16")
    }
}

/// A profile whose signature was checked, and by whom it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedProfile {
    /// What it says.
    pub profile: NetworkProfile,
    /// Who says it.
    pub publisher: Address,
}

impl VerifiedProfile {
    /// Reads a signed profile. The signature is checked before anything is believed; with `publisher` it must be theirs.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(file: &str, text: &str, publisher: Option<Address>) -> Result<Self, ProfileError> {
        if text.len() > MAX_PROFILE_BYTES {
            return Err(ProfileError::Size { file: file.into(), size: text.len() });
        }
        let (body, line) = split_signature(text).ok_or(ProfileError::Unsigned)?;
        let raw = alloy_primitives::hex::decode(line).map_err(|_| ProfileError::Unsigned)?;
        let signature = Signature::from_bytes(&raw).map_err(ProfileError::Signature)?;
        let signed = Signed { bytes: body.as_bytes().to_vec().into(), signature };
        let signer = signed.signer(DOMAIN).map_err(ProfileError::Signature)?;
        if let Some(expected) = publisher
            && signer != expected
        {
            return Err(ProfileError::Signature(SignatureError::WrongSigner { signer, expected }));
        }
        Ok(Self { profile: NetworkProfile::parse(file, body)?, publisher: signer })
    }
}

/// The signed text and the signature in hex.
fn split_signature(text: &str) -> Option<(&str, &str)> {
    let trimmed = text.trim_end();
    let start = trimmed.rfind('\n').map_or(0, |at| at + 1);
    Some((&text[..start], trimmed[start..].strip_prefix(SIGNATURE_LINE)?))
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    url.len() <= MAX_URL
        && url.bytes().all(|b| b.is_ascii_graphic())
        && rest.is_some_and(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| !host.is_empty()))
}

#[cfg(test)]
mod tests;

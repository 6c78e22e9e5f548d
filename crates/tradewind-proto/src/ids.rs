//! Names of things: accounts, devices, leases, jobs and mesh keys.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

/// Why an id could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct IdError {
    text: String,
    what: &'static str,
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(B256);

        impl $name {
            /// The id whose 32 bytes are `bytes`.
            #[must_use]
            pub const fn new(bytes: B256) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn get(self) -> B256 {
                self.0
            }

            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(self) -> String {
                self.0.to_string().chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self).map_err(|_| IdError { text: text.into(), what: $what })
            }
        }
    };
}

digest_id!(
    /// A lease: the EIP-712 digest of its terms.
    LeaseId,
    "lease id (0x and 64 hex digits)"
);
digest_id!(
    /// A device of a provider: `keccak256(abi.encode(provider, device key))`.
    DeviceId,
    "device id (0x and 64 hex digits)"
);
digest_id!(
    /// One run of a job: 32 random bytes.
    JobId,
    "job id (0x and 64 hex digits)"
);

digest_id!(
    /// A case before the court: `keccak256(abi.encode(chain id, court, device, epoch))`.
    CaseId,
    "case id (0x and 64 hex digits)"
);

impl DeviceId {
    /// No device: the unstaked tier.
    pub const NONE: Self = Self(B256::ZERO);

    /// The id of the device with `key` that belongs to `provider`.
    #[must_use]
    pub fn derive(provider: Address, key: Address) -> Self {
        let mut encoded = [0u8; 64];
        encoded[12..32].copy_from_slice(provider.as_slice());
        encoded[44..].copy_from_slice(key.as_slice());
        Self(keccak256(encoded))
    }
}

macro_rules! account_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Address);

        impl $name {
            /// The party with this account.
            #[must_use]
            pub const fn new(account: Address) -> Self {
                Self(account)
            }

            /// The account.
            #[must_use]
            pub const fn account(self) -> Address {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self).map_err(|_| IdError { text: text.into(), what: $what })
            }
        }
    };
}

account_id!(
    /// A provider, by its account on chain.
    ProviderId,
    "provider account (0x and 40 hex digits)"
);
account_id!(
    /// A buyer, by its account on chain.
    BuyerId,
    "buyer account (0x and 40 hex digits)"
);

/// A node's ed25519 public key on the mesh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MeshKey([u8; 32]);

impl MeshKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey({self})")
    }
}

impl FromStr for MeshKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError { text: text.into(), what: "mesh key (64 hex digits)" };
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).map_err(|_| error())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for MeshKey {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<MeshKey> for String {
    fn from(key: MeshKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_show() {
        let lease = LeaseId::new(B256::repeat_byte(7));
        assert_eq!(lease.to_string().parse::<LeaseId>().unwrap(), lease);
        assert_eq!(lease.short(), "0x07070707");
        let key = MeshKey::from_bytes([9; 32]);
        assert_eq!(key.to_string().parse::<MeshKey>().unwrap(), key);
        assert_eq!(
            "xyz".parse::<MeshKey>().unwrap_err().to_string(),
            "`xyz` is not a mesh key (64 hex digits)"
        );
    }
}

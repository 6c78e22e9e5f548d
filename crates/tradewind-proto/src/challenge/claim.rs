//! A device's signed list of roots, once it is known to be the answer to our challenge.

use alloy_primitives::{Address, B256};

use super::{Challenge, Size, next_seed};
use crate::evidence::{Epoch, ProductRoots, Sworn};
use crate::ids::DeviceId;
use crate::signature::SignatureError;

/// Why a list is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It answers another device's challenge.
    #[error("the list is for device {got}, this is {expected}")]
    OtherDevice {
        /// In the list.
        got: DeviceId,
        /// Challenged.
        expected: DeviceId,
    },
    /// It answers another epoch's challenge.
    #[error("the list is for epoch {got}, this is {expected}")]
    OtherEpoch {
        /// In the list.
        got: Epoch,
        /// Challenged.
        expected: Epoch,
    },
    /// Smaller or larger matrices than asked for.
    #[error("the list is for matrices of {got} rows, {expected} were asked for")]
    OtherSize {
        /// In the list.
        got: Size,
        /// Asked for.
        expected: Size,
    },
    /// Fewer or more rounds than asked for.
    #[error("the list has {got} rounds, {expected} were asked for")]
    OtherRounds {
        /// In the list.
        got: usize,
        /// Asked for.
        expected: usize,
    },
    /// Not the device's signature for this chain and court.
    #[error("the list is not signed by the device for this court")]
    Signature(#[from] SignatureError),
}

/// What a device committed to: from here on it can only open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    signed: Sworn<ProductRoots>,
    seeds: Vec<B256>,
}

impl Claim {
    /// Accepts a list as the answer to `challenge` by the device whose key is `key`.
    ///
    /// # Errors
    /// The [`ClaimError`] that names the difference.
    pub fn accept(
        signed: Sworn<ProductRoots>,
        challenge: &Challenge,
        key: Address,
        size: Size,
        rounds: usize,
    ) -> Result<Self, ClaimError> {
        let list = &signed.body;
        if list.device() != challenge.device {
            return Err(ClaimError::OtherDevice { got: list.device(), expected: challenge.device });
        }
        if list.epoch() != challenge.epoch {
            return Err(ClaimError::OtherEpoch { got: list.epoch(), expected: challenge.epoch });
        }
        if list.size() != size {
            return Err(ClaimError::OtherSize { got: list.size(), expected: size });
        }
        if list.roots().len() != rounds {
            return Err(ClaimError::OtherRounds { got: list.roots().len(), expected: rounds });
        }
        signed.verify(&challenge.court, key)?;
        let seeds = list.roots().iter().scan(challenge.seed(), |next, root| {
            let seed = *next;
            *next = next_seed(seed, *root);
            Some(seed)
        });
        Ok(Self { seeds: seeds.collect(), signed })
    }

    /// The list as it was signed, for a proof.
    #[must_use]
    pub const fn signed(&self) -> &Sworn<ProductRoots> {
        &self.signed
    }

    /// Rows and columns.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.signed.body.size()
    }

    /// How many rounds.
    #[must_use]
    pub const fn rounds(&self) -> usize {
        self.seeds.len()
    }

    /// The seed and the root of a round.
    #[must_use]
    pub fn round(&self, number: usize) -> Option<(B256, B256)> {
        self.seeds.get(number).copied().zip(self.signed.body.roots().get(number).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::tests::challenge;
    use crate::evidence::Court;
    use crate::signature::SigningKey;

    fn size(rows: u32) -> Size {
        Size::new(rows).unwrap()
    }

    #[test]
    fn seeds_chain_through_the_roots() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let roots = [B256::repeat_byte(1), B256::repeat_byte(2), B256::repeat_byte(3)];
        let list =
            ProductRoots::new(challenge().device, challenge().epoch, size(256), roots.to_vec()).unwrap();
        let signed = Sworn::sign(list, &challenge().court, &key);
        let claim = Claim::accept(signed, &challenge(), key.address(), size(256), 3).unwrap();
        let first = challenge().seed();
        assert_eq!(claim.round(0), Some((first, roots[0])));
        assert_eq!(claim.round(2), Some((next_seed(next_seed(first, roots[0]), roots[1]), roots[2])));
        assert_eq!(claim.round(3), None);
    }

    #[test]
    fn a_list_from_another_epoch_device_chain_court_or_key_is_refused() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let list = |device, epoch| ProductRoots::new(device, epoch, size(256), vec![B256::ZERO]).unwrap();
        let Challenge { court, device, epoch, .. } = challenge();
        let accept = |signed, size, rounds| {
            Claim::accept(signed, &challenge(), key.address(), size, rounds).map(drop).unwrap_err()
        };
        let sign = |list: ProductRoots| Sworn::sign(list, &court, &key);
        let other = DeviceId::new(B256::ZERO);
        assert_eq!(
            accept(sign(list(other, epoch)), size(256), 1),
            ClaimError::OtherDevice { got: other, expected: device }
        );
        let earlier = Epoch::new(6);
        assert_eq!(
            accept(sign(list(device, earlier)), size(256), 1),
            ClaimError::OtherEpoch { got: earlier, expected: epoch }
        );
        let good = list(device, epoch);
        assert_eq!(
            accept(sign(good.clone()), size(512), 1),
            ClaimError::OtherSize { got: size(256), expected: size(512) }
        );
        assert_eq!(accept(sign(good.clone()), size(256), 2), ClaimError::OtherRounds { got: 1, expected: 2 });
        let thief = SigningKey::from_bytes([8; 32]).unwrap();
        for foreign in [
            Sworn::sign(good.clone(), &Court { chain_id: 2, ..court }, &key),
            Sworn::sign(good.clone(), &Court { contract: Address::ZERO, ..court }, &key),
            Sworn::sign(good.clone(), &court, &thief),
        ] {
            assert!(matches!(accept(foreign, size(256), 1), ClaimError::Signature(_)));
        }
        let mut altered = sign(good);
        altered.body = ProductRoots::new(device, epoch, size(256), vec![B256::repeat_byte(1)]).unwrap();
        assert!(matches!(accept(altered, size(256), 1), ClaimError::Signature(_)));
    }
}

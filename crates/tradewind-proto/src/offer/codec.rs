//! How the units and ids travel in CBOR: counts as integers, keys and digests as byte strings of fixed length, 128-bit
//! rates and amounts of money as 16 big-endian bytes.

use alloy_primitives::{Address, B256};
use minicbor::decode::{Decode, Decoder, Error};
use minicbor::encode::{self, Encode, Encoder, Write};

use crate::ids::{DeviceId, LeaseId, MeshKey, ProviderId};
use crate::units::{Bytes, Money, RatePerSecond, Seconds, Timestamp};
use crate::workload::Network;

fn fixed<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], Error> {
    let at = d.position();
    d.bytes()?.try_into().map_err(|_| Error::message("byte string of the wrong length").at(at))
}

macro_rules! as_bytes {
    ($type:ty, |$value:ident| $to:expr, |$bytes:ident| $from:expr) => {
        impl<C> Encode<C> for $type {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                let $value = self;
                e.bytes($to)?;
                Ok(())
            }
        }

        impl<'b, C> Decode<'b, C> for $type {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
                let $bytes = fixed(d)?;
                Ok($from)
            }
        }
    };
}

as_bytes!(ProviderId, |id| id.account().as_slice(), |bytes| Self::new(Address::new(bytes)));
as_bytes!(LeaseId, |id| id.get().as_slice(), |bytes| Self::new(B256::new(bytes)));
as_bytes!(DeviceId, |id| id.get().as_slice(), |bytes| Self::new(B256::new(bytes)));
as_bytes!(MeshKey, |key| key.as_bytes(), |bytes| Self::from_bytes(bytes));
as_bytes!(RatePerSecond, |rate| &rate.scaled().to_be_bytes(), |bytes| Self::from_scaled(
    u128::from_be_bytes(bytes)
));

impl<C> Encode<C> for Money {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.base_units().to_be_bytes())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Money {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        let at = d.position();
        let units = u128::from_be_bytes(fixed(d)?);
        Self::new(units).map_err(|_| Error::message("more than all money").at(at))
    }
}

macro_rules! as_integer {
    ($type:ty, |$value:ident| $to:expr, |$integer:ident| $from:expr) => {
        impl<C> Encode<C> for $type {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                let $value = self;
                e.u64($to)?;
                Ok(())
            }
        }

        impl<'b, C> Decode<'b, C> for $type {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
                let $integer = d.u64()?;
                Ok($from)
            }
        }
    };
}

as_integer!(Seconds, |seconds| seconds.get(), |n| Self::new(n));
as_integer!(Timestamp, |at| at.unix(), |n| Self::from_unix(n));
as_integer!(Bytes, |bytes| bytes.get(), |n| Self::new(n));
as_integer!(Network, |network| u64::from(*network == Self::Internet), |n| if n == 1 {
    Self::Internet
} else {
    Self::None
});

/// A contract's address as 20 bytes.
pub(crate) mod address {
    use super::{Address, Decoder, Encoder, Error, Write, encode as cbor, fixed};

    pub(crate) fn encode<C, W: Write>(
        value: &Address,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), cbor::Error<W::Error>> {
        e.bytes(value.as_slice())?;
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Address, Error> {
        fixed(d).map(Address::new)
    }
}

/// A digest as 32 bytes.
pub(crate) mod digest {
    use super::{B256, Decoder, Encoder, Error, Write, encode as cbor, fixed};

    pub(crate) fn encode<C, W: Write>(
        value: &B256,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), cbor::Error<W::Error>> {
        e.bytes(value.as_slice())?;
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<B256, Error> {
        fixed(d).map(B256::new)
    }
}

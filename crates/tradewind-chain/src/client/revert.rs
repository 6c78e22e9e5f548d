//! Contract errors by name and value, from the contracts' own ABI.

use std::collections::HashMap;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi::{Error, JsonAbi};
use alloy::primitives::Selector;
use alloy::rpc::json_rpc::ErrorPayload;
use serde_json::value::RawValue;

use crate::ledger::Revert;

/// `Error(string)`, what `require` with a text gives.
const TEXT: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// `Panic(uint256)`, what a failed assertion or an overflow gives.
const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];
/// The JSON-RPC code of a revert.
const REVERTED: i64 = 3;

/// Reads what a contract refused with.
#[derive(Debug, Clone, Default)]
pub struct RevertDecoder {
    errors: HashMap<Selector, Error>,
}

impl RevertDecoder {
    /// A decoder for the errors of these ABIs.
    #[must_use]
    pub fn new<'a>(abis: impl IntoIterator<Item = &'a JsonAbi>) -> Self {
        let errors = abis.into_iter().flat_map(JsonAbi::errors);
        Self { errors: errors.map(|error| (error.selector(), error.clone())).collect() }
    }

    /// The contract's refusal in a JSON-RPC error, or `None` for an error of another kind.
    #[must_use]
    pub fn refusal(&self, error: &ErrorPayload<Box<RawValue>>) -> Option<Revert> {
        if let Some(data) = error.as_revert_data() {
            return Some(self.decode(&data));
        }
        let reverted = error.code == REVERTED || error.message.contains("execution reverted");
        reverted.then(|| Revert::named("reverted"))
    }

    /// The error that `data` encodes; unknown ones by their selector.
    #[must_use]
    pub fn decode(&self, data: &[u8]) -> Revert {
        let Some((selector, _)) = data.split_first_chunk::<4>() else { return Revert::named("reverted") };
        match *selector {
            TEXT => text(data),
            PANIC => Revert {
                name: "Panic".into(),
                values: vec![(
                    "code".into(),
                    data.last().map(|code| format!("0x{code:02x}")).unwrap_or_default(),
                )],
            },
            _ => self.named(*selector, data),
        }
    }

    fn named(&self, selector: [u8; 4], data: &[u8]) -> Revert {
        let unknown = || Revert::named(&format!("0x{}", hex::encode(selector)));
        let Some(error) = self.errors.get(&Selector::from(selector)) else { return unknown() };
        let Ok(decoded) = error.decode_error(data) else { return unknown() };
        let values = error.inputs.iter().zip(decoded.body.iter());
        Revert {
            name: error.name.clone(),
            values: values.map(|(input, value)| (input.name.clone(), show(value))).collect(),
        }
    }
}

fn text(data: &[u8]) -> Revert {
    use alloy::sol_types::SolError;
    alloy::sol_types::Revert::abi_decode(data).map_or_else(
        |_| Revert::named("reverted"),
        |decoded| Revert { name: "Error".into(), values: vec![(String::new(), decoded.reason)] },
    )
}

fn show(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::Uint(number, _) => number.to_string(),
        DynSolValue::Int(number, _) => number.to_string(),
        DynSolValue::Bool(flag) => flag.to_string(),
        DynSolValue::FixedBytes(word, size) => format!("0x{}", hex::encode(&word[..*size])),
        DynSolValue::String(text) => text.clone(),
        DynSolValue::Bytes(bytes) => format!("0x{}", hex::encode(bytes)),
        DynSolValue::Array(_)
        | DynSolValue::FixedArray(_)
        | DynSolValue::Tuple(_)
        | DynSolValue::CustomStruct { .. }
        | DynSolValue::Function(_) => {
            format!("{value:?}")
        }
    }
}

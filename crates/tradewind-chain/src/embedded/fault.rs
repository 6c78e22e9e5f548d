//! JSON-RPC errors, with the codes and words that geth uses.

use std::borrow::Cow;

use alloy::primitives::{B256, Bytes};
use alloy::sol_types::{Panic, Revert, SolError as _};
use revm::context::result::{HaltReason, InvalidTransaction};
use serde_json::value::RawValue;

use super::engine::LedgerError;
use super::execution::CallError;
use super::store::StoreError;

const PARSE: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD: i64 = -32601;
const PARAMS: i64 = -32602;
const SERVER: i64 = -32000;
const RESOURCES: i64 = -32002;
const LIMIT: i64 = -32005;
const REVERTED: i64 = 3;
const UNMINED: i64 = 4;

/// An error answer of the JSON-RPC interface.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Fault {
    /// The JSON-RPC error code.
    pub code: i64,
    /// The message.
    pub message: Cow<'static, str>,
    /// Further data: the revert data of a reverted call.
    pub data: Option<Box<RawValue>>,
}

impl Fault {
    fn new(code: i64, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(crate) fn parse(message: impl std::fmt::Display) -> Self {
        Self::new(PARSE, format!("parse error: {message}"))
    }

    pub(crate) fn request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub(crate) fn method(method: &str) -> Self {
        Self::new(METHOD, format!("the method {method} does not exist/is not available"))
    }

    pub(crate) fn params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PARAMS, message)
    }

    pub(crate) fn server(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SERVER, message)
    }

    pub(crate) fn busy(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RESOURCES, message)
    }

    pub(crate) fn limit(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(LIMIT, message)
    }

    /// A transaction that was accepted and is in no block yet (EIP-7966).
    pub(crate) fn not_mined_yet(hash: B256) -> Self {
        let data = serde_json::value::to_raw_value(&hash).ok();
        Self { data, ..Self::new(UNMINED, "the transaction was added to the pool but is not in a block yet") }
    }

    /// A call that ended in `REVERT`, with the reason in words where it has one.
    pub(crate) fn reverted(output: &Bytes) -> Self {
        let reason = Revert::abi_decode(output)
            .map(|revert| revert.reason().to_owned())
            .or_else(|_| Panic::abi_decode(output).map(|panic| panic.to_string()));
        let message = match reason {
            Ok(reason) => Cow::Owned(format!("execution reverted: {reason}")),
            Err(_) => Cow::Borrowed("execution reverted"),
        };
        Self { data: serde_json::value::to_raw_value(output).ok(), ..Self::new(REVERTED, message) }
    }

    /// A call that used up its gas in an exceptional halt.
    pub(crate) fn halted(reason: &HaltReason) -> Self {
        if matches!(reason, HaltReason::OutOfGas(_)) {
            Self::server("out of gas")
        } else {
            Self::server(format!("execution halted: {reason:?}"))
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::server(error.to_string())
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Busy => Self::busy(error.to_string()),
            error @ (LedgerError::Refused(_)
            | LedgerError::Storage(_)
            | LedgerError::TooDeep { .. }
            | LedgerError::Closed) => Self::server(error.to_string()),
        }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Store(error) => error.into(),
            CallError::Evm(error) => Self::server(error),
            CallError::Invalid(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
                Self::server(format!("insufficient funds for gas * price + value: have {balance} want {fee}"))
            }
            CallError::Invalid(InvalidTransaction::CallGasCostMoreThanGasLimit {
                initial_gas,
                gas_limit,
            }) => Self::server(format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")),
            CallError::Invalid(reason) => Self::server(reason.to_string()),
        }
    }
}

//! Calls and gas estimates.

use alloy::consensus::Header;
use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::types::state::StateOverride;
use alloy::rpc::types::{BlockOverrides, TransactionRequest};
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context::{BlockEnv, TxEnv};
use revm::primitives::TxKind;
use revm::state::Bytecode;

use super::super::execution::{block_env, simulate};
use super::super::fault::Fault;
use super::super::state::{Account, Change, StateDb};
use super::{Answer, Params, Rpc, raw};

/// The least gas any transaction uses.
const TRANSFER_GAS: u64 = 21_000;
/// Gas that a call with value hands to its callee on top.
const CALL_STIPEND: u64 = 2_300;
/// How close, in thousandths, an estimate gets to the least sufficient gas, as geth has it.
const ESTIMATE_TOLERANCE: u64 = 15;

impl Rpc {
    pub(super) fn call(&self, params: &Params) -> Answer {
        let request: TransactionRequest = params.required(0)?;
        let (mut state, mut block) = self.environment(params.block(1)?)?;
        override_state(&mut state, params.optional(2)?.unwrap_or_default())?;
        override_block(&mut state, &mut block, params.optional(3)?.unwrap_or_default());
        let call = self.tx_env(&request, &block)?;
        match simulate(&mut state, &self.shared.rules, block, call)? {
            ExecutionResult::Success { output, .. } => raw(output.data()),
            ExecutionResult::Revert { output, .. } => Err(Fault::reverted(&output)),
            ExecutionResult::Halt { reason, .. } => Err(Fault::halted(&reason)),
        }
    }

    pub(super) fn estimate_gas(&self, params: &Params) -> Answer {
        let request: TransactionRequest = params.required(0)?;
        let id = params.optional(1)?.unwrap_or(BlockId::pending());
        let (mut state, mut block) = self.environment(id)?;
        override_state(&mut state, params.optional(2)?.unwrap_or_default())?;
        override_block(&mut state, &mut block, params.optional(3)?.unwrap_or_default());
        let mut call = self.tx_env(&request, &block)?;
        call.gas_limit = affordable(&mut state, &call)?;
        let plain = call.data.is_empty()
            && match call.kind {
                TxKind::Call(to) => state
                    .account(to)?
                    .is_none_or(|account| account.code_hash == alloy::primitives::KECCAK256_EMPTY),
                TxKind::Create => false,
            };
        if plain && call.gas_limit >= TRANSFER_GAS {
            let attempt = TxEnv { gas_limit: TRANSFER_GAS, ..call.clone() };
            if simulate(&mut state, &self.shared.rules, block.clone(), attempt)?.is_success() {
                return raw(&U64::from(TRANSFER_GAS));
            }
        }
        self.search(&mut state, &block, &call).and_then(|gas| raw(&U64::from(gas)))
    }

    /// The least gas limit, within the tolerance, with which `call` succeeds.
    fn search(&self, state: &mut StateDb, block: &BlockEnv, call: &TxEnv) -> Result<u64, Fault> {
        let rules = &self.shared.rules;
        let mut run = |gas_limit| simulate(state, rules, block.clone(), TxEnv { gas_limit, ..call.clone() });
        let mut high = call.gas_limit;
        let gas = match run(high)? {
            ExecutionResult::Success { gas, .. } => gas,
            ExecutionResult::Revert { output, .. } => return Err(Fault::reverted(&output)),
            ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => {
                return Err(Fault::server(format!("gas required exceeds allowance ({high})")));
            }
            ExecutionResult::Halt { reason, .. } => return Err(Fault::halted(&reason)),
        };
        let mut low = gas.tx_gas_used().saturating_sub(1);
        let optimistic = gas.total_gas_spent().saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        let mut probe = optimistic;
        if probe >= high {
            probe = low + (high - low) / 2;
        }
        while low + 1 < high {
            if (high - low).saturating_mul(1000) < high.saturating_mul(ESTIMATE_TOLERANCE) {
                break;
            }
            let enough = match run(probe) {
                Ok(result) => result.is_success(),
                Err(super::super::execution::CallError::Invalid(_)) => false,
                Err(error) => return Err(error.into()),
            };
            if enough {
                high = probe;
            } else {
                low = probe;
            }
            // Most calls need little more than they use, so the lower half is the better guess.
            probe = (low + (high - low) / 2).min(low.saturating_mul(2).max(low + 1));
        }
        Ok(high)
    }

    /// The state and block that a call against `id` sees. For `latest` and `pending` the time is now: on a
    /// ledger that makes blocks on demand, the newest block may be old.
    fn environment(&self, id: BlockId) -> Result<(StateDb, BlockEnv), Fault> {
        let state = self.state_at(id)?;
        let view = state.view();
        let number = self.block_number(view, id)?.ok_or_else(|| Fault::server("header not found"))?;
        let (hash, header) = view.header(number)?.ok_or_else(|| Fault::server("header not found"))?;
        let header = if id == BlockId::pending() {
            self.shared.rules.next_header(&header, hash, self.shared.now())
        } else if id == BlockId::latest() {
            Header { timestamp: header.timestamp.max(self.shared.now()), ..header }
        } else {
            header
        };
        Ok((state, block_env(&header)))
    }

    fn tx_env(&self, request: &TransactionRequest, block: &BlockEnv) -> Result<TxEnv, Fault> {
        if request.gas_price.is_some()
            && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
        {
            return Err(Fault::params("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
        }
        if request.blob_versioned_hashes.is_some() || request.authorization_list.is_some() {
            return Err(Fault::server("transaction type not supported"));
        }
        let fee = request.gas_price.or(request.max_fee_per_gas).unwrap_or(0);
        let mut call = TxEnv {
            caller: request.from.unwrap_or(Address::ZERO),
            gas_limit: request.gas.unwrap_or(block.gas_limit).min(block.gas_limit),
            gas_price: fee,
            gas_priority_fee: request.max_fee_per_gas.and(request.max_priority_fee_per_gas),
            kind: request.to.unwrap_or(TxKind::Create),
            value: request.value.unwrap_or_default(),
            data: request.input.input().cloned().unwrap_or_default(),
            nonce: request.nonce.unwrap_or(0),
            chain_id: Some(self.shared.rules.chain_id),
            access_list: request.access_list.clone().unwrap_or_default(),
            ..TxEnv::default()
        };
        call.derive_tx_type().map_err(|error| Fault::params(error.to_string()))?;
        Ok(call)
    }
}

/// The gas that the call's sender can pay for at its fee.
fn affordable(state: &mut StateDb, call: &TxEnv) -> Result<u64, Fault> {
    if call.gas_price == 0 {
        return Ok(call.gas_limit);
    }
    let balance = state.account(call.caller)?.map_or(U256::ZERO, |account| account.balance);
    let left =
        balance.checked_sub(call.value).ok_or_else(|| Fault::server("insufficient funds for transfer"))?;
    let gas = left / U256::from(call.gas_price);
    Ok(call.gas_limit.min(gas.saturating_to()))
}

fn override_state(state: &mut StateDb, overrides: StateOverride) -> Result<(), Fault> {
    for (address, change) in overrides {
        let mut account = state.account(address)?.unwrap_or(Account {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: alloy::primitives::KECCAK256_EMPTY,
        });
        account.nonce = change.nonce.unwrap_or(account.nonce);
        account.balance = change.balance.unwrap_or(account.balance);
        if let Some(code) = change.code {
            account.code_hash = state.set_code(Bytecode::new_legacy(code));
        }
        state.set_account(address, Some(account));
        if change.state.is_some() && change.state_diff.is_some() {
            return Err(Fault::params(format!("account {address} has both 'state' and 'stateDiff'")));
        }
        if change.state.is_some() {
            state.hide_storage(address);
        }
        let slots = change.state.or(change.state_diff).unwrap_or_default();
        for (slot, value) in slots {
            set_slot(state, address, slot, value);
        }
    }
    Ok(())
}

fn set_slot(state: &mut StateDb, address: Address, slot: B256, value: B256) {
    state.set_slot(address, slot.into(), Change { before: U256::ZERO, after: value.into() });
}

fn override_block(state: &mut StateDb, block: &mut BlockEnv, overrides: BlockOverrides) {
    block.number = overrides.number.unwrap_or(block.number);
    block.timestamp = overrides.time.map_or(block.timestamp, U256::from);
    block.gas_limit = overrides.gas_limit.map_or(block.gas_limit, |limit| limit.min(block.gas_limit));
    block.beneficiary = overrides.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = overrides.random.or(block.prevrandao);
    block.basefee = overrides.base_fee.map_or(block.basefee, |fee| fee.saturating_to());
    for (number, hash) in overrides.block_hash.unwrap_or_default() {
        state.set_block_hash(number, hash);
    }
}

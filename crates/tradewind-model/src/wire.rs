//! Calls as bytes, and the model's state as the answers that the contracts must give.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolValue as _};
use tradewind_chain::client::artifacts;
use tradewind_chain::client::bindings::abi;
use tradewind_proto::signature::SigningKey;

use super::book::Pot;
use super::call::{Call, Contract, n40, n96};
use super::chain::Fact;
use super::court::abi::{Beside, Consent};
use super::leases::Lease;
use super::reference::{Reference, Setting, State};
use super::statement::{Auth, Signed};

pub(crate) mod court;

alloy::sol! {
    function qualify(bytes32 device);
    function slash(bytes32 device, uint96 amount, address reporter);
    function jail(bytes32 device, uint40 until);
    function cancelNonce(uint256 nonce);
    function burnSink(address token);
    function setVersionActive(uint32 version, bool active);
    function pools(address token) returns (uint256 sink, uint256 watchers, bool allowed, bool burnable);
    function staked(address token) returns (uint256);
    function accountCount() returns (uint256);
    function deviceCount() returns (uint256);
    function totalSupply() returns (uint256);
    function word(bytes32 id) returns (uint256);
    function failedAt(bytes32 pair) returns (uint256);
}

/// Encodes calls, signing what they say was signed.
pub(crate) struct Wire<'a, K> {
    pub(crate) setting: &'a Setting,
    pub(crate) key: K,
}

impl<K: Fn(Address) -> SigningKey> Wire<'_, K> {
    /// The contract and the data of a call.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest carry signatures")]
    pub(crate) fn encode(&self, call: &Call) -> (Address, Bytes) {
        let (leases, registry) = (self.setting.leases, self.setting.registry);
        match call {
            Call::BurnSink { token } => at(leases, &burnSinkCall { token: *token }),
            Call::CancelNonce { nonce } => at(leases, &cancelNonceCall { nonce: *nonce }),
            Call::SetToken { token, allowed, burnable } => at(
                leases,
                &abi::Leases::setTokenCall { token: *token, allowed: *allowed, burnable: *burnable },
            ),
            Call::AddVersion { parameters } => {
                at(leases, &abi::Leases::addVersionCall { parameters_: parameters.clone() })
            }
            Call::SetVersionActive { version, active } => {
                at(leases, &setVersionActiveCall { version: *version, active: *active })
            }
            Call::Donate { token, amount } => {
                at(*token, &abi::Token::transferCall { to: leases, amount: U256::from(*amount) })
            }
            Call::WithdrawStake { device } => {
                at(registry, &abi::Registry::withdrawStakeCall { device: *device })
            }
            Call::Qualify { device } => at(registry, &qualifyCall { device: *device }),
            Call::Slash { device, amount, reporter } => {
                at(registry, &slashCall { device: *device, amount: n96(*amount), reporter: *reporter })
            }
            Call::Jail { device, until } => at(registry, &jailCall { device: *device, until: n40(*until) }),
            Call::SetClass { class, minimum } => {
                at(registry, &abi::Registry::setClassCall { class: *class, minimumPerUnit: n96(*minimum) })
            }
            Call::SetConfig { config } => (registry, packed("setConfig", config.abi_encode())),
            Call::Relay { at: there, fee, signed, calls, .. } => {
                let calls = calls.iter().map(|call| self.encode(call).1).collect();
                let (fee, signature) = (fee.clone(), self.sign(signed));
                // Its signature is the same wherever it is made.
                at(self.contract(*there), &abi::Leases::relayCall { fee, signature, calls })
            }
            _ => self.encode_court(call).unwrap_or_else(|| self.encode_signed(call)),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are about leases")]
    fn encode_signed(&self, call: &Call) -> (Address, Bytes) {
        let (leases, registry) = (self.setting.leases, self.setting.registry);
        match call.clone() {
            Call::Deposit { token, account, amount, auth } => {
                let (amount, auth) = (U256::from(amount), self.auth(&auth));
                at(leases, &abi::Leases::depositCall { token, account, amount, auth })
            }
            Call::DepositWithPermit { token, account, amount, until, permit, auth } => at(
                leases,
                &abi::Leases::depositWithPermitCall {
                    token,
                    account,
                    amount: U256::from(amount),
                    permitDeadline: U256::from(until),
                    permitSignature: self.sign(&permit),
                    auth: self.auth(&auth),
                },
            ),
            Call::DepositWithAuthorization { token, from, amount, after, before, nonce, signed } => at(
                leases,
                &abi::Leases::depositWithAuthorizationCall {
                    token,
                    from,
                    amount: U256::from(amount),
                    validAfter: U256::from(after),
                    validBefore: U256::from(before),
                    nonce,
                    signature: self.sign(&signed),
                },
            ),
            Call::Withdraw { token, account, to, amount, auth } => {
                let (amount, auth) = (U256::from(amount), self.auth(&auth));
                at(leases, &abi::Leases::withdrawCall { token, account, to, amount, auth })
            }
            Call::PayFee { fee, signed } => {
                at(leases, &abi::Leases::payFeeCall { fee, signature: self.sign(&signed) })
            }
            Call::Register { account, mesh_key, metadata, auth } => {
                let auth = self.auth(&auth);
                at(registry, &abi::Registry::registerCall { account, meshKey: mesh_key, metadata, auth })
            }
            Call::UpdateAccount { account, mesh_key, metadata, auth } => {
                let auth = self.auth(&auth);
                at(registry, &abi::Registry::updateAccountCall { account, meshKey: mesh_key, metadata, auth })
            }
            Call::AddDevice { provider, key, sponsor, class, units, auth } => {
                let auth = self.auth(&auth);
                at(registry, &abi::Registry::addDeviceCall { provider, key, sponsor, class, units, auth })
            }
            Call::SetSponsor { device, sponsor, auth } => {
                let arguments = (device, sponsor, self.auth(&auth)).abi_encode_params();
                (registry, packed("setSponsor", arguments))
            }
            Call::Stake { device, amount, auth } => {
                let (amount, auth) = (n96(amount), self.auth(&auth));
                at(registry, &abi::Registry::stakeCall { device, amount, auth })
            }
            Call::PayRent { device, payer, span, limit, auth } => {
                let (limit, auth) = (U256::from(limit), self.auth(&auth));
                at(registry, &abi::Registry::payRentCall { device, payer, span, limit, auth })
            }
            Call::BeginUnbond { device, account, auth } => {
                let auth = self.auth(&auth);
                at(registry, &abi::Registry::beginUnbondCall { device, account, auth })
            }
            other => self.encode_lease(other),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are remedies")]
    fn encode_lease(&self, call: Call) -> (Address, Bytes) {
        let leases = self.setting.leases;
        match call {
            Call::Open { terms, buyer, provider } => {
                let (buyer_signature, provider_signature) = (self.sign(&buyer), self.sign(&provider));
                at(
                    leases,
                    &abi::Leases::openCall {
                        terms,
                        buyerSignature: buyer_signature,
                        providerSignature: provider_signature,
                    },
                )
            }
            Call::Settle { terms, promise } => {
                let (voucher, signature) = (promise.voucher, self.sign(&promise.signed));
                at(leases, &abi::Leases::settleCall { terms, voucher, signature })
            }
            Call::SettleMany { items } => {
                let items: Vec<(abi::LeaseTerms, abi::Voucher, Bytes)> = items
                    .into_iter()
                    .map(|(terms, promise)| (terms, promise.voucher, self.sign(&promise.signed)))
                    .collect();
                (leases, packed("settleMany", (items,).abi_encode_params()))
            }
            Call::Notice { terms, reclaim, promise, auth } => at(
                leases,
                &abi::Leases::noticeCall {
                    terms,
                    reason: u8::from(reclaim),
                    voucher: promise.voucher,
                    voucherSignature: self.sign(&promise.signed),
                    auth: self.auth(&auth),
                },
            ),
            Call::Close { terms, promise, auth } => at(
                leases,
                &abi::Leases::closeCall {
                    terms,
                    voucher: promise.voucher,
                    voucherSignature: self.sign(&promise.signed),
                    auth: self.auth(&auth),
                },
            ),
            Call::Extend { terms, promise, auth, next, buyer, provider } => at(
                leases,
                &abi::Leases::extendCall {
                    terms,
                    voucher: promise.voucher,
                    voucherSignature: self.sign(&promise.signed),
                    auth: self.auth(&auth),
                    next,
                    buyerSignature: self.sign(&buyer),
                    providerSignature: self.sign(&provider),
                },
            ),
            Call::RequestClose { terms, auth } => {
                at(leases, &abi::Leases::requestCloseCall { terms, auth: self.auth(&auth) })
            }
            Call::Finalize { terms } => at(leases, &abi::Leases::finalizeCall { terms }),
            Call::Expire { terms } => at(leases, &abi::Leases::expireCall { terms }),
            Call::ReleaseBond { terms } => at(leases, &abi::Leases::releaseBondCall { terms }),
            other => self.encode_remedy(other),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the callers encode all others")]
    fn encode_remedy(&self, call: Call) -> (Address, Bytes) {
        let leases = self.setting.leases;
        match call {
            Call::Challenge { terms, auth } => {
                at(leases, &abi::Leases::challengeCall { terms, auth: self.auth(&auth) })
            }
            Call::Answer { terms, auth } => {
                at(leases, &abi::Leases::answerCall { terms, auth: self.auth(&auth) })
            }
            Call::Defaulted { terms } => at(leases, &abi::Leases::defaultedCall { terms }),
            Call::Acknowledge { terms, record, provider, buyer } => at(
                leases,
                &abi::Leases::acknowledgeCall {
                    terms,
                    record,
                    providerSignature: self.sign(&provider),
                    buyerSignature: self.sign(&buyer),
                },
            ),
            Call::Dispute { terms, claim, evidence, auth } => {
                let (claim, auth) = (n96(claim), self.auth(&auth));
                at(leases, &abi::Leases::disputeCall { terms, claim, evidence, auth })
            }
            Call::Resolve { terms } => at(leases, &abi::Leases::resolveCall { terms }),
            other => unreachable!("{} is encoded before", other.name()),
        }
    }

    pub(crate) const fn contract(&self, which: Contract) -> Address {
        match which {
            Contract::Leases => self.setting.leases,
            Contract::Registry => self.setting.registry,
            Contract::Court => self.setting.court,
        }
    }

    fn consent(&self, auth: &Auth) -> Consent {
        let abi::Auth { nonce, deadline, signature } = self.auth(auth);
        Consent { nonce, deadline, signature }
    }

    fn sign(&self, signed: &Signed) -> Bytes {
        signed.bytes(&self.key)
    }

    fn auth(&self, auth: &Auth) -> abi::Auth {
        abi::Auth { nonce: auth.nonce, deadline: n40(auth.deadline), signature: self.sign(&auth.signed) }
    }
}

fn at(contract: Address, call: &impl SolCall) -> (Address, Bytes) {
    (contract, call.abi_encode().into())
}

/// A call that the client has no binding for.
fn packed(function: &str, arguments: Vec<u8>) -> Bytes {
    let abis = [
        &artifacts::leases().abi,
        &artifacts::registry().abi,
        &artifacts::court().abi,
        &artifacts::verdicts().abi,
    ];
    let found = abis.iter().find_map(|abi| abi.function(function)).expect("a function of the contracts");
    [found[0].selector().as_slice(), &arguments].concat().into()
}

/// What to compare.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everything.
    All,
    /// What the model holds otherwise than it did.
    Since(&'a State),
}

impl Scope<'_> {
    fn holds<T: PartialEq>(self, now: &T, then: impl Fn(&State) -> T) -> bool {
        match self {
            Self::All => true,
            Self::Since(before) => then(before) != *now,
        }
    }
}

/// What the contracts must show, as the model has it; of the closed leases, only `also`.
pub(crate) fn facts(model: &Reference, parties: &[Address], scope: Scope<'_>, also: &[B256]) -> Vec<Fact> {
    let mut facts = Vec::new();
    for token in model.state.tokens.keys() {
        facts_of_token(model, *token, parties, scope, &mut facts);
    }
    facts_of_registry(model, scope, &mut facts);
    court::facts(model, scope, also, &mut facts);
    for (id, lease) in &model.state.leases {
        let changed = match scope {
            Scope::All => true,
            Scope::Since(before) => before.leases.get(id) != Some(lease),
        };
        if changed && !also.contains(id) {
            fact_of_lease(model, *id, lease, &mut facts);
        }
    }
    for id in also {
        if let Some(lease) = model.find(*id) {
            fact_of_lease(model, *id, lease, &mut facts);
        } else {
            let nothing = U256::ZERO.abi_encode();
            fact(&mut facts, format!("no lease {id}"), model.setting.leases, &wordCall { id: *id }, nothing);
        }
    }
    facts
}

/// That the parameters of every version are what they were.
pub(crate) fn facts_of_versions(model: &Reference) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (version, known) in (1..).zip(&model.state.versions) {
        let answer = (known.parameters.clone(), known.active).abi_encode_params();
        let call = abi::Leases::parametersCall { version };
        fact(&mut facts, format!("version {version}"), model.setting.leases, &call, answer);
    }
    facts
}

fn facts_of_registry(model: &Reference, scope: Scope<'_>, facts: &mut Vec<Fact>) {
    let (registry, state) = (model.setting.registry, &model.state);
    for (id, device) in &state.devices {
        let stake = |state: &State| state.book.of(model.setting.stake_token, Pot::Stake(*id));
        let same_device = |before: &State| before.devices.get(id).cloned();
        if scope.holds(&stake(state), stake) || scope.holds(&Some(device.clone()), same_device) {
            let view = device.view(*id, stake(state)).abi_encode();
            fact(facts, format!("device {id}"), registry, &abi::Registry::deviceCall { id: *id }, view);
            let (call, until) = (Beside::frozenUntilCall { device: *id }, n40(device.frozen_until));
            fact(facts, format!("frozen {id}"), registry, &call, U256::from(until).abi_encode());
        }
    }
    for (account, record) in &state.accounts {
        if scope.holds(&Some(record.clone()), |before| before.accounts.get(account).cloned()) {
            let view = (*account, record.mesh_key, record.metadata, n40(record.rent_until));
            let call = abi::Registry::accountCall { account_: *account };
            fact(facts, format!("account {account:x}"), registry, &call, view.abi_encode_params());
        }
    }
    let count = |list: usize| U256::from(list).abi_encode();
    if scope.holds(&state.accounts.len(), |before| before.accounts.len()) {
        fact(facts, "accounts".to_owned(), registry, &accountCountCall {}, count(state.accounts.len()));
    }
    if scope.holds(&state.devices.len(), |before| before.devices.len()) {
        fact(facts, "devices".to_owned(), registry, &deviceCountCall {}, count(state.devices.len()));
    }
}

fn facts_of_token(
    model: &Reference,
    token: Address,
    parties: &[Address],
    scope: Scope<'_>,
    facts: &mut Vec<Fact>,
) {
    let (leases, state) = (model.setting.leases, &model.state);
    let court = model.setting.court;
    for account in parties.iter().chain([&court]) {
        let balance = |state: &State| {
            let lodged = if *account == court { state.book.sum(token, Pot::is_the_courts) } else { 0 };
            state.book.of(token, Pot::Balance(*account)) + lodged
        };
        if scope.holds(&balance(state), balance) {
            let call = abi::Leases::balanceOfCall { token, account: *account };
            let balance = U256::from(balance(state)).abi_encode();
            fact(facts, format!("balance {token:x} {account:x}"), leases, &call, balance);
        }
        let coins = |state: &State| state.book.of(token, Pot::Wallet(*account));
        if scope.holds(&coins(state), coins) {
            let call = abi::Token::balanceOfCall { account: *account };
            let coins = U256::from(coins(state)).abi_encode();
            fact(facts, format!("wallet {token:x} {account:x}"), token, &call, coins);
        }
    }
    let held = |state: &State| state.book.held(token);
    if scope.holds(&held(state), held) {
        let call = abi::Token::balanceOfCall { account: leases };
        fact(facts, format!("held {token:x}"), token, &call, U256::from(held(state)).abi_encode());
    }
    let supply = |state: &State| state.book.supply(token);
    if scope.holds(&supply(state), supply) {
        let supply = U256::from(supply(state)).abi_encode();
        fact(facts, format!("supply {token:x}"), token, &totalSupplyCall {}, supply);
    }
    let pools = |state: &State| {
        let standing = state.tokens.get(&token).copied();
        (state.book.of(token, Pot::Sink), state.book.of(token, Pot::Watchers), standing)
    };
    if scope.holds(&pools(state), pools) {
        let (sink, watchers, standing) = pools(state);
        let standing = standing.expect("a listed token");
        let answer = (U256::from(sink), U256::from(watchers), standing.allowed, standing.burnable);
        fact(facts, format!("pools {token:x}"), leases, &poolsCall { token }, answer.abi_encode_params());
    }
    let staked = |state: &State| state.book.sum(token, |pot| matches!(pot, Pot::Stake(_)));
    if scope.holds(&staked(state), staked) {
        let staked = U256::from(staked(state)).abi_encode();
        fact(facts, format!("staked {token:x}"), leases, &stakedCall { token }, staked);
    }
}

fn fact_of_lease(model: &Reference, id: B256, lease: &Lease, facts: &mut Vec<Fact>) {
    let (call, view) = (abi::Leases::leaseCall { id }, lease.view().abi_encode());
    fact(facts, format!("lease {id} {:?}", lease.phase), model.setting.leases, &call, view);
    let pair = (lease.terms.buyer(), lease.terms.provider());
    let call = failedAtCall { pair: keccak256(pair.abi_encode()) };
    let failed = U256::from(model.state.failures.get(&pair).copied().unwrap_or(0));
    fact(facts, format!("failure of {pair:?}"), model.setting.leases, &call, failed.abi_encode());
}

fn fact(facts: &mut Vec<Fact>, label: String, target: Address, call: &impl SolCall, output: Vec<u8>) {
    facts.push(Fact { label, target, input: call.abi_encode(), output });
}

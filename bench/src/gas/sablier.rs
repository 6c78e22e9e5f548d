//! Sablier Flow, from its package's artifacts: a stream with a deposit, withdrawn once on the way, then ended.
//!
//! Its protocol fee is zero here and no price oracle is set, which only makes it cheaper.

use alloy::primitives::{Address, Bytes, U256, Uint};
use alloy::sol;
use alloy::sol_types::{SolCall as _, SolValue as _};

use crate::anvil::{Account, Anvil, code};

/// Gas of each transaction.
#[derive(Debug)]
pub(super) struct Gas {
    pub(super) create: u64,
    pub(super) withdraw: u64,
    pub(super) end: u64,
    pub(super) withdraw_last: u64,
    pub(super) refund: u64,
}

sol! {
    function initialize(address admin, uint256 airdrops, uint256 bob, uint256 flow, uint256 lockup, address oracle);
    function createAndDeposit(address sender, address recipient, uint128 ratePerSecond, uint40 startTime, address token, bool transferable, uint128 amount) returns (uint256);
    function withdrawMax(uint256 streamId, address to) returns (uint128);
    function void(uint256 streamId);
    function refundMax(uint256 streamId) returns (uint128);
    function mint(address to, uint256 amount);
    function approve(address spender, uint256 amount) returns (bool);
}

const FLOW: &str = "bench/peers/node_modules/@sablier/flow/artifacts";
const BASE: &str = "bench/peers/node_modules/@sablier/evm-utils/artifacts";
/// 3.6 of a token with 6 places: an hour at a thousandth a second.
const DEPOSIT: u128 = 3_600_000;
const RATE: u128 = 1_000_000_000_000_000;
const HALF_AN_HOUR: u64 = 1_800;

pub(super) async fn measure(anvil: &Anvil) -> anyhow::Result<Gas> {
    let (owner, buyer, seller) = (anvil.account(5).await?, anvil.account(6).await?, anvil.account(7).await?);
    let token_code = code("contracts/artifacts/TestStablecoin.json", &[])?;
    let token = owner.deploy(&token_code, &owner.address().abi_encode()).await?;
    let flow = deploy(&owner).await?;
    let amount = U256::from(1_000_000_000);
    owner.call(token, mintCall { to: buyer.address(), amount }.abi_encode()).await?;
    buyer.call(token, approveCall { spender: flow, amount }.abi_encode()).await?;
    let market = Market { flow, token, buyer, seller };
    market.stream(1).await?;
    market.stream(2).await
}

async fn deploy(owner: &Account) -> anyhow::Result<Address> {
    let comptroller = code(&format!("{BASE}/SablierComptroller.json"), &[])?;
    let comptroller = owner.deploy(&comptroller, &owner.address().abi_encode()).await?;
    let zero = U256::ZERO;
    let begin = initializeCall {
        admin: owner.address(),
        airdrops: zero,
        bob: zero,
        flow: zero,
        lockup: zero,
        oracle: Address::ZERO,
    };
    let arguments = (comptroller, Bytes::from(begin.abi_encode())).abi_encode_params();
    let proxy = owner.deploy(&code(&format!("{BASE}/ERC1967Proxy.json"), &[])?, &arguments).await?;
    let descriptor = owner.deploy(&code(&format!("{FLOW}/FlowNFTDescriptor.json"), &[])?, &[]).await?;
    let arguments = (proxy, descriptor).abi_encode_params();
    owner.deploy(&code(&format!("{FLOW}/SablierFlow.json"), &[])?, &arguments).await
}

struct Market {
    flow: Address,
    token: Address,
    buyer: Account,
    seller: Account,
}

impl Market {
    async fn stream(&self, number: u64) -> anyhow::Result<Gas> {
        let id = U256::from(number);
        let create = createAndDepositCall {
            sender: self.buyer.address(),
            recipient: self.seller.address(),
            ratePerSecond: RATE,
            startTime: Uint::ZERO,
            token: self.token,
            transferable: true,
            amount: DEPOSIT,
        };
        let create = self.buyer.call(self.flow, create.abi_encode()).await?;
        self.buyer.pass(HALF_AN_HOUR).await?;
        let to = self.seller.address();
        let collect = withdrawMaxCall { streamId: id, to }.abi_encode();
        let withdraw = self.seller.call(self.flow, collect.clone()).await?;
        self.buyer.pass(HALF_AN_HOUR / 2).await?;
        let end = self.buyer.call(self.flow, voidCall { streamId: id }.abi_encode()).await?;
        let withdraw_last = self.seller.call(self.flow, collect).await?;
        let refund = self.buyer.call(self.flow, refundMaxCall { streamId: id }.abi_encode()).await?;
        Ok(Gas { create, withdraw, end, withdraw_last, refund })
    }
}

//! iExec's PoCo, from its package's artifacts: an app and a worker pool match a request, and one task of it is completed.
//!
//! The requester pays a worker pool that stakes; app and data cost nothing, as in a lease. The escrow's currency is the
//! chain's own, which matters for deposits only.

use alloy::primitives::{Address, B256, Bytes, FixedBytes, TxKind, U256, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::SignerSync as _;
use alloy::sol_types::{Eip712Domain, SolCall, SolStruct, SolValue as _, eip712_domain};
use anyhow::Context as _;

use crate::anvil::{Account, Anvil, CHAIN_ID, code};

/// Gas of each transaction.
#[derive(Debug)]
pub(super) struct Gas {
    pub(super) match_boost: u64,
    pub(super) push_boost: u64,
    pub(super) match_classic: u64,
    pub(super) initialize: u64,
    pub(super) finalize: u64,
}

/// Orders as they are signed.
mod signed {
    alloy::sol! {
        struct AppOrder { address app; uint256 appprice; uint256 volume; bytes32 tag; address datasetrestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt; }
        struct WorkerpoolOrder { address workerpool; uint256 workerpoolprice; uint256 volume; bytes32 tag; uint256 category; uint256 trust; address apprestrict; address datasetrestrict; address requesterrestrict; bytes32 salt; }
        struct RequestOrder { address app; uint256 appmaxprice; address dataset; uint256 datasetmaxprice; address workerpool; uint256 workerpoolmaxprice; address requester; uint256 volume; bytes32 tag; uint256 category; uint256 trust; address beneficiary; address callback; string params; bytes32 salt; }
    }
}

/// Orders as they are submitted, and the calls.
mod calls {
    alloy::sol! {
        struct FacetCut { address facetAddress; uint8 action; bytes4[] functionSelectors; }
        struct DiamondArgs { address owner; address init; bytes initCalldata; }
        struct AppOrder { address app; uint256 appprice; uint256 volume; bytes32 tag; address datasetrestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt; bytes sign; }
        #[derive(Default)]
        struct DatasetOrder { address dataset; uint256 datasetprice; uint256 volume; bytes32 tag; address apprestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt; bytes sign; }
        struct WorkerpoolOrder { address workerpool; uint256 workerpoolprice; uint256 volume; bytes32 tag; uint256 category; uint256 trust; address apprestrict; address datasetrestrict; address requesterrestrict; bytes32 salt; bytes sign; }
        struct RequestOrder { address app; uint256 appmaxprice; address dataset; uint256 datasetmaxprice; address workerpool; uint256 workerpoolmaxprice; address requester; uint256 volume; bytes32 tag; uint256 category; uint256 trust; address beneficiary; address callback; string params; bytes32 salt; bytes sign; }

        function owner() returns (address);
        function configure(address token, string name, string symbol, uint8 decimal, address apps, address datasets, address workerpools, address v3);
        function createCategory(string name, string description, uint256 workClockTimeRef) returns (uint256);
        function depositFor(address target) returns (bool);
        function createApp(address owner, string name, string kind, bytes multiaddr, bytes32 checksum, bytes enclave) returns (address);
        function createWorkerpool(address owner, string description) returns (address);
        function matchOrders(AppOrder app, DatasetOrder dataset, WorkerpoolOrder workerpool, RequestOrder request) returns (bytes32);
        function matchOrdersBoost(AppOrder app, DatasetOrder dataset, WorkerpoolOrder workerpool, RequestOrder request) returns (bytes32);
        function pushResultBoost(bytes32 dealId, uint256 index, bytes results, bytes resultsCallback, bytes authorizationSign, address enclaveChallenge, bytes enclaveSign);
        function initialize(bytes32 dealId, uint256 index) returns (bytes32);
        function contributeAndFinalize(bytes32 taskId, bytes32 resultDigest, bytes results, bytes resultsCallback, address enclaveChallenge, bytes enclaveSign, bytes authorizationSign);
    }
}

const ARTIFACTS: &str = "bench/peers/node_modules/@iexec/poco/artifacts/contracts";
const PRICE: u64 = 3_600_000;
const TRUST: U256 = U256::ONE;
/// Whom an order without restrictions names.
const ANYONE: Address = Address::ZERO;

type Orders = (calls::AppOrder, calls::DatasetOrder, calls::WorkerpoolOrder, calls::RequestOrder);

pub(super) async fn measure(anvil: &Anvil) -> anyhow::Result<Gas> {
    let market = Market::open(anvil).await?;
    market.boost(1).await?;
    market.classic(2).await?;
    let (match_boost, push_boost) = market.boost(3).await?;
    let (match_classic, initialize, finalize) = market.classic(4).await?;
    Ok(Gas { match_boost, push_boost, match_classic, initialize, finalize })
}

struct Market {
    hub: Address,
    app: Address,
    pool: Address,
    requester: Account,
    scheduler: Account,
}

fn artifact(path: &str, libraries: &[(&str, Address)]) -> anyhow::Result<Vec<u8>> {
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".v8");
    code(&format!("{ARTIFACTS}/{path}.sol/{name}.json"), libraries)
}

/// A contract that answers every call with `word`.
fn answering(word: B256) -> Vec<u8> {
    // PUSH32 word, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
    let runtime = [&[0x7f][..], word.as_slice(), &[0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]].concat();
    // PUSH1 39, DUP1, PUSH1 9, PUSH0, CODECOPY, PUSH0, RETURN
    [&[0x60, 39, 0x80, 0x60, 0x09, 0x5f, 0x39, 0x5f, 0xf3][..], &runtime].concat()
}

impl Market {
    async fn open(anvil: &Anvil) -> anyhow::Result<Self> {
        let owner = anvil.account(8).await?;
        let (requester, scheduler) = (anvil.account(9).await?, anvil.account(10).await?);
        let hub = deploy(&owner).await?;
        let register = async |name: &str, create: Vec<u8>| {
            let registry = owner.deploy(&artifact(name, &[])?, &[]).await?;
            if create.is_empty() {
                return Ok((registry, Address::ZERO));
            }
            let entry = ask(&owner, registry, create.clone()).await?;
            owner.call(registry, create).await?;
            Ok::<_, anyhow::Error>((registry, Address::from_word(entry)))
        };
        let (name, kind) = ("bench".to_owned(), "DOCKER".to_owned());
        let create_app = calls::createAppCall {
            owner: scheduler.address(),
            name: name.clone(),
            kind,
            multiaddr: Bytes::from_static(b"registry.example.org/bench"),
            checksum: B256::repeat_byte(1),
            enclave: Bytes::new(),
        };
        let create_pool =
            calls::createWorkerpoolCall { owner: scheduler.address(), description: name.clone() };
        let (apps, app) = register("registries/apps/AppRegistry", create_app.abi_encode()).await?;
        let (datasets, _) = register("registries/datasets/DatasetRegistry", Vec::new()).await?;
        let (workerpools, pool) =
            register("registries/workerpools/WorkerpoolRegistry", create_pool.abi_encode()).await?;
        let configure = calls::configureCall {
            token: Address::ZERO,
            name: "SRLC".into(),
            symbol: "SRLC".into(),
            decimal: 9,
            apps,
            datasets,
            workerpools,
            v3: Address::ZERO,
        };
        owner.call(hub, configure.abi_encode()).await?;
        let time_ref = U256::from(3_600);
        let category =
            calls::createCategoryCall { name, description: String::new(), workClockTimeRef: time_ref };
        owner.call(hub, category.abi_encode()).await?;
        for target in [requester.address(), scheduler.address()] {
            let deposit = calls::depositForCall { target }.abi_encode();
            // A thousand tasks' price, in the escrow's units of a gwei.
            owner.send(hub.into(), 1_000 * PRICE * 1_000_000_000, deposit.into()).await?;
        }
        Ok(Self { hub, app, pool, requester, scheduler })
    }

    /// Gas of match and result.
    async fn boost(&self, salt: u8) -> anyhow::Result<(u64, u64)> {
        let (app, dataset, workerpool, request) = self.orders(salt)?;
        let call = calls::matchOrdersBoostCall { app, dataset, workerpool, request };
        let (deal, matched) = self.matched(call).await?;
        let push = calls::pushResultBoostCall {
            dealId: deal,
            index: U256::ZERO,
            results: Bytes::from_static(&[0x11; 32]),
            resultsCallback: Bytes::new(),
            authorizationSign: self.authorize(task(deal))?,
            enclaveChallenge: Address::ZERO,
            enclaveSign: Bytes::new(),
        };
        Ok((matched, self.scheduler.call(self.hub, push.abi_encode()).await?))
    }

    /// Gas of match, initialization and result.
    async fn classic(&self, salt: u8) -> anyhow::Result<(u64, u64, u64)> {
        let (app, dataset, workerpool, request) = self.orders(salt)?;
        let call = calls::matchOrdersCall { app, dataset, workerpool, request };
        let (deal, matched) = self.matched(call).await?;
        let begin = calls::initializeCall { dealId: deal, index: U256::ZERO };
        let initialized = self.scheduler.call(self.hub, begin.abi_encode()).await?;
        let end = calls::contributeAndFinalizeCall {
            taskId: task(deal),
            resultDigest: B256::repeat_byte(0x22),
            results: Bytes::from_static(&[0x11; 32]),
            resultsCallback: Bytes::new(),
            enclaveChallenge: Address::ZERO,
            enclaveSign: Bytes::new(),
            authorizationSign: self.authorize(task(deal))?,
        };
        Ok((matched, initialized, self.scheduler.call(self.hub, end.abi_encode()).await?))
    }

    async fn matched(&self, call: impl SolCall) -> anyhow::Result<(B256, u64)> {
        let input = call.abi_encode();
        let deal = ask(&self.requester, self.hub, input.clone()).await?;
        Ok((deal, self.requester.call(self.hub, input).await?))
    }

    fn orders(&self, salt: u8) -> anyhow::Result<Orders> {
        let salt = B256::repeat_byte(salt);
        Ok((
            self.app_order(salt)?,
            calls::DatasetOrder::default(),
            self.pool_order(salt)?,
            self.request(salt)?,
        ))
    }

    fn app_order(&self, salt: B256) -> anyhow::Result<calls::AppOrder> {
        let order = signed::AppOrder {
            app: self.app,
            appprice: U256::ZERO,
            volume: U256::ONE,
            tag: B256::ZERO,
            datasetrestrict: ANYONE,
            workerpoolrestrict: ANYONE,
            requesterrestrict: ANYONE,
            salt,
        };
        Ok(calls::AppOrder {
            sign: self.sign(&self.scheduler, &order)?,
            app: order.app,
            appprice: order.appprice,
            volume: order.volume,
            tag: order.tag,
            datasetrestrict: order.datasetrestrict,
            workerpoolrestrict: order.workerpoolrestrict,
            requesterrestrict: order.requesterrestrict,
            salt,
        })
    }

    fn pool_order(&self, salt: B256) -> anyhow::Result<calls::WorkerpoolOrder> {
        let order = signed::WorkerpoolOrder {
            workerpool: self.pool,
            workerpoolprice: U256::from(PRICE),
            volume: U256::ONE,
            tag: B256::ZERO,
            category: U256::ZERO,
            trust: TRUST,
            apprestrict: ANYONE,
            datasetrestrict: ANYONE,
            requesterrestrict: ANYONE,
            salt,
        };
        Ok(calls::WorkerpoolOrder {
            sign: self.sign(&self.scheduler, &order)?,
            workerpool: order.workerpool,
            workerpoolprice: order.workerpoolprice,
            volume: order.volume,
            tag: order.tag,
            category: order.category,
            trust: order.trust,
            apprestrict: order.apprestrict,
            datasetrestrict: order.datasetrestrict,
            requesterrestrict: order.requesterrestrict,
            salt,
        })
    }

    fn request(&self, salt: B256) -> anyhow::Result<calls::RequestOrder> {
        let requester = self.requester.address();
        let order = signed::RequestOrder {
            app: self.app,
            appmaxprice: U256::ZERO,
            dataset: ANYONE,
            datasetmaxprice: U256::ZERO,
            workerpool: self.pool,
            workerpoolmaxprice: U256::from(PRICE),
            requester,
            volume: U256::ONE,
            tag: B256::ZERO,
            category: U256::ZERO,
            trust: TRUST,
            beneficiary: requester,
            callback: Address::ZERO,
            params: String::new(),
            salt,
        };
        Ok(calls::RequestOrder {
            sign: self.sign(&self.requester, &order)?,
            app: order.app,
            appmaxprice: order.appmaxprice,
            dataset: order.dataset,
            datasetmaxprice: order.datasetmaxprice,
            workerpool: order.workerpool,
            workerpoolmaxprice: order.workerpoolmaxprice,
            requester,
            volume: order.volume,
            tag: order.tag,
            category: order.category,
            trust: order.trust,
            beneficiary: order.beneficiary,
            callback: order.callback,
            params: order.params,
            salt,
        })
    }

    fn sign(&self, account: &Account, order: &impl SolStruct) -> anyhow::Result<Bytes> {
        let domain: Eip712Domain = eip712_domain! {
            name: "iExecODB",
            version: "5.0.0",
            chain_id: CHAIN_ID,
            verifying_contract: self.hub,
        };
        let signature = account.signer.sign_hash_sync(&order.eip712_signing_hash(&domain))?;
        Ok(signature.as_bytes().into())
    }

    /// The scheduler's word that its own worker may push the task's result.
    fn authorize(&self, task: B256) -> anyhow::Result<Bytes> {
        let digest = keccak256((self.scheduler.address(), task, Address::ZERO).abi_encode_packed());
        Ok(self.scheduler.signer.sign_message_sync(digest.as_slice())?.as_bytes().into())
    }
}

/// The first task of a deal.
fn task(deal: B256) -> B256 {
    keccak256((deal, U256::ZERO).abi_encode_packed())
}

/// The word that a call would answer.
async fn ask(account: &Account, to: Address, input: Vec<u8>) -> anyhow::Result<B256> {
    let request = TransactionRequest {
        from: Some(account.address()),
        to: Some(TxKind::Call(to)),
        ..TransactionRequest::default().input(Bytes::from(input).into())
    };
    let answer = account.provider.call(request).await?;
    B256::try_from(answer.as_ref()).context("the answer is not one word")
}

/// The diamond, with the facets that the measured story needs.
async fn deploy(owner: &Account) -> anyhow::Result<Address> {
    let orders = owner.deploy(&artifact("libs/IexecLibOrders_v5", &[])?, &[]).await?;
    let libraries = [("IexecLibOrders_v5", orders)];
    let facets: [(&str, Vec<[u8; 4]>); 6] = [
        ("facets/IexecConfigurationFacet", vec![calls::configureCall::SELECTOR]),
        ("facets/IexecCategoryManagerFacet", vec![calls::createCategoryCall::SELECTOR]),
        ("facets/IexecEscrowNativeFacet", vec![calls::depositForCall::SELECTOR]),
        ("facets/IexecPoco1Facet", vec![calls::matchOrdersCall::SELECTOR]),
        (
            "facets/IexecPoco2Facet",
            vec![calls::initializeCall::SELECTOR, calls::contributeAndFinalizeCall::SELECTOR],
        ),
        (
            "facets/IexecPocoBoostFacet",
            vec![calls::matchOrdersBoostCall::SELECTOR, calls::pushResultBoostCall::SELECTOR],
        ),
    ];
    // The package leaves the facet that answers `owner()` to another one; only the set-up asks for it.
    let ownership = owner.deploy(&answering(owner.address().into_word()), &[]).await?;
    let cut = |facet_address, selectors: Vec<[u8; 4]>| calls::FacetCut {
        facetAddress: facet_address,
        action: 0,
        functionSelectors: selectors.into_iter().map(FixedBytes).collect(),
    };
    let mut cuts = vec![cut(ownership, vec![calls::ownerCall::SELECTOR])];
    for (facet, selectors) in facets {
        let address = owner.deploy(&artifact(facet, &libraries)?, &[]).await?;
        cuts.push(cut(address, selectors));
    }
    let init = Address::ZERO;
    let arguments = calls::DiamondArgs { owner: owner.address(), init, initCalldata: Bytes::new() };
    owner.deploy(&artifact("Diamond", &[])?, &(cuts, arguments).abi_encode_params()).await
}

//! Jobs that ask for trusted execution. The hardware is a maker's that nobody built; the one sample is real.

use std::sync::Arc;

use async_trait::async_trait;
use tradewind_proto::attestation::{Attestation, Binding, GpuEvidence, MachineEvidence, Tees};
use tradewind_provider::tee::{AttestError, Attester};
use tradewind_sim::{Market, Setup, runs};
use tradewind_tee::Roots;
use tradewind_testbed::maker::{Maker, device};

use crate::{expect, undisturbed};

/// What Nitro's public sample is to us: good evidence that answers nobody's question.
const SAMPLE: &[u8] = include_bytes!("../../../tradewind-tee/tests/samples/nitro-document.cbor");

/// What a provider shows.
#[derive(Debug, Clone)]
enum Shown {
    /// What was asked for, with so many GPUs.
    Honest(Arc<Maker>, usize),
    /// The same for whatever is asked.
    Replayed(Attestation),
}

#[async_trait]
impl Attester for Shown {
    fn kinds(&self) -> Tees {
        Tees::NITRO.with(Tees::NVIDIA)
    }

    async fn attest(&self, binding: &Binding) -> Result<Attestation, AttestError> {
        match self {
            Self::Honest(maker, gpus) => Ok(evidence(maker, *gpus, binding)),
            Self::Replayed(attestation) => Ok(attestation.clone()),
        }
    }
}

fn evidence(maker: &Maker, gpus: usize, binding: &Binding) -> Attestation {
    let gpu = |_| {
        let (report, chain) = maker.report(&maker.device(&device()), &binding.narrow());
        GpuEvidence { report, chain }
    };
    let document = maker.document(&maker.device(&device()), &binding.wide());
    Attestation { machine: MachineEvidence::Nitro { document }, gpus: (0..gpus).map(gpu).collect() }
}

fn setup(maker: &Maker, shown: impl IntoIterator<Item = Shown>) -> Setup {
    let attesters: Vec<_> = shown.into_iter().map(|shown| Arc::new(shown) as Arc<dyn Attester>).collect();
    let roots = Roots { aws: maker.root.clone(), nvidia: maker.root.clone(), ..Roots::makers() };
    Setup { providers: attesters.len(), attesters, roots, ..Setup::default() }
}

/// Evidence that answered somebody else.
fn old(maker: &Maker) -> Attestation {
    let asked = Binding {
        chain_id: 1,
        device: Default::default(),
        mesh_key: tradewind_proto::ids::MeshKey::from_bytes([7; 32]),
        nonce: Default::default(),
    };
    evidence(maker, 1, &asked)
}

#[test]
fn a_job_that_asks_for_trusted_execution_runs_where_its_evidence_verifies() {
    runs(2, async |seed| {
        let maker = Arc::new(Maker::new());
        let liar = Shown::Replayed(old(&maker));
        let market = Market::open(seed, setup(&maker, [liar, Shown::Honest(maker.clone(), 1)])).await;
        let job = market.submit("run: work 20 0\nplacement: {tee: nitro, gpu_tee: true}\n").await;
        let running = market.until_running(job).await;
        let provider = market.attempt(job).map(|attempt| attempt.provider.account());
        let honest = market.providers[1].seat.account();
        let (mut problems, world) = undisturbed(market).await;
        expect(&mut problems, running && provider == Some(honest), format!("it runs on {provider:?}"));
        (problems, world)
    });
}

#[test]
fn nothing_is_signed_where_no_evidence_verifies() {
    runs(2, async |seed| {
        let maker = Arc::new(Maker::new());
        let sample = MachineEvidence::Nitro { document: SAMPLE.to_vec() };
        // Another maker's, an old answer, a real enclave's public sample, and a machine without its GPU.
        let shown = [
            Shown::Honest(Arc::new(Maker::new()), 1),
            Shown::Replayed(old(&maker)),
            Shown::Replayed(Attestation { machine: sample, gpus: Vec::new() }),
            Shown::Honest(maker.clone(), 0),
        ];
        let market = Market::open(seed, setup(&maker, shown)).await;
        let job = market.submit("run: work 20 0\nplacement: {gpu_tee: true}\n").await;
        market.pass(120).await;
        let (attempt, leases) = (market.attempt(job), market.leases().await);
        let mut problems = Vec::new();
        expect(&mut problems, attempt.is_none(), format!("the buyer signed: {attempt:?}"));
        expect(&mut problems, leases.is_empty(), format!("opened: {leases:?}"));
        (problems, market.world)
    });
}

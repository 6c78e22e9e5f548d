//! The owner's hours and limits, followed while the agent runs; and accelerators that fell ill.
//!
//! Every few seconds the machine is looked at, and judged by [`Lending`](tradewind_proto::lending::Lending): what it says goes into the next quote and the next
//! offer, and spot leases get their notice where the owner needs the machine. An accelerator that its driver no longer lists, or
//! that fails, takes its unit out of the offer until it is well; a lease that has it goes on, as long as its job does.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tradewind_proto::lending::{Senses, Standing};
use tradewind_proto::negotiation::{Refusal, RefusalCode};
use tradewind_proto::offer::{Conditions, Offer};
use tradewind_proto::terms::{LeaseKind, LeaseTerms};
use tradewind_proto::units::{Bytes, Seconds, Timestamp};
use tradewind_proto::workload::AcceleratorUsage;

use super::{Agent, Inner};
use crate::inventory::Listing;
use crate::senses::Observer;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Looks between two at the accelerators, which their driver takes a moment for.
const ACCELERATORS: u32 = 6;
/// So long before the owner's time every lease is over.
const MARGIN: Seconds = Seconds::new(15);

/// Follows until the agent shuts down; ends at once where there is nothing to follow.
pub(super) async fn follow(agent: Agent) {
    let inner = &agent.inner;
    let mut lending = inner.config.lending.clone();
    let (bound, gpus) =
        (!lending.is_free(), inner.parts.gpus.clone().filter(|_| !inner.config.gpus.is_empty()));
    if !bound && gpus.is_none() {
        return;
    }
    let mut observer = Observer::new();
    for round in 0u32.. {
        if bound {
            let senses = match lending.needs_senses() {
                true => observer.look(inner.leased()).await,
                false => Senses::default(),
            };
            let judged = lending.judge(inner.now(), &senses, inner.config.offer.conditions.notice);
            inner.stand(judged.standing);
            if judged.reclaim
                && let Err(error) = agent.reclaim(None).await
            {
                tracing::warn!(%error, "spot leases could not be taken back; trying again");
            }
        }
        if let Some(gpus) = gpus.clone().filter(|_| round.is_multiple_of(ACCELERATORS)) {
            let listed = tokio::task::spawn_blocking(move || gpus.list()).await;
            let listed = listed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            inner.ail(&listed);
            inner.weigh(&listed);
        }
        tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Accelerators that are not well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ill {
    /// Units that have one of them.
    pub(super) units: u64,
    /// What is wrong with each, by its number on the host.
    ailments: BTreeMap<u32, String>,
}

impl Ill {
    /// Of the `gpus` that make so many units, as their drivers list them now. One that does not answer says of none that it is well.
    fn of(gpus: &[u32], units: usize, listed: &Listing) -> Self {
        let problems: Vec<String> = listed.problems.iter().map(ToString::to_string).collect();
        let why = |index: u32| match listed.gpus.iter().find(|gpu| gpu.index == index) {
            Some(gpu) => gpu.ailment(),
            None if problems.is_empty() => Some("the driver no longer lists it".into()),
            None => Some(format!("the driver does not answer: {}", problems.join("; "))),
        };
        let ailments: BTreeMap<u32, String> =
            gpus.iter().filter_map(|index| Some((*index, why(*index)?))).collect();
        Self { units: units_of(gpus, units, |index| ailments.contains_key(index)), ailments }
    }
}

impl Inner {
    /// Milliseconds of processor time that leases and the default job have used: what is not the owner's own work.
    fn leased(&self) -> u64 {
        let leases: u64 = self.hosted().iter().map(|hosted| hosted.report.borrow().usage.cpu_ms).sum();
        leases.saturating_add(self.default_job.cpu_ms.load(Ordering::Relaxed))
    }

    fn stand(&self, standing: Standing) {
        let before = {
            let mut now = self.standing.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, standing.clone())
        };
        match (&before, &standing) {
            (Standing::Kept { .. }, Standing::Lends { until }) => tracing::info!(?until, "lending"),
            (Standing::Lends { .. }, Standing::Kept { why, .. }) => {
                tracing::info!(%why, "the owner keeps the machine");
            }
            // The reason's numbers change with every look.
            (Standing::Lends { .. }, Standing::Lends { .. })
            | (Standing::Kept { .. }, Standing::Kept { .. }) => return,
        }
        self.republish.notify_one();
    }

    /// Notes what each accelerator does.
    fn weigh(&self, listed: &Listing) {
        let loads = listed.gpus.iter().filter_map(|gpu| Some((gpu.index, gpu.load?))).collect();
        *self.loads.write().unwrap_or_else(PoisonError::into_inner) = loads;
    }

    /// When the owner's hours end or maintenance begins, where a lease of these terms is taken back for that before its end.
    pub(super) fn lent_until(&self, terms: &LeaseTerms) -> Option<Timestamp> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Standing::Lends { until: Some(until) } = standing else { return None };
        (terms.kind == LeaseKind::Spot && until < terms.end).then_some(until)
    }

    /// What these accelerators did at the last look; nothing where one of them does not say.
    pub(super) fn load(&self, gpus: &[u32]) -> Option<AcceleratorUsage> {
        let loads = self.loads.read().unwrap_or_else(PoisonError::into_inner);
        load_of(gpus, &loads)
    }

    /// Takes units out of the offer whose accelerators are not listed, or not well.
    fn ail(&self, listed: &Listing) {
        let ill = Ill::of(&self.config.gpus, usize::from(self.config.offer.units), listed);
        let before = {
            let mut now = self.ill.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, ill.clone())
        };
        for (index, ailment) in ill.ailments.iter().filter(|(index, _)| !before.ailments.contains_key(index))
        {
            tracing::warn!(accelerator = index, ailment, "its unit is not offered");
        }
        for index in before.ailments.keys().filter(|index| !ill.ailments.contains_key(index)) {
            tracing::info!(accelerator = index, "it is well again");
        }
        if before.units != ill.units {
            self.republish.notify_one();
        }
    }

    /// The offer at the price that was published last.
    pub(super) fn priced(&self) -> Offer {
        let mut offer = self.config.offer.clone();
        offer.prices.clone_from(self.prices.read().unwrap_or_else(PoisonError::into_inner).now());
        offer
    }

    /// What is offered now to leases of this `kind`, or to all: nothing while the owner keeps the machine, and beyond the
    /// owner's hours nothing that cannot be taken back.
    pub(super) fn offered(&self, kind: Option<LeaseKind>) -> Result<Offer, Refusal> {
        let no = |why: &str| Err(Refusal::new(RefusalCode::Policy, why, "try another provider, or later"));
        if !*self.accepting.read().unwrap_or_else(PoisonError::into_inner) {
            return no("the owner takes no new leases now");
        }
        let mut offer = self.priced();
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner).clone();
        let bound = match kind {
            Some(kind) => kind != LeaseKind::Spot,
            None => offer.prices.spot.is_none(),
        };
        let longest = *self.longest.read().unwrap_or_else(PoisonError::into_inner);
        let Conditions { max_duration, min_duration, .. } = &mut offer.conditions;
        *max_duration = longest.map_or(*max_duration, |longest| longest.min(*max_duration));
        if max_duration < min_duration {
            return no("the cluster has no time for a lease now, by its partition or a reservation");
        }
        match standing {
            Standing::Lends { until: Some(until) } if bound => {
                *max_duration = until.since(self.now()).minus(MARGIN).min(*max_duration);
                if max_duration < min_duration {
                    return no("the owner needs the machine soon");
                }
            }
            Standing::Lends { .. } => {}
            Standing::Kept { why, .. } => return no(&format!("the owner keeps the machine: {why}")),
        }
        Ok(offer)
    }
}

impl Agent {
    /// Whether the owner's hours and limits allow new leases now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.inner.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Accelerators whose units are not offered, each with the reason, by their numbers on the host.
    #[must_use]
    pub fn ailments(&self) -> BTreeMap<u32, String> {
        self.inner.ill.read().unwrap_or_else(PoisonError::into_inner).ailments.clone()
    }
}

/// The units, of so many, that have one of the accelerators that `is`.
fn load_of(gpus: &[u32], loads: &BTreeMap<u32, AcceleratorUsage>) -> Option<AcceleratorUsage> {
    let each = gpus.iter().map(|index| loads.get(index)).collect::<Option<Vec<_>>>()?;
    let busy: u64 = each.iter().map(|load| u64::from(load.busy)).sum();
    let memory = each.iter().fold(0_u64, |sum, load| sum.saturating_add(load.memory.get()));
    // One that works a little among many is at work.
    let busy = busy.div_ceil(u64::try_from(each.len()).ok().filter(|count| *count > 0)?);
    let busy = u8::try_from(busy).unwrap_or(100);
    Some(AcceleratorUsage { busy, memory: Bytes::new(memory), ..AcceleratorUsage::default() })
}

fn units_of(gpus: &[u32], units: usize, is: impl Fn(&u32) -> bool) -> u64 {
    let each = gpus.len().checked_div(units).unwrap_or(0).max(1);
    let shares = gpus.chunks(each).take(units.min(64)).enumerate();
    shares.fold(0, |mask, (unit, share)| if share.iter().any(&is) { mask | 1 << unit } else { mask })
}

/// What the agent starts with, before anything was seen.
pub(super) fn first(config: &super::AgentConfig, now: Timestamp) -> Standing {
    config.lending.clone().judge(now, &Senses::default(), config.offer.conditions.notice).standing
}

#[cfg(test)]
mod tests {
    use tradewind_proto::offer::Vendor;

    use super::*;
    use crate::inventory::{Gpu, GpuError};

    fn listed(gpus: Vec<Gpu>) -> Listing {
        Listing { gpus, problems: Vec::new() }
    }

    fn card(index: u32) -> Gpu {
        Gpu {
            index,
            vendor: Vendor::Nvidia,
            name: "NVIDIA H100 80GB HBM3".into(),
            uuid: format!("GPU-{index}"),
            vram: Bytes::gib(80),
            compute_capability: None,
            driver: None,
            cuda: None,
            node: None,
            bus: String::new(),
            links: Vec::new(),
            watts: None,
            uncorrected: None,
            sliced: false,
            load: None,
        }
    }

    #[test]
    fn a_lease_is_told_of_its_own_accelerators_and_only_of_all_of_them() {
        let load = |busy, memory| AcceleratorUsage { busy, memory: Bytes::gib(memory), ..Default::default() };
        let loads = BTreeMap::from([(0, load(1, 2)), (1, load(0, 3)), (2, load(99, 70))]);
        assert_eq!(load_of(&[0, 1], &loads), Some(load(1, 5)));
        assert_eq!(load_of(&[2], &loads), Some(load(99, 70)));
        assert_eq!((load_of(&[2, 3], &loads), load_of(&[], &loads)), (None, None));
    }

    #[test]
    fn a_card_that_fell_off_the_bus_takes_its_unit_along_and_says_why() {
        let broken = Gpu { uncorrected: Some(2), ..card(3) };
        let ill = Ill::of(&[0, 1, 2, 3], 2, &listed(vec![card(0), card(1), card(2), broken]));
        assert_eq!((ill.units, ill.ailments.len()), (0b10, 1));
        assert!(ill.ailments[&3].contains("2 errors"), "{ill:?}");
        let ill = Ill::of(&[0, 1, 2, 3], 2, &listed(vec![card(0), card(2), card(3)]));
        assert_eq!((ill.units, ill.ailments[&1].as_str()), (0b01, "the driver no longer lists it"));
        assert_eq!(Ill::of(&[0, 1], 2, &listed(vec![card(0), card(1)])), Ill::default());
    }

    #[test]
    fn a_driver_that_does_not_answer_says_of_none_that_it_is_well() {
        let timeout = GpuError { vendor: Vendor::Nvidia, why: "NVML: timeout".into() };
        let silent = Listing { gpus: Vec::new(), problems: vec![timeout.clone()] };
        let ill = Ill::of(&[0, 1, 2, 3], 2, &silent);
        assert_eq!((ill.units, ill.ailments.len()), (0b11, 4));
        assert!(ill.ailments[&0].ends_with("NVML: timeout"));
        let other = Listing { gpus: vec![card(128), card(129)], problems: vec![timeout] };
        assert_eq!(Ill::of(&[128, 129], 2, &other), Ill::default(), "another maker's cards are well");
    }

    #[test]
    fn a_unit_is_ill_with_any_of_its_accelerators() {
        let gpus = [0, 1, 2, 5, 6, 7];
        assert_eq!(units_of(&gpus, 3, |index| *index == 5), 0b010);
        assert_eq!(units_of(&gpus, 6, |index| [0, 7].contains(index)), 0b10_0001);
        assert_eq!(units_of(&gpus, 1, |index| *index == 7), 0b1);
        assert_eq!(units_of(&gpus, 3, |_| false), 0);
        assert_eq!(units_of(&[], 4, |_| true), 0);
    }
}

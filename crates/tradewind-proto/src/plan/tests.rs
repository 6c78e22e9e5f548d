use alloy_primitives::B256;
use proptest::prelude::*;

use super::*;
use crate::attestation::Tees;
use crate::book::{SYNTHETIC_TOKEN, Stake, Standing, synthetic};
use crate::negotiation::{Purse, accept, propose};
use crate::offer::tests::sample;
use crate::offer::{Offer, Runtimes};
use crate::place::PlaceWord;
use crate::terms::LeaseKind;
use crate::units::{Bytes, Money, RatePerSecond};

const PARAMETERS: TermsParameters = TermsParameters {
    version: 1,
    max_duration: Seconds::new(90 * 86_400),
    min_cap_on_demand: Seconds::new(23_400),
    min_cap_spot: Seconds::new(3_600),
    min_cap_reserved: Seconds::new(23_400),
};

fn context(token: Address) -> Context {
    Context::new(Timestamp::from_unix(1_010), BuyerId::new(Address::repeat_byte(0xbb)), token, 6, PARAMETERS)
}

fn job(text: &str) -> JobSpec {
    JobSpec::parse("job.yaml", text).unwrap_or_else(|error| panic!("{}", error.render()))
}

/// Offers of one-unit devices of a third of the sample's machine, numbered, at so many cents an hour.
fn market(cents: &[u64]) -> OfferBook {
    let mut book = OfferBook::new();
    for (index, cents) in cents.iter().enumerate() {
        book.insert(offer(u8::try_from(index + 1).unwrap(), *cents));
    }
    book
}

fn offer(number: u8, cents: u64) -> Offer {
    let mut offer = sample();
    offer.provider = ProviderId::new(Address::repeat_byte(number));
    offer.device = crate::ids::DeviceId::new(B256::repeat_byte(number));
    offer.prices.on_demand = RatePerSecond::per_hour(Money::from_base_units(cents * 10_000));
    offer
}

fn plan_in(book: &OfferBook, text: &str) -> Plan {
    explain(&job(text), book, &context(sample().prices.token))
}

fn providers(plan: &Plan) -> Vec<u8> {
    plan.choices.iter().map(|choice| choice.offer.provider.account()[0]).collect()
}

fn reasons(plan: &Plan) -> Vec<String> {
    plan.rejections.iter().map(|rejection| rejection.describe(6)).collect()
}

#[test]
fn the_cheapest_offer_that_fits_comes_first() {
    let plan = plan_in(&market(&[300, 100, 200]), "run: ls\nresources: {accelerators: H100}\n");
    assert_eq!(providers(&plan), [2, 3, 1]);
    let best = &plan.choices[0];
    assert_eq!((best.units, best.share.gpus, best.runtime.as_str()), (1, 1, "process"));
    assert_eq!(best.cost.hourly, Money::from_base_units(1_000_000));
    assert!(plan.rejections.is_empty());
}

#[test]
fn a_job_takes_as_many_units_as_its_largest_need() {
    let book = market(&[100]);
    let units = |text: &str| plan_in(&book, text).choices[0].units;
    assert_eq!(units("run: ls\nresources: {accelerators: H100:4}\n"), 4);
    assert_eq!(units("run: ls\nresources: {accelerators: H100:2, memory: 400+}\n"), 4);
    assert_eq!(units("run: ls\nresources: {cpus: 16}\n"), 1);
    assert_eq!(units("run: ls\nresources: {cpus: 17}\n"), 2);
}

#[test]
fn what_a_job_may_send_is_in_the_price_that_ranks() {
    let mut book = OfferBook::new();
    let mut counted = offer(1, 100);
    counted.prices.egress = Some(Money::from_base_units(50_000));
    book.insert(counted);
    book.insert(offer(2, 110));
    let plan = |text: &str| plan_in(&book, &format!("run: ls\nresources: {{accelerators: H100{text}"));
    let quiet = plan("}\n");
    assert_eq!((providers(&quiet), quiet.choices[0].share.egress), (vec![1, 2], Some(Bytes::ZERO)));
    let usual = plan("}\nnetwork: internet\n");
    assert_eq!(providers(&usual), [1, 2], "a GiB an hour makes five cents");
    assert_eq!(usual.choices[0].cost.hourly, Money::from_base_units(1_050_000));
    assert_eq!(usual.choices[1].share.egress, None);
    let sender = plan(", egress: 3GiB}\nnetwork: internet\n");
    assert_eq!(providers(&sender), [2, 1]);
    assert_eq!(sender.choices[1].share.egress, Some(Bytes::gib(3)));
    let capped = plan(", egress: 3GiB}\nnetwork: internet\nmax_price: 1.12\n");
    assert_eq!(providers(&capped), [2]);
}

#[test]
fn reliability_stake_and_distance_raise_the_price_that_ranks() {
    let mut book = market(&[100, 101, 99]);
    let reliable = |reliability| Standing { reliability, stake: Stake::Confirmed, jailed: false };
    book.set_standing(offer(1, 0).key(), reliable(Some(9_000)));
    book.set_standing(offer(2, 0).key(), reliable(Some(9_990)));
    let mut context = context(sample().prices.token);
    context.home = Some("FR".into());
    let plan = plan(&job("run: ls\n"), &book, &context);
    assert_eq!(providers(&plan), [2, 3, 1]);
    let score = plan.choices[1].score;
    assert_eq!((score.reliability, score.trust, score.locality), (500, 0, 100));
}

#[test]
fn every_rejection_has_its_reason_count_and_nearest_miss() {
    let mut book = market(&[100, 100, 100, 100, 900]);
    for (number, memory) in [(1, 4), (2, 8)] {
        let mut small = offer(number, 100);
        (small.sequence, small.units, small.free_units) = (2, 1, 1);
        small.unit.memory = Bytes::gib(memory);
        book.insert(small);
    }
    let mut elsewhere = offer(3, 100);
    (elsewhere.sequence, elsewhere.region.country) = (2, "US".into());
    book.insert(elsewhere);
    book.set_standing(offer(4, 100).key(), Standing { jailed: true, ..Standing::default() });
    let plan = plan_in(&book, "run: ls\nresources: {memory: 16GiB}\nregions: DE\nmax_price: 2\n");
    assert!(plan.choices.is_empty());
    assert_eq!(
        reasons(&plan),
        [
            "2 providers: memory 8 GiB < 16 GiB",
            "1 provider: jailed",
            "1 provider: in another region",
            "1 provider: price 9 > 2 an hour"
        ]
    );
    assert_eq!(plan.rejections[0].nearest_provider, offer(2, 0).provider);
}

#[test]
fn each_rule_rejects_what_breaks_it() {
    type Change = fn(&mut Offer);
    let nothing: Change = |_| {};
    let cases: [(&str, Change, Reason); 24] = [
        ("run: ls\nresources: {accelerators: A100}\n", nothing, Reason::Accelerator),
        ("run: ls\nresources: {vram: 90GB}\n", nothing, Reason::Vram),
        ("run: ls\nresources: {vendor: amd}\n", nothing, Reason::Vendor),
        ("run: ls\nresources: {compute_capability: 10.0}\n", nothing, Reason::ComputeCapability),
        ("run: ls\nresources: {driver: 580}\n", nothing, Reason::Driver),
        (
            "run: ls\nresources: {nvlink: true}\n",
            |o| o.unit.gpus.as_mut().unwrap().interconnect = None,
            Reason::Interconnect,
        ),
        ("run: ls\nresources: {accelerators: H100:9}\n", nothing, Reason::Accelerators),
        ("run: ls\nresources: {cpus: 200}\n", nothing, Reason::Cpus),
        ("run: ls\nresources: {disk: 9000}\n", nothing, Reason::Disk),
        ("run: ls\n", |o| o.free_units = 0, Reason::Busy),
        ("run: ls\nimage: alpine\n", |o| o.runtimes = Runtimes::PROCESS, Reason::Runtime),
        ("run: ls\nimage: ./alpine.tar\n", |o| o.runtimes = Runtimes::PROCESS, Reason::Runtime),
        ("run: ls\nnetwork: internet\n", |o| o.network = crate::workload::Network::None, Reason::Network),
        ("run: ls\nports: 80\n", nothing, Reason::Ports),
        ("run: ls\nmarket: spot\n", |o| o.prices.spot = None, Reason::Kind),
        ("run: ls\ntimeout: 60d\n", nothing, Reason::Duration),
        ("run: ls\nmax_cost: 0.01\n", nothing, Reason::Cost),
        ("run: ls\nplacement: {min_reliability: 99%}\n", nothing, Reason::Reliability),
        ("run: ls\nplacement: {tee: any}\n", |o| o.tees = Tees::NVIDIA, Reason::Tee),
        ("run: ls\nplacement: {tee: tdx, gpu_tee: true}\n", |o| o.tees = Tees::TDX, Reason::Tee),
        ("run: ls\nplacement: {encrypted: true}\n", nothing, Reason::Encryption),
        (AUDITED, |o| o.attested = vec![word(8, 2_000)], Reason::Place),
        (AUDITED, |o| o.attested = vec![word(7, NOW - 1)], Reason::Place),
        ("run: ls\n", |o| o.version = 2, Reason::Version),
    ];
    for (text, change, reason) in cases {
        let mut book = OfferBook::new();
        let mut offer = offer(1, 100);
        change(&mut offer);
        book.insert(offer);
        let plan = plan_in(&book, text);
        let found: Vec<Reason> = plan.rejections.iter().map(|rejection| rejection.reason).collect();
        assert_eq!((plan.choices.len(), found.as_slice()), (0, [reason].as_slice()), "{text}");
    }
}

#[test]
fn a_machine_that_claims_a_wanted_kind_of_trusted_execution_is_chosen() {
    let mut book = market(&[100]);
    let mut guest = offer(2, 300);
    guest.tees = Tees::SEV_SNP.with(Tees::NVIDIA);
    book.insert(guest);
    for text in ["tee: any", "tee: [tdx, sev-snp]", "gpu_tee: true", "tee: sev-snp, gpu_tee: true"] {
        let plan = plan_in(&book, &format!("run: ls\nplacement: {{{text}}}\n"));
        assert_eq!(providers(&plan), [2], "{text}");
        assert_eq!(reasons(&plan), ["1 provider: no such trusted execution as `placement.tee` asks for"]);
    }
    assert_eq!(providers(&plan_in(&book, "run: ls\nplacement: {tee: false}\n")), [1, 2]);
    let mut careful = offer(3, 400);
    careful.encrypted = true;
    book.insert(careful);
    assert_eq!(providers(&plan_in(&book, "run: ls\nplacement: {encrypted: true}\n")), [3]);
}

/// When plans are made.
const NOW: u64 = 1_010;
/// Trusts the auditor 7.
const AUDITED: &str =
    "run: ls\nplacement: {attestations: {place: [\"0x0707070707070707070707070707070707070707\"]}}\n";

fn word(issuer: u8, expires: u64) -> PlaceWord {
    PlaceWord { issuer: Address::repeat_byte(issuer), expires: Timestamp::from_unix(expires) }
}

#[test]
fn a_job_that_asks_for_an_auditors_word_goes_to_the_attested_machine() {
    let mut book = market(&[100]);
    let mut attested = offer(2, 300);
    attested.attested = vec![word(8, NOW + 9), word(7, NOW)];
    book.insert(attested);
    let plan = plan_in(&book, AUDITED);
    assert_eq!(providers(&plan), [2], "dearer, and attested up to this second");
    assert_eq!(reasons(&plan), ["1 provider: nobody you trust attests where it stands"]);
    assert_eq!(providers(&plan_in(&book, "run: ls\nplacement: {attestations: []}\n")), [1, 2]);
}

#[test]
fn an_unstaked_provider_needs_the_buyers_word() {
    let mut book = OfferBook::new();
    let mut free = offer(1, 100);
    (free.device, free.trust) = (crate::ids::DeviceId::NONE, crate::offer::TrustTier::Unstaked);
    book.insert(free);
    assert_eq!(plan_in(&book, "run: ls\n").rejections[0].reason, Reason::TrustTier);
    assert_eq!(plan_in(&book, "run: ls\nplacement: {trust_tier: unstaked}\n").choices.len(), 1);
}

#[test]
fn a_job_for_certain_devices_runs_on_no_other() {
    let two = offer(2, 100).device;
    let plan = plan_in(
        &market(&[50, 100]),
        &format!("run: ls\nplacement: {{providers: {{devices: [\"{two}\"]}}}}\n"),
    );
    assert_eq!(providers(&plan), [2]);
    assert_eq!(reasons(&plan), ["1 provider: ruled out by `placement.providers`"]);
}

#[test]
fn the_buyers_own_and_excluded_providers_are_left_out_and_failed_ones_come_last() {
    let book = market(&[100, 200, 300, 400]);
    let mut context = context(sample().prices.token);
    context.buyer = BuyerId::new(Address::repeat_byte(1));
    context.excluded.insert(offer(2, 0).provider);
    context.failed.insert(offer(3, 0).provider, 1);
    let plan = explain(&job("run: ls\n"), &book, &context);
    assert_eq!(providers(&plan), [4, 3]);
    assert_eq!(reasons(&plan), ["1 provider: the buyer's own", "1 provider: excluded by the buyer"]);
}

#[test]
fn an_ordered_job_takes_the_first_set_that_can_be_had_whatever_it_costs() {
    let mut book = market(&[900]);
    let mut cheap = offer(2, 100);
    cheap.unit.gpus.as_mut().unwrap().model = "A100".into();
    book.insert(cheap);
    let ordered = plan_in(&book, "run: ls\nresources: {accelerators: [H100, A100]}\n");
    assert_eq!(providers(&ordered), [1, 2]);
    assert_eq!((ordered.choices[0].set, ordered.choices[1].set), (0, 1));
    let any = plan_in(&book, "run: ls\nresources: {accelerators: {H100: 1, A100: 1}}\n");
    assert_eq!(providers(&any), [2, 1]);
}

#[test]
fn spot_with_fallback_prefers_spot_and_falls_back() {
    let mut book = market(&[100]);
    let mut never_spot = offer(2, 50);
    never_spot.prices.spot = None;
    book.insert(never_spot);
    let plan = plan_in(&book, "run: ls\nmarket: spot-with-fallback\n");
    let kinds: Vec<(u8, LeaseKind)> =
        plan.choices.iter().map(|choice| (choice.offer.provider.account()[0], choice.kind)).collect();
    assert_eq!(kinds, [(1, LeaseKind::Spot), (2, LeaseKind::OnDemand)]);
}

#[test]
fn max_cost_shortens_the_lease_and_bounds_the_deposit() {
    let plan = plan_in(&market(&[360]), "run: ls\nmax_cost: 0.5\ntimeout: 2h\n");
    let choice = &plan.choices[0];
    assert!(choice.cost.deposit <= Money::from_base_units(500_000));
    assert_eq!(choice.duration, Seconds::new(500));
    assert_eq!(choice.cost.worst_loss, choice.rate.over(choice.slack.plus(Seconds::new(40))));
    let reserved = plan_in(&market(&[360]), "run: ls\nmarket: reserved\nmax_cost: 0.5\ntimeout: 2h\n");
    assert_eq!(reserved.rejections[0].reason, Reason::Cost);
}

#[test]
fn a_seed_breaks_ties_and_nothing_else() {
    let book = market(&[100; 9]);
    let first = |seed| {
        let mut context = context(sample().prices.token);
        context.seed = seed;
        plan(&job("run: ls\n"), &book, &context).choices[0].offer.provider
    };
    assert_eq!(first(1), first(1));
    let distinct: BTreeSet<ProviderId> = (0..40).map(first).collect();
    assert!(distinct.len() > 4, "{} of 9 equal providers are ever first", distinct.len());
}

/// Jobs with none to eight constraints.
fn any_job() -> impl Strategy<Value = String> {
    let models = ["RTX4090", "H100:2", "A100", "L40S:4", "MI300X", "{H100: 1, H200: 1}", "NOSUCH"];
    let part = |text: &'static str| proptest::option::weighted(0.4, Just(text));
    (
        (
            proptest::option::of(proptest::sample::select(models.to_vec())),
            part("cpus: 12"),
            part("memory: 48"),
        ),
        (part("disk: 100"), part("vram: 40GB"), part("nvlink: true")),
        (part("regions: [DE, US, FR]"), part("max_price: 2"), part("network: internet")),
        (
            part("placement: {min_reliability: 97%}"),
            part("timeout: 30h"),
            part("image: alpine"),
            part("market: spot"),
        ),
    )
        .prop_map(|(a, b, c, d)| {
            let mut resources: Vec<String> = a.0.map(|m| format!("accelerators: {m}")).into_iter().collect();
            resources.extend([a.1, a.2, b.0, b.1, b.2].into_iter().flatten().map(String::from));
            let rest = [c.0, c.1, c.2, d.0, d.1, d.2, d.3].into_iter().flatten();
            let rest: String = rest.map(|line| format!("{line}\n")).collect();
            format!("run: ls\n{rest}resources: {{{}}}\n", resources.join(", "))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The index finds what looking at every offer finds, also after half the book has moved.
    #[test]
    fn the_index_loses_nothing(seed in any::<u64>(), text in any_job(), churn in any::<u64>()) {
        let mut book = synthetic(seed, 1_500);
        let keys: Vec<_> = book.offers().map(Offer::key).collect();
        for (index, key) in keys.iter().enumerate() {
            match (churn >> (index % 61)) & 3 {
                0 => { book.remove(key); }
                1 => {
                    let mut offer = book.get(key).unwrap().clone();
                    offer.sequence += 1;
                    offer.prices.on_demand = RatePerSecond::from_scaled(offer.prices.on_demand.scaled() / 3);
                    book.insert(offer);
                }
                _ => {}
            }
        }
        let (job, context) = (job(&text), context(SYNTHETIC_TOKEN));
        let demands = Demand::all(&job, &context);
        let brute = demands.iter().flat_map(|demand| {
            let fits = book.entries().filter_map(|entry| Some((entry, demand.fit(entry)?)));
            fits.map(|(entry, fit)| Candidate::new(demand, entry, &fit, &context).score.total).collect::<Vec<_>>()
        });
        let found = plan(&job, &book, &context).choices;
        prop_assert_eq!(found.first().map(|choice| choice.score.total), brute.min(), "{}", text);
        prop_assert!(found.windows(2).all(|pair| pair[0].score.total <= pair[1].score.total));
    }

    /// Every choice is one that the provider grants, the buyer accepts and the purse pays.
    #[test]
    fn every_choice_can_be_leased_within_the_limits(seed in any::<u64>(), text in any_job(), cents in 1u64..5_000) {
        let book = synthetic(seed, 600);
        let cost = Money::from_base_units(cents * 10_000);
        let job = job(&format!("{text}max_cost: {}\n", cost.display(6)));
        let context = context(SYNTHETIC_TOKEN);
        for choice in plan(&job, &book, &context).choices {
            let request = choice.request(context.buyer, Address::repeat_byte(9), true, B256::repeat_byte(1));
            let mask = (1u64 << choice.units) - 1;
            let terms = propose(&choice.offer, &request, &PARAMETERS, mask, context.now).unwrap();
            let price = job.max_price.map_or(RatePerSecond::from_scaled(u128::MAX), |price| {
                RatePerSecond::per_hour(price.to_money(6).unwrap())
            });
            let purse = Purse { max_rate: price, max_deposit: cost };
            prop_assert_eq!(accept(&choice.offer, &request, &PARAMETERS, &terms, &purse, context.now), Ok(()));
            prop_assert_eq!(terms.deposit, choice.cost.deposit);
            prop_assert!(choice.cost.worst_loss <= choice.cost.deposit && choice.cost.prepay <= choice.cost.worst_loss);
            prop_assert!(u64::from(choice.units) <= u64::from(choice.offer.free_units));
        }
    }

    /// Every offer is a choice under some demand or has a reason.
    #[test]
    fn every_offer_is_explained(seed in any::<u64>(), text in any_job()) {
        let book = synthetic(seed, 300);
        let mut context = context(SYNTHETIC_TOKEN);
        context.choices = 64;
        let plan = explain(&job(&text), &book, &context);
        if plan.choices.is_empty() {
            prop_assert!(plan.rejections.iter().map(|rejection| rejection.offers).sum::<usize>() >= book.len());
        }
        prop_assert!(plan.rejections.iter().all(|rejection| rejection.offers <= book.len()));
    }
}

#[test]
fn an_unattended_job_risks_its_whole_deposit_and_the_plan_says_so() {
    let (book, spec) = (market(&[360]), job("run: ls\ntimeout: 10h\n"));
    let watched = context(sample().prices.token);
    let alone = Context { unattended: true, ..watched.clone() };
    let choice = |context: &Context| plan(&spec, &book, context).choices.remove(0);
    let (watched, alone) = (choice(&watched), choice(&alone));
    assert!(watched.cost.worst_loss < watched.cost.deposit);
    assert_eq!(alone.cost.worst_loss, alone.cost.deposit);
    assert_eq!(alone.prepare, Seconds::ZERO, "nobody sees when the job begins");
    assert!(alone.slack >= crate::ladder::least_slack(alone.duration));
}

#[test]
fn a_lease_that_another_node_meters_names_what_that_could_cost() {
    let (book, spec) = (market(&[360]), job("run: ls\ntimeout: 1h\n"));
    let own = context(sample().prices.token);
    let metered = Context { delegated: true, ..own.clone() };
    let cost = |context: &Context| plan(&spec, &book, context).choices[0].cost;
    let (own, metered) = (cost(&own), cost(&metered));
    assert_eq!(own.meter_loss, Money::ZERO);
    assert_eq!(metered.meter_loss, own.deposit, "all that the contract would pay by the lease's end");
    assert_eq!(metered.worst_loss, own.worst_loss, "a provider alone gets no more than before");
}

#[test]
fn a_lease_that_is_too_long_to_go_unattended_is_a_reason_and_no_surprise() {
    let (book, spec) = (market(&[360]), job("run: ls\ntimeout: 20d\n"));
    let alone = Context { unattended: true, ..context(sample().prices.token) };
    let plan = explain(&spec, &book, &alone);
    assert!(plan.choices.is_empty());
    assert_eq!(plan.rejections.len(), 1, "{:?}", reasons(&plan));
    assert!(reasons(&plan)[0].contains("slack 10m00s < 56m18s, as so long a lease"), "{:?}", reasons(&plan));
}

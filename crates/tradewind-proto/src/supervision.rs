//! The buyer's side of one lease: pay while it works, collect, close, and know when to give up.
//!
//! ```text
//!   Opening ─► Working ─► Fetching ─► Closing well (last voucher) ─► Done
//!      │          │ silent, failed, too expensive, timed out
//!      │          └──────► Leaving (requestClose, challenge) ─► Done
//!      └ never opened ─► Done
//! ```
//!
//! Level-triggered like [`crate::hosting`]: [`Supervision::next`] compares the durable state with what can be seen now. A
//! provider that cannot be reached gets no more vouchers, because payment follows evidence of work; after `patience` the buyer
//! leaves by the chain alone, which works without the provider. A chain that cannot be read delays that and harms nothing. Silence
//! counts only while somebody listens: a buyer that was away asks first, and takes what an ended lease left.
//!
//! Where another node meters ([`crate::delegation`]), the buyer does all of this but pay: it learns what was signed from the
//! vouchers that the provider shows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::idle::{Activity, IdleLimit};
use crate::ids::LeaseId;
use crate::lease::{LeasePhase, LeaseState};
use crate::meter::{Run, is_unpaid, voucher_interval};
use crate::report::{Report, Stage};
use crate::terms::LeaseTerms;
use crate::units::{Money, Seconds, Timestamp};

/// The buyer's limits for one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The job is stopped when it has cost this much.
    pub max_cost: Money,
    /// The job is stopped when it ran this long.
    pub timeout: Option<Seconds>,
    /// How long a provider may be silent before the buyer leaves.
    pub patience: Seconds,
    /// Challenge a silent provider on chain, for compensation from its bond.
    pub challenge: bool,
    /// Time to save the job's progress that `max_cost` pays for: at its limit the job is stopped so much earlier.
    pub saving: Seconds,
    /// The job is stopped when nobody used it for so long.
    #[serde(default)]
    pub idle: Option<IdleLimit>,
}

/// How a lease ended for its buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The job ended by itself and its outputs are here.
    Finished {
        /// The job's own exit code.
        code: u8,
    },
    /// The buyer stopped it.
    Stopped(StopReason),
    /// The owner took the spot lease back, and the job ended for that; what it saved is here.
    Reclaimed,
    /// The provider lost it, went silent, or could not start it: place it again elsewhere.
    ProviderFailed,
    /// Its payment stopped, and the provider ended it for that.
    Unpaid,
    /// The chain never opened the lease.
    NeverOpened,
}

/// Why a buyer stopped a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// A person asked.
    Asked,
    /// `timeout` passed.
    Timeout,
    /// `max_cost` was reached.
    MaxCost,
    /// The lease's end was reached.
    LeaseEnd,
    /// Nobody used it for `idle_stop`.
    Idle,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "stopped on request",
            Self::Timeout => "stopped: its timeout passed",
            Self::MaxCost => "stopped: max_cost was reached",
            Self::LeaseEnd => "stopped: the lease's end was reached",
            Self::Idle => "stopped: nobody used it for idle_stop",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { code } => write!(f, "the job ended, exit {code}"),
            Self::Stopped(reason) => fmt::Display::fmt(reason, f),
            Self::Reclaimed => f.write_str("taken back by its owner"),
            Self::ProviderFailed => f.write_str("the provider failed"),
            Self::Unpaid => f.write_str("ended by the provider, unpaid"),
            Self::NeverOpened => f.write_str("never opened"),
        }
    }
}

/// The durable state of a supervised lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// The lease.
    pub id: LeaseId,
    /// Its terms.
    pub terms: LeaseTerms,
    /// What the buyer allows.
    pub limits: Limits,
    /// The provider took the job over.
    pub begun: bool,
    /// The largest cumulative amount ever signed; stored before it is sent.
    pub signed: Money,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// The newest report.
    pub report: Option<Report>,
    /// When the provider last answered.
    pub heard_at: Timestamp,
    /// The earliest moment at which the buyer itself saw the job run.
    pub run_seen: Option<Timestamp>,
    /// What is known of its use.
    #[serde(default)]
    pub activity: Activity,
    /// Outputs are here and their hashes hold.
    pub fetched: bool,
    /// Why the job was stopped.
    pub stop: Option<StopReason>,
    /// When the last voucher was first sent.
    pub last_sent_at: Option<Timestamp>,
    /// The buyer gave the provider up.
    pub gave_up: bool,
    /// Since when the buyer listens: its start, after it was away.
    pub listening_since: Timestamp,
    /// What vouchers that were signed ahead promise in all; zero when somebody watches. Of a lease that another node meters and
    /// this one gave up: what that node may have signed until the chain ends it.
    pub ahead: Money,
    /// Another node signs the vouchers.
    #[serde(default)]
    pub delegated: bool,
    /// What the chain has paid out.
    #[serde(default)]
    pub settled: Money,
}

/// What the shell saw this time.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The time.
    pub now: Timestamp,
    /// The lease on chain; `None` when it could not be asked.
    pub chain: Option<LeaseState>,
}

/// What the shell has to do. All are idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hand the job, both signatures and the prepayment over.
    Begin,
    /// Sign this cumulative amount, store it, send it.
    Pay(Money),
    /// Ask the provider to end the job.
    Stop,
    /// Fetch outputs and check their hashes.
    Fetch,
    /// Sign the last voucher over this amount and send it.
    PayLast(Money),
    /// Ask the chain to close.
    RequestClose,
    /// Challenge the silent provider on chain.
    Challenge,
    /// The challenge was not answered: take the compensation.
    Defaulted,
    /// The closing time is over.
    Finalize,
    /// The lease's end and window are over.
    Expire,
    /// Nothing is left to do.
    Finish(Outcome),
}

impl Supervision {
    /// A lease that both sides signed.
    #[must_use]
    pub const fn new(id: LeaseId, terms: LeaseTerms, limits: Limits) -> Self {
        Self {
            heard_at: terms.start,
            signed: terms.prepay,
            signed_at: terms.start,
            id,
            limits,
            begun: false,
            report: None,
            run_seen: None,
            activity: Activity::NONE,
            fetched: false,
            stop: None,
            last_sent_at: None,
            gave_up: false,
            listening_since: terms.start,
            ahead: Money::ZERO,
            delegated: false,
            settled: Money::ZERO,
            terms,
        }
    }

    /// The same lease, with its vouchers signed by another node.
    #[must_use]
    pub const fn delegated(mut self) -> Self {
        self.delegated = true;
        self
    }

    /// The buyer is back, and has heard nothing yet that it could have heard.
    pub fn resume(&mut self, now: Timestamp) {
        self.listening_since = self.listening_since.max(now);
        self.activity.forget();
    }

    /// Its buyer is in the job: it is in use.
    pub fn attend(&mut self, now: Timestamp) {
        if self.limits.idle.is_some() {
            self.activity.attend(now);
        }
    }

    /// The most that it may cost in the end, as far as vouchers are out.
    #[must_use]
    pub fn committed(&self) -> Money {
        self.signed.max(self.ahead)
    }

    /// Takes a report in; an older revision, or one for another lease, is ignored.
    pub fn observe(&mut self, report: Report, now: Timestamp) {
        if report.lease != self.id
            || self.report.as_ref().is_some_and(|known| report.revision < known.revision)
        {
            return;
        }
        self.heard_at = now;
        if report.run.since.is_some() {
            self.run_seen.get_or_insert(now);
        }
        match (self.limits.idle, &report.stage) {
            (Some(limit), Stage::Running) => self.activity.observe(&report.usage, limit, now),
            _ => self.activity.forget(),
        }
        self.report = Some(report);
    }

    /// Another node's voucher over `amount` was seen and verified. `true` when it is news.
    pub fn learn(&mut self, amount: Money, now: Timestamp) -> bool {
        let news = self.delegated && amount > self.signed;
        if news {
            (self.signed, self.signed_at) = (amount, now);
        }
        news
    }

    /// Takes over what the chain says of the lease's money.
    pub fn observe_chain(&mut self, chain: &LeaseState) {
        self.settled = self.settled.max(chain.paid);
    }

    /// When the job ran, as far as the buyer believes it: never before `start`, never past the newest answer.
    #[must_use]
    pub fn run(&self) -> Run {
        let Some(report) = &self.report else { return Run::default() };
        let until = report.run.until.unwrap_or(self.heard_at).min(self.heard_at);
        Run { since: report.run.since, until: Some(until) }
    }

    /// What an honest meter signs now.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Money {
        self.run().due(&self.terms, now).max(self.signed)
    }

    /// Decides whether the job must end, and whether the provider is given up.
    pub fn judge(&mut self, now: Timestamp) {
        if self.stop.is_none() {
            let ran = self.run().billed(&self.terms, now);
            self.stop = if self.limits.timeout.is_some_and(|timeout| ran >= timeout) {
                // Also where the provider's clock was first to end it.
                Some(StopReason::Timeout)
            } else if self.is_over() {
                None
            } else if self.cost_ahead(now) > self.limits.max_cost || self.must_save(now) {
                Some(StopReason::MaxCost)
            } else if now >= self.terms.end {
                Some(StopReason::LeaseEnd)
            } else if self.limits.idle.is_some_and(|limit| self.activity.is_idle(limit)) {
                Some(StopReason::Idle)
            } else {
                None
            };
        }
        let silent = now.since(self.heard_at.max(self.listening_since)) > self.limits.patience;
        let failed = matches!(self.report.as_ref().map(|r| &r.stage), Some(Stage::Failed { .. }));
        let unclosed = self
            .last_sent_at
            .is_some_and(|sent| now.since(sent.max(self.listening_since)) > self.limits.patience);
        let leaves = failed || unclosed || (silent && !(self.is_over() && self.fetched));
        if leaves && !self.gave_up && self.delegated {
            // A slack for `requestClose` to be included; from then on the contract counts no more time.
            self.ahead = self.terms.cap(now.after(self.terms.slack));
        }
        self.gave_up |= leaves;
    }

    /// Whether a voucher over `due` is to be signed now: one in an interval, while the provider works.
    #[must_use]
    pub fn is_payday(&self, due: Money, now: Timestamp) -> bool {
        let working = self.report.as_ref().is_some_and(|report| {
            matches!(report.stage, Stage::Running | Stage::Paused | Stage::Preparing { .. } | Stage::Stopping)
        });
        working && due > self.signed && now.since(self.signed_at) >= voucher_interval(&self.terms)
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, seen: &Seen) -> Vec<Action> {
        if let Some(chain) = seen.chain {
            match chain.phase {
                LeasePhase::None if seen.now > self.terms.open_by => {
                    return vec![Action::Finish(Outcome::NeverOpened)];
                }
                LeasePhase::Settled | LeasePhase::Closed if self.begun && !self.fetched && !self.gave_up => {
                    let ready = matches!(self.report.as_ref().map(|r| &r.stage), Some(Stage::Finished));
                    return if ready { vec![Action::Fetch] } else { Vec::new() };
                }
                LeasePhase::Settled | LeasePhase::Closed => return vec![Action::Finish(self.outcome())],
                LeasePhase::None | LeasePhase::Open | LeasePhase::Noticed(_) | LeasePhase::Closing => {}
            }
            if let Some(action) = self.exit_by_chain(&chain, seen.now) {
                return vec![action];
            }
        }
        if self.gave_up { Vec::new() } else { self.work(seen) }
    }

    /// How it ended, once it did.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let exit = self.report.as_ref().and_then(|report| report.exit);
        let told = self.report.as_ref().and_then(|report| report.reclaimed);
        match (self.stop, exit) {
            (Some(reason), _) if !self.gave_up => Outcome::Stopped(reason),
            (None, Some(exit)) if self.fetched && told.is_some_and(|told| exit.at >= told) => {
                Outcome::Reclaimed
            }
            (None, Some(exit)) if self.fetched && self.was_unpaid(exit.at) => Outcome::Unpaid,
            (None, Some(exit)) if self.fetched => Outcome::Finished { code: exit.code },
            _ => Outcome::ProviderFailed,
        }
    }

    /// Whether the contract let the provider leave, at the job's end, for what was paid by then.
    fn was_unpaid(&self, end: Timestamp) -> bool {
        is_unpaid(&self.terms, self.settled.max(self.signed), end.min(self.heard_at))
    }

    fn work(&self, seen: &Seen) -> Vec<Action> {
        if !self.begun {
            return vec![Action::Begin];
        }
        let Some(report) = &self.report else { return Vec::new() };
        if self.is_over() {
            return match (&report.stage, self.fetched) {
                (Stage::Finished, true) => vec![Action::PayLast(self.due(seen.now))],
                (Stage::Finished, false) => vec![Action::Fetch],
                _ => Vec::new(),
            };
        }
        let mut actions = Vec::new();
        let due = self.due(seen.now);
        if !self.delegated && self.is_payday(due, seen.now) {
            actions.push(Action::Pay(due));
        }
        if self.stop.is_some() {
            actions.push(Action::Stop);
        }
        actions
    }

    fn exit_by_chain(&self, chain: &LeaseState, now: Timestamp) -> Option<Action> {
        if let Some(until) = chain.challenged_until {
            return (now > until).then_some(Action::Defaulted);
        }
        let live = chain.phase.is_live();
        if live && self.gave_up && chain.phase != LeasePhase::Closing {
            // An answered challenge cost its bond and proved a living provider; only closing is left.
            let challenge = self.limits.challenge && !self.is_over() && chain.challenges == 0;
            return Some(if challenge { Action::Challenge } else { Action::RequestClose });
        }
        if chain.phase == LeasePhase::Closing && now >= chain.due_at {
            return Some(Action::Finalize);
        }
        None
    }

    /// The provider fell silent before the job's end, and the buyer leaves.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let failed = matches!(self.report.as_ref().map(|r| &r.stage), Some(Stage::Failed { .. }));
        self.gave_up && self.begun && !failed && !self.is_over()
    }

    /// Whether the job ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.exit.is_some())
    }

    /// A lease that is no longer than `max_cost` pays for ends before its price reaches that.
    fn must_save(&self, now: Timestamp) -> bool {
        let saving = self.limits.saving;
        let saved = now.after(voucher_interval(&self.terms)).after(saving);
        saving > Seconds::ZERO && self.run().since.is_some() && saved >= self.terms.end
    }

    /// What the job will have cost when the next voucher is due and it has saved its progress.
    fn cost_ahead(&self, now: Timestamp) -> Money {
        let next = now.after(voucher_interval(&self.terms)).after(self.limits.saving);
        let run = Run { until: None, ..self.run() };
        if run.since.is_some() { run.due(&self.terms, next) } else { self.signed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::tests::terms;
    use crate::workload::{Exit, Usage};

    const LIMITS: Limits = Limits {
        max_cost: Money::from_base_units(600_000),
        timeout: Some(Seconds::new(300)),
        patience: Seconds::new(60),
        challenge: false,
        saving: Seconds::ZERO,
        idle: None,
    };

    fn supervised() -> Supervision {
        let mut lease = Supervision::new(LeaseId::default(), terms(), LIMITS);
        lease.begun = true;
        lease
    }

    fn report(revision: u64, stage: Stage, exit: Option<Exit>) -> Report {
        let run = Run { since: Some(Timestamp::from_unix(1_010)), until: exit.map(|e| e.at) };
        Report {
            lease: LeaseId::default(),
            revision,
            stage,
            run,
            exit,
            usage: Usage::default(),
            paid: Money::ZERO,
            voucher: None,
            reclaimed: None,
            outputs: Vec::new(),
            statement: None,
            saved: None,
            lent_until: None,
        }
    }

    fn at(now: u64, phase: LeasePhase) -> Seen {
        Seen { now: Timestamp::from_unix(now), chain: Some(LeaseState { phase, ..LeaseState::NONE }) }
    }

    fn time(now: u64) -> Timestamp {
        Timestamp::from_unix(now)
    }

    #[test]
    fn payment_follows_evidence_of_work() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_050));
        assert_eq!(lease.next(&at(1_050, LeasePhase::Open)), [Action::Pay(Money::from_base_units(40_000))]);
        let silent = lease.due(time(1_100));
        assert_eq!(silent, Money::from_base_units(40_000), "time after the last answer is not paid");
    }

    #[test]
    fn a_silent_provider_is_left_by_the_chain_alone() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_050));
        lease.judge(time(1_110));
        assert!(!lease.gave_up);
        assert!(!lease.is_lost());
        lease.judge(time(1_111));
        assert!(lease.is_lost());
        assert_eq!(lease.next(&at(1_111, LeasePhase::Open)), [Action::RequestClose]);
        assert_eq!(lease.next(&Seen { now: time(1_111), chain: None }), []);
        let closing = LeaseState { phase: LeasePhase::Closing, due_at: time(1_200), ..LeaseState::NONE };
        assert_eq!(lease.next(&Seen { now: time(1_199), chain: Some(closing) }), []);
        assert_eq!(lease.next(&Seen { now: time(1_200), chain: Some(closing) }), [Action::Finalize]);
        assert_eq!(lease.next(&at(1_201, LeasePhase::Settled)), [Action::Finish(Outcome::ProviderFailed)]);
    }

    #[test]
    fn a_provider_that_says_that_it_failed_or_finished_is_not_lost() {
        let mut failed = supervised();
        failed.observe(report(1, Stage::Failed { reason: "no disk".into() }, None), time(1_050));
        failed.judge(time(1_050));
        assert!(failed.gave_up && !failed.is_lost());
        let mut finished = supervised();
        let exit = Exit { code: 0, out_of_memory: false, at: time(1_050) };
        finished.observe(report(1, Stage::Collecting, Some(exit)), time(1_050));
        finished.judge(time(1_200));
        assert!(finished.gave_up && !finished.is_lost());
    }

    #[test]
    fn a_dead_providers_buyer_challenges_and_is_compensated() {
        let mut lease = supervised();
        lease.limits.challenge = true;
        lease.judge(time(1_111));
        assert_eq!(lease.next(&at(1_111, LeasePhase::Open)), [Action::Challenge]);
        let challenged =
            LeaseState { phase: LeasePhase::Open, challenged_until: Some(time(1_171)), ..LeaseState::NONE };
        assert_eq!(lease.next(&Seen { now: time(1_171), chain: Some(challenged) }), []);
        assert_eq!(lease.next(&Seen { now: time(1_172), chain: Some(challenged) }), [Action::Defaulted]);
    }

    #[test]
    fn a_provider_that_answers_on_chain_only_is_challenged_once_and_left() {
        let mut lease = supervised();
        lease.limits.challenge = true;
        lease.judge(time(1_111));
        let answered = LeaseState { phase: LeasePhase::Open, challenges: 1, ..LeaseState::NONE };
        let seen = Seen { now: time(1_140), chain: Some(answered) };
        assert_eq!(lease.next(&seen), [Action::RequestClose]);
    }

    #[test]
    fn outputs_are_fetched_before_the_last_voucher_is_signed() {
        let mut lease = supervised();
        let exit = Exit { code: 3, out_of_memory: false, at: time(1_110) };
        lease.observe(report(2, Stage::Finished, Some(exit)), time(1_112));
        assert_eq!(lease.next(&at(1_112, LeasePhase::Open)), [Action::Fetch]);
        lease.fetched = true;
        assert_eq!(
            lease.next(&at(1_113, LeasePhase::Open)),
            [Action::PayLast(Money::from_base_units(100_000))]
        );
        lease.signed = Money::from_base_units(100_000);
        assert_eq!(
            lease.next(&at(1_114, LeasePhase::Closed)),
            [Action::Finish(Outcome::Finished { code: 3 })]
        );
    }

    #[test]
    fn a_provider_that_keeps_a_finished_lease_open_is_left_too() {
        let mut lease = supervised();
        let exit = Exit { code: 0, out_of_memory: false, at: time(1_110) };
        lease.observe(report(2, Stage::Finished, Some(exit)), time(1_112));
        (lease.fetched, lease.signed) = (true, lease.due(time(1_113)));
        lease.last_sent_at = Some(time(1_113));
        lease.judge(time(1_174));
        assert_eq!(lease.next(&at(1_174, LeasePhase::Open)), [Action::RequestClose]);
        assert_eq!(lease.outcome(), Outcome::Finished { code: 0 });
    }

    #[test]
    fn time_and_cost_limits_are_hard() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_310));
        lease.judge(time(1_310));
        assert_eq!(lease.stop, Some(StopReason::Timeout));
        assert!(lease.next(&at(1_310, LeasePhase::Open)).contains(&Action::Stop));

        let mut costly = supervised();
        costly.limits = Limits { timeout: None, max_cost: Money::from_base_units(200_000), ..LIMITS };
        costly.observe(report(1, Stage::Running, None), time(1_200));
        costly.judge(time(1_200));
        assert_eq!(costly.stop, None);
        costly.observe(report(1, Stage::Running, None), time(1_201));
        costly.judge(time(1_201));
        assert_eq!(costly.stop, Some(StopReason::MaxCost));
        assert!(costly.due(time(1_201)) <= costly.limits.max_cost);
    }

    #[test]
    fn a_job_that_nobody_uses_is_stopped_and_one_that_is_attended_goes_on() {
        let idle = Some(IdleLimit { after: Seconds::new(30), accelerators: false });
        let mut lease = supervised();
        lease.limits = Limits { timeout: None, idle, ..LIMITS };
        for second in (0..60).step_by(10) {
            lease.observe(report(second, Stage::Running, None), time(1_050 + second));
            if second < 30 {
                lease.attend(time(1_050 + second));
            }
            lease.judge(time(1_050 + second));
            assert_eq!(lease.stop.is_some(), second >= 50, "{second}");
        }
        assert_eq!(lease.stop, Some(StopReason::Idle));
        assert!(lease.next(&at(1_100, LeasePhase::Open)).contains(&Action::Stop));
    }

    #[test]
    fn terms_that_never_opened_cost_nothing() {
        assert_eq!(supervised().next(&at(1_031, LeasePhase::None)), [Action::Finish(Outcome::NeverOpened)]);
    }

    #[test]
    fn a_buyer_that_was_away_listens_before_it_gives_a_provider_up() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_050));
        lease.resume(time(3_000));
        lease.judge(time(3_060));
        assert!(!lease.gave_up);
        lease.judge(time(3_061));
        assert!(lease.gave_up);
    }

    #[test]
    fn what_a_lease_left_that_ended_without_its_buyer_is_fetched_before_it_is_let_go() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_050));
        lease.resume(time(3_000));
        assert_eq!(lease.next(&at(3_000, LeasePhase::Closed)), []);
        let exit = Exit { code: 0, out_of_memory: false, at: time(1_110) };
        lease.observe(report(2, Stage::Finished, Some(exit)), time(3_001));
        lease.judge(time(3_001));
        assert_eq!(lease.next(&at(3_001, LeasePhase::Closed)), [Action::Fetch]);
        (lease.fetched, lease.settled) = (true, Money::from_base_units(100_000));
        let outcome = Outcome::Finished { code: 0 };
        assert_eq!(lease.next(&at(3_002, LeasePhase::Closed)), [Action::Finish(outcome)]);
    }

    #[test]
    fn a_lease_that_ended_with_a_provider_that_is_gone_is_let_go_after_a_while() {
        let mut lease = supervised();
        lease.observe(report(1, Stage::Running, None), time(1_050));
        lease.judge(time(1_111));
        assert_eq!(lease.next(&at(1_111, LeasePhase::Settled)), [Action::Finish(Outcome::ProviderFailed)]);
    }

    #[test]
    fn a_job_that_ends_because_its_owner_takes_the_lease_back_was_reclaimed() {
        let exit = |at| Exit { code: 0, out_of_memory: false, at: time(at) };
        let ended = |at| {
            let mut lease = supervised();
            let told = Some(time(1_100));
            let report = Report { reclaimed: told, ..report(2, Stage::Finished, Some(exit(at))) };
            lease.observe(report, time(1_112));
            (lease.fetched, lease.signed) = (true, lease.due(time(1_112)));
            lease.outcome()
        };
        assert_eq!(ended(1_099), Outcome::Finished { code: 0 });
        assert_eq!(ended(1_100), Outcome::Reclaimed);
    }

    #[test]
    fn saving_progress_is_paid_for_within_max_cost() {
        let mut lease = supervised();
        let saving = Seconds::new(60);
        lease.limits = Limits { timeout: None, max_cost: Money::from_base_units(200_000), saving, ..LIMITS };
        lease.observe(report(1, Stage::Running, None), time(1_140));
        lease.judge(time(1_140));
        assert_eq!(lease.stop, None);
        lease.observe(report(1, Stage::Running, None), time(1_141));
        lease.judge(time(1_141));
        assert_eq!(lease.stop, Some(StopReason::MaxCost));
        let saved = Run { until: Some(time(1_141).after(saving)), ..lease.run() };
        assert!(saved.due(&lease.terms, time(1_300)) <= lease.limits.max_cost);
    }

    #[test]
    fn a_job_that_ended_because_nobody_paid_did_not_finish() {
        let exit = Exit { code: 143, out_of_memory: false, at: time(1_110) };
        let mut lease = supervised();
        lease.observe(report(2, Stage::Finished, Some(exit)), time(1_112));
        lease.fetched = true;
        assert_eq!(lease.outcome(), Outcome::Unpaid, "60 seconds after the free ones, and 30 paid");
        let paid = Money::from_base_units(60_000);
        lease.observe_chain(&LeaseState { paid, ..LeaseState::NONE });
        assert_eq!(lease.outcome(), Outcome::Finished { code: 143 });
    }

    #[test]
    fn a_job_that_its_provider_ended_at_the_timeout_was_stopped_and_did_not_finish() {
        let outcome = |at| {
            let mut lease = supervised();
            let exit = Exit { code: 3, out_of_memory: false, at: time(at) };
            lease.observe(report(2, Stage::Finished, Some(exit)), time(at + 1));
            lease.judge(time(at + 1));
            (lease.fetched, lease.signed) = (true, lease.due(time(at + 1)));
            lease.outcome()
        };
        assert_eq!(outcome(1_309), Outcome::Finished { code: 3 });
        assert_eq!(outcome(1_310), Outcome::Stopped(StopReason::Timeout));
    }

    #[test]
    fn progress_is_saved_before_a_lease_ends_that_max_cost_made_short() {
        let mut lease = supervised();
        let saving = Seconds::new(60);
        lease.limits = Limits { timeout: None, max_cost: lease.terms.deposit, saving, ..LIMITS };
        lease.observe(report(1, Stage::Running, None), time(4_529));
        lease.judge(time(4_529));
        assert_eq!(lease.stop, None);
        lease.judge(time(4_530));
        assert_eq!(lease.stop, Some(StopReason::MaxCost));
    }
}

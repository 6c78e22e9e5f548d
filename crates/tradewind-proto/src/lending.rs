//! When an owner lends, and what takes the machine back.
//!
//! ```text
//! Schedule (hours, maintenance, time zone) ─┐
//! Senses (load, heat, somebody there) ──────┴─► Lending::judge(now) ─► Standing: lends until …, or why not
//!                                                                  └─► take spot leases back: in their notice they end
//! ```
//!
//! The owner's work wins within the notice: no lease that the owner cannot take back is agreed on beyond the end of the lending
//! hours, and those that can be taken back get their notice so that it ends with them. A limit that is passed stops new leases
//! at once; a limit that stays passed takes spot leases back. Lending goes on after a calm.

use std::str::FromStr;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

use crate::units::{Seconds, Timestamp};

mod senses;

pub use senses::{Limits, Passed, Senses};

/// How far ahead lending hours are looked at: from one to the same hours of the next week.
const HORIZON_DAYS: i32 = 8;
/// A limit that is passed for so long takes leases back.
const PATIENCE: Seconds = Seconds::new(30);
/// So long nothing is passed before lending goes on.
const CALM: Seconds = Seconds::new(120);
/// Ends of hours, and times of maintenance, that a configuration may name.
const MAX_RULES: usize = 64;

/// Why hours or a time of maintenance cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No lending hours.
    #[error(
        "`{0}` are no lending hours: write days and hours, such as `mon-fri 20:00-07:00`, `sat-sun` or `22:00-06:00`"
    )]
    Hours(String),
    /// No time of maintenance.
    #[error("`{0}` is no time of maintenance: write its begin and its length, such as `2027-03-01T02:00 2h`")]
    Maintenance(String),
    /// More rules than anybody needs.
    #[error("at most {MAX_RULES} lending hours and times of maintenance are read")]
    TooMany,
}

/// Hours on some days of the week, by the owner's clock. They may pass midnight: those belong to the day on which they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from: Time,
    /// Not after `from`: on the next day.
    to: Time,
}

/// A time without leases, announced by the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    begin: DateTime,
    length: Seconds,
}

/// When the owner lends.
#[derive(Debug, Clone)]
pub struct Schedule {
    zone: TimeZone,
    hours: Vec<Hours>,
    maintenance: Vec<Maintenance>,
}

/// Seconds since 1970, from the first to before the second.
type Stretch = (u64, u64);

impl FromStr for Hours {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Hours(text.to_owned());
        let (mut days, mut hours) = (None, None);
        for word in text.split_whitespace() {
            let slot = if word.contains(':') { &mut hours } else { &mut days };
            if slot.replace(word).is_some() {
                return Err(wrong());
            }
        }
        if days.is_none() && hours.is_none() {
            return Err(wrong());
        }
        let days = days.map_or(Some([true; 7]), week).ok_or_else(wrong)?;
        let midnight = Time::midnight();
        let (from, to) = match hours {
            None => (midnight, midnight),
            Some(hours) => {
                let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
                let time = |text: &str| if text == "24:00" { Ok(midnight) } else { text.parse::<Time>() };
                (time(from).map_err(|_| wrong())?, time(to).map_err(|_| wrong())?)
            }
        };
        Ok(Self { days, from, to })
    }
}

/// `mon`, `mon-fri`, `sat,sun`; from Friday to Monday passes the week's end.
fn week(text: &str) -> Option<[bool; 7]> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |name: &str| NAMES.iter().position(|known| name.eq_ignore_ascii_case(known));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let length = (last + 7 - first) % 7;
        (first..=first + length).for_each(|at| days[at % 7] = true);
    }
    Some(days)
}

impl FromStr for Maintenance {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Maintenance(text.to_owned());
        let (begin, length) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let begin = begin.parse::<DateTime>().map_err(|_| wrong())?;
        let length = length.trim().parse::<SignedDuration>().map_err(|_| wrong())?;
        match u64::try_from(length.as_secs()) {
            Ok(length @ 1..) => Ok(Self { begin, length: Seconds::new(length) }),
            Ok(0) | Err(_) => Err(wrong()),
        }
    }
}

impl Schedule {
    /// Lends during `hours`, or always where there are none, and never during `maintenance`, by the clock of `zone`.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn new(zone: TimeZone, hours: &[String], maintenance: &[String]) -> Result<Self, ScheduleError> {
        if hours.len() + maintenance.len() > MAX_RULES {
            return Err(ScheduleError::TooMany);
        }
        let hours = hours.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let maintenance = maintenance.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self { zone, hours, maintenance })
    }

    /// Nothing ends or begins.
    fn is_always(&self) -> bool {
        self.hours.is_empty() && self.maintenance.is_empty()
    }

    /// Lends always.
    #[must_use]
    pub const fn always() -> Self {
        Self { zone: TimeZone::UTC, hours: Vec::new(), maintenance: Vec::new() }
    }

    /// Whether the hours allow to lend at `now`, and until when that stays so; `None` where no end is in sight.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let Some(today) = self.local(now) else { return (true, None) };
        let now = now.unix();
        let end = now.saturating_add(u64::from(HORIZON_DAYS.unsigned_abs()) * 86_400);
        let mut lending = if self.hours.is_empty() { vec![(0, u64::MAX)] } else { self.stretches(today) };
        lending.sort_unstable();
        for (from, to) in self.maintenance.iter().filter_map(|time| self.stretch(time)) {
            lending = lending.into_iter().flat_map(|open| without(open, (from, to))).collect();
        }
        let lending = joined(lending);
        let next = lending.iter().find(|(_, to)| *to > now);
        let shown = |at: u64| (at < end).then(|| Timestamp::from_unix(at));
        match next {
            Some((from, to)) if *from <= now => (true, shown(*to)),
            Some((from, _)) => (false, shown(*from)),
            None => (false, None),
        }
    }

    fn local(&self, now: Timestamp) -> Option<DateTime> {
        let second = i64::try_from(now.unix()).ok()?;
        let at = jiff::Timestamp::from_second(second).ok()?;
        Some(at.to_zoned(self.zone.clone()).datetime())
    }

    /// All hours from yesterday, whose night may still last, to the horizon.
    fn stretches(&self, today: DateTime) -> Vec<Stretch> {
        let days = (-1..=HORIZON_DAYS).filter_map(|ahead| today.date().checked_add(ahead.days()).ok());
        days.flat_map(|date| {
            let on = self.hours.iter().filter(move |hours| hours.days[index(date.weekday())]);
            on.filter_map(move |hours| {
                let last = if hours.to <= hours.from { date.checked_add(1.days()).ok()? } else { date };
                Some((self.second(date.to_datetime(hours.from))?, self.second(last.to_datetime(hours.to))?))
            })
        })
        .filter(|(from, to)| from < to)
        .collect()
    }

    fn stretch(&self, time: &Maintenance) -> Option<Stretch> {
        let begin = self.second(time.begin)?;
        Some((begin, begin.saturating_add(time.length.get())))
    }

    /// The second that the owner's clock means; a time that is left out when the clock is put forward comes that much later.
    fn second(&self, local: DateTime) -> Option<u64> {
        u64::try_from(local.to_zoned(self.zone.clone()).ok()?.timestamp().as_second()).ok()
    }
}

fn index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

/// What is left of a stretch without another.
fn without((from, to): Stretch, (begin, end): Stretch) -> impl Iterator<Item = Stretch> {
    let parts = [(from, to.min(begin)), (from.max(end), to)];
    parts.into_iter().filter(|(from, to)| from < to)
}

/// Stretches in order, those that touch as one.
fn joined(mut all: Vec<Stretch>) -> Vec<Stretch> {
    all.sort_unstable();
    let mut joined: Vec<Stretch> = Vec::new();
    for (from, to) in all {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            Some(_) | None => joined.push((from, to)),
        }
    }
    joined
}

/// Whether the machine lends now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Lends {
        /// Every lease has to be over by then.
        until: Option<Timestamp>,
    },
    /// It does not.
    Kept {
        /// Why, for the owner and for buyers that ask.
        why: String,
        /// When it will, where that is known.
        until: Option<Timestamp>,
    },
}

/// What the owner's rules come to, with what was seen so far.
#[derive(Debug, Clone)]
pub struct Lending {
    schedule: Schedule,
    limits: Limits,
    /// What is passed, and since when without a pause.
    passed: Option<(Passed, Timestamp)>,
    /// When a limit was passed last.
    passed_at: Option<Timestamp>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether new leases are taken.
    pub standing: Standing,
    /// Leases that the owner may take back are taken back now.
    pub reclaim: bool,
}

impl Lending {
    /// Rules of which nothing was seen yet.
    #[must_use]
    pub const fn new(schedule: Schedule, limits: Limits) -> Self {
        Self { schedule, limits, passed: None, passed_at: None }
    }

    /// The owner sets no hours and no limits.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.schedule.is_always() && !self.needs_senses()
    }

    /// Something has to be seen.
    #[must_use]
    pub fn needs_senses(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Judges what is seen `now`; spot leases get `notice` before they end.
    pub fn judge(&mut self, now: Timestamp, senses: &Senses, notice: Seconds) -> Judgement {
        let passed = self.limits.passed_by(senses);
        self.passed = match (passed, self.passed.take()) {
            (Some(passed), Some((_, since))) => Some((passed, since)),
            (Some(passed), None) => Some((passed, now)),
            (None, _) => None,
        };
        let (open, until) = self.schedule.at(now);
        let ends = !open || until.is_some_and(|until| until.since(now) <= notice);
        if let Some((passed, since)) = &self.passed {
            self.passed_at = Some(now);
            // Somebody at the machine waits for nothing.
            let stays = matches!(passed, Passed::Owner { .. }) || now.since(*since) >= PATIENCE;
            let reclaim = stays || ends;
            let standing = Standing::Kept { why: passed.to_string(), until: None };
            return Judgement { standing, reclaim };
        }
        if !open {
            let standing = Standing::Kept { why: "the owner's hours".into(), until };
            return Judgement { standing, reclaim: true };
        }
        if let Some(at) = self.passed_at.filter(|at| now.since(*at) < CALM) {
            let standing =
                Standing::Kept { why: "the machine was just busy".into(), until: Some(at.after(CALM)) };
            return Judgement { standing, reclaim: ends };
        }
        Judgement { standing: Standing::Lends { until }, reclaim: ends }
    }
}

#[cfg(test)]
mod tests;

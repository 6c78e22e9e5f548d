use proptest::prelude::*;

use super::*;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn at(text: &str) -> Timestamp {
    let second = text.parse::<jiff::Timestamp>().unwrap().as_second();
    Timestamp::from_unix(second.try_into().unwrap())
}

fn schedule(hours: &[&str], maintenance: &[&str]) -> Schedule {
    let [hours, maintenance] =
        [hours, maintenance].map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
    Schedule::new(berlin(), &hours, &maintenance).unwrap()
}

#[test]
fn nights_and_weekends_are_lent_by_the_owner_s_clock() {
    let free = schedule(&["mon-fri 20:00-07:00", "sat-sun"], &[]);
    // Wednesday, in summer two hours ahead.
    assert_eq!(free.at(at("2026-07-01T12:00:00Z")), (false, Some(at("2026-07-01T18:00:00Z"))));
    assert_eq!(free.at(at("2026-07-01T18:00:00Z")), (true, Some(at("2026-07-02T05:00:00Z"))));
    assert_eq!(
        free.at(at("2026-07-02T04:59:59Z")),
        (true, Some(at("2026-07-02T05:00:00Z"))),
        "yesterday's night"
    );
    // Friday's night, the weekend, and Monday until its own night: Sunday ends at midnight.
    assert_eq!(free.at(at("2026-07-03T20:00:00Z")), (true, Some(at("2026-07-05T22:00:00Z"))));
    // In winter one hour ahead.
    assert_eq!(free.at(at("2026-12-02T12:00:00Z")), (false, Some(at("2026-12-02T19:00:00Z"))));
}

#[test]
fn a_night_in_which_the_clock_is_put_is_as_long_as_it_is() {
    let nights = schedule(&["22:00-06:00"], &[]);
    // Back on 25 October 2026, forward on 28 March 2027.
    assert_eq!(nights.at(at("2026-10-24T20:00:00Z")), (true, Some(at("2026-10-25T05:00:00Z"))), "nine hours");
    assert_eq!(
        nights.at(at("2027-03-27T21:00:00Z")),
        (true, Some(at("2027-03-28T04:00:00Z"))),
        "seven hours"
    );
    let gone = schedule(&["sun 02:30-04:30"], &[]);
    let (begin, end) = (at("2027-03-28T01:30:00Z"), at("2027-03-28T02:30:00Z"));
    assert_eq!(gone.at(begin), (true, Some(end)), "02:30 does not exist: it is 03:30");
    assert!(!gone.at(begin.before(Seconds::new(1))).0);
}

#[test]
fn maintenance_is_cut_out_of_whatever_is_lent() {
    let all = schedule(&[], &["2027-03-01T02:00 2h"]);
    assert_eq!(all.at(at("2027-02-01T00:00:00Z")), (true, None), "far away");
    assert_eq!(all.at(at("2027-03-01T00:00:00Z")), (true, Some(at("2027-03-01T01:00:00Z"))));
    assert_eq!(all.at(at("2027-03-01T02:59:59Z")), (false, Some(at("2027-03-01T03:00:00Z"))));
    assert_eq!(all.at(at("2027-03-01T03:00:00Z")), (true, None));
    assert_eq!(Schedule::always().at(at("2027-03-01T03:00:00Z")), (true, None));
}

#[test]
fn what_is_no_schedule_is_an_error_that_names_it() {
    for wrong in ["", "someday", "mon 25:00-26:00", "8-17", "mon tue", "20:00-07:00 21:00-22:00", "mon-"] {
        let error = Schedule::new(berlin(), &[wrong.into()], &[]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("`{wrong}`")), "{error}");
    }
    for wrong in ["2027-03-01T02:00", "tomorrow 2h", "2027-03-01T02:00 -2h", "2027-03-01T02:00 0s"] {
        assert!(
            matches!(Schedule::new(berlin(), &[], &[wrong.into()]), Err(ScheduleError::Maintenance(_))),
            "{wrong}"
        );
    }
    assert!(Schedule::new(TimeZone::UTC, &vec!["mon".into(); 65], &[]).is_err());
    for right in ["Mon-Fri 20:00-07:00", "fri-mon", "sat,sun 08:00-24:00", "00:00-12:00"] {
        assert!(right.parse::<Hours>().is_ok(), "{right}");
    }
}

fn limits() -> Limits {
    Limits { load: Some(50), heat: Some(85), idle: Some(Seconds::new(600)) }
}

const NOTICE: Seconds = Seconds::new(120);

#[test]
fn a_lease_that_cannot_be_taken_back_ends_with_the_hours_and_one_that_can_gets_its_notice() {
    let mut lending = Lending::new(schedule(&["20:00-07:00"], &[]), Limits::default());
    let mut judge = |text: &str| lending.judge(at(text), &Senses::default(), NOTICE);
    let end = Some(at("2026-12-02T06:00:00Z"));
    let night = judge("2026-12-01T20:00:00Z");
    assert_eq!(night, Judgement { standing: Standing::Lends { until: end }, reclaim: false });
    assert!(!judge("2026-12-02T05:57:59Z").reclaim);
    assert!(judge("2026-12-02T05:58:00Z").reclaim, "its notice ends with the hours");
    let day = judge("2026-12-02T06:00:00Z");
    assert!(day.reclaim && matches!(day.standing, Standing::Kept { until: Some(_), .. }), "{day:?}");
}

#[test]
fn a_limit_stops_new_leases_at_once_takes_leases_back_if_it_stays_and_lets_go_after_a_calm() {
    let mut lending = Lending::new(Schedule::always(), limits());
    let mut judge = |second: u64, load: u8| {
        let senses = Senses { load: Some(load), ..Senses::default() };
        let judged = lending.judge(Timestamp::from_unix(second), &senses, NOTICE);
        (matches!(judged.standing, Standing::Lends { .. }), judged.reclaim)
    };
    assert_eq!(judge(1_000, 50), (true, false), "the limit itself is none passed");
    assert_eq!(judge(1_005, 51), (false, false), "at once");
    assert_eq!(judge(1_010, 20), (false, false), "calm has to last");
    assert_eq!(judge(1_015, 90), (false, false), "a peak that paused begins anew");
    assert_eq!(judge(1_045, 90), (false, true), "it stays");
    assert_eq!(judge(1_050, 20), (false, false));
    assert_eq!(judge(1_164, 20), (false, false));
    assert_eq!(judge(1_165, 20), (true, false), "two minutes after it was passed last");
}

#[test]
fn the_hours_end_also_while_the_machine_is_busy() {
    let mut lending = Lending::new(schedule(&["20:00-07:00"], &[]), limits());
    let busy = Senses { load: Some(90), ..Senses::default() };
    assert!(!lending.judge(at("2026-12-02T05:57:55Z"), &busy, NOTICE).reclaim);
    assert!(lending.judge(at("2026-12-02T05:58:00Z"), &busy, NOTICE).reclaim);
    assert!(
        lending.judge(at("2026-12-02T05:58:05Z"), &Senses::default(), NOTICE).reclaim,
        "nor for the calm after"
    );
}

#[test]
fn somebody_at_the_machine_waits_for_nothing() {
    let mut lending = Lending::new(Schedule::always(), limits());
    let senses = Senses { idle: Some(Seconds::new(3)), heat: Some(90), ..Senses::default() };
    let judged = lending.judge(Timestamp::from_unix(1_000), &senses, NOTICE);
    assert!(judged.reclaim);
    assert!(
        matches!(&judged.standing, Standing::Kept { why, .. } if why.contains("somebody used")),
        "{judged:?}"
    );
    assert_eq!(limits().passed_by(&Senses { heat: Some(86), ..Senses::default() }), Some(Passed::Heat(86)));
    assert_eq!(limits().passed_by(&Senses::default()), None, "what cannot be seen passes nothing");
    assert!(Limits::default().is_empty() && !limits().is_empty());
}

proptest! {
    /// Whatever the hours: what `at` says now stays so until the time that it names, and is otherwise from then on.
    #[test]
    fn a_standing_lasts_until_the_time_that_it_names(
        first in 0u64..48, length in 1u64..47, days in 1usize..127, minute in 0u64..60 * 24 * 21, cut in 0u64..336,
    ) {
        let clock = |half: u64| format!("{:02}:{:02}", half / 2 % 24, half % 2 * 30);
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> = (0..7).filter(|day| days >> day & 1 == 1).map(|day| names[day]).collect();
        let hours = format!("{} {}-{}", days.join(","), clock(first), clock(first + length));
        let begin = at("2026-10-12T00:00:00Z").after(Seconds::new(cut * 3_600));
        let second = i64::try_from(begin.unix()).unwrap();
        let local = jiff::Timestamp::from_second(second).unwrap().in_tz("Europe/Berlin").unwrap().datetime();
        let schedule = schedule(&[&hours], &[&format!("{local} 90m")]);
        let now = at("2026-10-12T00:00:00Z").after(Seconds::new(minute * 60));
        let (open, until) = schedule.at(now);
        if let Some(until) = until {
            prop_assert!(until > now);
            let middle = Timestamp::from_unix((now.unix() + until.unix()) / 2);
            prop_assert_eq!(schedule.at(middle), (open, Some(until)));
            prop_assert_eq!(schedule.at(until.before(Seconds::new(1))).0, open);
            prop_assert_eq!(schedule.at(until).0, !open);
        }
    }
}

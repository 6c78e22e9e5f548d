//! `docs/trust-economics.md`: every number in its tables.

use tradewind_proto::evidence::Jury;
use tradewind_proto::odds;

use crate::page::{Table, agrees};

const HOURS_A_YEAR: f64 = 8_760.0;
/// How much of the seats an adversary holds, as it is said.
const SHARES: [(&str, f64); 2] = [("20 %", 0.2), ("33 %", 1.0 / 3.0)];

/// The chance that a committee, and that committee and appeal, convict an honest provider.
fn convicted(jury: &Jury, share: f64) -> [f64; 2] {
    let committee = odds::independent(jury.committee, jury.quorum, share);
    [committee, committee * odds::independent(jury.appeal, jury.appeal_quorum, share)]
}

/// The same where `bad` of `seats` seats are the adversary's: the appeal is drawn from those that the committee left.
fn convicted_among(jury: &Jury, seats: u32, bad: u32) -> [f64; 2] {
    let exactly = |count| {
        odds::drawn(seats, bad, jury.committee, count) - odds::drawn(seats, bad, jury.committee, count + 1)
    };
    let both = (jury.quorum..=jury.committee.min(bad))
        .map(|count| {
            let left = odds::drawn(seats - jury.committee, bad - count, jury.appeal, jury.appeal_quorum);
            exactly(count) * left
        })
        .sum();
    [odds::drawn(seats, bad, jury.committee, jury.quorum), both]
}

fn conviction() -> Table {
    let jury = Jury::default();
    let head = ["adversary", "seats", "8 of 11", "a provider-year", "and 15 of 21", "a provider-year"];
    let mut table = Table::new("conviction", &head);
    let mut add = |share: &str, seats: &str, [committee, both]: [f64; 2]| {
        let yearly = [committee, both].map(|chance| small(chance * HOURS_A_YEAR));
        let [alone, appealed] = yearly;
        table.row(&[share.to_owned(), seats.to_owned(), small(committee), alone, small(both), appealed]);
    };
    for (name, share) in SHARES {
        add(name, "very many", convicted(&jury, share));
        for (seats, bad) in [(128, [25, 42]), (64, [12, 21]), (32, [6, 10])] {
            let bad = bad[usize::from(share > 0.3)];
            add(name, &format!("{seats}, {bad} bad"), convicted_among(&jury, seats, bad));
        }
    }
    table
}

fn blocking() -> Table {
    let jury = Jury::default();
    let mut table = Table::new(
        "blocking",
        &["adversary", "4 of 11 withhold", "7 of 21 withhold", "23 of 33 do not commit"],
    );
    for (name, share) in SHARES {
        let predraw_blocked = jury.predraw - jury.committee + 1;
        table.row(&[
            name.to_owned(),
            percent(odds::independent(jury.committee, jury.committee - jury.quorum + 1, share)),
            percent(odds::independent(jury.appeal, jury.appeal - jury.appeal_quorum + 1, share)),
            small(odds::independent(jury.predraw, predraw_blocked, share)),
        ]);
    }
    table
}

fn commits() -> Table {
    let jury = Jury::default();
    let head = [
        "adversary",
        "honest seats that commit",
        "adversary among the committed",
        "8 of 11",
        "and 15 of 21, a provider-year",
    ];
    let mut table = Table::new("commits", &head);
    for (name, share) in SHARES {
        for committing in [1.0, 0.9, 0.75, 0.5] {
            let among = share / (share + (1.0 - share) * committing);
            let committee = odds::independent(jury.committee, jury.quorum, among);
            let appeal = odds::independent(jury.appeal, jury.appeal_quorum, share);
            table.row(&[
                name.to_owned(),
                percent(committing),
                percent(among),
                small(committee),
                small(committee * appeal * HOURS_A_YEAR),
            ]);
        }
    }
    table
}

fn quorums() -> Table {
    let mut table = Table::new(
        "quorums",
        &["quorum of 11", "convicts falsely at 20 %", "at 33 %", "blocked at 20 %", "at 33 %"],
    );
    for quorum in 6..=10 {
        let [low, high] = SHARES.map(|(_, share)| odds::independent(11, quorum, share) * HOURS_A_YEAR);
        let [low_block, high_block] = SHARES.map(|(_, share)| odds::independent(11, 12 - quorum, share));
        table.row(&[
            quorum.to_string(),
            format!("{} a year", small(low)),
            format!("{} a year", small(high)),
            percent(low_block),
            percent(high_block),
        ]);
    }
    table
}

const SKIPPED: [(&str, u32); 4] = [("1 %", 164), ("5 %", 820), ("10 %", 1_639), ("25 %", 4_096)];

fn sampling() -> Table {
    let mut table = Table::new("sampling", &["rows opened of 16,384", "1 % skipped", "5 %", "10 %", "25 %"]);
    for rows in [8, 16, 32, 64, 128] {
        let caught = SKIPPED.map(|(_, skipped)| percent(odds::drawn(16_384, skipped, rows, 1)));
        table.row(&[vec![rows.to_string()], caught.to_vec()].concat());
    }
    table
}

fn rounds() -> Table {
    let mut table = Table::new("rounds", &["rounds opened of 16", "1 round skipped", "2", "4", "8"]);
    for opened in [1, 2, 4, 8, 16] {
        let caught = [1, 2, 4, 8].map(|skipped| percent(odds::drawn(16, skipped, opened, 1)));
        table.row(&[vec![opened.to_string()], caught.to_vec()].concat());
    }
    table
}

fn deterrence() -> Table {
    let head = ["work skipped", "caught by 32 rows", "first offence, 3 h", "again, 50 h"];
    let mut table = Table::new("deterrence", &head);
    for (name, skipped) in SKIPPED {
        let share = f64::from(skipped) / 16_384.0;
        let caught = odds::drawn(16_384, skipped, 32, 1);
        let every = |slash: f64| format!("every {:.0} h", (slash * caught / share).floor());
        table.row(&[name.to_owned(), percent(caught), every(3.0), every(50.0)]);
    }
    table
}

/// Millionths of a dollar an hour.
const PRICES: [u64; 3] = [350_000, 1_300_000, 20_000_000];

fn bonds() -> Table {
    let head = ["", "RTX 4090 at $0.35/h", "A100 at $1.30/h", "8×H100 at $20/h"];
    let mut table = Table::new("bonds", &head);
    for (name, tenths) in [
        ("device stake: 100 h of price", 1_000),
        ("a slash for being down, 5 %: 5 h", 50),
        ("a slash for a first wrong element, 3 %: 3 h", 30),
        ("on-demand bond: cap 6.5 h + break fee 2 h", 85),
        ("spot bond: cap 1 h", 10),
    ] {
        let cells = PRICES.map(|price| dollars(price * tenths / 10));
        table.row(&[vec![name.to_owned()], cells.to_vec()].concat());
    }
    let reserved = PRICES.map(|price| dollars(price * 720 * 8 / 10 * 165 / 1_000));
    table.row(&[vec!["30 days reserved at −20 %: φ = 16.5 %".to_owned()], reserved.to_vec()].concat());
    table
}

/// To the nearest cent.
fn dollars(millionths: u64) -> String {
    let cents = (millionths + 5_000) / 10_000;
    format!("${}.{:02}", cents / 100, cents % 100)
}

fn percent(chance: f64) -> String {
    if (0.9995..1.0).contains(&chance) { ">99.9 %".to_owned() } else { format!("{:.1} %", chance * 100.0) }
}

/// Three significant digits.
fn small(number: f64) -> String {
    if number <= 0.0 {
        return "never".to_owned();
    }
    if (0.01..1_000.0).contains(&number) {
        let places = if number >= 10.0 { 1 } else { 3 };
        return format!("{number:.places$}");
    }
    format!("{number:.2e}")
}

#[test]
fn the_page_says_what_the_code_computes() {
    let tables =
        [conviction(), blocking(), commits(), quorums(), sampling(), rounds(), deterrence(), bonds()];
    agrees("trust-economics.md", &tables);
}

#[test]
fn the_protocols_figures_come_out() {
    let jury = Jury::default();
    let [low, high] = SHARES.map(|(_, share)| convicted(&jury, share).map(|chance| chance * HOURS_A_YEAR));
    assert_eq!((low[0].round(), high[0].round()), (2.0, 77.0));
    assert_eq!(
        (format!("{:.0e}", low[1]), format!("{:.2}", high[1])),
        ("1e-6".to_owned(), "0.03".to_owned())
    );
    assert_eq!(format!("{:.0}", odds::drawn(16_384, 1_639, 32, 1) * 100.0), "97");
    assert_eq!(jury.committee + jury.appeal, 32);
}

#[test]
fn a_drawn_committee_convicts_less_often_than_an_independent_one() {
    let jury = Jury::default();
    for (bad, share) in [(25, 0.2), (42, 1.0 / 3.0)] {
        let (drawn, independent) = (convicted_among(&jury, 128, bad), convicted(&jury, share));
        assert!(drawn[0] < independent[0] && drawn[1] < independent[1]);
        assert!(drawn[1] > 0.0);
    }
}

#[test]
fn fewer_seats_than_both_quorums_never_slash_an_honest_provider() {
    let jury = Jury::default();
    let least = jury.quorum + jury.appeal_quorum;
    for seats in [32, 64, 128] {
        assert_eq!(convicted_among(&jury, seats, least - 1)[1], 0.0);
        assert!(convicted_among(&jury, seats, least)[1] > 0.0);
    }
}

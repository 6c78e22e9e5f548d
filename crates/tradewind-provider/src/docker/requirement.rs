//! What an image made for NVIDIA's accelerators asks of the driver: its variable `NVIDIA_REQUIRE_CUDA`, read without I/O.
//!
//! ```text
//!  cuda>=12.4 brand=tesla,driver>=470,driver<471 ─► one of the words has to hold, and of it every condition
//! ```
//!
//! What is not known here (a card's brand, a new kind of condition) refuses nothing: the job finds out by itself.

use std::cmp::Ordering;

use tradewind_proto::offer::DriverVersion;

use super::Nvidia;
use crate::inventory::CudaVersion;

/// The variable.
const REQUIRE: &str = "NVIDIA_REQUIRE_CUDA=";
/// A variable with which an image waives its requirements.
const WAIVED: &str = "NVIDIA_DISABLE_REQUIRE=";
/// So much of a requirement is shown: those of CUDA's own images name every driver that ever was.
const SHOWN: usize = 120;
/// Signs of comparison; those that begin others come after them.
const SIGNS: [(&str, &[Ordering]); 6] = [
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    ("!=", &[Ordering::Less, Ordering::Greater]),
    (">", &[Ordering::Greater]),
    ("<", &[Ordering::Less]),
    ("=", &[Ordering::Equal]),
];

/// An image's requirement, from its environment.
pub(super) fn of_environment(environment: &[String]) -> Option<String> {
    let value = |name| environment.iter().find_map(|entry| entry.strip_prefix(name));
    if value(WAIVED).is_some_and(|waived| matches!(waived, "1" | "true" | "TRUE" | "True" | "t" | "T")) {
        return None;
    }
    value(REQUIRE).filter(|requirement| !requirement.trim().is_empty()).map(str::to_owned)
}

/// Why an image with this requirement cannot run on this machine's accelerators, if it cannot.
pub(super) fn unmet(requirement: &str, machine: Nvidia) -> Option<String> {
    let mut alternatives = requirement.split_whitespace().peekable();
    alternatives.peek()?;
    if alternatives.any(|all| all.split(',').all(|condition| may_hold(condition, machine))) {
        return None;
    }
    let mut shown: String = requirement.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if shown.len() < requirement.len() {
        shown.push('…');
    }
    let version = |known: Option<String>| known.unwrap_or_else(|| "of unknown version".into());
    let driver = version(machine.driver.map(|driver| driver.to_string()));
    let cuda = version(machine.cuda.map(|cuda| cuda.to_string()));
    Some(format!("requires `{shown}`; this machine has CUDA {cuda}, driver {driver}"))
}

/// Whether a condition holds, as far as anything is known.
fn may_hold(condition: &str, machine: Nvidia) -> bool {
    let Some((at, sign, allowed)) = sign(condition) else { return true };
    let (kind, wanted) = (&condition[..at], &condition[at + sign.len()..]);
    let compared = match kind {
        "cuda" => compare(machine.cuda, wanted.parse::<CudaVersion>().ok()),
        "driver" => compare(machine.driver, wanted.parse::<DriverVersion>().ok()),
        _ => None,
    };
    compared.is_none_or(|order| allowed.contains(&order))
}

fn compare<T: Ord>(has: Option<T>, wanted: Option<T>) -> Option<Ordering> {
    Some(has?.cmp(&wanted?))
}

/// The first sign of a condition, and where it is.
fn sign(condition: &str) -> Option<(usize, &'static str, &'static [Ordering])> {
    let at = condition.find(['<', '>', '=', '!'])?;
    let (sign, allowed) = SIGNS.into_iter().find(|(sign, _)| condition[at..].starts_with(sign))?;
    Some((at, sign, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cuda: &str, driver: &str) -> Nvidia {
        Nvidia { cuda: cuda.parse().ok(), driver: driver.parse().ok() }
    }

    fn runs(requirement: &str) -> bool {
        unmet(requirement, machine("12.4", "550.54.15")).is_none()
    }

    #[test]
    fn versions_are_compared_by_number_with_every_sign() {
        for holds in [
            "cuda>=12.4",
            "cuda>=9.0",
            "cuda=12.4",
            "cuda<=12.4",
            "cuda<12.10",
            "cuda>12",
            "cuda!=12.3",
            "driver>=550",
            "driver<551",
            "driver=550.54.15",
            "driver>=550.54.14",
        ] {
            assert!(runs(holds), "{holds}");
        }
        for fails in [
            "cuda>=12.5",
            "cuda>=13",
            "cuda<12.4",
            "cuda>12.4",
            "cuda!=12.4",
            "cuda=12",
            "driver<550",
            "driver>=550.54.16",
        ] {
            assert!(!runs(fails), "{fails}");
        }
    }

    #[test]
    fn one_alternative_is_enough_and_needs_all_its_conditions() {
        assert!(runs("cuda>=12.8 driver>=535,driver<560"));
        assert!(!runs("cuda>=12.8 driver>=535,driver<536"));
        assert!(!runs("cuda>=12.4,driver>=560"));
    }

    #[test]
    fn what_is_not_known_refuses_nothing() {
        for unknown in
            ["", "  ", "brand=tesla", "arch>=99", "cuda", "cuda>=soon", "driver>=1.2.3.4", "cuda~1", "é>=1"]
        {
            assert!(runs(unknown), "{unknown}");
        }
        assert!(runs("cuda>=12.8 brand=tesla,driver>=550,driver<551"));
        assert!(!runs("cuda>=12.8 brand=tesla,driver>=470,driver<471"));
        assert_eq!(unmet("cuda>=99,driver>=999", Nvidia::default()), None);
    }

    #[test]
    fn the_error_says_what_is_required_and_what_there_is() {
        let why = unmet("cuda>=12.8", machine("12.4", "550.54.15")).unwrap();
        assert_eq!(why, "requires `cuda>=12.8`; this machine has CUDA 12.4, driver 550.54.15");
        let long = unmet(&format!("cuda>=99 {}", "driver<1 ".repeat(1_000)), machine("12.4", "550")).unwrap();
        assert!(long.len() < 250 && long.contains('…'), "{long}");
    }

    #[test]
    fn it_is_read_from_the_image_unless_the_image_waives_it() {
        let environment = |entries: &[&str]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut all = environment(&["PATH=/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"]);
        assert_eq!(of_environment(&all).as_deref(), Some("cuda>=12.4"));
        all.push("NVIDIA_DISABLE_REQUIRE=true".into());
        assert_eq!(of_environment(&all), None);
        assert_eq!(of_environment(&environment(&["NVIDIA_REQUIRE_CUDA="])), None);
    }
}

//! Processes as `/proc` shows them: identity, descent, and consumption where there is no cgroup to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) zombie: bool,
    /// Clock ticks since boot.
    pub(super) start_time: u64,
    /// Its own and its waited-for children's CPU time, in clock ticks.
    pub(super) cpu_ticks: u64,
    pub(super) resident_pages: u64,
}

/// The process `pid`, if there is one.
pub(super) fn process(pid: u32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `/proc/<pid>/stat`; the name in it may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| -> Option<u64> { fields.get(index)?.parse().ok() };
    Some(Process {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(1)?).ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        start_time: number(19)?,
        resident_pages: number(21)?,
    })
}

/// `root` and all that descends from it.
pub(super) fn descendants(root: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all: BTreeMap<u32, Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, process(pid)?)))
        .collect();
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in all.values() {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found.into_iter().filter_map(|pid| all.get(&pid).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line =
            "42 (a) R (b) S 7 42 42 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 1 0 990 1 77 18446744073709551615";
        let process = parse(line).unwrap();
        assert_eq!((process.pid, process.parent, process.zombie), (42, 7, false));
        assert_eq!((process.cpu_ticks, process.start_time, process.resident_pages), (18, 990, 77));
    }

    #[test]
    fn a_child_is_found_below_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let found = descendants(std::process::id());
        assert!(found.iter().any(|process| process.pid == child.id()));
        assert!(found.iter().all(|process| process.pid != 1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

//! Processes as `/proc` shows them: identity, descent, and consumption where there is no cgroup to ask.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(super) pid: u32,
    pub(super) zombie: bool,
    /// The number of the process that began its session.
    pub(crate) session: i32,
    /// Clock ticks since boot.
    pub(super) start_time: u64,
    /// Its own and its waited-for children's CPU time, in clock ticks.
    pub(super) cpu_ticks: u64,
    pub(super) resident_pages: u64,
}

/// The process `pid`, if there is one.
pub(crate) fn process(pid: u32) -> Option<Process> {
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
        zombie: matches!(*fields.first()?, "Z" | "X"),
        session: fields.get(3)?.parse().ok()?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        start_time: number(19)?,
        resident_pages: number(21)?,
    })
}

/// `root` and all that descends from it.
pub(super) fn descendants(root: u32) -> Vec<Process> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root]);
    while let Some(pid) = open.pop() {
        if let Some(process) = process(pid)
            && found.insert(pid, process).is_none()
        {
            open.extend(children(pid));
        }
    }
    found.into_values().collect()
}

/// The processes of a session, by the number of the process that began it. Those that only wait to be reaped do not count.
pub(crate) fn session(leader: i32) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = pids.filter_map(process).filter(|process| process.session == leader && !process.zombie);
    found.filter_map(|process| Pid::from_raw(i32::try_from(process.pid).ok()?)).collect()
}

/// The children of all of a process's threads.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Signals what descends from `root`, where there is no freezer; what is forked meanwhile is found by looking again.
pub(super) fn signal_below(root: u32, signal: Signal) {
    let mut known = BTreeMap::new();
    loop {
        let before = known.len();
        for process in descendants(root).iter().filter(|process| process.pid != root) {
            if known.insert(process.pid, ()).is_none() {
                send(process.pid, signal);
            }
        }
        if known.len() == before {
            return;
        }
    }
}

pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in this moment.
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line =
            "42 (a) R (b) S 7 42 42 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 1 0 990 1 77 18446744073709551615";
        let process = parse(line).unwrap();
        assert_eq!((process.pid, process.zombie, process.session), (42, false, 42));
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

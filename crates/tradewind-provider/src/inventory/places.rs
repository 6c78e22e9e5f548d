//! Which units lie at one NUMA node each, and where their jobs run.

use tradewind_proto::workload::Limits;

use super::numa::{NumaNode, Threads};

/// An accelerator's number, and its node where that is known.
pub(super) type At = (u32, Option<u32>);

/// Where jobs run: at the nodes of their accelerators.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(Vec<Place>);

/// A node's threads, and the accelerators of the units that lie there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The threads that jobs of these units run on.
    pub threads: Threads,
    /// The host's numbers of the accelerators.
    pub gpus: Vec<u32>,
}

impl Places {
    /// Jobs run at these places, and anywhere where no place is theirs.
    #[must_use]
    pub const fn new(places: Vec<Place>) -> Self {
        Self(places)
    }

    /// The threads that a job with these limits runs on; `None` where the kernel chooses among all. A job with accelerators at several
    /// nodes has the threads of all of them.
    #[must_use]
    pub fn threads(&self, limits: &Limits) -> Option<Threads> {
        let mut threads = Threads::default();
        for gpu in &limits.gpus {
            threads.add(&self.0.iter().find(|place| place.gpus.contains(gpu))?.threads);
        }
        fits(1, limits.cpu_millis, &threads).then_some(threads)
    }

    /// The accelerators that have a place.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.0.iter().map(|place| place.gpus.len()).sum()
    }

    /// Where units of `each` accelerators and so many thousandths of a CPU run, which lie one after the other in `sold`. Where those at
    /// a node need more threads than it has, they run anywhere.
    pub(super) fn of(sold: &[At], each: usize, cpu_millis: u32, nodes: &[NumaNode]) -> Self {
        let place = |node: &NumaNode| {
            let is_there = |unit: &&[At]| unit.iter().all(|(_, at)| *at == Some(node.number));
            let units: Vec<&[At]> = sold.chunks(each.max(1)).filter(is_there).collect();
            let gpus = units.iter().flat_map(|unit| unit.iter().map(|(gpu, _)| *gpu)).collect();
            let place = Place { threads: node.threads.clone(), gpus };
            (!units.is_empty() && fits(units.len(), cpu_millis, &node.threads)).then_some(place)
        };
        Self(nodes.iter().filter_map(place).collect())
    }
}

fn fits(units: usize, cpu_millis: u32, threads: &Threads) -> bool {
    let millis = u64::try_from(units).unwrap_or(u64::MAX).saturating_mul(cpu_millis.into());
    threads.count() > 0 && millis.div_ceil(1_000) <= u64::try_from(threads.count()).unwrap_or(u64::MAX)
}

/// What `units` units of `each` accelerators are made of, unit by unit: as many units as can be lie at one node each, and the
/// nodes have as many as each other. What is left over makes units in the order in which it is `there`.
pub(super) fn arranged(there: &[At], each: usize, units: usize) -> Vec<At> {
    let mut nodes: Vec<(u32, Vec<At>)> = Vec::new();
    for card in there {
        let Some(node) = card.1 else { continue };
        match nodes.iter_mut().find(|(number, _)| *number == node) {
            Some((_, cards)) => cards.push(*card),
            None => nodes.push((node, vec![*card])),
        }
    }
    let mut taken = vec![0_usize; nodes.len()];
    for _ in 0..units {
        let has_another = |at: &usize| (taken[*at] + 1).saturating_mul(each) <= nodes[*at].1.len();
        let Some(least) = (0..nodes.len()).filter(has_another).min_by_key(|at| taken[*at]) else { break };
        taken[least] += 1;
    }
    let whole = nodes.iter().zip(&taken).flat_map(|((_, cards), units)| cards.iter().take(units * each));
    let mut sold: Vec<At> = whole.copied().collect();
    let left: Vec<At> = there.iter().filter(|card| !sold.contains(card)).copied().collect();
    sold.extend(left);
    sold.truncate(units.saturating_mul(each));
    sold
}

#[cfg(test)]
mod tests {
    use tradewind_proto::ids::LeaseId;

    use super::*;
    use crate::process::readiness::empty_job;

    /// Cards with these nodes, numbered from 0; a negative one is unknown.
    fn cards(nodes: &[i32]) -> Vec<At> {
        (0..).zip(nodes.iter().map(|node| u32::try_from(*node).ok())).collect()
    }

    fn order(nodes: &[i32], each: usize, units: usize) -> Vec<u32> {
        arranged(&cards(nodes), each, units).into_iter().map(|(gpu, _)| gpu).collect()
    }

    #[test]
    fn no_unit_straddles_nodes_that_need_not() {
        assert_eq!(order(&[0, 0, 0, 0, 1, 1, 1, 1], 4, 2), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order(&[0, 1, 0, 1, 0, 1, 0, 1], 4, 2), [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(order(&[0, 0, 0, 1, 1, 1], 2, 3), [0, 1, 3, 4, 2, 5], "one unit has to");
        assert_eq!(order(&[1, 0, 0, 0, 0, 1], 4, 1), [1, 2, 3, 4]);
        assert_eq!(order(&[0, 1, 0, 1], 4, 1), [0, 1, 2, 3]);
    }

    #[test]
    fn nodes_have_as_many_units_as_each_other_where_not_all_is_sold() {
        assert_eq!(order(&[0, 0, 0, 0, 1, 1, 1, 1], 2, 2), [0, 1, 4, 5]);
        assert_eq!(order(&[0, 0, 0, 0, 1, 1, 1, 1], 1, 3), [0, 1, 4]);
    }

    #[test]
    fn where_no_node_is_known_the_order_is_that_of_the_numbers() {
        assert_eq!(order(&[-1; 6], 2, 3), [0, 1, 2, 3, 4, 5]);
        assert_eq!(order(&[-1, 0, -1, 0], 2, 2), [1, 3, 0, 2]);
        assert_eq!(order(&[], 1, 1), [0_u32; 0]);
    }

    fn nodes() -> [NumaNode; 2] {
        let node = |number, threads: &str| NumaNode {
            number,
            threads: threads.parse().unwrap(),
            memory: tradewind_proto::units::Bytes::gib(1),
        };
        [node(0, "0-23,48-71"), node(1, "24-47,72-95")]
    }

    /// Where a job with these accelerators runs, where units are made of so many of cards at these nodes.
    fn threads(at: &[i32], each: usize, unit: u32, gpus: &[u32], cpus: u32) -> Option<String> {
        let sold = arranged(&cards(at), each, at.len() / each);
        let mut limits = empty_job(LeaseId::default()).limits;
        (limits.gpus, limits.cpu_millis) = (gpus.to_vec(), cpus * 1_000);
        Places::of(&sold, each, unit * 1_000, &nodes()).threads(&limits).map(|threads| threads.to_string())
    }

    #[test]
    fn a_job_runs_at_the_node_of_its_accelerators() {
        let interleaved = &[0, 1, 0, 1, 0, 1, 0, 1];
        let of = |gpus: &[u32], cpus| threads(interleaved, 4, 47, gpus, cpus);
        assert_eq!(of(&[0, 2, 4, 6], 47).as_deref(), Some("0-23,48-71"));
        assert_eq!(of(&[1, 3], 47).as_deref(), Some("24-47,72-95"));
        assert_eq!(of(&[0, 2, 4, 6, 1, 3, 5, 7], 94).as_deref(), Some("0-95"), "a lease of both units");
        assert_eq!(of(&[0], 94), None, "it needs more threads than are there");
        assert_eq!(of(&[0, 9], 1), None, "one of them has no place");
        assert_eq!(of(&[], 1), None, "it has no accelerators");
    }

    #[test]
    fn a_node_without_enough_threads_holds_no_job() {
        let uneven = &[0, 0, 0, 1];
        assert_eq!(threads(uneven, 1, 23, &[0], 23), None, "three units want 69 threads of 48");
        assert_eq!(threads(uneven, 1, 23, &[3], 23).as_deref(), Some("24-47,72-95"));
        assert_eq!(threads(uneven, 1, 16, &[0], 16).as_deref(), Some("0-23,48-71"));
        assert_eq!(threads(&[0, 1], 2, 20, &[0, 1], 20), None, "a unit that lies at both");
        assert_eq!(threads(&[-1, -1], 1, 20, &[0], 20), None);
    }
}

//! How long a lease that begins now can last: the partition's own limit, and the time until a reservation takes all of its nodes.

use std::collections::BTreeSet;

use tradewind_proto::units::{Seconds, Timestamp};

use super::desk::Desk;
use super::queue::{self, Partition, Reservation};
use super::submission::SPARE_MINUTES;
use crate::process::shim;
use crate::runtime::RuntimeError;

/// From an offer to the lease's job in the queue: the offer's age, the signing, and the minute up to which Slurm's limits are rounded.
const ON_THE_WAY: Seconds = Seconds::new(180);
/// Reservations whose nodes are looked up, each by a call; the next one counts as taking all.
const MAX_LOOKED_UP: usize = 16;

impl Desk {
    /// How long a lease that begins now can last; `None` where nothing bounds it.
    pub(super) async fn longest(&self) -> Result<Option<Seconds>, RuntimeError> {
        let show = |what: &[&str]| -> Vec<String> {
            ["--oneliner", "show"].iter().chain(what).map(|word| (*word).to_owned()).collect()
        };
        let name = &self.config.partition;
        let said = self.cluster.call("scontrol", &show(&["partition", name]), None).await?.out;
        let missing = || RuntimeError::Unavailable(format!("the cluster shows no partition {name}"));
        let partition = queue::partitions(&said).into_iter().find(|found| found.name == *name);
        let partition = partition.ok_or_else(missing)?;
        if partition.get("State") != "UP" {
            return Ok(Some(Seconds::ZERO));
        }
        let limit = partition.time_limit().map_err(super::cluster::ClusterError::from)?;
        let said = self.cluster.call("scontrol", &show(&["reservation"]), None).await?.out;
        let reservations = queue::reservations(&said).map_err(super::cluster::ClusterError::from)?;
        let taken = self.taken(&partition, reservations).await?;
        Ok(bound(limit, taken, shim::now()))
    }

    /// When the first reservation begins that has all of the partition's nodes.
    async fn taken(
        &self,
        partition: &Partition,
        mut reservations: Vec<Reservation>,
    ) -> Result<Option<Timestamp>, RuntimeError> {
        reservations.retain(|reservation| may_take(reservation, partition));
        if reservations.is_empty() {
            return Ok(None);
        }
        reservations.sort_unstable_by_key(|reservation| reservation.start);
        let own = self.hosts(partition.get("Nodes")).await?;
        for reservation in reservations.iter().take(MAX_LOOKED_UP) {
            if self.hosts(&reservation.nodes).await?.is_superset(&own) {
                return Ok(Some(reservation.start));
            }
        }
        Ok(reservations.get(MAX_LOOKED_UP).map(|unseen| unseen.start))
    }

    /// The nodes of a list such as `n[1-3]`.
    async fn hosts(&self, list: &str) -> Result<BTreeSet<String>, RuntimeError> {
        let arguments = ["show", "hostnames", list].map(str::to_owned);
        let said = self.cluster.call("scontrol", &arguments, None).await?.out;
        Ok(said.lines().map(|line| line.trim().to_owned()).collect())
    }
}

/// Whether a reservation has as many processors as the partition: one of a few cores, or of a few nodes, leaves places.
fn may_take(reservation: &Reservation, partition: &Partition) -> bool {
    reservation.cpus >= partition.number("TotalCPUs")
}

/// The shorter of the limit and the time until the nodes are `taken`, without what is asked of Slurm beyond the lease.
fn bound(limit: Option<Seconds>, taken: Option<Timestamp>, now: Timestamp) -> Option<Seconds> {
    let spare = Seconds::new(SPARE_MINUTES * 60);
    let until = taken.map(|at| at.since(now).minus(spare).minus(ON_THE_WAY));
    limit.map(|limit| limit.minus(spare)).into_iter().chain(until).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_of_limit_and_reservation_bounds_a_lease() {
        let now = Timestamp::from_unix(1_000_000);
        let hours = |hours: u64| Seconds::new(hours * 3600);
        assert_eq!(bound(None, None, now), None);
        assert_eq!(bound(Some(hours(1)), None, now), Some(Seconds::new(3600 - 120)));
        assert_eq!(bound(Some(hours(9)), Some(now.after(hours(1))), now), Some(Seconds::new(3600 - 300)));
        assert_eq!(bound(Some(hours(1)), Some(now.after(hours(9))), now), Some(Seconds::new(3600 - 120)));
        assert_eq!(bound(None, Some(Timestamp::from_unix(5)), now), Some(Seconds::ZERO), "it has begun");
        assert_eq!(bound(Some(Seconds::new(60)), None, now), Some(Seconds::ZERO));
    }

    #[test]
    fn a_reservation_of_fewer_processors_leaves_places() {
        let partition = &queue::partitions("PartitionName=lent Nodes=n[1-2] TotalCPUs=8 State=UP\n")[0];
        for (cpus, takes) in [(8, true), (16, true), (7, false)] {
            let reservation = Reservation { start: Timestamp::from_unix(1), nodes: "n[1-2]".into(), cpus };
            assert_eq!(may_take(&reservation, partition), takes, "{cpus}");
        }
    }
}

//! The file system of work directories.

use std::path::Path;

use tradewind_proto::units::Bytes;

use super::{Diagnosis, Host};
use crate::inventory::Inventory;

/// Below this, a job with a container image hardly fits.
const ROOM: Bytes = Bytes::gib(10);
/// Below this, not even logs and outputs do.
const LEAST: Bytes = Bytes::gib(1);

pub(super) fn examine(host: &Host, inventory: &Inventory, state_dir: &Path) -> Vec<Diagnosis> {
    let free = inventory.disk.free;
    let place = state_dir.display();
    let room = if free < LEAST {
        Diagnosis::bad(
            "disk",
            format!("{free} are free at {place}"),
            "free some space, or move `data_dir` in node.toml",
        )
    } else if free < ROOM {
        Diagnosis::weak(
            "disk",
            format!("{free} are free at {place}: few images fit"),
            "free some space, or move `data_dir` in node.toml",
        )
    } else {
        Diagnosis::good("disk", format!("{free} of {} are free", inventory.disk.total))
    };
    let mounts = host.text("/proc/self/mounts").unwrap_or_default();
    std::iter::once(room).chain(kind(&mounts, state_dir)).collect()
}

/// File systems on which work is lost, or locks and sparse files fail.
fn kind(mounts: &str, state_dir: &Path) -> Option<Diagnosis> {
    let under = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (place, kind) = (unescaped(words.next()?), words.next()?);
        state_dir.starts_with(&place).then_some((place.len(), kind))
    });
    // The longest place is the one that counts, and of alike ones the last that was mounted.
    let (_, kind) = under.max_by_key(|(length, _)| *length)?;
    let what = match kind {
        "tmpfs" | "ramfs" => "memory: it takes from what you sell, and a restart loses every lease",
        "nfs" | "nfs4" | "cifs" | "9p" | "drvfs" | "fuse.sshfs" => {
            "a network's: slow, and without the locks that stores need"
        }
        _ => return None,
    };
    let fix = "move `data_dir` in node.toml to a disk of this machine";
    Some(Diagnosis::weak(
        "disk",
        format!("the file system of {} is {kind}: {what}", state_dir.display()),
        fix,
    ))
}

/// A place as the kernel writes it: blanks as octal.
fn unescaped(place: &str) -> String {
    place.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

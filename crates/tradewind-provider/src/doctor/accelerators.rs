//! Accelerators on the bus, against those that a driver lists.

use std::collections::BTreeSet;

use tradewind_proto::offer::Vendor;

use super::{Diagnosis, Host};
use crate::inventory::gpu::named;
use crate::inventory::{GpuError, Inventory, ONLY_CONTAINERS};

/// PCI's number of a maker.
const NVIDIA: &str = "0x10de";
const AMD: &str = "0x1002";
const INTEL: &str = "0x8086";
/// PCI classes of accelerators: VGA, 3D, and processing accelerators.
const CLASSES: [&str; 3] = ["0x0300", "0x0302", "0x1200"];
/// Intel's integrated graphics are class VGA on this bus; nobody rents them.
const INTEGRATED: &str = "0000:00:02.0";

pub(super) fn examine(host: &Host, inventory: &Inventory) -> Vec<Diagnosis> {
    let on_bus =
        |maker: &str| host.names("/sys/bus/pci/devices").iter().filter(|at| is(host, at, maker)).count();
    let of = |vendor| inventory.gpus.iter().filter(move |gpu| gpu.vendor == vendor);
    // A card's slices are at its address.
    let listed = of(Vendor::Nvidia).map(|gpu| &gpu.bus).collect::<BTreeSet<_>>().len();
    let mut findings = Vec::new();
    let is_kept = |problem: &GpuError| problem.vendor == Vendor::Nvidia && problem.why == ONLY_CONTAINERS;
    let is_complete = inventory.gpu_problems.iter().any(is_kept);
    let cards = if is_complete { listed } else { on_bus(NVIDIA) };
    findings.extend(nvidia(host, inventory, cards, listed));
    for vendor in [Vendor::Amd, Vendor::Intel] {
        let names: Vec<&str> = of(vendor).map(|gpu| gpu.name.as_str()).collect();
        if !names.is_empty() {
            findings.push(Diagnosis::good("accelerators", names.join(", ")));
        }
    }
    let failure = failure(inventory, listed);
    for problem in inventory.gpu_problems.iter().filter(|problem| Some(*problem) != failure) {
        findings.push(of_problem(problem));
    }
    for gpu in &inventory.gpus {
        if let Some(ailment) = gpu.ailment() {
            let found = format!("card {} ({}) is not lent: {ailment}", named(gpu.index), gpu.name);
            findings.push(Diagnosis::weak("accelerators", found, mend(gpu.vendor)));
        }
    }
    if listed > 0 && !has_cdi(host) {
        findings.push(Diagnosis::weak(
            "accelerators",
            "containers cannot get NVIDIA's cards: no Container Device Interface lists them",
            "install nvidia-container-toolkit and run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`",
        ));
    }
    if on_bus(AMD) > 0 && !host.has("/dev/kfd") {
        findings.push(Diagnosis::weak(
            "accelerators",
            "AMD's cards are on the bus, and ROCm's driver is not loaded",
            "install amdgpu-dkms from AMD's repository and load it: modprobe amdgpu",
        ));
    }
    let is_unlisted = !inventory.gpu_problems.iter().any(|problem| problem.vendor == Vendor::Intel);
    if on_bus(INTEL) > 0 && of(Vendor::Intel).next().is_none() && is_unlisted {
        findings.push(Diagnosis::weak(
            "accelerators",
            "Intel's accelerators are on the bus, and no driver tells of memory of their own",
            "load xe, or Intel's own i915; nothing is to be done for integrated graphics",
        ));
    }
    if findings.is_empty() {
        findings.push(Diagnosis::good("accelerators", "none"));
    }
    findings
}

/// What NVIDIA's driver answers in place of a list.
fn failure(inventory: &Inventory, listed: usize) -> Option<&GpuError> {
    let is_failure = |problem: &&GpuError| {
        problem.vendor == Vendor::Nvidia && listed == 0 && problem.why != ONLY_CONTAINERS
    };
    inventory.gpu_problems.iter().find(is_failure)
}

/// What keeps cards from being listed or lent.
fn of_problem(problem: &GpuError) -> Diagnosis {
    let fix = "change what it names, then look for the card in the kernel's log (dmesg); CPU and memory are sold all the same";
    Diagnosis::weak("accelerators", problem.to_string(), fix)
}

/// What undoes an ailment.
fn mend(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Amd => {
            "reset it or restart the machine (amd-smi reset --gpureset), and replace it where errors come back; \
             `amd-smi set --compute-partition SPX` undoes slices"
        }
        Vendor::Nvidia => {
            "reset it or restart the machine (nvidia-smi -r), and replace it where errors come back; \
             `nvidia-smi -mig 0` undoes slices, and `nvidia-smi mig -cgi … -C` makes some that `docker` lends"
        }
        Vendor::Intel | Vendor::Other => "restart the machine, and replace it where errors come back",
    }
}

/// A card of this maker.
fn is(host: &Host, at: &str, maker: &str) -> bool {
    let file = |name: &str| host.text(&format!("/sys/bus/pci/devices/{at}/{name}")).unwrap_or_default();
    let class = file("class");
    file("vendor") == maker && at != INTEGRATED && CLASSES.iter().any(|known| class.starts_with(known))
}

fn nvidia(host: &Host, inventory: &Inventory, on_bus: usize, listed: usize) -> Option<Diagnosis> {
    if let Some(problem) = failure(inventory, listed) {
        let fix = "restart the machine where driver and library differ after an update; else install the driver again";
        return Some(Diagnosis::bad(
            "accelerators",
            format!("NVIDIA's driver answers with a failure: {}", problem.why),
            fix,
        ));
    }
    if listed > 0 && listed >= on_bus {
        let own = inventory.gpus.iter().filter(|gpu| gpu.vendor == Vendor::Nvidia);
        let names: Vec<&str> = own.map(|gpu| gpu.name.as_str()).collect();
        return Some(Diagnosis::good("accelerators", names.join(", ")));
    }
    if listed > 0 {
        return Some(Diagnosis::weak(
            "accelerators",
            format!("{on_bus} of NVIDIA's cards are on the bus, and its driver lists {listed}: one fell off"),
            "look for `Xid` in the kernel's log (dmesg); restart the machine, then look at its power and its slot",
        ));
    }
    if on_bus == 0 {
        return None;
    }
    Some(if host.has("/sys/module/nouveau") {
        Diagnosis::bad(
            "accelerators",
            "NVIDIA's cards are driven by nouveau, which cannot compute",
            "install NVIDIA's driver (Debian: apt-get install nvidia-driver; Ubuntu: ubuntu-drivers install) and restart",
        )
    } else if host.has("/proc/driver/nvidia/version") {
        Diagnosis::bad(
            "accelerators",
            "NVIDIA's driver is loaded, and its library libnvidia-ml.so.1 lists no card",
            "install the library of the driver's own version (Debian: libnvidia-ml1), and look for `Xid` in dmesg",
        )
    } else {
        Diagnosis::bad(
            "accelerators",
            format!("{on_bus} of NVIDIA's cards are on the bus, and its driver is not loaded"),
            "install it (Debian: apt-get install nvidia-driver; Ubuntu: ubuntu-drivers install), or load it: modprobe nvidia",
        )
    })
}

/// A description of NVIDIA's devices for engines.
fn has_cdi(host: &Host) -> bool {
    let described = |name: &String| {
        let kind = std::path::Path::new(name).extension().and_then(std::ffi::OsStr::to_str);
        name.contains("nvidia") && matches!(kind, Some("yaml" | "yml" | "json"))
    };
    ["/etc/cdi", "/var/run/cdi", "/run/cdi"].iter().any(|place| host.names(place).iter().any(described))
}

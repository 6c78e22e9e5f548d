use tempfile::TempDir;
use tradewind_proto::offer::Vendor;

use super::*;
use crate::inventory::gpu::tests::{Fake, h100, mi300x};

/// A machine made of files.
struct Made(TempDir);

impl Made {
    fn of(files: &[(&str, &str)]) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let usual = [
            ("/proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
            ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("/run/systemd/timesync/synchronized", ""),
        ];
        for (file, text) in usual.iter().chain(files) {
            let path = Host::below(made.0.path()).path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        made
    }

    fn without(self, file: &str) -> Self {
        fs::remove_file(Host::below(self.0.path()).path(file)).unwrap();
        self
    }

    fn examined(&self, gpus: &Fake) -> Vec<Diagnosis> {
        let inventory = Inventory::take(self.0.path(), gpus).unwrap();
        Host::below(self.0.path()).examine(&inventory, Path::new("/var/lib/tradewind/provider"))
    }

    /// What is not well, by area.
    fn ills(&self) -> Vec<(String, Verdict, String)> {
        ills(self.examined(&Fake(Ok(Vec::new()))))
    }
}

fn ills(findings: Vec<Diagnosis>) -> Vec<(String, Verdict, String)> {
    let ill = |finding: Diagnosis| (finding.area, finding.verdict, finding.fix.unwrap_or_default());
    findings.into_iter().filter(|finding| finding.verdict != Verdict::Good).map(ill).collect()
}

fn card(vendor: &str) -> [(&'static str, String); 2] {
    [
        ("/sys/bus/pci/devices/0000:65:00.0/vendor", format!("{vendor}\n")),
        ("/sys/bus/pci/devices/0000:65:00.0/class", "0x030200\n".into()),
    ]
}

fn with_card(vendor: &str, more: &[(&str, &str)]) -> Made {
    let [(a, vendor), (b, class)] = card(vendor);
    Made::of(&[&[(a, vendor.as_str()), (b, class.as_str())], more].concat())
}

#[test]
fn a_machine_as_it_should_be_has_nothing_to_mend() {
    assert_eq!(Made::of(&[]).ills(), []);
    let findings = Made::of(&[]).examined(&Fake(Ok(Vec::new())));
    assert!(findings.iter().all(|finding| finding.fix.is_none()), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.found.contains("6.8.0-45-generic")));
}

#[test]
fn each_ill_of_a_platform_has_its_fix() {
    let release = "/proc/sys/kernel/osrelease";
    let old = Made::of(&[(release, "4.18.0-553.el8\n")]).ills();
    assert!(
        matches!(&old[..], [(area, Verdict::Weak, fix)] if area == "kernel" && fix.contains("5.13")),
        "{old:?}"
    );
    let bare = Made::of(&[]).without("/sys/fs/cgroup/cgroup.controllers").ills();
    assert!(matches!(&bare[..], [(area, Verdict::Bad, _)] if area == "control groups"), "{bare:?}");
    let few = Made::of(&[("/sys/fs/cgroup/cgroup.controllers", "cpu io\n")]).examined(&Fake(Ok(Vec::new())));
    assert!(few.iter().any(|finding| finding.found == "version 2 without memory, pids"), "{few:?}");
    let inside = Made::of(&[("/.dockerenv", "")]).ills();
    assert!(matches!(&inside[..], [(area, Verdict::Weak, _)] if area == "platform"), "{inside:?}");
    let adrift = Made::of(&[]).without("/run/systemd/timesync/synchronized").ills();
    assert!(matches!(&adrift[..], [(_, Verdict::Weak, fix)] if fix.contains("timedatectl")), "{adrift:?}");
}

#[test]
fn a_windows_subsystem_is_told_what_it_lacks() {
    let release = ("/proc/sys/kernel/osrelease", "5.15.167.4-microsoft-standard-WSL2\n");
    let bare = Made::of(&[release, ("/dev/dxg", "")]).ills();
    for fix in ["systemd=true", "driver in Windows", "networkingMode=mirrored"] {
        assert!(bare.iter().any(|(area, _, told)| area == "wsl" && told.contains(fix)), "{fix}: {bare:?}");
    }
    let better = [
        release,
        ("/run/systemd/system/x", ""),
        ("/usr/lib/wsl/lib/libnvidia-ml.so.1", ""),
        ("/dev/dxg", ""),
    ];
    assert_eq!(Made::of(&better).ills().len(), 1, "the network and sleep stay");
}

#[test]
fn work_on_memory_or_on_a_network_is_told_of() {
    let on = |kind: &str| {
        let mounts =
            format!("/dev/sda1 / ext4 rw 0 0\nx /var/lib {kind} rw 0 0\ny /var/library ext4 rw 0 0\n");
        Made::of(&[("/proc/self/mounts", &mounts)]).ills()
    };
    for kind in ["tmpfs", "nfs4", "9p"] {
        let ills = on(kind);
        assert!(matches!(&ills[..], [(area, Verdict::Weak, _)] if area == "disk"), "{kind}: {ills:?}");
    }
    assert_eq!(on("xfs"), []);
}

#[test]
fn a_card_that_no_driver_lists_says_which_driver() {
    for (more, fix) in [
        (vec![], "modprobe nvidia"),
        (vec![("/sys/module/nouveau/version", "")], "ubuntu-drivers install"),
        (vec![("/proc/driver/nvidia/version", "")], "libnvidia-ml1"),
    ] {
        let ills = with_card("0x10de", &more).ills();
        assert!(matches!(&ills[..], [(_, Verdict::Bad, told)] if told.contains(fix)), "{fix}: {ills:?}");
    }
    let amd = with_card("0x1002", &[]).ills();
    assert!(matches!(&amd[..], [(_, Verdict::Weak, fix)] if fix.contains("modprobe amdgpu")), "{amd:?}");
    assert_eq!(with_card("0x1002", &[("/dev/kfd", "")]).ills(), []);
    assert_eq!(with_card("0x1af4", &[]).ills(), [], "a virtual network card is none");
}

#[test]
fn a_card_that_fell_off_and_a_driver_that_fails_are_told_apart() {
    let made = with_card(
        "0x10de",
        &[("/etc/cdi/nvidia.yaml", ""), ("/sys/bus/pci/devices/0000:66:00.0/vendor", "0x10de")],
    );
    assert_eq!(ills(made.examined(&Fake(Ok(vec![h100(0)])))), [], "the second is no display or accelerator");
    let class = made.0.path().join("sys/bus/pci/devices/0000:66:00.0/class");
    fs::write(class, "0x030200").unwrap();
    let fallen = ills(made.examined(&Fake(Ok(vec![h100(0)]))));
    assert!(matches!(&fallen[..], [(_, Verdict::Weak, fix)] if fix.contains("Xid")), "{fallen:?}");
    let failing = ills(made.examined(&Fake(Err("Driver/library version mismatch"))));
    assert!(matches!(&failing[..], [(_, Verdict::Bad, fix)] if fix.contains("restart")), "{failing:?}");
}

#[test]
fn a_sick_card_is_told_of() {
    let sick = crate::inventory::Gpu { uncorrected: Some(3), ..h100(0) };
    let made = with_card("0x10de", &[("/etc/cdi/nvidia.yaml", "")]);
    let ills = ills(made.examined(&Fake(Ok(vec![sick]))));
    assert!(matches!(&ills[..], [(_, Verdict::Weak, fix)] if fix.contains("nvidia-smi -r")), "{ills:?}");
}

#[test]
fn slices_are_one_card_and_only_containers_get_them() {
    let slice = |place: u32| crate::inventory::Gpu { bus: h100(0).bus, ..h100((1 << 20) + place) };
    let slices = || Fake(Ok(vec![slice(0), slice(1)]));
    let made = with_card("0x10de", &[("/etc/cdi/nvidia.yaml", "")]);
    assert_eq!(ills(made.examined(&slices())), []);
    let inventory = Inventory::take(made.0.path(), &slices()).unwrap().without_containers();
    let kept = Host::below(made.0.path()).examine(&inventory, Path::new("/var/lib/tradewind/provider"));
    let told: Vec<_> = kept.iter().filter(|one| one.verdict != Verdict::Good).collect();
    assert!(
        matches!(&told[..], [one] if one.verdict == Verdict::Weak && one.found.contains("runtime `docker` only")),
        "{kept:?}"
    );
    let second = [
        ("/etc/cdi/nvidia.yaml", ""),
        ("/sys/bus/pci/devices/0000:66:00.0/vendor", "0x10de"),
        ("/sys/bus/pci/devices/0000:66:00.0/class", "0x030200"),
    ];
    let fallen = ills(with_card("0x10de", &second).examined(&slices()));
    assert!(matches!(&fallen[..], [(_, Verdict::Weak, fix)] if fix.contains("Xid")), "{fallen:?}");
    let mut partly = Inventory::take(made.0.path(), &slices()).unwrap();
    let why = "slice 0:2 is not lent: no permission".to_owned();
    partly.gpu_problems.push(crate::inventory::GpuError { vendor: Vendor::Nvidia, why });
    let partly = Host::below(made.0.path()).examine(&partly, Path::new("/var/lib/tradewind/provider"));
    assert_eq!(partly.iter().map(|one| one.verdict).max(), Some(Verdict::Weak), "{partly:?}");
}

#[test]
fn cards_of_amd_and_intel_are_told_of() {
    let made = with_card("0x1002", &[("/dev/kfd", "")]);
    let found = made.examined(&Fake(Ok(vec![mi300x(128)])));
    assert!(found.iter().any(|one| one.verdict == Verdict::Good && one.found == "AMD Instinct MI300X"));
    let sick = crate::inventory::Gpu { uncorrected: Some(1), ..mi300x(128) };
    let sick = ills(made.examined(&Fake(Ok(vec![sick]))));
    assert!(matches!(&sick[..], [(_, Verdict::Weak, fix)] if fix.contains("amd-smi")), "{sick:?}");
    let mut inventory = Inventory::take(made.0.path(), &Fake(Ok(vec![mi300x(128)]))).unwrap();
    inventory = inventory.without_containers();
    let kept = Host::below(made.0.path()).examine(&inventory, Path::new("/var/lib/tradewind/provider"));
    assert!(
        kept.iter().any(|one| one.verdict == Verdict::Weak && one.found.contains("runtime `docker` only")),
        "{kept:?}"
    );
    let silent = ills(with_card("0x8086", &[]).examined(&Fake(Ok(Vec::new()))));
    assert!(matches!(&silent[..], [(_, Verdict::Weak, fix)] if fix.contains("load xe")), "{silent:?}");
}

#[test]
fn cards_that_containers_cannot_get_are_told_of() {
    let ills = ills(with_card("0x10de", &[]).examined(&Fake(Ok(vec![h100(0)]))));
    assert!(
        matches!(&ills[..], [(_, Verdict::Weak, fix)] if fix.contains("nvidia-ctk cdi generate")),
        "{ills:?}"
    );
}

#[test]
fn a_runtime_tells_what_stands_in_its_way_from_what_could_be_better() {
    let finding = |grave, problem: &str| crate::runtime::Finding {
        grave,
        problem: problem.into(),
        fix: "mend it".into(),
    };
    let found = vec![finding(false, "swap"), finding(true, "no egress table")];
    let broken = of_runtime("docker", &Readiness { ready: false, findings: found });
    let verdicts: Vec<Verdict> = broken.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Weak, Verdict::Bad], "whatever comes first");
    let sound = of_runtime("docker", &Readiness { ready: true, findings: vec![finding(false, "swap")] });
    assert_eq!(sound.iter().map(|finding| finding.verdict).max(), Some(Verdict::Weak));
    assert_eq!(sound[0].found, "starts workloads");
}

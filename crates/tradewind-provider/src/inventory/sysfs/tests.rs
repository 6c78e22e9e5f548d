use tempfile::TempDir;
use tradewind_proto::workload::AcceleratorUsage;

use super::*;
use crate::inventory::gpu::tests::Fake;

/// A `/sys` made of files.
struct Made(TempDir);

const CARD: &str = "class/drm/card0";

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn without(self, path: &str) -> Self {
        fs::remove_file(self.0.path().join(path)).unwrap();
        self
    }

    /// A file that is there and cannot be read.
    fn broken(self, path: &str) -> Self {
        let path = self.0.path().join(path);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path).unwrap();
        self
    }

    fn card(self, number: u32, vendor: &str, device: &str) -> Self {
        let at = |file: &str| format!("class/drm/card{number}/device/{file}");
        let minor = 128 + number;
        self.with(&at("vendor"), format!("{vendor}\n"))
            .with(&at("device"), format!("{device}\n"))
            .with(&at("revision"), "0xc8\n")
            .with(&at("uevent"), format!("DRIVER=some\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:0{number}:00.0\n"))
            .with(&at(&format!("drm/renderD{minor}/dev")), format!("226:{minor}\n"))
            .with(&at(&format!("drm/card{number}/dev")), format!("226:{number}\n"))
    }

    fn amd(self, number: u32, device: &str, vram: u64) -> Self {
        let at = |file: &str| format!("class/drm/card{number}/device/{file}");
        self.card(number, "0x1002", device).with(&at("mem_info_vram_total"), format!("{vram}\n")).node(
            number + 1,
            &format!("cpu_cores_count 0\nsimd_count 1216\ndrm_render_minor {}\n", 128 + number),
        )
    }

    fn node(self, number: u32, properties: &str) -> Self {
        self.with(&format!("class/kfd/kfd/topology/nodes/{number}/properties"), properties)
    }

    fn linked(self, from: u32, to: u32, kind: u32) -> Self {
        let link = format!("type {kind}\nnode_from {from}\nnode_to {to}\n");
        self.with(&format!("class/kfd/kfd/topology/nodes/{from}/io_links/{to}/properties"), link)
    }

    fn list(&self) -> Listing {
        Sysfs::below(self.0.path()).list()
    }

    /// The problem that keeps the one card from being listed.
    fn problem(&self) -> String {
        let Listing { gpus, problems } = self.list();
        assert_eq!((gpus.len(), problems.len()), (0, 1), "{gpus:?} {problems:?}");
        problems[0].to_string()
    }
}

const GIB: u64 = 1 << 30;

fn mi300x() -> Made {
    Made::new().amd(0, "0x74a1", 192 * GIB)
}

#[test]
fn a_machine_without_cards_has_none() {
    assert_eq!(Made::new().list(), Listing::default());
    assert_eq!(Sysfs::below("/no/such/tree").list(), Listing::default());
    let others = Made::new()
        .with("class/drm/version", "drm 1.1.0\n")
        .with("class/drm/card0-DP-1/status", "connected\n")
        .card(1, "0x10de", "0x2330")
        .with("class/drm/card2/device/uevent", "DRIVER=vkms\n");
    assert_eq!(others.list(), Listing::default());
}

#[test]
fn a_card_of_amd_is_what_its_driver_says() {
    let made = mi300x()
        .with("class/drm/card0/device/product_name", "AMD Instinct MI300X OAM\n")
        .with("class/drm/card0/device/unique_id", "f1e2d3c4b5a69788\n")
        .with("class/drm/card0/device/hwmon/hwmon5/power1_cap", "750000000\n")
        .with("class/drm/card0/device/ras/umc_err_count", "ue: 0\nce: 12\nde: 0\n")
        .with("class/drm/card0/device/current_compute_partition", "SPX\n")
        .with("class/drm/card0/device/gpu_busy_percent", "37\n")
        .with("class/drm/card0/device/mem_info_vram_used", "3221225472\n")
        .with("module/amdgpu/version", "6.10.5\n");
    let Listing { gpus, problems } = made.list();
    let expected = Gpu {
        index: 128,
        uuid: "f1e2d3c4b5a69788".into(),
        vendor: Vendor::Amd,
        name: "AMD Instinct MI300X".into(),
        vram: Bytes::gib(192),
        compute_capability: None,
        driver: "6.10.5".parse().ok(),
        cuda: None,
        node: None,
        bus: "0000:00:00.0".into(),
        links: Vec::new(),
        watts: Some(750),
        uncorrected: Some(0),
        sliced: false,
        load: Some(AcceleratorUsage { busy: 37, memory: Bytes::gib(3), ..AcceleratorUsage::default() }),
    };
    assert_eq!((gpus, problems), (vec![expected], Vec::new()));
}

#[test]
fn what_a_card_of_amd_does_not_say_is_not_made_up() {
    let bare = mi300x().list().gpus.remove(0);
    assert_eq!((bare.uuid.as_str(), bare.driver, bare.watts), ("0000:00:00.0", None, None));
    assert_eq!((bare.uncorrected, bare.ailment(), bare.load), (None, None, None));
}

#[test]
fn integrated_graphics_are_no_accelerators() {
    assert_eq!(Made::new().amd(0, "0x1636", 512 << 20).list(), Listing::default());
    let shared = Made::new().amd(0, "0x15d8", 8 * GIB).node(1, "cpu_cores_count 8\ndrm_render_minor 128\n");
    assert_eq!(shared.list(), Listing::default());
    assert_eq!(Made::new().card(0, "0x8086", "0x46a6").list(), Listing::default());
}

#[test]
fn memory_that_had_errors_is_an_ailment() {
    let made = mi300x().with("class/drm/card0/device/ras/umc_err_count", "ue: 3\nce: 0\n");
    assert!(made.list().gpus[0].ailment().is_some_and(|why| why.contains("3 errors")));
    let sliced = mi300x().with("class/drm/card0/device/current_compute_partition", "CPX\n");
    assert!(sliced.list().gpus[0].ailment().is_some_and(|why| why.contains("slices")));
}

#[test]
fn a_counter_that_does_not_answer_says_of_no_card_that_it_is_well() {
    let counter = "class/drm/card0/device/ras/umc_err_count";
    for text in ["Query currently inaccessible\n", "", "ue: -1\n", "ue: 99999999999999999999999\n", "ce: 1\n"]
    {
        assert!(mi300x().with(counter, text).problem().contains("umc_err_count"), "{text:?}");
    }
    assert!(mi300x().with(counter, b"ue: \xff\xfe\n").problem().contains("is no text"));
    assert!(mi300x().broken(counter).problem().contains("umc_err_count"));
}

#[test]
fn a_card_without_rocm_s_driver_is_told_of() {
    let problem = mi300x().without("class/kfd/kfd/topology/nodes/1/properties").problem();
    assert!(problem.starts_with("amd accelerators: card0: ROCm's driver"), "{problem}");
}

#[test]
fn a_card_that_says_what_cannot_be_is_told_of() {
    let at = |file: &str| format!("{CARD}/device/{file}");
    let vram = at("mem_info_vram_total");
    for text in ["", "much", "-1", "0x", "0x-1", "99999999999999999999999"] {
        assert!(mi300x().with(&vram, text).problem().contains("no number of bytes"), "{text:?}");
    }
    assert!(mi300x().with(&vram, u64::MAX.to_string()).problem().contains("no card has"));
    assert!(mi300x().with(&at("device"), "74a1").problem().contains("no PCI number"));
    for slot in
        ["", "PCI_SLOT_NAME=", "PCI_SLOT_NAME=../../../etc/passwd", "PCI_SLOT_NAME=0000:03:00.0; reboot"]
    {
        assert!(mi300x().with(&at("uevent"), slot).problem().contains("uevent"), "{slot:?}");
    }
    let without = mi300x().without(&at("drm/renderD128/dev"));
    fs::remove_dir(without.0.path().join(at("drm/renderD128"))).unwrap();
    assert!(without.problem().contains("render node"));
}

#[test]
fn what_may_as_well_not_be_said_is_not_believed() {
    let at = |file: &str| format!("{CARD}/device/{file}");
    let made = mi300x()
        .with(&at("device"), "0xabcd\n")
        .with(&at("product_name"), b"MI\xff300X")
        .with(&at("unique_id"), "../../x")
        .with(&at("revision"), "0xfffff")
        .with(&at("hwmon/hwmon1/power1_cap"), "18446744073709551616")
        .with("module/amdgpu/version", "6.8.0-1.2.3.4");
    let gpu = made.list().gpus.remove(0);
    assert_eq!((gpu.name.as_str(), gpu.uuid.as_str()), ("1002:abcd", "0000:00:00.0"));
    assert_eq!((gpu.watts, gpu.driver), (None, None));
}

#[test]
fn a_card_that_was_pulled_out_is_gone_and_one_that_cannot_be_read_is_a_problem() {
    let two = || mi300x().amd(1, "0x74a1", 192 * GIB);
    assert_eq!(two().list().gpus.len(), 2);
    for file in ["vendor", "device", "mem_info_vram_total", "uevent"] {
        let gone = two().without(&format!("class/drm/card1/device/{file}")).list();
        assert_eq!((gone.gpus.len(), gone.problems), (1, Vec::new()), "{file}");
    }
    let unread = two().broken("class/drm/card1/device/mem_info_vram_total").list();
    assert_eq!((unread.gpus.len(), unread.gpus[0].index), (1, 128));
    assert!(unread.problems[0].why.starts_with("card1: "), "{:?}", unread.problems);
}

#[test]
fn cards_know_whom_their_fabric_reaches() {
    let made = mi300x().amd(1, "0x74a1", 192 * GIB).node(0, "cpu_cores_count 64\ndrm_render_minor 0\n");
    let made = made.linked(1, 2, 11).linked(2, 1, 11).linked(1, 0, 2).linked(2, 0, 11).linked(1, 77, 11);
    let links: Vec<_> = made.list().gpus.into_iter().map(|gpu| gpu.links).collect();
    assert_eq!(links, [["0000:01:00.0"], ["0000:00:00.0"]], "neither a bus nor a processor is a link");
}

#[test]
fn a_card_of_intel_has_memory_of_its_own() {
    let own =
        Made::new().card(0, "0x8086", "0x56a0").with("class/drm/card0/lmem_total_bytes", "17079205888\n");
    let gpu = own.with("class/drm/card0/device/hwmon/hwmon2/power1_max", "190000000\n").list().gpus.remove(0);
    assert_eq!((gpu.vendor, gpu.name.as_str(), gpu.index), (Vendor::Intel, "Intel Arc A770", 128));
    assert_eq!((gpu.vram.get(), gpu.watts), (17_079_205_888, Some(190)));
    let tiles = Made::new()
        .card(0, "0x8086", "0x0bd5")
        .with("class/drm/card0/device/tile0/physical_vram_size_bytes", (64 * GIB).to_string())
        .with("class/drm/card0/device/tile1/physical_vram_size_bytes", format!("{:#018x}\n", 64 * GIB));
    assert_eq!(tiles.list().gpus[0].vram, Bytes::gib(128));
    let hostile = tiles.with("class/drm/card0/device/tile2/physical_vram_size_bytes", u64::MAX.to_string());
    assert!(hostile.problem().contains("no card has"));
}

#[test]
fn a_known_card_of_intel_whose_driver_is_silent_is_told_of() {
    let problem = Made::new().card(0, "0x8086", "0xe20b").problem();
    assert!(problem.contains("Intel Arc B580") && problem.contains("use xe"), "{problem}");
}

#[test]
fn such_cards_are_sold_as_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let cards = mi300x().amd(1, "0x74a1", 192 * GIB).list().gpus;
    let groups = crate::inventory::Inventory::take(dir.path(), &Fake(Ok(cards))).unwrap().gpu_groups();
    assert_eq!((groups[0].gpus.model.as_str(), groups[0].gpus.count), ("MI300X", 2));
    assert_eq!(groups[0].indices, [128, 129]);
}

//! AMD's and Intel's accelerators as the kernel describes them below `/sys`; no library of theirs is needed.
//!
//! ```text
//! class/drm/card0/device ─ vendor ─┬─ 0x1002: mem_info_vram_total, a node of class/kfd (ROCm's driver), ras/umc_err_count
//!                                  └─ 0x8086: tile*/physical_vram_size_bytes (xe), or card0/lmem_total_bytes (Intel's own i915)
//! ```
//!
//! Integrated graphics are no accelerators: of AMD's, those with less than 4 GiB of memory or with processors in their KFD node; of Intel's,
//! those without memory of their own. A card that is gone while it is read is not listed. One that says what cannot be is not listed
//! either, and is a problem. All of it is a claim of the host, not a proof.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tradewind_proto::offer::{DriverVersion, Vendor};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::AcceleratorUsage;

use super::gpu::{FIRST_RENDER_NODE, Gpu, GpuError, GpuSource, Listing, RENDER_NODES_END};
use super::models;

mod kfd;

use kfd::Node;

/// PCI's numbers of the makers.
const AMD: u16 = 0x1002;
const INTEL: u16 = 0x8086;
/// An attribute is one page at most.
const TEXT_MAX: u64 = 4_096;
/// More than a machine has of anything that is listed here.
const ENTRIES_MAX: usize = 1_024;
/// What an integrated processor is given of the main memory is usually less.
const LEAST_MEMORY: Bytes = Bytes::gib(4);
/// More than an offer may say.
const MOST_MEMORY: Bytes = Bytes::gib(4 << 10);

/// The machine's AMD and Intel accelerators.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::below("/sys")
    }
}

impl Sysfs {
    /// As the tree below `root` says.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl GpuSource for Sysfs {
    fn list(&self) -> Listing {
        let nodes = kfd::nodes(&self.root.join("class/kfd/kfd/topology/nodes"));
        let mut listing = Listing::default();
        let cards = self.root.join("class/drm");
        for name in names(&cards).into_iter().filter(|name| is_card(name)) {
            let card = cards.join(&name);
            let Some((vendor, maker)) = vendor(&card) else { continue };
            let described = match vendor {
                Vendor::Amd => amd(&self.root, &card, maker, &nodes),
                Vendor::Intel => intel(&card, maker),
                Vendor::Nvidia | Vendor::Other => continue,
            };
            match described {
                Ok(gpu) => listing.gpus.extend(gpu),
                Err(error) => listing.problems.push(GpuError { vendor, why: format!("{name}: {error}") }),
            }
        }
        link(&mut listing.gpus, &nodes);
        listing
    }
}

/// Whose card it is; nothing where it has no maker's number, as a display without hardware, or is gone.
fn vendor(card: &Path) -> Option<(Vendor, u16)> {
    match text(&card.join("device/vendor")).ok().flatten().and_then(|text| hexadecimal(&text))? {
        AMD => Some((Vendor::Amd, AMD)),
        INTEL => Some((Vendor::Intel, INTEL)),
        _ => None,
    }
}

fn amd(sys: &Path, card: &Path, maker: u16, nodes: &[Node]) -> io::Result<Option<Gpu>> {
    let device = card.join("device");
    let Some(total) = number(&device.join("mem_info_vram_total"))? else { return Ok(None) };
    if Bytes::new(total) < LEAST_MEMORY {
        return Ok(None);
    }
    let Some(mut gpu) = describe(card, Vendor::Amd, maker, total)? else { return Ok(None) };
    match nodes.iter().find(|node| node.render == Some(gpu.index)) {
        Some(node) if node.processors > 0 => return Ok(None),
        Some(_) => {}
        None => return Err(invalid("ROCm's driver does not list it in /sys/class/kfd")),
    }
    if let Some(text) = text(&device.join("ras/umc_err_count"))? {
        let errors = uncorrected(&text).ok_or_else(|| invalid("ras/umc_err_count counts nothing now"))?;
        gpu.uncorrected = Some(errors);
    }
    let partition = text(&device.join("current_compute_partition"))?;
    gpu.sliced = partition.is_some_and(|partition| partition != "SPX");
    if let Some(unique) = hint(&device.join("unique_id")).filter(|unique| is_plain(unique)) {
        gpu.uuid = unique;
    }
    gpu.driver = hint(&sys.join("module/amdgpu/version")).and_then(|text| text.parse::<DriverVersion>().ok());
    gpu.watts = watts(&device, "power1_cap");
    gpu.load = load(&device);
    Ok(Some(gpu))
}

fn intel(card: &Path, maker: u16) -> io::Result<Option<Gpu>> {
    let device = card.join("device");
    let mut total = number(&card.join("lmem_total_bytes"))?.unwrap_or(0);
    for tile in names(&device).into_iter().filter(|name| name.starts_with("tile")) {
        let memory = number(&device.join(tile).join("physical_vram_size_bytes"))?;
        total = total.saturating_add(memory.unwrap_or(0));
    }
    if total == 0 {
        let known = numbers(&device)?.and_then(|(id, revision)| models::known(Vendor::Intel, id, revision));
        let silent = |name| {
            invalid(&format!(
                "the driver does not say how much memory {name} has; use xe, or Intel's own i915"
            ))
        };
        return known.map_or(Ok(None), |name| Err(silent(name)));
    }
    let Some(gpu) = describe(card, Vendor::Intel, maker, total)? else { return Ok(None) };
    Ok(Some(Gpu { watts: watts(&device, "power1_max"), ..gpu }))
}

/// What cards of both makers say alike; nothing where the card is gone meanwhile.
fn describe(card: &Path, vendor: Vendor, maker: u16, total: u64) -> io::Result<Option<Gpu>> {
    let device = card.join("device");
    let Some((id, revision)) = numbers(&device)? else { return Ok(None) };
    if Bytes::new(total) > MOST_MEMORY {
        return Err(invalid(&format!("no card has {total} bytes of memory")));
    }
    let Some(events) = text(&device.join("uevent"))? else { return Ok(None) };
    let bus = slot(&events).ok_or_else(|| invalid("uevent names no slot on the bus"))?.to_owned();
    let index = names(&device.join("drm")).iter().find_map(|name| render_number(name));
    let index = index.ok_or_else(|| invalid("it has no render node"))?;
    let own = hint(&device.join("product_name"));
    Ok(Some(Gpu {
        index,
        uuid: bus.clone(),
        vendor,
        name: models::name(vendor, maker, id, revision, own.as_deref()),
        vram: Bytes::new(total),
        compute_capability: None,
        driver: None,
        cuda: None,
        bus,
        node: None,
        links: Vec::new(),
        watts: None,
        uncorrected: None,
        sliced: false,
        load: None,
    }))
}

/// Lets each of AMD's cards know the others that its fabric reaches.
fn link(gpus: &mut [Gpu], nodes: &[Node]) {
    let buses: Vec<(u32, String)> = gpus.iter().map(|gpu| (gpu.index, gpu.bus.clone())).collect();
    let bus = |render: u32| buses.iter().find(|(index, _)| *index == render).map(|(_, bus)| bus.clone());
    for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == Vendor::Amd) {
        let Some(node) = nodes.iter().find(|node| node.render == Some(gpu.index)) else { continue };
        let ends = node.fabric.iter().filter_map(|to| nodes.iter().find(|node| node.number == *to)?.render);
        gpu.links = ends.filter_map(bus).collect();
    }
}

/// Device and revision.
fn numbers(device: &Path) -> io::Result<Option<(u16, Option<u8>)>> {
    let Some(id) = text(&device.join("device"))? else { return Ok(None) };
    let id = hexadecimal(&id).ok_or_else(|| invalid("`device` is no PCI number"))?;
    let revision = hint(&device.join("revision")).and_then(|text| hexadecimal(&text));
    Ok(Some((id, revision.and_then(|revision| u8::try_from(revision).ok()))))
}

/// What AMD's driver says that a card does now.
fn load(device: &Path) -> Option<AcceleratorUsage> {
    let busy = hint(&device.join("gpu_busy_percent"))?.parse::<u8>().ok()?;
    let memory = hint(&device.join("mem_info_vram_used"))?.parse().ok().map(Bytes::new)?;
    Some(AcceleratorUsage { busy: busy.min(100), memory, ..AcceleratorUsage::default() })
}

/// The most that it may draw, in the first chip that says.
fn watts(device: &Path, file: &str) -> Option<u32> {
    let chips = device.join("hwmon");
    let says = |chip: &String| hint(&chips.join(chip).join(file))?.parse::<u64>().ok();
    let microwatts = names(&chips).iter().find_map(says).filter(|microwatts| *microwatts > 0)?;
    u32::try_from(microwatts.div_ceil(1_000_000)).ok()
}

/// `card0`, and not its connector `card0-DP-1`.
fn is_card(name: &str) -> bool {
    name.strip_prefix("card").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The number of `renderD128`.
fn render_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("renderD")?.parse().ok()?;
    (FIRST_RENDER_NODE..RENDER_NODES_END).contains(&number).then_some(number)
}

/// The address on the bus in what `uevent` says.
fn slot(events: &str) -> Option<&str> {
    let slot = events.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))?;
    let is_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    (12..=16).contains(&slot.len()).then_some(slot).filter(|slot| slot.bytes().all(is_address))
}

/// Errors that could not be corrected, in a counter's `ue: 0`, `ce: 12`.
fn uncorrected(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("ue:"))?.trim().parse().ok()
}

fn hexadecimal(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A number that must be one where it is there. Intel's drivers have written theirs in either base.
fn number(path: &Path) -> io::Result<Option<u64>> {
    let parse = |text: String| {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map_err(|_| invalid(&format!("{} is no number of bytes", path.display())))
    };
    text(path)?.map(parse).transpose()
}

/// What may as well not be said.
fn hint(path: &Path) -> Option<String> {
    text(path).ok().flatten()
}

/// An attribute without the white space around it; nothing where it, or its device, is not there.
fn text(path: &Path) -> io::Result<Option<String>> {
    let gone = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
    let text = str::from_utf8(&bytes).map_err(|_| invalid(&format!("{} is no text", path.display())))?;
    Ok(Some(text.trim().to_owned()))
}

/// Names in a directory, in order; none where it is not there.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;

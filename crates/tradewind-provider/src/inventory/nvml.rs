//! NVIDIA accelerators by NVML, which is loaded when it is asked for. What NVML says is a claim of the host, not a proof.

use std::ffi::OsStr;

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml as Library};
use tradewind_proto::offer::{ComputeCapability, DriverVersion, Vendor};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::AcceleratorUsage;

use super::gpu::{CudaVersion, Gpu, GpuError, GpuSource, Listing};
use super::mig::{self, Said, Slice};

/// What the driver installs; the name without a version comes with development packages only.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// More than any device has.
const LINKS_MAX: u32 = 18;

/// The machine's NVIDIA accelerators; none where driver or library are absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nvml;

impl GpuSource for Nvml {
    fn list(&self) -> Listing {
        let listed = match Library::builder().lib_path(OsStr::new(LIBRARY)).init() {
            Ok(library) => list(&library),
            Err(error) if is_absence(&error) => return Listing::default(),
            Err(error) => Err(error),
        };
        listed.unwrap_or_else(|error| Err(GpuError { vendor: Vendor::Nvidia, why: error.to_string() }).into())
    }
}

fn is_absence(error: &NvmlError) -> bool {
    matches!(error, NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded)
}

fn list(library: &Library) -> Result<Listing, NvmlError> {
    let driver: Option<DriverVersion> = library.sys_driver_version().ok().and_then(|text| text.parse().ok());
    let cuda = library.sys_cuda_driver_version().ok().and_then(cuda);
    let mut all = Listing::default();
    for index in 0..library.device_count()? {
        let device = library.device_by_index(index)?;
        let card = Gpu { driver, cuda, ..describe(&device, index)? };
        let found = if card.sliced { mig::cut(card, slices(&device)) } else { Ok(vec![card]).into() };
        all.gpus.extend(found.gpus);
        all.problems.extend(found.problems);
    }
    Ok(all)
}

/// The slices of a cut card; a place among them may be empty.
fn slices(card: &Device<'_>) -> Vec<Slice> {
    let places = 0..card.mig_device_count().unwrap_or(0).min(mig::SLICES);
    let slice = |place| {
        let said = match card.mig_device_by_index(place) {
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => return None,
            found => found.and_then(|slice| said(&slice)),
        };
        Some(Slice { place, said: said.map_err(|error| error.to_string()) })
    };
    places.filter_map(slice).collect()
}

fn said(slice: &Device<'_>) -> Result<Said, NvmlError> {
    Ok(Said { uuid: slice.uuid()?, name: slice.name()?, vram: Bytes::new(slice.memory_info()?.total) })
}

/// What NVML's number means: 12040 is 12.4.
fn cuda(number: i32) -> Option<CudaVersion> {
    let number = u32::try_from(number).ok()?;
    Some(CudaVersion { major: number / 1_000, minor: number % 1_000 / 10 })
}

/// A device, without what all have in common.
fn describe(device: &Device<'_>, index: u32) -> Result<Gpu, NvmlError> {
    let capability = device.cuda_compute_capability().ok().and_then(|capability| {
        let (major, minor) = (u8::try_from(capability.major).ok()?, u8::try_from(capability.minor).ok()?);
        Some(ComputeCapability { major, minor })
    });
    let sliced = device.mig_mode().is_ok_and(|mode| mode.current != 0);
    let vram = match device.memory_info() {
        // Of a cut card's whole memory only the administrator is told.
        Err(NvmlError::NoPermission) if sliced => 0,
        told => told?.total,
    };
    Ok(Gpu {
        index,
        uuid: device.uuid()?,
        vendor: Vendor::Nvidia,
        name: device.name()?,
        vram: Bytes::new(vram),
        compute_capability: capability,
        driver: None,
        cuda: None,
        bus: device.pci_info()?.bus_id,
        node: None,
        links: links(device),
        watts: device.enforced_power_limit().ok().map(|milliwatts| milliwatts.div_ceil(1_000)),
        uncorrected: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok(),
        sliced,
        load: load(device),
    })
}

/// What it does now; slices say nothing of the whole.
fn load(device: &Device<'_>) -> Option<AcceleratorUsage> {
    let busy = device.utilization_rates().ok()?.gpu.min(100);
    Some(AcceleratorUsage {
        busy: u8::try_from(busy).ok()?,
        memory: Bytes::new(device.memory_info().ok()?.used),
        ..AcceleratorUsage::default()
    })
}

/// The other ends of its active links; a device without links answers each question with an error.
fn links(device: &Device<'_>) -> Vec<String> {
    let links = (0..LINKS_MAX).map(|link| device.link_wrapper_for(link));
    let active = links.filter(|link| link.is_active().unwrap_or(false));
    active.filter_map(|link| Some(link.remote_pci_info().ok()?.bus_id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvml_s_number_of_cuda_is_read() {
        assert_eq!(cuda(12_040).map(|version| version.to_string()).as_deref(), Some("12.4"));
        assert_eq!(cuda(-1), None);
    }
}

//! Slices of NVIDIA's cards (MIG): each is an accelerator of its own, in its card's place.
//!
//! A slice has its own memory and processors, so strangers may share a card. What NVIDIA calls compute instances of one GPU instance
//! (`1c.3g.40gb`) share memory: those are not lent.

use tradewind_proto::offer::Vendor;
use tradewind_proto::units::Bytes;

use super::gpu::{FIRST_RENDER_NODE, Gpu, GpuError, Listing, RENDER_NODES_END};

/// The numbers of a card's slices; the driver makes seven at most.
pub(super) const SLICES: u32 = 16;
/// The first slice's number, beyond all render nodes.
const FIRST: u32 = RENDER_NODES_END;
/// NVML's numbers of cards end where render nodes begin.
const CARDS: u32 = FIRST_RENDER_NODE;
/// The most that an offer holds of a name.
const NAME_MAX: usize = 64;
/// What a name has before its profile.
const BEFORE_PROFILE: &str = " MIG ";

/// One of a card's slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// NVML's number for it among the card's.
    pub(super) place: u32,
    /// What NVML says of it, or why it says nothing.
    pub(super) said: Result<Said, String>,
}

/// What NVML says of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) uuid: String,
    /// `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    pub(super) name: String,
    pub(super) vram: Bytes,
}

/// The host's number for a card's slice.
fn number(card: u32, place: u32) -> Option<u32> {
    (card < CARDS && place < SLICES).then(|| FIRST + card * SLICES + place)
}

/// The card and the place of the slice with this number; `None` where it is no slice's.
fn slice(number: u32) -> Option<(u32, u32)> {
    let from_first = number.checked_sub(FIRST)?;
    let (card, place) = (from_first / SLICES, from_first % SLICES);
    (card < CARDS).then_some((card, place))
}

/// What NVIDIA's tools, and descriptions for engines, call the slice with this number: `0:3`.
pub(super) fn device(number: u32) -> Option<String> {
    slice(number).map(|(card, place)| format!("{card}:{place}"))
}

/// A cut card's slices in its place. Where none can be lent, the card itself is listed, as one that is cut.
pub(super) fn cut(card: Gpu, slices: Vec<Slice>) -> Listing {
    let mut listing = Listing::default();
    for slice in slices {
        match part(&card, &slice) {
            Ok(gpu) => listing.gpus.push(gpu),
            Err(why) => listing.problems.push(GpuError {
                vendor: Vendor::Nvidia,
                why: format!("slice {}:{} is not lent: {why}", card.index, slice.place),
            }),
        }
    }
    if listing.gpus.is_empty() {
        listing.gpus.push(Gpu { sliced: true, ..card });
    }
    listing
}

/// A slice as an accelerator, or why it cannot be lent.
fn part(card: &Gpu, slice: &Slice) -> Result<Gpu, String> {
    let said = slice.said.as_ref().map_err(Clone::clone)?;
    let index = number(card.index, slice.place).ok_or("no number is left for it")?;
    check_name(&said.name)?;
    // Of a cut card's whole memory only the administrator is told.
    if card.vram > Bytes::ZERO && said.vram > card.vram {
        return Err(format!("{} of memory are more than its card has", said.vram));
    }
    Ok(Gpu {
        index,
        uuid: said.uuid.clone(),
        name: said.name.clone(),
        vram: said.vram,
        // Slices reach no other accelerator directly.
        links: Vec::new(),
        watts: card.watts.map(|watts| share(watts, said.vram, card.vram)),
        sliced: false,
        // NVML tells of no slice how busy it is.
        load: None,
        ..card.clone()
    })
}

/// Whether a slice's name tells it from others, and from its card.
fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_MAX || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(format!("its name is not up to {NAME_MAX} printable characters"));
    }
    let none = || format!("its name `{name}` has no profile such as 1g.10gb; update NVIDIA's driver");
    let (_, profile) = name.split_once(BEFORE_PROFILE).ok_or_else(none)?;
    let (first, rest) = profile.split_once('.').ok_or_else(none)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if first.strip_suffix('c').is_some_and(is_number) {
        return Err(format!(
            "as {profile} it shares its memory with others; make one compute instance of each GPU instance \
             (nvidia-smi mig -cgi … -C)"
        ));
    }
    let size = rest.split('+').next().and_then(|size| size.strip_suffix("gb"));
    let is_profile = first.strip_suffix('g').is_some_and(is_number) && size.is_some_and(is_number);
    if is_profile { Ok(()) } else { Err(none()) }
}

/// A part's watts, by its part of the memory.
fn share(watts: u32, part: Bytes, whole: Bytes) -> u32 {
    let product = u128::from(watts) * u128::from(part.get());
    u32::try_from(product.div_ceil(u128::from(whole.get().max(1)))).unwrap_or(watts)
}

#[cfg(test)]
mod tests {
    use tradewind_proto::offer::Gpus;

    use super::super::gpu::tests::h100;
    use super::super::gpu::{groups, named, render_node};
    use super::*;

    fn said(place: u32, profile: &str, gibibytes: u64) -> Slice {
        let said = Said {
            uuid: format!("MIG-00000000-0000-5000-8000-00000000000{place}"),
            name: format!("NVIDIA H100 80GB HBM3 MIG {profile}"),
            vram: Bytes::gib(gibibytes),
        };
        Slice { place, said: Ok(said) }
    }

    fn card() -> Gpu {
        let load = tradewind_proto::workload::AcceleratorUsage::default();
        Gpu { sliced: true, links: vec!["0000:C5:00.0".into()], load: Some(load), node: Some(1), ..h100(2) }
    }

    #[test]
    fn slices_are_accelerators_in_their_card_s_place() {
        let found = cut(card(), vec![said(0, "3g.40gb", 40), said(2, "1g.10gb", 10), said(5, "1g.10gb", 10)]);
        assert_eq!(found.problems, []);
        let small = &found.gpus[1];
        assert_eq!(
            (small.uuid.as_str(), small.vram),
            ("MIG-00000000-0000-5000-8000-000000000002", Bytes::gib(10))
        );
        assert_eq!((small.watts, small.load, small.ailment()), (Some(88), None, None));
        let card = card();
        assert_eq!((&small.bus, small.node, small.driver), (&card.bus, card.node, card.driver));
        assert_eq!(small.compute_capability, card.compute_capability);
        let groups = groups(&found.gpus);
        let sold: Vec<_> = groups.iter().map(|group| (group.gpus.model.as_str(), group.gpus.count)).collect();
        assert_eq!(sold, [("H1001G10GB", 2), ("H1003G40GB", 1)]);
        assert_eq!(groups[0].gpus.model, Gpus::canonical_model("H100-1G.10GB"), "as a job may write it");
        let devices: Vec<String> = groups[0].indices.iter().map(|index| named(*index)).collect();
        assert_eq!(devices, ["2:2", "2:5"]);
    }

    #[test]
    fn errors_of_a_card_s_memory_are_its_slices_too() {
        let failing = Gpu { uncorrected: Some(1), ..card() };
        let found = cut(failing, vec![said(0, "1g.10gb", 10)]);
        assert!(found.gpus[0].ailment().is_some_and(|why| why.contains("1 errors")));
        assert!(groups(&found.gpus).is_empty());
    }

    #[test]
    fn a_cut_card_is_never_lent_whole() {
        let found = cut(card(), Vec::new());
        assert_eq!((found.gpus.len(), found.gpus[0].index), (1, 2));
        assert!(found.gpus[0].ailment().is_some_and(|why| why.contains("slices")));
        let silent = Slice { place: 0, said: Err("no permission".into()) };
        let found = cut(card(), vec![silent.clone()]);
        assert!(
            found.gpus[0].sliced && found.problems[0].why.contains("slice 2:0 is not lent: no permission")
        );
        let found = cut(card(), vec![silent, said(1, "1g.10gb", 10)]);
        assert_eq!((found.gpus.len(), found.problems.len()), (1, 1), "it hides no other slice");
    }

    #[test]
    fn slices_that_share_memory_are_not_lent() {
        let found = cut(card(), vec![said(0, "1c.3g.40gb", 40), said(1, "2c.3g.40gb", 40)]);
        assert!(found.gpus[0].sliced && found.problems.len() == 2);
        assert!(found.problems[0].why.contains("shares its memory"), "{:?}", found.problems);
    }

    #[test]
    fn what_cannot_be_is_not_lent() {
        for profile in
            ["", "10gb", "1g", "g.10gb", "1g.gb", "1g.10", "1g.10gb\n", "\u{1b}[2J", "7", "1g.10gb x"]
        {
            let found = cut(card(), vec![said(0, profile, 10)]);
            assert!(found.gpus[0].sliced && found.problems.len() == 1, "{profile:?}");
        }
        for profile in ["1g.10gb", "1g.10gb+me", "7g.80gb"] {
            assert_eq!(cut(card(), vec![said(0, profile, 10)]).problems, [], "{profile}");
        }
        let long =
            Said { uuid: "MIG".into(), name: format!("{} MIG 1g.10gb", "N".repeat(60)), vram: Bytes::gib(1) };
        assert_eq!(cut(card(), vec![Slice { place: 0, said: Ok(long) }]).problems.len(), 1);
        assert_eq!(cut(card(), vec![said(0, "1g.10gb", 81)]).problems.len(), 1, "more than its card");
        assert_eq!(cut(card(), vec![said(16, "1g.10gb", 1)]).problems.len(), 1);
        let far = Gpu { index: 128, ..card() };
        assert_eq!(cut(far, vec![said(0, "1g.10gb", 1)]).problems.len(), 1);
    }

    #[test]
    fn a_slice_s_number_is_nothing_else_s() {
        for (card, place) in [(0, 0), (0, 15), (1, 0), (127, 15)] {
            let number = number(card, place).unwrap();
            assert_eq!(slice(number), Some((card, place)));
            assert_eq!(render_node(number), None);
            assert_eq!(device(number).unwrap(), format!("{card}:{place}"));
        }
        assert_eq!((number(128, 0), number(0, 16), number(u32::MAX, u32::MAX)), (None, None, None));
        let end = number(127, 15).unwrap() + 1;
        for other in [0, 127, 128, FIRST - 1, end, u32::MAX] {
            assert_eq!(slice(other), None, "{other}");
        }
        assert_eq!((render_node(FIRST - 1).is_some(), render_node(end)), (true, None));
        assert_eq!((named(0), named(FIRST)), ("0".into(), "0:0".into()));
    }
}

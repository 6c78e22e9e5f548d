//! Names of well-known accelerators by their PCI numbers, as the public lists `pci.ids` and `amdgpu.ids` have them.

use tradewind_proto::offer::{Gpus, Vendor};

/// The most that an offer holds of a name.
const NAME_MAX: usize = 64;

/// Maker, device, and the revision where only it tells models apart.
type Known = (Vendor, u16, Option<u8>, &'static str);

const KNOWN: [Known; 27] = [
    (Vendor::Amd, 0x738c, None, "AMD Instinct MI100"),
    (Vendor::Amd, 0x7408, None, "AMD Instinct MI250X"),
    (Vendor::Amd, 0x740f, None, "AMD Instinct MI210"),
    (Vendor::Amd, 0x74a1, None, "AMD Instinct MI300X"),
    (Vendor::Amd, 0x74a2, None, "AMD Instinct MI308X"),
    (Vendor::Amd, 0x74a5, None, "AMD Instinct MI325X"),
    (Vendor::Amd, 0x75a0, None, "AMD Instinct MI350X"),
    (Vendor::Amd, 0x75a3, None, "AMD Instinct MI355X"),
    (Vendor::Amd, 0x7448, None, "AMD Radeon Pro W7900"),
    (Vendor::Amd, 0x744a, None, "AMD Radeon Pro W7900"),
    (Vendor::Amd, 0x745e, None, "AMD Radeon Pro W7800"),
    (Vendor::Amd, 0x744c, Some(0xc8), "AMD Radeon RX 7900 XTX"),
    (Vendor::Amd, 0x744c, Some(0xcc), "AMD Radeon RX 7900 XT"),
    (Vendor::Amd, 0x744c, Some(0xce), "AMD Radeon RX 7900 GRE"),
    (Vendor::Amd, 0x747e, Some(0xc8), "AMD Radeon RX 7800 XT"),
    (Vendor::Amd, 0x747e, Some(0xff), "AMD Radeon RX 7700 XT"),
    (Vendor::Intel, 0x56a0, None, "Intel Arc A770"),
    (Vendor::Intel, 0x56a1, None, "Intel Arc A750"),
    (Vendor::Intel, 0x56a5, None, "Intel Arc A380"),
    (Vendor::Intel, 0xe20b, None, "Intel Arc B580"),
    (Vendor::Intel, 0xe20c, None, "Intel Arc B570"),
    (Vendor::Intel, 0x0bd5, None, "Intel Max 1550"),
    (Vendor::Intel, 0x0bd6, None, "Intel Max 1550"),
    (Vendor::Intel, 0x0bd9, None, "Intel Max 1100"),
    (Vendor::Intel, 0x0bda, None, "Intel Max 1100"),
    (Vendor::Intel, 0x56c0, None, "Intel Flex 170"),
    (Vendor::Intel, 0x56c1, None, "Intel Flex 140"),
];

/// The market's name, where it is known.
pub(super) fn known(vendor: Vendor, device: u16, revision: Option<u8>) -> Option<&'static str> {
    let is = |(maker, number, exact, _): &&Known| {
        *maker == vendor && *number == device && (exact.is_none() || *exact == revision)
    };
    KNOWN.iter().find(is).map(|(_, _, _, name)| *name)
}

/// The market's name, else the card's own word, else its numbers: `1002:abcd`.
pub(super) fn name(
    vendor: Vendor,
    maker: u16,
    device: u16,
    revision: Option<u8>,
    own: Option<&str>,
) -> String {
    if let Some(name) = known(vendor, device, revision) {
        return name.to_owned();
    }
    let own = own.map(str::trim).filter(|own| {
        let is_printable = own.len() <= NAME_MAX && own.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_printable && !Gpus::canonical_model(own).is_empty()
    });
    own.map_or_else(|| format!("{maker:04x}:{device:04x}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd(device: u16, revision: Option<u8>, own: Option<&str>) -> String {
        name(Vendor::Amd, 0x1002, device, revision, own)
    }

    #[test]
    fn buyers_find_a_known_card_by_the_market_s_name() {
        assert_eq!(Gpus::canonical_model(&amd(0x74a1, None, Some("AMD Instinct MI300X OAM"))), "MI300X");
        assert_eq!(Gpus::canonical_model(&amd(0x744c, Some(0xc8), None)), "RX7900XTX");
        assert_eq!(Gpus::canonical_model(&name(Vendor::Intel, 0x8086, 0x56a0, None, None)), "ARCA770");
        assert_eq!(Gpus::canonical_model(&name(Vendor::Intel, 0x8086, 0x0bd5, None, None)), "MAX1550");
    }

    #[test]
    fn a_card_that_is_not_known_has_its_own_word_or_its_numbers() {
        assert_eq!(amd(0x740c, Some(1), Some(" AMD Instinct MI250\n")), "AMD Instinct MI250");
        assert_eq!(amd(0x744c, Some(0x01), None), "1002:744c", "the revision tells which");
        assert_eq!(Gpus::canonical_model(&amd(0xabcd, None, None)), "1002ABCD");
        for own in ["", "AMD", "\u{1b}[31mMI300X", "MI300X\n; rm", "ΜΙ300Χ", &"M".repeat(65)] {
            assert_eq!(amd(0xabcd, None, Some(own)), "1002:abcd", "{own:?}");
        }
    }
}

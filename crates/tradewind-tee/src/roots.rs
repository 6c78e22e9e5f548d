//! The makers' root certificates.

/// Whom to believe. Everything ends here, so another set is for tests and for those who run their own authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Intel's SGX Root CA.
    pub intel: Vec<u8>,
    /// AMD's root keys (ARK), one for each generation.
    pub amd: Vec<Vec<u8>>,
    /// AWS's Nitro Enclaves root.
    pub aws: Vec<u8>,
    /// NVIDIA's Device Identity CA.
    pub nvidia: Vec<u8>,
}

impl Roots {
    /// The makers' own, as they publish them. `roots/README.md` says where each was taken from.
    #[must_use]
    pub fn makers() -> Self {
        Self {
            intel: include_bytes!("../roots/intel.der").to_vec(),
            amd: vec![
                include_bytes!("../roots/amd-milan.der").to_vec(),
                include_bytes!("../roots/amd-genoa.der").to_vec(),
                include_bytes!("../roots/amd-turin.der").to_vec(),
            ],
            aws: include_bytes!("../roots/aws.der").to_vec(),
            nvidia: include_bytes!("../roots/nvidia.der").to_vec(),
        }
    }
}

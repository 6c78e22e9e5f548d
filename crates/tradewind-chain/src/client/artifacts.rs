//! The compiled contracts, as they are committed beside their sources.

use std::sync::LazyLock;

use alloy::json_abi::JsonAbi;
use alloy::primitives::Bytes;
use serde::Deserialize;

use crate::client::revert::RevertDecoder;

/// One compiled contract.
#[derive(Debug, Clone, Deserialize)]
pub struct Artifact {
    /// What it offers.
    pub abi: JsonAbi,
    /// What creates it; constructor arguments follow.
    pub bytecode: Bytes,
}

macro_rules! artifact {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// Never: a test reads every artifact, and the file is part of the program.
        #[must_use]
        pub fn $name() -> &'static Artifact {
            static ARTIFACT: LazyLock<Artifact> = LazyLock::new(|| {
                read(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/", $file)))
            });
            &ARTIFACT
        }
    };
}

artifact!(
    /// The leases' contract, which is the vault too.
    leases, "Leases.json"
);
artifact!(
    /// The registry, made by the leases' contract.
    registry, "Registry.json"
);
artifact!(
    /// Code of the leases' contract that lies in another for size.
    remedies, "Remedies.json"
);
artifact!(
    /// The court that never knows.
    unknown_court, "UnknownCourt.json"
);
artifact!(
    /// The court: seats, proofs, and what it delegates.
    court, "Court.json"
);
artifact!(
    /// Code of the court that lies in another for size: cases.
    cases, "Cases.json"
);
artifact!(
    /// The same: what follows from a verdict.
    verdicts, "Verdicts.json"
);
artifact!(
    /// The beacon of development networks.
    local_beacon, "LocalBeacon.json"
);
artifact!(
    /// drand's beacon.
    drand_beacon, "DrandBeacon.json"
);
artifact!(
    /// What auditors vouch for.
    attestations, "Attestations.json"
);
artifact!(
    /// Test dollars.
    test_stablecoin, "TestStablecoin.json"
);
artifact!(
    /// The network's own token.
    network_token, "NetworkToken.json"
);
artifact!(
    /// Many reads in one call.
    multicall3, "Multicall3.json"
);

/// A decoder for the errors of every contract here.
#[must_use]
pub fn decoder() -> RevertDecoder {
    let all = [
        leases(),
        registry(),
        remedies(),
        court(),
        cases(),
        verdicts(),
        local_beacon(),
        drand_beacon(),
        attestations(),
        test_stablecoin(),
        network_token(),
    ];
    RevertDecoder::new(all.map(|artifact| &artifact.abi))
}

#[expect(clippy::expect_used, reason = "the file is part of the program, and a test reads each")]
fn read(json: &str) -> Artifact {
    serde_json::from_str(json).expect("a committed artifact is an ABI and bytecode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Selector;
    use alloy::sol_types::{SolCall, SolInterface};

    use crate::client::bindings::abi::{Leases, Registry, Token};
    use crate::client::bindings::audit::abi::Attestations;
    use crate::client::bindings::court::abi::{Beacon, Court, DrandBeacon};

    #[test]
    fn every_artifact_is_readable() {
        for artifact in [
            leases(),
            registry(),
            remedies(),
            unknown_court(),
            court(),
            cases(),
            verdicts(),
            local_beacon(),
            drand_beacon(),
            attestations(),
            test_stablecoin(),
            network_token(),
            multicall3(),
        ] {
            assert!(!artifact.bytecode.is_empty());
        }
    }

    fn functions(artifacts: &[&Artifact]) -> Vec<Selector> {
        artifacts.iter().flat_map(|artifact| artifact.abi.functions()).map(|f| f.selector()).collect()
    }

    #[test]
    fn every_function_that_the_client_calls_is_in_the_contracts() {
        let leases_has = functions(&[leases()]);
        for selector in Leases::LeasesCalls::selectors() {
            let name = Leases::LeasesCalls::name_by_selector(selector).unwrap_or("?");
            assert!(leases_has.contains(&selector.into()), "Leases has no such {name}");
        }
        let registry_has = functions(&[registry()]);
        for selector in Registry::RegistryCalls::selectors() {
            let name = Registry::RegistryCalls::name_by_selector(selector).unwrap_or("?");
            assert!(registry_has.contains(&selector.into()), "Registry has no such {name}");
        }
        let court_has = functions(&[court(), cases(), verdicts()]);
        for selector in Court::CourtCalls::selectors() {
            let name = Court::CourtCalls::name_by_selector(selector).unwrap_or("?");
            assert!(court_has.contains(&selector.into()), "Court has no such {name}");
        }
        let beacon_has = functions(&[local_beacon()]);
        for selector in Beacon::BeaconCalls::selectors() {
            let name = Beacon::BeaconCalls::name_by_selector(selector).unwrap_or("?");
            assert!(beacon_has.contains(&selector.into()), "LocalBeacon has no such {name}");
        }
        let drand_has = functions(&[drand_beacon()]);
        let reads =
            Beacon::BeaconCalls::selectors().filter(|selector| *selector != Beacon::advanceCall::SELECTOR);
        for selector in DrandBeacon::DrandBeaconCalls::selectors().chain(reads) {
            assert!(
                drand_has.contains(&selector.into()),
                "DrandBeacon has no such {}",
                hex::encode(selector)
            );
        }
        let attestations_has = functions(&[attestations()]);
        for selector in Attestations::AttestationsCalls::selectors() {
            let name = Attestations::AttestationsCalls::name_by_selector(selector).unwrap_or("?");
            assert!(attestations_has.contains(&selector.into()), "Attestations has no such {name}");
        }
        let token_has = functions(&[test_stablecoin()]);
        for selector in Token::TokenCalls::selectors() {
            let name = Token::TokenCalls::name_by_selector(selector).unwrap_or("?");
            assert!(token_has.contains(&selector.into()), "the stablecoin has no such {name}");
        }
    }

    #[test]
    fn every_event_that_the_client_reads_is_in_the_contracts() {
        let events = |artifacts: &[&Artifact]| -> Vec<_> {
            artifacts.iter().flat_map(|artifact| artifact.abi.events()).map(|e| e.selector()).collect()
        };
        let leases_has = events(&[leases(), remedies()]);
        for topic in Leases::LeasesEvents::SELECTORS {
            let name = Leases::LeasesEvents::name_by_selector(*topic).unwrap_or("?");
            assert!(leases_has.contains(&(*topic).into()), "Leases has no event {name}");
        }
        let court_has = events(&[court(), cases(), verdicts()]);
        for topic in Court::CourtEvents::SELECTORS {
            let name = Court::CourtEvents::name_by_selector(*topic).unwrap_or("?");
            assert!(court_has.contains(&(*topic).into()), "Court has no event {name}");
        }
        let attestations_has = events(&[attestations()]);
        for topic in Attestations::AttestationsEvents::SELECTORS {
            let name = Attestations::AttestationsEvents::name_by_selector(*topic).unwrap_or("?");
            assert!(attestations_has.contains(&(*topic).into()), "Attestations has no event {name}");
        }
        let registry_has = events(&[registry()]);
        for topic in Registry::RegistryEvents::SELECTORS {
            let name = Registry::RegistryEvents::name_by_selector(*topic).unwrap_or("?");
            assert!(registry_has.contains(&(*topic).into()), "Registry has no event {name}");
        }
    }

    #[test]
    fn a_refusal_is_named_with_its_values() {
        use alloy::sol_types::SolError;
        alloy::sol! { error TooEarly(uint256 from, uint256 now_); }
        let data =
            TooEarly { from: alloy::primitives::U256::from(9), now_: alloy::primitives::U256::from(4) };
        assert_eq!(decoder().decode(&data.abi_encode()).to_string(), "TooEarly: from=9, now_=4");
        assert_eq!(decoder().decode(&[1, 2, 3, 4]).to_string(), "0x01020304");
        assert_eq!(decoder().decode(&[]).to_string(), "reverted");
    }
}

//! Intel TDX and SGX. `dcap-qvl` judges the quote: certificates, revocation, levels and signatures, at the given time.

use dcap_qvl::config::Config;
use dcap_qvl::configs::RingConfig;
use dcap_qvl::quote::{Quote, Report};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus};
use tradewind_proto::attestation::Tees;
use tradewind_proto::units::Timestamp;

use crate::field::field;
use crate::{Level, Machine, Measurement, Policy, Refused};

/// SGX's flag, and the group of TDX's flags, that open a machine to its host.
const SGX_DEBUG: u8 = 0x02;

pub(crate) fn verify(
    quote: &[u8],
    collateral: &[u8],
    report_data: &[u8; 64],
    policy: &Policy,
    root: &[u8],
    now: Timestamp,
) -> Result<Machine, Refused> {
    let parsed = parse(quote)?;
    let debug = is_debug(&parsed.report)?;
    if debug && !policy.debug {
        return Err(Refused::Debug);
    }
    if said(&parsed.report)? != report_data {
        return Err(Refused::Binding);
    }
    let collateral: QuoteCollateralV3 =
        serde_json::from_slice(collateral).map_err(|_| Refused::Malformed("the quote's collateral"))?;
    let claims = judge::<RingConfig>(quote, collateral, policy, root, now)?;
    let level = accept(claims.tcb.status, claims.tcb.advisory_ids, policy)?;
    Ok(Machine {
        kind: if claims.report.is_sgx() { Tees::SGX } else { Tees::TDX },
        measurements: measurements(&claims.report),
        firmware: vec![
            ("fmspc", hex(&claims.platform.pck.fmspc)),
            ("cpu", hex(&claims.platform.pck.cpu_svn)),
            ("pce", claims.platform.pck.pce_svn.to_string()),
        ],
        level,
        debug,
        expires: Timestamp::from_unix(claims.earliest_expiration_date),
    })
}

/// Reads the quote. What lies behind it is not signed, so there must be nothing but padding.
fn parse(quote: &[u8]) -> Result<Quote, Refused> {
    let parsed = Quote::parse(quote).map_err(|_| Refused::Malformed("the quote"))?;
    let signed = parsed.signed_length();
    let length = field(quote, signed).and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    let end = length.and_then(|length| signed.checked_add(4)?.checked_add(length));
    match end.and_then(|end| quote.get(end..)) {
        Some(padding) if padding.iter().all(|byte| *byte == 0) => Ok(parsed),
        Some(_) | None => Err(Refused::Malformed("the quote")),
    }
}

fn judge<C: Config>(
    quote: &[u8],
    collateral: QuoteCollateralV3,
    policy: &Policy,
    root: &[u8],
    now: Timestamp,
) -> Result<QuoteClaims, Refused> {
    let verifier = QuoteVerifier::<C>::new_with_config(root.to_vec()).allow_debug(policy.debug);
    let rules = QuotePolicy::claims_only(now.unix());
    verifier
        .verify_with_policy(quote, collateral, now.unix(), &rules)
        .map_err(|error| Refused::Quote(error.into()))
}

fn is_debug(report: &Report) -> Result<bool, Refused> {
    match (report.as_sgx(), report.as_td10()) {
        (Some(enclave), _) => Ok(enclave.attributes[0] & SGX_DEBUG != 0),
        // The whole lowest byte: "if any of these is set, the guest is untrusted".
        (None, Some(guest)) => Ok(guest.td_attributes[0] != 0),
        (None, None) => Err(Refused::Unsupported("the quote's report")),
    }
}

fn said(report: &Report) -> Result<&[u8; 64], Refused> {
    let enclave = report.as_sgx().map(|enclave| &enclave.report_data);
    let guest = report.as_td10().map(|guest| &guest.report_data);
    enclave.or(guest).ok_or(Refused::Unsupported("the quote's report"))
}

fn measurements(report: &Report) -> Vec<Measurement> {
    let mut all = Vec::new();
    if let Some(enclave) = report.as_sgx() {
        all.push(Measurement::new("mrenclave", enclave.mr_enclave));
        all.push(Measurement::new("mrsigner", enclave.mr_signer));
    }
    if let Some(guest) = report.as_td10() {
        all.push(Measurement::new("mrtd", guest.mr_td));
        all.push(Measurement::new("mrconfigid", guest.mr_config_id));
        all.push(Measurement::new("rtmr0", guest.rt_mr0));
        all.push(Measurement::new("rtmr1", guest.rt_mr1));
        all.push(Measurement::new("rtmr2", guest.rt_mr2));
        all.push(Measurement::new("rtmr3", guest.rt_mr3));
    }
    all
}

/// Intel's word for the firmware, where the policy puts up with it. A revoked one never gets here.
fn accept(status: TcbStatus, advisories: Vec<String>, policy: &Policy) -> Result<Level, Refused> {
    match status {
        TcbStatus::UpToDate => Ok(Level::UpToDate),
        TcbStatus::SWHardeningNeeded
        | TcbStatus::ConfigurationNeeded
        | TcbStatus::ConfigurationAndSWHardeningNeeded => Ok(Level::Advised(status.to_string(), advisories)),
        TcbStatus::OutOfDate
        | TcbStatus::OutOfDateConfigurationNeeded
        | TcbStatus::TDRelaunchAdvised
        | TcbStatus::TDRelaunchAdvisedConfigurationNeeded
            if policy.out_of_date =>
        {
            Ok(Level::OutOfDate(status.to_string(), advisories))
        }
        TcbStatus::OutOfDate
        | TcbStatus::OutOfDateConfigurationNeeded
        | TcbStatus::TDRelaunchAdvised
        | TcbStatus::TDRelaunchAdvisedConfigurationNeeded
        | TcbStatus::Revoked => Err(Refused::OutOfDate(status.to_string())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_that_lacks_a_fix_is_refused_unless_asked_for() {
        let (strict, lenient) = (Policy::default(), Policy { out_of_date: true, ..Policy::default() });
        for status in [TcbStatus::OutOfDate, TcbStatus::TDRelaunchAdvised] {
            assert!(matches!(accept(status, Vec::new(), &strict), Err(Refused::OutOfDate(_))));
            assert!(matches!(accept(status, Vec::new(), &lenient), Ok(Level::OutOfDate(..))));
        }
        assert!(matches!(accept(TcbStatus::Revoked, Vec::new(), &lenient), Err(Refused::OutOfDate(_))));
        assert!(matches!(accept(TcbStatus::UpToDate, Vec::new(), &strict), Ok(Level::UpToDate)));
        assert!(matches!(
            accept(TcbStatus::ConfigurationNeeded, Vec::new(), &strict),
            Ok(Level::Advised(..))
        ));
    }
}

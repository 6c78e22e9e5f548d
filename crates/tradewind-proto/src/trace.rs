//! Where work stands in a distributed trace: W3C's Trace Context (<https://www.w3.org/TR/trace-context/>), level 1.
//!
//! ```text
//! the caller's span, if the job file has one ─► job ─► attempt ─► its lease at the provider
//!                                                        └──────► the job's own spans, by `TRACEPARENT`
//! ```
//!
//! Ids of jobs and attempts follow from the job's own id, so a node that was started anew goes on with the same trace, and provider and
//! buyer need to tell each other nothing but what the job's environment says anyway.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{hex, keccak256};

use crate::ids::{JobId, LeaseId};

/// The environment variable that carries it, as OpenTelemetry has it.
pub const VARIABLE: &str = "TRACEPARENT";
/// The characters of version 0.
const LENGTH: usize = 55;
/// A header of a later version is read as far as this one goes, up to this length.
const LONGEST: usize = 256;
const SAMPLED: u8 = 1;

/// A span's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace; never zero.
    pub trace: [u8; 16],
    /// The span; never zero.
    pub span: [u8; 8],
    /// Whether it is recorded.
    pub sampled: bool,
}

/// It is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: `00-`, 32 hex digits, `-`, 16 hex digits, `-`, 2 hex digits")]
pub struct NoContext;

impl Context {
    /// A job's place, under who called it.
    #[must_use]
    pub fn of_job(job: JobId, caller: Option<Self>) -> Self {
        let own = Self { trace: head(job.get().0), span: span("job", &job.get().0, 0), sampled: true };
        caller.map_or(own, |caller| Self { span: own.span, ..caller })
    }

    /// The place of a job's attempt, where this is the job's.
    #[must_use]
    pub fn of_attempt(self, job: JobId, number: u64) -> Self {
        Self { span: span("attempt", &job.get().0, number), ..self }
    }

    /// A hosted lease's place, under what its job's environment says.
    #[must_use]
    pub fn of_lease(lease: LeaseId, parent: Option<Self>) -> Self {
        let own = Self { trace: head(lease.get().0), span: span("lease", &lease.get().0, 0), sampled: true };
        parent.map_or(own, |parent| Self { span: own.span, ..parent })
    }

    /// The place of the step `number` of what is here.
    #[must_use]
    pub fn step(self, number: u64) -> Self {
        Self { span: span("step", &self.span, number), ..self }
    }
}

fn head(bytes: [u8; 32]) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&bytes[..16]);
    if head == [0; 16] { [1; 16] } else { head }
}

fn span(kind: &str, of: &[u8], number: u64) -> [u8; 8] {
    let digest = keccak256([kind.as_bytes(), of, &number.to_be_bytes()].concat());
    let mut span = [0; 8];
    span.copy_from_slice(&digest[..8]);
    if span == [0; 8] { [1; 8] } else { span }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", hex::encode(self.trace), hex::encode(self.span))
    }
}

impl FromStr for Context {
    type Err = NoContext;

    fn from_str(text: &str) -> Result<Self, NoContext> {
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoContext);
        }
        let mut fields = text.split('-');
        let mut next = || fields.next().ok_or(NoContext);
        let ([version], trace, span, [flags]) =
            (field::<1>(next()?)?, field(next()?)?, field(next()?)?, field::<1>(next()?)?);
        let fits = if version == 0 { text.len() == LENGTH } else { version != 0xff };
        let context = Self { trace, span, sampled: flags & SAMPLED != 0 };
        (fits && trace != [0; 16] && span != [0; 8]).then_some(context).ok_or(NoContext)
    }
}

/// Lower-case hex of exactly `N` bytes.
fn field<const N: usize>(text: &str) -> Result<[u8; N], NoContext> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) || text.starts_with("0x") {
        return Err(NoContext);
    }
    hex::decode_to_array(text).map_err(|_| NoContext)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let context: Context = CALLER.parse().unwrap();
        assert_eq!(context.to_string(), CALLER);
        assert!(context.sampled);
        let quiet = CALLER.replace("-01", "-00");
        assert!(!quiet.parse::<Context>().unwrap().sampled);
        let later = CALLER.replacen("00", "01", 1) + "-more";
        assert_eq!(later.parse::<Context>(), Ok(context));
    }

    #[test]
    fn anything_else_is_none() {
        let upper = CALLER.to_uppercase();
        let zero = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let no_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let long = format!("{CALLER}-more");
        let endless = format!("01{}-{}", &CALLER[2..], "a".repeat(300));
        let last = CALLER.replacen("00", "ff", 1);
        let prefixed = CALLER.replace("-4bf9", "-0x4b");
        for text in
            ["", "00", "00-ab-cd-01", "💧", &upper, &zero, &no_span, &long, &endless, &last, &prefixed]
        {
            assert_eq!(text.parse::<Context>(), Err(NoContext), "{text}");
        }
    }

    #[test]
    fn a_job_its_attempts_and_their_leases_are_one_trace() {
        let (job, lease) = (JobId::new(B256::repeat_byte(7)), LeaseId::new(B256::repeat_byte(9)));
        let caller: Context = CALLER.parse().unwrap();
        for context in [Context::of_job(job, None), Context::of_job(job, Some(caller))] {
            let attempts = [context.of_attempt(job, 0), context.of_attempt(job, 1)];
            let leases = attempts.map(|attempt| Context::of_lease(lease, Some(attempt)));
            let all = [[context, context], attempts, leases].concat();
            assert!(all.iter().all(|place| place.trace == context.trace));
            assert_ne!(attempts[0].span, attempts[1].span);
            assert_ne!(leases[0].step(1).span, leases[0].step(2).span);
            let read: Context = attempts[1].to_string().parse().unwrap();
            assert_eq!(read, attempts[1], "as the provider reads it");
        }
        assert_eq!(Context::of_job(job, Some(caller)).trace, caller.trace);
        assert_eq!(Context::of_job(job, None).trace, [7; 16]);
        assert_eq!(Context::of_lease(lease, None).trace, [9; 16]);
    }
}

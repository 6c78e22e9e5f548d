//! drand's rounds: which chain of drand's a beacon follows, and the relays that hand its signatures out.
//!
//! ```text
//! GET <relay>/<chain hash>/public/<round> ─► JSON, at most 4 KiB, in time ─► the round asked for? a point? ─► the contract's own check
//!                                              └─ anything else: the next relay
//! ```
//!
//! Nothing that a relay says is believed: a signature counts once the deployed beacon verifies it. A relay can only be silent, and then
//! the round stays unknown until another one answers.

use std::time::Duration;

use alloy::primitives::{B256, U256, b256, hex, uint};
use reqwest::Url;
use serde::Deserialize;
use tradewind_proto::units::{Seconds, Timestamp};

use crate::client::failover::http_client;

/// The longest answer that is read from a relay: a round's is about 300 bytes.
const MAX_ANSWER: usize = 4 << 10;
/// The most relays that one node asks.
const MAX_RELAYS: usize = 16;
/// How long a relay may take for everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// A chain of drand's with signatures on G1 of BN254.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrandChain {
    /// The group's public key, its words in drand's order.
    pub key: [U256; 4],
    /// When round 1 is published.
    pub genesis: Timestamp,
    /// Between two rounds.
    pub period: Seconds,
    /// What drand calls the genesis seed.
    pub group_seed: B256,
    /// What drand calls the beacon.
    pub id: &'static str,
}

impl DrandChain {
    /// The League of Entropy's evmnet, whose hash is `04f1e906…66ec8c3`: a round every three seconds.
    pub const EVMNET: Self = Self {
        key: [
            uint!(0x07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382_U256),
            uint!(0x0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f_U256),
            uint!(0x0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6_U256),
            uint!(0x297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b_U256),
        ],
        genesis: Timestamp::from_unix(1_727_521_075),
        period: Seconds::new(3),
        group_seed: b256!("cd7ad2f0e0cce5d8c288f2dd016ffe7bc8dc88dbb229b3da2b6ad736490dfed6"),
        id: "evmnet",
    };
}

/// A round's signature as a relay states it: the coordinates of a point, or so it says.
pub type RoundSignature = [U256; 2];

/// Why relays cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum RelaysError {
    /// Not a URL.
    #[error("`{0}` is not an http(s) URL of a drand relay; hint: such as https://api.drand.sh")]
    Url(String),
    /// Too many.
    #[error("{0} drand relays are named; at most {MAX_RELAYS} are asked")]
    TooMany(usize),
    /// The HTTP client cannot start.
    #[error("the HTTP client cannot start")]
    Client(#[source] reqwest::Error),
}

/// Why one relay's answer gives no signature.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No connection, or no whole answer in time.
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It refused.
    #[error("it answered {0}")]
    Status(u16),
    /// It said too much.
    #[error("its answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// Not what a relay says.
    #[error("its answer is no round of drand's")]
    Nonsense(#[source] serde_json::Error),
    /// Another round than was asked for.
    #[error("it answered round {0}")]
    OtherRound(u64),
    /// Not 64 bytes in hexadecimal digits.
    #[error("its signature is not 64 bytes")]
    Signature,
}

/// The relays that an operator named, the preferred one first.
#[derive(Debug, Clone)]
pub struct Relays {
    client: reqwest::Client,
    relays: Vec<Relay>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Relay {
    base: Url,
    name: String,
}

impl Relay {
    /// For logs: host and port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Relays {
    /// Relays at `http://` or `https://` URLs; none is contacted yet.
    ///
    /// # Errors
    /// [`RelaysError`] for anything else, or too many.
    pub fn new(urls: &[String]) -> Result<Self, RelaysError> {
        if urls.len() > MAX_RELAYS {
            return Err(RelaysError::TooMany(urls.len()));
        }
        let relays = urls.iter().map(|url| relay(url)).collect::<Result<_, _>>()?;
        let client = http_client(PATIENCE).map_err(RelaysError::Client)?;
        Ok(Self { client, relays })
    }

    /// In order of preference.
    #[must_use]
    pub fn all(&self) -> &[Relay] {
        &self.relays
    }

    /// What `relay` says that the round's signature is. Whether it is, the beacon's contract knows.
    ///
    /// # Errors
    /// [`AnswerError`] when it says nothing of use.
    pub async fn ask(&self, relay: &Relay, chain: B256, round: u64) -> Result<RoundSignature, AnswerError> {
        let unreachable = |error: reqwest::Error| AnswerError::Unreachable(error.without_url());
        let mut url = relay.base.clone();
        url.set_path(&format!("{}/{}/public/{round}", url.path().trim_end_matches('/'), hex::encode(chain)));
        let mut response = self.client.get(url).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(AnswerError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(AnswerError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(AnswerError::Nonsense)?;
        if answer.round != round {
            return Err(AnswerError::OtherRound(answer.round));
        }
        let mut point = [0u8; 64];
        hex::decode_to_slice(&answer.signature, &mut point).map_err(|_| AnswerError::Signature)?;
        let (x, y) = point.split_at(32);
        Ok([U256::from_be_slice(x), U256::from_be_slice(y)])
    }
}

/// What is read of a relay's answer.
#[derive(Deserialize)]
struct Answer {
    round: u64,
    signature: String,
}

fn relay(url: &str) -> Result<Relay, RelaysError> {
    let base = url.parse::<Url>().map_err(|_| RelaysError::Url(url.into()))?;
    let port = base.port_or_known_default();
    let (true, Some(host), Some(port)) = (matches!(base.scheme(), "http" | "https"), base.host_str(), port)
    else {
        return Err(RelaysError::Url(url.into()));
    };
    let name = format!("{host}:{port}");
    Ok(Relay { base, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_of_a_relay_is_refused_with_a_hint() {
        for url in ["", "api.drand.sh", "ftp://api.drand.sh", "unix:/run/drand"] {
            let error = Relays::new(&[url.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{url}`")) && error.contains("hint:"), "{error}");
        }
        let many = vec!["https://api.drand.sh".to_owned(); MAX_RELAYS + 1];
        assert!(matches!(Relays::new(&many), Err(RelaysError::TooMany(17))));
    }

    #[test]
    fn a_relay_is_named_without_its_path() {
        let relays = Relays::new(&["https://drand.example/secret-key/".to_owned()]).unwrap();
        assert_eq!(relays.all()[0].name(), "drand.example:443");
    }
}

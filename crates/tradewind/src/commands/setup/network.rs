//! The network's profile: fetched, verified, shown, agreed to.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use tradewind_proto::profile::{MAX_PROFILE_BYTES, VerifiedProfile};

use crate::cli::Setup;
use crate::client::Told;
use crate::node::config::NodeConfig;
use crate::printer::{Printer, table};

/// How long a profile may take to come.
const FETCH: Duration = Duration::from_secs(30);

/// A network that was agreed to, and the profile's text where it is a new one.
pub(super) struct Taken {
    pub(super) network: VerifiedProfile,
    pub(super) text: Option<String>,
}

/// The profile that the command names, or the one that was taken before.
pub(super) async fn take(
    options: &Setup,
    before: Option<&NodeConfig>,
    printer: Printer,
) -> anyhow::Result<Taken> {
    let known = before.and_then(|config| config.publisher);
    let publisher = if options.force { options.publisher } else { options.publisher.or(known) };
    let Some(named) = &options.profile else {
        let Some(config) = before else {
            let hint = "`tradewind setup network.toml`, or the URL that the network's publisher gives";
            return Err(Told::error("no network was taken yet", hint));
        };
        let path = config.profile.display().to_string();
        let text = std::fs::read_to_string(&config.profile).with_context(|| format!("cannot read {path}"))?;
        return Ok(Taken { network: VerifiedProfile::parse(&path, &text, publisher)?, text: None });
    };
    let text = if named.contains("://") {
        fetch(named, publisher.is_some()).await?
    } else {
        std::fs::read_to_string(named).with_context(|| format!("cannot read {named}"))?
    };
    let network = VerifiedProfile::parse(named, &text, publisher)?;
    if let Some(config) = before.filter(|_| !options.force)
        && let Ok(old) = crate::node::read_profile(config)
        && old.digest() != network.profile.digest()
    {
        let error = format!("this machine is on the network {} already", old.name);
        return Err(Told::error(error, "`--force` changes the network (the wallet stays)"));
    }
    let agreed = known == Some(network.publisher) && !options.force;
    if !agreed {
        printer.step(&trusted(&network));
        if !options.yes && !printer.can_ask() {
            let hint = "give `--yes` to trust this publisher; `--publisher 0x…` takes nobody else's profile";
            return Err(Told::error("nobody is there to agree to this network", hint));
        }
        if !options.yes && !printer.confirm("trust this publisher, and join this network?")? {
            bail!("nothing was written");
        }
    }
    Ok(Taken { network, text: Some(text) })
}

/// What joining this network means to trust.
fn trusted(network: &VerifiedProfile) -> String {
    let profile = &network.profile;
    let list = |urls: &[String]| if urls.is_empty() { "none".into() } else { urls.join(", ") };
    let kind = if profile.development { "development: money without value" } else { "money with value" };
    let assets: Vec<String> =
        profile.assets.iter().map(|asset| format!("{} {}", asset.symbol, asset.address)).collect();
    let bootstrap: Vec<String> = profile.bootstrap.iter().map(|node| node.key.to_string()).collect();
    let rows = [
        ["published by".to_owned(), network.publisher.to_string()],
        ["network".into(), format!("{} ({kind})", profile.name)],
        ["chain".into(), format!("{} by {}", profile.chain.id, list(&profile.chain.rpc))],
        ["leases".into(), profile.contracts.leases.to_string()],
        ["registry".into(), profile.contracts.registry.to_string()],
        ["paid in".into(), assets.join(", ")],
        ["relayers".into(), list(&profile.relayers)],
        ["mesh relays".into(), list(&profile.relays)],
        ["first nodes".into(), if bootstrap.is_empty() { "none".into() } else { bootstrap.join(", ") }],
    ];
    table(["this profile", "says"], rows)
}

/// A profile from the web. Without a known publisher only over TLS, or from this machine: who stands between could sign their own.
async fn fetch(url: &str, publisher_known: bool) -> anyhow::Result<String> {
    let address: reqwest::Url = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let local = matches!(address.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if address.scheme() != "https" && !local && !publisher_known {
        let hint = "use https, or `--publisher 0x…` with what the publisher told you";
        return Err(Told::error(format!("{url} can be changed on its way"), hint));
    }
    let client = reqwest::Client::builder().timeout(FETCH).build()?;
    let answer = client.get(address).send().await.with_context(|| format!("cannot fetch {url}"))?;
    let answer = answer.error_for_status().with_context(|| format!("cannot fetch {url}"))?;
    let (mut bytes, mut pieces) = (Vec::new(), answer.bytes_stream());
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.with_context(|| format!("cannot fetch {url}"))?);
        if bytes.len() > MAX_PROFILE_BYTES {
            bail!("{url} is larger than a profile may be: {MAX_PROFILE_BYTES} bytes");
        }
    }
    String::from_utf8(bytes).with_context(|| format!("{url} is no text"))
}

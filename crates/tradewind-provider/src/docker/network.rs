//! A bridge of its own for every lease that needs one, from a small pool of ready ones: making one takes longer than
//! starting the container.
//!
//! ```text
//!           refill                take                       give_back
//!  (engine) ──────► ready ────────────────► a lease's ────────────────► ready, or removed when enough are ready
//!              ▲
//!              └── adopt: after a restart, those of ours that no container of ours names
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptionsBuilder;
use tokio::sync::Mutex;

use super::container::OWNER;
use super::egress::{CLOSED_BRIDGE, OPEN_BRIDGE};
use super::engine::{CallError, Engine};

const KIND: &str = "tradewind.network";

/// What a bridge leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The Internet, as far as the egress table lets it.
    Open,
    /// Nothing; tunnels reach its container.
    Closed,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }

    fn bridge(self) -> &'static str {
        match self {
            Self::Open => OPEN_BRIDGE,
            Self::Closed => CLOSED_BRIDGE,
        }
    }

    /// The kind of one of our networks, by its name.
    pub(super) fn of(network: &str) -> Option<Self> {
        [Self::Open, Self::Closed]
            .into_iter()
            .find(|kind| network.starts_with(&format!("tw-{}-", kind.word())))
    }
}

/// The bridge of one of our networks that lead to the Internet, by the network's name.
pub(super) fn open_bridge(network: &str) -> Option<String> {
    let tag = network.strip_prefix("tw-open-")?;
    Some(format!("{OPEN_BRIDGE}{tag}"))
}

/// How many bridges wait ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Of those that lead to the Internet.
    pub open: usize,
    /// Of those that lead nowhere.
    pub closed: usize,
}

/// The ready networks of one owner.
#[derive(Debug)]
pub(super) struct NetworkPool {
    owner: String,
    size: PoolSize,
    ready: Mutex<Vec<(Kind, String)>>,
    /// None is kept ready any more.
    closed: AtomicBool,
}

impl NetworkPool {
    pub(super) fn new(owner: String, size: PoolSize) -> Self {
        Self { owner, size, ready: Mutex::new(Vec::new()), closed: AtomicBool::new(false) }
    }

    fn wanted(&self, kind: Kind) -> usize {
        if self.closed.load(Ordering::SeqCst) {
            return 0;
        }
        match kind {
            Kind::Open => self.size.open,
            Kind::Closed => self.size.closed,
        }
    }

    /// A network for one lease: a ready one, else a new one.
    pub(super) async fn take(&self, engine: &Engine, kind: Kind) -> Result<String, CallError> {
        let mut ready = self.ready.lock().await;
        if let Some(place) = ready.iter().position(|(of, _)| *of == kind) {
            return Ok(ready.swap_remove(place).1);
        }
        drop(ready);
        self.make(engine, kind).await
    }

    /// Takes back a network whose container is gone.
    pub(super) async fn give_back(&self, engine: &Engine, network: &str) -> Result<(), CallError> {
        let Some(kind) = Kind::of(network) else { return Ok(()) };
        let mut ready = self.ready.lock().await;
        let full = ready.iter().filter(|(of, _)| *of == kind).count() >= self.wanted(kind);
        if !full && !ready.iter().any(|(_, name)| name == network) {
            ready.push((kind, network.to_owned()));
            return Ok(());
        }
        drop(ready);
        remove(engine, network).await
    }

    /// Makes what is missing; one network a call, so that nobody waits long behind it.
    pub(super) async fn refill(&self, engine: &Engine) -> Result<(), CallError> {
        for kind in [Kind::Open, Kind::Closed] {
            let ready = self.ready.lock().await.iter().filter(|(of, _)| *of == kind).count();
            if ready < self.wanted(kind) {
                let network = self.make(engine, kind).await?;
                return self.give_back(engine, &network).await;
            }
        }
        Ok(())
    }

    /// After a restart: those of ours that are not among `used` are ready again, or one too many.
    pub(super) async fn adopt(&self, engine: &Engine, used: &BTreeSet<String>) -> Result<(), CallError> {
        for network in self.ours(engine).await? {
            if !used.contains(&network) {
                self.give_back(engine, &network).await?;
            }
        }
        Ok(())
    }

    /// Removes every ready network and keeps none from now on: when the provider leaves.
    pub(super) async fn drain(&self, engine: &Engine) -> Result<(), CallError> {
        self.closed.store(true, Ordering::SeqCst);
        let ready = std::mem::take(&mut *self.ready.lock().await);
        for (_, network) in ready {
            remove(engine, &network).await?;
        }
        Ok(())
    }

    async fn ours(&self, engine: &Engine) -> Result<Vec<String>, CallError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{OWNER}={}", self.owner)])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks = engine
            .call("list networks", |docker| async move { docker.list_networks(Some(options)).await })
            .await?;
        Ok(networks.into_iter().filter_map(|network| network.name).collect())
    }

    async fn make(&self, engine: &Engine, kind: Kind) -> Result<String, CallError> {
        let tag = hex::encode(rand::random::<[u8; 4]>());
        let name = format!("tw-{}-{tag}", kind.word());
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".into()),
            internal: Some(kind == Kind::Closed),
            enable_ipv6: Some(false),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.name".to_owned(),
                format!("{}{tag}", kind.bridge()),
            )])),
            labels: Some(HashMap::from([
                (OWNER.to_owned(), self.owner.clone()),
                (KIND.to_owned(), kind.word().to_owned()),
            ])),
            ..NetworkCreateRequest::default()
        };
        engine.call("make a network", |docker| async move { docker.create_network(request).await }).await?;
        Ok(name)
    }
}

async fn remove(engine: &Engine, network: &str) -> Result<(), CallError> {
    match engine.call("remove a network", |docker| async move { docker.remove_network(network).await }).await
    {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_tells_its_kind_and_no_other_network_is_ours() {
        assert_eq!(Kind::of("tw-open-00ff00ff"), Some(Kind::Open));
        assert_eq!(Kind::of("tw-closed-00ff00ff"), Some(Kind::Closed));
        assert_eq!(open_bridge("tw-open-00ff00ff").as_deref(), Some("twlo00ff00ff"));
        assert_eq!(open_bridge("tw-closed-00ff00ff"), None);
        assert_eq!((Kind::of("none"), Kind::of("bridge"), Kind::of("tw-0xabc")), (None, None, None));
    }

    #[test]
    fn a_bridges_name_fits_an_interface() {
        for kind in [Kind::Open, Kind::Closed] {
            assert!(kind.bridge().len() + 8 <= 15);
        }
    }
}

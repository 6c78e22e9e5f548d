//! The HTTP side: the page, its JSON twin, and a stream that says when to look again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tower_http::set_header::SetResponseHeaderLayer;
use tradewind_chain::ledger::{EventCursor, Ledger};
use tradewind_mesh::Transport;
use tradewind_proto::ids::DeviceId;
use tradewind_proto::offer::Offer;
use tradewind_proto::profile::NetworkProfile;
use tradewind_proto::units::Clock;
use tradewind_reputation::Reputations;

use crate::index::{Index, Overview};
use crate::page::{DeviceRow, MarketPage, OfferRow};

/// Rows of a list.
const ROWS: usize = 100;
/// Events of one page.
const EVENTS: usize = 1_000;
/// The pause between two looks at the chain.
const LOOK: Duration = Duration::from_millis(500);
/// Pages that are told of changes at the same time.
const WATCHERS: usize = 256;

/// Why the explorer could not start.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The address is taken or not this machine's.
    #[error("the explorer cannot listen on {listen}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// The failure.
        #[source]
        source: std::io::Error,
    },
}

/// What an explorer reads.
pub struct Parts {
    /// The chain.
    pub ledger: Arc<dyn Ledger>,
    /// The mesh.
    pub transport: Arc<dyn Transport>,
    /// What chain and watchers say of devices.
    pub reputations: Reputations,
    /// The time.
    pub clock: Clock,
}

/// A running explorer.
#[derive(Debug)]
pub struct Explorer {
    url: String,
}

struct Shared {
    index: RwLock<Index>,
    transport: Arc<dyn Transport>,
    reputations: Reputations,
    profile: NetworkProfile,
    clock: Clock,
    changed: watch::Sender<u64>,
    watchers: Arc<Semaphore>,
}

impl Explorer {
    /// Follows the chain and serves pages until `shutdown`.
    ///
    /// # Errors
    /// [`ExplorerError::Listen`].
    pub async fn start(
        listen: SocketAddr,
        parts: Parts,
        profile: NetworkProfile,
        shutdown: CancellationToken,
    ) -> Result<Self, ExplorerError> {
        let failed = |source| ExplorerError::Listen { listen, source };
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let Parts { ledger, transport, reputations, clock } = parts;
        let shared = Arc::new(Shared {
            index: RwLock::default(),
            transport,
            reputations,
            profile,
            clock,
            changed: watch::Sender::new(0),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
        });
        let following = shared.clone();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = follow(following, ledger) => {}
                () = stop.cancelled() => {}
            }
        });
        tokio::spawn(async move {
            let served = axum::serve(listener, router(shared))
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "the explorer ended");
            }
        });
        Ok(Self { url })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn follow(shared: Arc<Shared>, ledger: Arc<dyn Ledger>) {
    let mut cursor = EventCursor::default();
    let mut seen = (0, 0);
    loop {
        match ledger.events(cursor, EVENTS).await {
            Ok(page) => {
                let news = !page.items.is_empty();
                cursor = page.cursor;
                let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
                page.items.into_iter().for_each(|item| index.apply(item));
                drop(index);
                if news {
                    shared.changed.send_modify(|version| *version += 1);
                    continue;
                }
            }
            Err(error) => tracing::debug!(%error, "the chain could not be read; what is shown is older"),
        }
        let now = (shared.transport.records().len(), shared.reputations.pages());
        if now != seen {
            seen = now;
            shared.changed.send_modify(|version| *version += 1);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    Router::new()
        .route("/", get(page))
        .route("/market.json", get(json))
        .route("/changes", get(changes))
        .route(
            "/market.css",
            get(async || ([(header::CONTENT_TYPE, "text/css")], include_str!("../templates/market.css"))),
        )
        .route(
            "/market.js",
            get(async || {
                ([(header::CONTENT_TYPE, "text/javascript")], include_str!("../templates/market.js"))
            }),
        )
        .layer(header(header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .with_state(shared)
}

impl Shared {
    fn market(&self) -> Market {
        let now = (self.clock)();
        let mut offers: Vec<Offer> =
            self.transport.records().iter().filter_map(|record| record.offer(now).ok()).collect();
        offers.sort_by_key(|offer| (offer.prices.on_demand, offer.provider));
        offers.truncate(ROWS);
        let overview = self.index.read().unwrap_or_else(PoisonError::into_inner).overview(ROWS);
        Market {
            network: self.profile.name.clone(),
            overview,
            offers: offers.iter().map(OfferRow::from).collect(),
            pages: self.reputations.pages(),
            devices: self.devices(&offers),
        }
    }
}

impl Shared {
    /// Devices with what they stand for, the best first.
    fn devices(&self, offers: &[Offer]) -> Vec<DeviceRow> {
        let models: HashMap<DeviceId, &str> = offers
            .iter()
            .filter_map(|offer| Some((offer.device, offer.unit.gpus.as_ref()?.model.as_str())))
            .collect();
        let walk = self.profile.walk.as_ref();
        let owners = self.index.read().unwrap_or_else(PoisonError::into_inner).owners();
        let rated = self.reputations.all().into_iter();
        let mut rows: Vec<DeviceRow> = rated
            .map(|(device, rated)| {
                let model = models.get(&device).copied();
                DeviceRow::new(device, owners.get(&device).copied(), rated, walk, model)
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.rank()));
        rows.truncate(ROWS);
        rows
    }
}

/// The page's JSON twin. Amounts in base units of the network's quote asset.
#[derive(Debug, Serialize)]
struct Market {
    network: String,
    overview: Overview,
    offers: Vec<OfferRow>,
    /// Watchers' pages of testimony that reputations rest on.
    pages: usize,
    devices: Vec<DeviceRow>,
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let market = shared.market();
    let asset = shared.profile.quote();
    let page = MarketPage {
        network: &market.network,
        symbol: asset.map_or("", |asset| asset.symbol.as_str()),
        decimals: asset.map_or(0, |asset| asset.decimals),
        now: (shared.clock)(),
        overview: &market.overview,
        offers: &market.offers,
        pages: market.pages,
        devices: &market.devices,
    };
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn json(State(shared): State<Arc<Shared>>) -> Json<Market> {
    Json(shared.market())
}

async fn changes(
    State(shared): State<Arc<Shared>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let permit = shared.watchers.clone().try_acquire_owned().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let stream = WatchStream::from_changes(shared.changed.subscribe()).map(move |version| {
        let _held_while_streaming = &permit;
        Ok(Event::default().data(version.to_string()))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

//! BBR, but never so slow that a question waits for its own answer's rate.
//!
//! BBR paces at the bandwidth it last saw. After a while of small questions and answers (a shell, a notebook) that is the
//! application's own few kilobytes a second, and noq 1.4 then holds each small packet back for 3 ms. So no rate falls below
//! a floor; what may be in flight stays BBR's decision.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};
use noq_proto::congestion::Bbr3Config;

/// Bytes a second, about 8 Mbit/s: a small packet waits 0.1 ms at most.
const FLOOR: u64 = 1 << 20;

/// Makes a controller for each path.
#[derive(Debug, Default)]
pub(crate) struct FlooredBbr(Arc<Bbr3Config>);

impl ControllerFactory for FlooredBbr {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Floored(self.0.clone().build(now, current_mtu)))
    }
}

#[derive(Debug)]
struct Floored(Box<dyn Controller>);

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.0.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.0.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.0.on_cwnd_limited();
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.0.on_ack(now, sent, bytes, pn, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.0.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        self.0.on_congestion_event(now, sent, is_persistent_congestion, is_ecn, lost_bytes, largest_lost_pn);
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.0.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.0.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu_update(new_mtu);
    }

    fn on_ack_frequency_update(&mut self, ack_eliciting_threshold: u64, requested_max_ack_delay: Duration) {
        self.0.on_ack_frequency_update(ack_eliciting_threshold, requested_max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.0.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.0.metrics();
        metrics.pacing_rate = metrics.pacing_rate.map(|rate| rate.max(FLOOR));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self(self.0.clone_box()))
    }

    fn initial_window(&self) -> u64 {
        self.0.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.0.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What BBR says after it saw one small packet a second.
    #[derive(Debug)]
    struct Rate(Option<u64>);

    impl Controller for Rate {
        fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: bool, _: u64, _: u64) {}
        fn on_mtu_update(&mut self, _: u16) {}
        fn window(&self) -> u64 {
            20_000
        }
        fn metrics(&self) -> ControllerMetrics {
            let mut metrics = ControllerMetrics::default();
            metrics.congestion_window = self.window();
            metrics.pacing_rate = self.0;
            metrics
        }
        fn clone_box(&self) -> Box<dyn Controller> {
            Box::new(Self(self.0))
        }
        fn initial_window(&self) -> u64 {
            20_000
        }
        fn into_any(self: Box<Self>) -> Box<dyn Any> {
            self
        }
    }

    fn floored(rate: Option<u64>) -> ControllerMetrics {
        Floored(Box::new(Rate(rate))).clone_box().metrics()
    }

    #[test]
    fn a_rate_below_the_floor_is_raised_to_it_and_the_window_stays() {
        assert_eq!(floored(Some(64)).pacing_rate, Some(FLOOR));
        assert_eq!(floored(Some(FLOOR + 1)).pacing_rate, Some(FLOOR + 1));
        assert_eq!(floored(None).pacing_rate, None);
        assert_eq!(floored(Some(64)).congestion_window, 20_000);
    }

    #[test]
    fn a_new_path_starts_with_bbr() {
        let made = Arc::new(FlooredBbr::default()).build(Instant::now(), 1_200);
        assert!(made.into_any().is::<noq_proto::congestion::Bbr3>());
    }
}

//! How much a connection may have on the way: our own controller, as QUIC asks for it.
//!
//! The rules are [`control::Control`]'s, which knows no connection and no clock; here they meet quinn, and what they know of a path is looked up.

mod control;
mod filter;
mod rate;
#[cfg(test)]
mod sim;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

use control::Control;

/// Makes a controller for each path of a connection.
#[derive(Debug, Default)]
pub(crate) struct PathControl;

impl ControllerFactory for PathControl {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Pilot::new(now, mtu))
    }
}

/// The controller of one path.
#[derive(Clone, Debug)]
struct Pilot {
    control: Control,
    initial: u64,
    /// What the owner of the line says that it takes, in bytes a second; 0 for nothing said. Clones share it, which is how it gets here.
    hint: Arc<AtomicU64>,
}

impl Pilot {
    fn new(now: Instant, mtu: u16) -> Self {
        let control = Control::new(now, mtu);
        let initial = control.window();
        let hint = Arc::default();
        Self { control, initial, hint }
    }
}

impl Controller for Pilot {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.control.on_sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.control.on_ack(now, sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        match self.hint.load(Ordering::Relaxed) {
            0 => {}
            rate => self.control.set_hint(rate as f64),
        }
        self.control.on_end_acks(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        match lost_bytes {
            0 => self.control.on_marked(),
            lost => self.control.on_lost(now, lost, is_persistent_congestion),
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.control.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.control.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.control.window();
        metrics.pacing_rate = self.control.rate().map(|rate| (rate * 8.0) as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Tells the controller of `connection` that the line takes so many bytes a second this way. A controller that is not ours does not listen.
pub fn hint_rate(connection: &quinn::Connection, bytes_per_second: u64) {
    if let Ok(pilot) = connection.congestion_state().into_any().downcast::<Pilot>() {
        pilot.hint.store(bytes_per_second, Ordering::Relaxed);
    }
}

/// What a connection's controller knows of its path.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PathModel {
    /// Bytes a second that the path delivers, once that was seen.
    pub rate: Option<f64>,
    /// The share of packets that it lost lately.
    pub loss: f64,
    /// What was sent filled it a moment ago.
    pub is_busy: bool,
}

impl PathModel {
    /// What the controller of `connection` knows; nothing when it is not ours.
    pub fn of(connection: &quinn::Connection) -> Self {
        match connection.congestion_state().into_any().downcast::<Pilot>() {
            Ok(pilot) => Self {
                rate: pilot.control.rate(),
                loss: pilot.control.loss(),
                is_busy: pilot.control.is_busy(Instant::now()),
            },
            Err(_) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_of_a_line_reaches_the_controller_that_decides() {
        let start = Instant::now();
        let mut deciding = Pilot::new(start, 1200);
        // As a connection shows it.
        let Ok(shown) = deciding.clone_box().into_any().downcast::<Pilot>() else {
            panic!("a clone is of another kind")
        };
        shown.hint.store(1_250_000, Ordering::Relaxed);
        let acked = start + Duration::from_millis(40);
        deciding.on_sent(start, 1200, 0);
        deciding.control.on_ack(acked, start, 1200);
        deciding.on_end_acks(acked, 0, true, Some(0));
        // 10 Mbit/s over 40 ms are 50 kB, with a few milliseconds of queue.
        assert!((47_000..60_000).contains(&deciding.window()), "{}", deciding.window());
    }
}

//! The figures of a link, taken over into the relay's metrics now and then.

use spawnpoint_core::flow::DropReason;
use spawnpoint_net::PathModel;

use super::LinkTask;

impl LinkTask {
    /// Takes over into the metrics what only the path, the sessions and the queues know.
    pub(super) fn count(&self) {
        if let Some((connection, _)) = self.link.connection() {
            let rtt = connection.rtt().as_secs_f64();
            self.context.metrics.set_link_rtt(&self.link.host_name, rtt);
            let packet = connection.stats().path.current_mtu;
            self.context.metrics.set_link_packet(&self.link.host_name, packet);
            let path = PathModel::of(&connection);
            self.context
                .metrics
                .set_link_path(&self.link.host_name, path.loss, path.rate);
        }
        let wait = self.link.outbox.take_longest_wait();
        if !wait.is_zero() {
            self.context
                .metrics
                .link_queue(&self.link.host_name, wait.as_secs_f64());
        }
        let (spent, outcomes) = self.link.sessions.take_repairs();
        for (outcome, count) in spent.by_name().into_iter().chain(outcomes.by_name()) {
            self.context.metrics.repairs(outcome, count);
        }
        for (lane, dropped) in self.link.outbox.take_dropped() {
            if let Some(tunnel) = self.link.by_lane(lane) {
                let counts = [
                    (DropReason::QueueFull, dropped.full),
                    (DropReason::TooOld, dropped.aged),
                    (DropReason::PathShrank, dropped.oversize),
                ];
                for (reason, count) in counts {
                    self.context.metrics.dropped(&tunnel.labels, reason.as_str(), count);
                }
            }
        }
    }
}

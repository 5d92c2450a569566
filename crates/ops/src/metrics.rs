//! The relay's metrics: each name once, each label value from an enum or from configuration, never an address or an error text.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use spawnpoint_core::flow::DropReason;

use crate::logs::lines_lost;

/// Pauses in seconds that the histogram tells apart: a round trip, a blink, the resume window.
const PAUSES: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];

/// Seconds that a packet waits in our own queue, up to what makes it too old.
const WAITS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25];

/// Which tunnel.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct TunnelLabels {
    /// The host's name.
    pub host: String,
    /// The tunnel's name.
    pub tunnel: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DirectionLabels {
    host: String,
    tunnel: String,
    protocol: &'static str,
    direction: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DropLabels {
    host: String,
    tunnel: String,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct EndLabels {
    protocol: &'static str,
    end: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

/// Everything that a relay counts.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    registry: Arc<Registry>,
    links: Gauge,
    handshakes: Family<ReasonLabels, Counter>,
    violations: Family<ReasonLabels, Counter>,
    link_rtt: Family<HostLabels, Gauge<f64, AtomicU64>>,
    sessions: Family<TunnelLabels, Gauge>,
    sessions_ended: Family<EndLabels, Counter>,
    bytes: Family<DirectionLabels, Counter>,
    denied: Family<ReasonLabels, Counter>,
    dnsbl: Family<ReasonLabels, Counter>,
    shared_tokens: Counter,
    audit_lost: Gauge,
    log_lost: Gauge,
    memory: Gauge,
    memory_limit: Gauge,
    /// Players who were not let in since they were told together last.
    denials: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    dropped: Family<DropLabels, Counter>,
    links_parked: Gauge,
    resumed: Counter,
    expired: Counter,
    pause: Histogram,
    link_loss: Family<HostLabels, Gauge<f64, AtomicU64>>,
    link_rate: Family<HostLabels, Gauge<f64, AtomicU64>>,
    link_packet: Family<HostLabels, Gauge<f64, AtomicU64>>,
    link_queue: Family<HostLabels, Histogram, fn() -> Histogram>,
    repairs: Family<ReasonLabels, Counter>,
    list_asked: Family<ReasonLabels, Counter>,
    list_told: Family<ReasonLabels, Counter>,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("relay");
        macro_rules! metric {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                register(&mut registry, $name, $help, &metric);
                metric
            }};
        }
        // Counters get their `_total` from the encoder.
        let links = metric!("links_active", "Links, with those that wait for their agents");
        let handshakes = metric!("handshakes", "Agents that introduced themselves, by outcome");
        let violations = metric!("violations", "Offences of agents against the protocol, by kind");
        let link_rtt = metric!("link_rtt_seconds", "Round trip between relay and agent");
        let sessions = metric!("sessions_active", "Players who are in, by tunnel");
        let sessions_ended = metric!("sessions", "Players who have left, by how their session ended");
        let bytes = metric!(
            "bytes",
            "Bytes carried, by tunnel and direction (up is from the player)"
        );
        let denied = metric!("players_denied", "Players who were not let in, by reason");
        let dnsbl = metric!(
            "dnsbl",
            "Addresses of players about which lists were asked through DNS, by what came of it"
        );
        let shared_tokens = metric!(
            "shared_tokens",
            "Agents that came with an invite that another agent in another network was using"
        );
        let audit_lost = metric!("audit_lines_lost", "Lines of the audit log that got nowhere");
        let log_lost = metric!(
            "log_lines_lost",
            "Lines of the log that whoever reads it was too slow for"
        );
        let memory = metric!("memory_bytes", "Memory that the process has resident");
        let memory_limit = metric!("memory_limit_bytes", "Memory beyond which nobody new is let in");
        let dropped = metric!(
            "datagrams_dropped",
            "UDP packets that went no further, by tunnel and reason"
        );
        let links_parked = metric!("links_parked", "Links that wait for their agents, with their sessions");
        let resumed = metric!(
            "sessions_resumed",
            "TCP sessions that went on with a new connection of their link"
        );
        let expired = metric!(
            "sessions_expired",
            "TCP sessions that ended because their agent did not come back in time"
        );
        let link_loss = metric!(
            "link_loss_ratio",
            "Share of packets lost lately between relay and agent"
        );
        let link_packet = metric!(
            "link_packet_bytes",
            "Largest packet that the path to a host's agent takes, as found so far"
        );
        let link_queue =
            Family::<HostLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(WAITS));
        register(
            &mut registry,
            "link_queue_seconds",
            "Longest that a packet to the agent waited for its turn in this process, of every five seconds with packets",
            &link_queue,
        );
        let link_rate = metric!(
            "link_rate_bytes",
            "Bytes a second that the path to the agent takes, as far as it was ever filled"
        );
        let repairs = metric!(
            "repairs",
            "What travelled a second time against loss, and what became of what came"
        );
        let list_asked = metric!(
            "list_asked",
            "Questions to servers for their entry in the server list, by outcome"
        );
        let list_told = metric!(
            "list_told",
            "Players who were told an entry of the server list or why they cannot join, by whose words"
        );
        let pause = Histogram::new(PAUSES);
        register(
            &mut registry,
            "session_pause_seconds",
            "How long resumed sessions were without a connection",
            &pause,
        );
        let registry = Arc::new(registry);
        Self {
            registry,
            links,
            handshakes,
            violations,
            link_rtt,
            sessions,
            sessions_ended,
            bytes,
            denied,
            dnsbl,
            shared_tokens,
            audit_lost,
            log_lost,
            memory,
            memory_limit,
            denials: Arc::default(),
            dropped,
            links_parked,
            resumed,
            expired,
            pause,
            link_loss,
            link_rate,
            link_packet,
            link_queue,
            repairs,
            list_asked,
            list_told,
        }
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str, metric: &M)
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
}

impl RelayMetrics {
    /// An agent introduced itself; `outcome` is `accepted`, or the word of the reject or violation.
    pub fn handshake(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&ReasonLabels { reason: outcome }).inc();
    }

    /// An agent broke the protocol.
    pub fn violation(&self, kind: &'static str) {
        self.violations.get_or_create(&ReasonLabels { reason: kind }).inc();
    }

    /// How many links are up.
    pub fn set_links(&self, links: usize) {
        self.links.set(links as i64);
    }

    /// As many links more, or less, wait for their agents.
    pub fn link_parked(&self, change: i64) {
        self.links_parked.inc_by(change);
    }

    /// Sessions go on after `pause` seconds without a connection.
    pub fn sessions_resumed(&self, sessions: usize, pause: f64) {
        self.resumed.inc_by(sessions as u64);
        (0..sessions).for_each(|_| self.pause.observe(pause));
    }

    /// The agent of these sessions did not come back in time.
    pub fn sessions_expired(&self, sessions: usize) {
        self.expired.inc_by(sessions as u64);
    }

    /// What the path to a host's agent is like: the share that it loses, and the bytes a second that it takes, once that is known.
    pub fn set_link_path(&self, host: &str, loss: f64, rate: Option<f64>) {
        let labels = HostLabels { host: host.to_owned() };
        self.link_loss.get_or_create(&labels).set(loss);
        if let Some(rate) = rate {
            self.link_rate.get_or_create(&labels).set(rate);
        }
    }

    /// Repairs were sent, or came, with this outcome.
    pub fn repairs(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.repairs
                .get_or_create(&ReasonLabels { reason: outcome })
                .inc_by(count);
        }
    }

    /// The bytes of the largest packet that the path to a host's agent takes.
    pub fn set_link_packet(&self, host: &str, bytes: u16) {
        self.link_packet
            .get_or_create(&HostLabels { host: host.to_owned() })
            .set(bytes.into());
    }

    /// The longest that a packet on a host's link has waited here for a while, in seconds.
    pub fn link_queue(&self, host: &str, seconds: f64) {
        self.link_queue
            .get_or_create(&HostLabels { host: host.to_owned() })
            .observe(seconds);
    }

    /// The round trip to a host's agent, in seconds.
    pub fn set_link_rtt(&self, host: &str, seconds: f64) {
        self.link_rtt
            .get_or_create(&HostLabels { host: host.to_owned() })
            .set(seconds);
    }

    /// A host's last link is gone.
    pub fn forget_link(&self, host: &str) {
        let labels = HostLabels { host: host.to_owned() };
        let families = [&self.link_rtt, &self.link_loss, &self.link_rate, &self.link_packet];
        for family in families {
            family.remove(&labels);
        }
        self.link_queue.remove(&labels);
    }

    /// A player entered a tunnel.
    pub fn session_started(&self, tunnel: &TunnelLabels) {
        self.sessions.get_or_create(tunnel).inc();
    }

    /// A player left a tunnel.
    pub fn session_ended(&self, tunnel: &TunnelLabels, end: &'static str) {
        self.sessions.get_or_create(tunnel).dec();
        self.sessions_ended
            .get_or_create(&EndLabels {
                protocol: tunnel.protocol,
                end,
            })
            .inc();
    }

    /// The counters of a tunnel's bytes: from and to its players.
    pub fn bytes(&self, tunnel: &TunnelLabels) -> [Counter; 2] {
        ["up", "down"].map(|direction| {
            let TunnelLabels { host, tunnel, protocol } = tunnel.clone();
            self.bytes.get_or_create_owned(&DirectionLabels {
                host,
                tunnel,
                protocol,
                direction,
            })
        })
    }

    /// A tunnel is gone for good, and with it what was counted for it.
    pub fn forget_tunnel(&self, tunnel: &TunnelLabels) {
        self.sessions.remove(tunnel);
        let TunnelLabels { host, tunnel, protocol } = tunnel;
        for direction in ["up", "down"] {
            self.bytes.remove(&DirectionLabels {
                host: host.clone(),
                tunnel: tunnel.clone(),
                protocol,
                direction,
            });
        }
        for reason in DropReason::ALL {
            let reason = reason.as_str();
            self.dropped.remove(&DropLabels {
                host: host.clone(),
                tunnel: tunnel.clone(),
                reason,
            });
        }
    }

    /// A server was asked for its entry in the server list.
    pub fn list_asked(&self, outcome: &'static str) {
        self.list_asked.get_or_create(&ReasonLabels { reason: outcome }).inc();
    }

    /// A player was told an entry, or why they cannot join: in the words of the `server`, or ours for this presence.
    pub fn list_told(&self, words: &'static str) {
        self.list_told.get_or_create(&ReasonLabels { reason: words }).inc();
    }

    /// An agent came with an invite that another one, elsewhere, was using.
    pub fn shared_token(&self) {
        self.shared_tokens.inc();
    }

    /// A player was not let in.
    pub fn denied(&self, reason: &'static str) {
        self.denied_times(reason, 1);
    }

    /// Lists were asked about an address, or not, with this outcome.
    pub fn dnsbl(&self, outcome: &'static str) {
        self.dnsbl.get_or_create(&ReasonLabels { reason: outcome }).inc();
    }

    /// So many players were not let in.
    pub fn denied_times(&self, reason: &'static str, count: u64) {
        self.denied.get_or_create(&ReasonLabels { reason }).inc_by(count);
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        *denials.entry(reason).or_default() += count;
    }

    /// How many were not let in since the last call, by reason.
    pub fn take_denials(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.denials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the process has in memory, and beyond what nobody new is let in.
    pub fn set_memory(&self, used: u64, limit: u64) {
        self.memory.set(used as i64);
        self.memory_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// So many lines of the audit log got nowhere.
    pub fn set_audit_lost(&self, lines: u64) {
        self.audit_lost.set(lines as i64);
    }

    /// UDP packets of a tunnel went no further.
    pub fn dropped(&self, tunnel: &TunnelLabels, reason: &'static str, count: u64) {
        if count > 0 {
            let TunnelLabels { host, tunnel, .. } = tunnel.clone();
            self.dropped
                .get_or_create(&DropLabels { host, tunnel, reason })
                .inc_by(count);
        }
    }

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        self.log_lost.set(lines_lost() as i64);
        let mut text = String::new();
        // Writing to a string fails only if a metric refuses to be written, which ours never do.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_with_its_unit_and_labels() {
        let metrics = RelayMetrics::default();
        let tunnel = TunnelLabels {
            host: "desk".into(),
            tunnel: "mc".into(),
            protocol: "tcp",
        };
        metrics.handshake("accepted");
        metrics.violation("oversize_frame");
        metrics.set_links(2);
        metrics.set_link_rtt("desk", 0.02);
        metrics.session_started(&tunnel);
        metrics.session_started(&tunnel);
        metrics.session_ended(&tunnel, "finished");
        metrics.bytes(&tunnel)[0].inc_by(10);
        metrics.denied("rate_of_address");
        metrics.dropped(&tunnel, "too_old", 3);
        metrics.link_parked(2);
        metrics.link_parked(-1);
        metrics.sessions_resumed(3, 0.2);
        metrics.sessions_expired(4);
        metrics.set_link_path("desk", 0.01, Some(5000.0));
        metrics.link_queue("desk", 0.004);
        metrics.repairs("mended", 7);
        metrics.dropped(&tunnel, "queue_full", 0);
        let text = metrics.render();
        for line in [
            r#"relay_handshakes_total{reason="accepted"} 1"#,
            r#"relay_violations_total{reason="oversize_frame"} 1"#,
            "relay_links_active 2",
            r#"relay_link_rtt_seconds{host="desk"} 0.02"#,
            r#"relay_sessions_active{host="desk",tunnel="mc",protocol="tcp"} 1"#,
            r#"relay_sessions_total{protocol="tcp",end="finished"} 1"#,
            r#"relay_bytes_total{host="desk",tunnel="mc",protocol="tcp",direction="up"} 10"#,
            r#"relay_link_loss_ratio{host="desk"} 0.01"#,
            r#"relay_link_queue_seconds_bucket{le="0.005",host="desk"} 1"#,
            r#"relay_link_rate_bytes{host="desk"} 5000.0"#,
            r#"relay_repairs_total{reason="mended"} 7"#,
            "relay_links_parked 1",
            "relay_sessions_resumed_total 3",
            "relay_sessions_expired_total 4",
            r#"relay_session_pause_seconds_bucket{le="0.25"} 3"#,
            r#"relay_players_denied_total{reason="rate_of_address"} 1"#,
            r#"relay_datagrams_dropped_total{host="desk",tunnel="mc",reason="too_old"} 3"#,
        ] {
            assert!(text.lines().any(|got| got == line), "no `{line}` in\n{text}");
        }
        assert!(!text.contains("queue_full"));
    }
}

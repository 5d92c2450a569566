//! A relay and its hosts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use spawnpoint_agent::{Agent, AgentSettings, GiveUp};
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_config::tunnel::Tunnel;
use spawnpoint_core::admission::Bounds;
use spawnpoint_core::grant::Grant;
use spawnpoint_core::port::PortSet;
use spawnpoint_ops::Event;
use spawnpoint_proto::Invite;
use spawnpoint_relay::Relay;
use spawnpoint_relay::office::Office;
use tokio::sync::watch;

use crate::{Heard, soon};

/// How often links are asked for a sign of life on which nobody plays: no test should wait for as long as usual.
const QUIET: Duration = Duration::from_secs(5);

/// A relay with a directory of its own.
pub struct Lab {
    /// The relay; `None` while it is stopped.
    pub relay: Option<Relay>,
    /// What the relay emits.
    pub heard: Heard,
    config: RelayConfig,
    data: tempfile::TempDir,
}

/// A host's agent.
pub struct Host {
    /// The agent.
    pub agent: Agent,
    /// What it emits.
    pub heard: Heard,
    /// What it exposes; sending changes it while it runs.
    pub tunnels: watch::Sender<Vec<Tunnel>>,
    /// Its invite.
    pub invite: Invite,
}

impl Lab {
    /// A relay with small numbers: everything on loopback, a free port for agents, a pool of free public ports, no admin listener.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// As [`Lab::start`], with changes to the configuration.
    pub async fn with(change: impl FnOnce(&mut RelayConfig)) -> Self {
        let mut config = RelayConfig {
            // Not one that the kernel would give to somebody else while the relay is stopped.
            listen: loopback(free_ports(1).iter().next().unwrap()),
            admin: None,
            ..RelayConfig::default()
        };
        config.players.bind = Ipv4Addr::LOCALHOST.into();
        config.players.ports = free_ports(8);
        // All players of a test come from one address.
        let all = Bounds {
            players: 10_000,
            half_open: 10_000,
            rate: 10_000,
            burst: 10_000,
        };
        config.players.per_address = all;
        config.links.transport.quiet_keep_alive = QUIET;
        // And come all at once.
        config.players.per_host = Bounds { players: 1_000, ..all };
        config.players.per_tunnel = config.players.per_host;
        config.players.total = all;
        change(&mut config);
        let mut lab = Self {
            relay: None,
            heard: Heard::default(),
            config,
            data: tempfile::tempdir().unwrap(),
        };
        lab.start_again().await;
        lab
    }

    /// Starts the relay again on the same data, at the same port.
    pub async fn start_again(&mut self) {
        let relay = Relay::start(self.config.clone(), self.data.path(), self.heard.events()).await;
        let relay = relay.unwrap_or_else(|error| panic!("the relay does not start: {error:#}"));
        self.relay = Some(relay);
    }

    /// A relay follows the one at the other end of `channel`, on the same data and with ears of its own.
    #[cfg(unix)]
    pub async fn take_over(&mut self, channel: &mut spawnpoint_net::Channel) {
        self.heard = Heard::default();
        let relay = Relay::take_over(self.config.clone(), self.data.path(), self.heard.events(), channel).await;
        self.relay = Some(relay.unwrap_or_else(|error| panic!("the relay does not follow: {error:#}")));
    }

    /// Changes the configuration of the running relay.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut RelayConfig)) {
        change(&mut self.config);
        let reloaded = self.relay().reload(self.config.clone()).unwrap();
        assert!(reloaded.waits.is_empty(), "{:?} cannot change", reloaded.waits);
    }

    /// Stops the relay without patience.
    pub async fn stop(&mut self) {
        if let Some(relay) = self.relay.take() {
            soon("the relay stops", relay.stop(Duration::ZERO, std::future::pending())).await;
        }
    }

    /// The running relay.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("the relay runs")
    }

    /// The relay's metrics as text.
    pub fn metrics(&self) -> String {
        self.relay().metrics().render()
    }

    /// The value of one line of the metrics, 0 when there is none.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.metrics();
        let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The pool of public ports.
    pub fn pool(&self) -> &PortSet {
        &self.config.players.ports
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// The operator's desk.
    pub fn office(&self) -> Office {
        Office::open(self.data.path()).unwrap()
    }

    /// Invites a host with the default grant.
    pub fn invite(&self, name: &str) -> Invite {
        self.invite_with(name, Grant::default())
    }

    /// Invites a host.
    pub fn invite_with(&self, name: &str, grant: Grant) -> Invite {
        self.office().invite(&name.parse().unwrap(), &grant, None).unwrap()
    }

    /// Invites a host and starts its agent; returns when all its tunnels are answered.
    pub async fn host(&self, name: &str, tunnels: &[&str]) -> Host {
        let host = Host::start(self.invite(name), tunnels);
        host.ready().await;
        host
    }
}

impl Host {
    /// Starts an agent.
    pub fn start(invite: Invite, tunnels: &[&str]) -> Self {
        Self::start_with(invite, parse(tunnels))
    }

    /// Starts an agent with tunnels that say more than a word can.
    pub fn start_with(invite: Invite, tunnels: Vec<Tunnel>) -> Self {
        Self::start_quiet(invite, tunnels, QUIET)
    }

    /// As [`Host::start_with`], for an agent that asks after `quiet` while nobody plays.
    pub fn start_quiet(invite: Invite, tunnels: Vec<Tunnel>, quiet: Duration) -> Self {
        let (tunnels, heard) = (watch::Sender::new(tunnels), Heard::default());
        let mut settings = AgentSettings::new(&AgentConfig::default(), invite.clone());
        settings.transport.quiet_keep_alive = quiet;
        let agent = Agent::start(settings, tunnels.subscribe(), heard.events());
        Self {
            agent,
            heard,
            tunnels,
            invite,
        }
    }

    /// Waits until the tunnels are answered.
    pub async fn ready(&self) {
        self.heard
            .wait("the agent is ready", |event| {
                matches!(event, Event::Ready { .. }).then_some(())
            })
            .await;
    }

    /// The public address of a tunnel.
    pub async fn public(&self, name: &str) -> SocketAddr {
        let pick = |event: &Event| match event {
            Event::Tunnel { tunnel, public, .. } if tunnel == name => Some(public.parse().unwrap()),
            _ => None,
        };
        self.heard.wait(&format!("tunnel {name} is open"), pick).await
    }

    /// The best that players of a tunnel can type.
    pub async fn address(&self, name: &str) -> String {
        let pick = |event: &Event| match event {
            Event::Tunnel { tunnel, address, .. } if tunnel == name => address.clone(),
            _ => None,
        };
        self.heard.wait(&format!("tunnel {name} has a name"), pick).await
    }

    /// Why a tunnel is not open: the word and the sentence.
    pub async fn refusal(&self, name: &str) -> (&'static str, String) {
        let pick = |event: &Event| match event {
            Event::TunnelRefused {
                tunnel, reason, text, ..
            } if tunnel == name => Some((*reason, text.clone())),
            _ => None,
        };
        self.heard.wait(&format!("tunnel {name} is refused"), pick).await
    }

    /// Changes what the agent exposes.
    pub fn expose(&self, tunnels: &[&str]) {
        self.tunnels.send_replace(parse(tunnels));
    }

    /// Waits until the agent gives up.
    pub async fn gave_up(&mut self) -> GiveUp {
        soon("the agent gives up", self.agent.gave_up()).await
    }

    /// Stops the agent tidily.
    pub async fn stop(self) {
        soon("the agent stops", self.agent.stop()).await;
    }
}

fn parse(tunnels: &[&str]) -> Vec<Tunnel> {
    tunnels
        .iter()
        .map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
        .collect()
}

/// An address of this machine alone.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// As many ports in a row that nobody has, for both protocols, below the range from which the kernel gives out its own.
pub fn free_ports(count: u16) -> PortSet {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time start at different places.
    let start = 12_000 + (std::process::id() % 600) as u16 * 32;
    for _ in 0..1000 {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = 12_000 + (start - 12_000 + offset) % (32_000 - 12_000 - count);
        let is_free = |port| TcpListener::bind(loopback(port)).is_ok() && UdpSocket::bind(loopback(port)).is_ok();
        if (first..first + count).all(is_free) {
            return PortSet::range(first..=first + count - 1);
        }
    }
    panic!("no {count} free ports in a row");
}

/// Files of a test that must outlive a scope.
pub fn file(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

//! A whole tunnel on one machine: a small game server behind it, a pinging player in front.
//!
//! Relay, agent and invite are the real ones, over loopback, in one process; only the server and the player are stand-ins, and either can be the real thing
//! too: [`Demo::start`] takes the address of your own server, and the address it gives can be typed into the game.

pub mod origin;
pub mod player;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use spawnpoint_agent::{Agent, AgentSettings};
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::preset::JAVA;
use spawnpoint_config::relay::RelayConfig;
use spawnpoint_config::tunnel::{Origin as OriginAddress, Tunnel};
use spawnpoint_core::grant::Grant;
use spawnpoint_core::port::PortSet;
use spawnpoint_net::TaskScope;
use spawnpoint_ops::{Event, Events};
use spawnpoint_relay::office::{Office, OfficeError};
use spawnpoint_relay::{Relay, RelayError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use origin::Origin;
use player::{PlayerError, ping};
pub use report::Report;

/// On loopback everything is there in milliseconds; a machine under load may need a few seconds.
const DEADLINE: Duration = Duration::from_secs(15);

/// Pings on each way; enough for a median that says something.
const ROUNDS: usize = 50;

/// What can go wrong with a demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The temporary directory or the built-in server.
    #[error("the demo could not be set up")]
    Setup(#[source] std::io::Error),
    /// The relay.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The invite.
    #[error(transparent)]
    Office(#[from] OfficeError),
    /// The server's address.
    #[error("cannot resolve the server `{0}`")]
    Server(String, #[source] std::io::Error),
    /// The tunnel.
    #[error("the tunnel did not open: {0}")]
    Tunnel(String),
    /// The player, without the tunnel.
    #[error("the server {server} does not answer a Minecraft ping: is it running, and is it a Java server?")]
    Direct {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: PlayerError,
    },
    /// The player, through the tunnel.
    #[error("the ping through the tunnel failed")]
    Through(#[source] PlayerError),
}

/// A running demo.
pub struct Demo {
    relay: Relay,
    agent: Agent,
    server: OriginAddress,
    is_built_in: bool,
    public: SocketAddr,
    linked_in: Duration,
    origin: TaskScope,
    _data: tempfile::TempDir,
}

impl Demo {
    /// Starts relay and agent on loopback, with a built-in server behind them or `server`.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn start(server: Option<OriginAddress>) -> Result<Self, DemoError> {
        let data = tempfile::tempdir().map_err(DemoError::Setup)?;
        let origin = TaskScope::new(&CancellationToken::new());
        let is_built_in = server.is_none();
        let server = match server {
            Some(server) => server,
            None => {
                let built_in = Origin::bind(loopback(0)).await.map_err(DemoError::Setup)?;
                let port = built_in.local_addr().port();
                origin.spawn(built_in.serve(origin.token().clone()));
                OriginAddress {
                    host: Ipv4Addr::LOCALHOST.to_string(),
                    port,
                }
            }
        };
        let mut config = RelayConfig {
            listen: loopback(0),
            admin: None,
            ..RelayConfig::default()
        };
        config.players.bind = Ipv4Addr::LOCALHOST.into();
        // What is measured is the way through the tunnel.
        config.players.list_cache = Duration::ZERO;
        if config.players.ports.contains(server.port) {
            // The tunnel must not lead to itself when nothing listens there yet.
            config.players.ports = PortSet::range(server.port.saturating_add(1)..=server.port.saturating_add(100));
        }
        let relay = Relay::start(config, data.path(), Events::none()).await?;
        let name = "demo"
            .parse()
            .map_err(|_| DemoError::Tunnel("the name is no name".into()))?;
        let invite = Office::open(data.path())?.invite(&name, &Grant::default(), None)?;

        let mut tunnel: Tunnel = JAVA
            .parse()
            .map_err(|_| DemoError::Tunnel("the preset is none".into()))?;
        tunnel.origin = server.clone();
        let (heard, mut events) = mpsc::channel(64);
        // A demo that is over needs no more events.
        let events_out = Events::new(move |event| drop(heard.try_send(event)));
        let began = Instant::now();
        let settings = AgentSettings::new(&AgentConfig::default(), invite);
        let agent = Agent::start(settings, watch::Sender::new(vec![tunnel]).subscribe(), events_out);
        let public = tokio::time::timeout(DEADLINE, opened(&mut events)).await;
        let public = public
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(DemoError::Tunnel)?;
        let linked_in = began.elapsed();
        Ok(Self {
            relay,
            agent,
            server,
            is_built_in,
            public,
            linked_in,
            origin,
            _data: data,
        })
    }

    /// The address to type into the game.
    pub const fn public(&self) -> SocketAddr {
        self.public
    }

    /// Pings the server directly and through the tunnel, as a Minecraft client would.
    ///
    /// # Errors
    /// [`DemoError::Server`], [`DemoError::Direct`] or [`DemoError::Through`].
    pub async fn ping(&self) -> Result<Report, DemoError> {
        let named = self.server.to_string();
        let found = tokio::net::lookup_host((self.server.host.as_str(), self.server.port)).await;
        let resolved = found.and_then(|mut found| found.next().ok_or_else(|| std::io::ErrorKind::NotFound.into()));
        let address = resolved.map_err(|error| DemoError::Server(named.clone(), error))?;
        let direct = ping(address, &self.server.host, ROUNDS, DEADLINE).await;
        let direct = direct.map_err(|source| DemoError::Direct {
            server: named.clone(),
            source,
        })?;
        let through = ping(self.public, "localhost", ROUNDS, DEADLINE)
            .await
            .map_err(DemoError::Through)?;
        let listen = self.relay.info().listen;
        let (is_built_in, linked_in) = (self.is_built_in, self.linked_in);
        Ok(Report {
            server: named,
            is_built_in,
            listen,
            linked_in,
            public: self.public,
            direct,
            through,
        })
    }

    /// Ends everything.
    pub async fn stop(self) {
        self.agent.stop().await;
        self.relay.stop(Duration::ZERO, std::future::pending()).await;
        self.origin.close(Duration::from_secs(2)).await;
    }
}

async fn opened(events: &mut mpsc::Receiver<Event>) -> Result<SocketAddr, String> {
    while let Some(event) = events.recv().await {
        match event {
            Event::Tunnel { public, .. } => return public.parse().map_err(|_| format!("`{public}` is no address")),
            Event::TunnelRefused { text, .. } | Event::Stopped { reason: text } => return Err(text),
            _ => {}
        }
    }
    Err("the agent stopped".to_owned())
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

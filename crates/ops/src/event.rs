//! Events for programs: `--json` prints each as one line.
//!
//! The names and fields here are a promise: they are added to, never renamed or removed. A program skips events and fields it does not know.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

/// Something that a program watching a relay or an agent may act on.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process does its work from here on. Relay: agents can come. Agent: every tunnel that can be open is.
    Ready {
        /// `relay` or `agent`.
        role: &'static str,
        /// This process; another one after an upgrade in place.
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Relay: the address for agents.
        #[serde(skip_serializing_if = "Option::is_none")]
        listen: Option<SocketAddr>,
        /// Relay: the address of health and metrics.
        #[serde(skip_serializing_if = "Option::is_none")]
        admin: Option<SocketAddr>,
        /// Relay: the name or address that invites show. Agent: the relay's.
        relay: String,
        /// Relay: the pool of public ports.
        #[serde(skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
    },
    /// A link between relay and agent is up.
    LinkUp {
        /// The host's name at the relay.
        host: String,
        /// The link's id.
        link: String,
        /// The peer's address.
        peer: SocketAddr,
    },
    /// A link is gone.
    LinkDown {
        /// The host's name at the relay.
        host: String,
        /// The link's id.
        link: String,
        /// Why, in one word of the field's terms.
        reason: String,
    },
    /// A link without a connection waits for its agent, with its sessions.
    Parked {
        /// The host's name at the relay.
        host: String,
        /// The link's id.
        link: String,
        /// How many TCP sessions wait.
        sessions: usize,
        /// How long, in milliseconds.
        window_ms: u64,
    },
    /// A link goes on with a new connection, and its sessions with it.
    Resumed {
        /// The host's name at the relay.
        host: String,
        /// The link's id.
        link: String,
        /// How many TCP sessions go on.
        sessions: usize,
        /// How long it was without a connection, in milliseconds.
        pause_ms: u64,
    },
    /// A link's agent did not come back in time; its sessions end.
    Expired {
        /// The host's name at the relay.
        host: String,
        /// The link's id.
        link: String,
        /// How many TCP sessions end.
        sessions: usize,
    },
    /// The agent waits before it tries the relay again.
    Reconnecting {
        /// Why the last try failed, in words.
        reason: String,
        /// The longest it will wait, in milliseconds; less when the relay answers before.
        wait_ms: u64,
    },
    /// A tunnel is open.
    Tunnel {
        /// Relay: the host's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The tunnel's name.
        tunnel: String,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The relay's own name or address, and the public port.
        public: String,
        /// What is better to type, as a rule a name without a port.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Agent: the game server.
        #[serde(skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
    },
    /// A tunnel is not open, or not any more.
    TunnelRefused {
        /// Relay: the host's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The tunnel's name.
        tunnel: String,
        /// Why, in one word.
        reason: &'static str,
        /// Why, in a sentence with the remedy.
        text: String,
    },
    /// A tunnel was closed on purpose.
    TunnelClosed {
        /// Relay: the host's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The tunnel's name.
        tunnel: String,
    },
    /// A player is in.
    PlayerJoined {
        /// Relay: the host's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The tunnel's name.
        tunnel: String,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The session, unique while the process runs.
        session: String,
        /// The player's address.
        player: SocketAddr,
    },
    /// A player has left.
    PlayerLeft {
        /// Relay: the host's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The tunnel's name.
        tunnel: String,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The session.
        session: String,
        /// Why, in one word.
        reason: &'static str,
        /// Bytes from the player.
        up: u64,
        /// Bytes to the player.
        down: u64,
        /// How long the player was in, in milliseconds.
        lasted_ms: u64,
        /// The player's address, as far as it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        player: Option<SocketAddr>,
    },
    /// The game server does not take players; said once until it does again.
    OriginDown {
        /// The tunnel's name.
        tunnel: String,
        /// The game server.
        origin: String,
        /// Why, in words.
        reason: String,
    },
    /// The game server takes players again.
    OriginUp {
        /// The tunnel's name.
        tunnel: String,
        /// The game server.
        origin: String,
    },
    /// UDP packets that the agent could not pass on since the last such event.
    DatagramsDropped {
        /// Why, in one word.
        reason: &'static str,
        /// How many.
        count: u64,
    },
    /// An agent was not let in.
    AgentRefused {
        /// Its address.
        peer: SocketAddr,
        /// Why, in one word.
        reason: &'static str,
        /// How many more there were since the last that was told, for want of time.
        untold: u64,
    },
    /// A host's agent is here for the first time.
    FirstSeen {
        /// The host.
        host: String,
        /// The agent's address.
        peer: SocketAddr,
    },
    /// Players were turned away, told together for a while.
    LimitHit {
        /// Why, in one word.
        reason: &'static str,
        /// How many.
        count: u64,
        /// In how many seconds.
        seconds: u64,
    },
    /// An operator has invited a host.
    Invited {
        /// The host.
        host: String,
        /// Who did it, as the machine knows them.
        by: String,
    },
    /// An operator has replaced a host's token.
    Rotated {
        /// The host.
        host: String,
        /// For how long the old one works too, in seconds.
        grace_s: u64,
        /// Who did it.
        by: String,
    },
    /// An operator has ended a host.
    Revoked {
        /// The host.
        host: String,
        /// Who did it.
        by: String,
    },
    /// An operator has changed what a host may expose and use.
    Granted {
        /// The host.
        host: String,
        /// Who did it.
        by: String,
    },
    /// A quota of this month is used up.
    QuotaUsed {
        /// The host's number; the whole relay's quota when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<i64>,
        /// The tunnel, when the quota is one's.
        #[serde(skip_serializing_if = "Option::is_none")]
        tunnel: Option<String>,
    },
    /// The relay has words for the host.
    Notice {
        /// A sentence.
        text: String,
    },
    /// A host's invite ends soon.
    Expiring {
        /// The host.
        host: String,
        /// `grant`, or `old_token` for one that was replaced.
        reason: &'static str,
        /// How many seconds are left.
        left_s: u64,
    },
    /// Two agents with one host's invite are here at once, from different networks: perhaps somebody else has it too.
    SharedToken {
        /// The host.
        host: String,
        /// The agents' addresses.
        peers: [SocketAddr; 2],
    },
    /// Players from a prefix may not come any more.
    Banned {
        /// The host whose tunnels it is for; the whole relay when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The prefix.
        prefix: String,
        /// `operator`, `host` or `relay`.
        by: &'static str,
        /// Why, in words.
        reason: String,
        /// For how long, in seconds; until it is lifted when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        lasts_s: Option<u64>,
    },
    /// A ban was lifted.
    Unbanned {
        /// The host whose tunnels it was for; the whole relay when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// The prefix.
        prefix: String,
    },
    /// A changed configuration was looked at.
    Configured {
        /// What is different and takes an upgrade or a restart to be live.
        waits: Vec<&'static str>,
        /// Why nothing changed.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// No new players; those who are in may stay until the deadline.
    Draining {
        /// How many are in.
        players: u32,
        /// The deadline, in milliseconds from now.
        deadline_ms: u64,
    },
    /// The process ends.
    Stopped {
        /// Why, in words.
        reason: String,
    },
}

/// Where events go; clones lead to the same place.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Hands each event to `take`, which must not wait.
    pub fn new(take: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Nobody listens.
    pub fn none() -> Self {
        Self::new(drop)
    }

    /// Tells whoever listens.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_lines_that_programs_read_never_change() {
        let tunnel = Event::Tunnel {
            host: None,
            tunnel: "minecraft".into(),
            protocol: "tcp",
            public: "203.0.113.5:25565".into(),
            address: None,
            origin: Some("127.0.0.1:25565".into()),
        };
        assert_eq!(
            serde_json::to_string(&tunnel).unwrap(),
            r#"{"event":"tunnel","tunnel":"minecraft","protocol":"tcp","public":"203.0.113.5:25565","origin":"127.0.0.1:25565"}"#
        );
        let ready = Event::Ready {
            role: "agent",
            pid: None,
            listen: None,
            admin: None,
            relay: "203.0.113.5:7843".into(),
            ports: None,
        };
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            r#"{"event":"ready","role":"agent","relay":"203.0.113.5:7843"}"#
        );
        let left = Event::PlayerLeft {
            host: Some("desk".into()),
            tunnel: "minecraft".into(),
            protocol: "tcp",
            session: "7".into(),
            reason: "finished",
            up: 1,
            down: 2,
            lasted_ms: 3,
            player: None,
        };
        assert_eq!(
            serde_json::to_string(&left).unwrap(),
            r#"{"event":"player_left","host":"desk","tunnel":"minecraft","protocol":"tcp","session":"7","reason":"finished","up":1,"down":2,"lasted_ms":3}"#
        );
    }
}

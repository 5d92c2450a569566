//! What a demo saw, as a person reads it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::player;

/// What a demo saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// The game server.
    pub server: String,
    /// Whether it is the demo's own.
    pub is_built_in: bool,
    /// Where the relay awaits agents.
    pub listen: SocketAddr,
    /// From the agent's start to the open tunnel.
    pub linked_in: Duration,
    /// What players type.
    pub public: SocketAddr,
    /// The server without the tunnel.
    pub direct: player::Report,
    /// The server through the tunnel.
    pub through: player::Report,
}

fn millis(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64() * 1000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            is_built_in,
            listen,
            linked_in,
            public,
            direct,
            through,
        } = self;
        let kind = if *is_built_in { " (built in)" } else { "" };
        writeln!(
            f,
            "player  ->  relay {public}  =QUIC=  agent  ->  server {server}{kind}"
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "link     up in {:.0} ms, to {listen}/udp, certificate pinned by the invite",
            millis(Some(*linked_in))
        )?;
        writeln!(
            f,
            "list     \"{}\", {} of {} players, {}",
            through.motd, through.players_online, through.players_max, through.version
        )?;
        for (name, report) in [("direct", direct), ("tunnel", through)] {
            writeln!(
                f,
                "{name:<8} ping {:.2} ms (median of {}, slowest {:.2}), connect {:.2} ms",
                millis(report.median()),
                report.samples.len(),
                millis(report.slowest()),
                millis(Some(report.connect)),
            )?;
        }
        let added = millis(through.median()) - millis(direct.median());
        write!(f, "added    {added:.2} ms by the tunnel on this machine")
    }
}

//! Relay, agent, game server and players of one scenario.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::actor::Actor;
use super::fault::Fault;
use super::launch::{self, Props, command};
use super::net::Side;
use super::place::Place;
use super::role::{self, Order};
use super::running::Running;
use super::vitals::{Vitals, mebibytes};
use crate::crowd::{Books, Report, books};

/// Nobody takes this long to enter, even in a crowd on a busy machine.
const SETTLE: Duration = Duration::from_secs(20);

/// What an idle process may have more than when it was new: descriptors and threads that come with first use and stay.
const SPARE: usize = 8;

/// The same for memory: an allocator keeps what it once had.
const SPARE_BYTES: u64 = 160 << 20;

/// After its last session ended, a process has this long to let go of what it held.
const LET_GO: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// A running stage; everything ends when it is dropped.
#[derive(Debug)]
pub struct Stage {
    /// The way between the sides.
    pub place: Place,
    /// The public side.
    pub relay: Running,
    /// The side at home.
    pub agent: Running,
    /// The players' process.
    pub players: Actor,
    /// Where TCP players go.
    pub tcp: SocketAddr,
    props: Props,
    origin: Actor,
    udp: SocketAddr,
    ports: String,
    new: [Vitals; 2],
}

impl Stage {
    /// Starts everything up to the crowd.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(place: Place, props: Props) -> Result<Self, Fault> {
        props.write()?;
        let ports = place.ports();
        let relay = launch::relay(&place, &props, &ports).await?;
        let actor = |side| {
            let program = std::env::current_exe().map_err(|error| Fault::new("this program", error))?;
            let mut command = place.command(side, &program);
            command.arg(role::WORD);
            Actor::start(command)
        };
        let (players, mut origin) = (actor(Side::Public)?, actor(Side::Home)?);
        let (tcp, udp): (SocketAddr, SocketAddr) = origin.ask(Order::Open(place.origin())).await?;
        let agent = launch::agent(&place, &props, tcp, udp).await?;
        let (tcp, udp) = (public(&agent, "game").await?, public(&agent, "voice").await?);
        let new = [relay.vitals()?, agent.vitals()?];
        Ok(Self {
            place,
            relay,
            agent,
            players,
            tcp,
            props,
            origin,
            udp,
            ports,
            new,
        })
    }

    /// Lets the crowd in and waits until everybody plays.
    ///
    /// # Errors
    /// When not everybody does.
    pub async fn enter(&mut self) -> Result<(), Fault> {
        let (tcp, udp, size) = (self.tcp, self.udp, self.props.size);
        self.players.ask::<Value>(Order::Enter { tcp, udp, size }).await?;
        match self.players.ask(Order::Settle(SETTLE)).await? {
            true => Ok(()),
            false => Err(Fault(format!("not everybody plays within {SETTLE:?}"))),
        }
    }

    /// Ends the crowd tidily; what its players and the game server tell together.
    ///
    /// # Errors
    /// When one of them is gone.
    pub async fn leave(&mut self) -> Result<Report, Fault> {
        let mut report: Report = self.players.ask(Order::Leave).await?;
        let known: Books = self.origin.ask(Order::Books).await?;
        books::compare(&mut report, &known);
        Ok(report)
    }

    /// UDP flows that have come to the game server from another address than before, so far.
    ///
    /// # Errors
    /// When the game server is gone.
    pub async fn moved(&mut self) -> Result<usize, Fault> {
        let known: Books = self.origin.ask(Order::Books).await?;
        Ok(known.changed_mappings())
    }

    /// Asks a side to replace its process.
    ///
    /// # Errors
    /// When it does not, or not fully.
    pub async fn upgrade_relay(&mut self) -> Result<(), Fault> {
        let mut command = command(&self.place, Side::Public, &self.props);
        command.args(["relay", "upgrade", "--data-dir"]).arg(self.props.data());
        self.relay.upgrade(command).await
    }

    /// As [`Stage::upgrade_relay`].
    ///
    /// # Errors
    /// The same.
    pub async fn upgrade_agent(&mut self) -> Result<(), Fault> {
        let mut command = command(&self.place, Side::Home, &self.props);
        command
            .args(["agent", "upgrade", "--state-dir"])
            .arg(self.props.state());
        self.agent.upgrade(command).await
    }

    /// Kills the relay and starts it again at once; returns when it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn kill_relay(&mut self) -> Result<(), Fault> {
        self.relay.kill().await?;
        self.relay = launch::relay(&self.place, &self.props, &self.ports).await?;
        Ok(())
    }

    /// Resident bytes of relay and agent.
    pub fn resident(&self) -> [u64; 2] {
        [&self.relay, &self.agent].map(|side| side.vitals().unwrap_or_default().resident)
    }

    /// What those two had before the crowd came.
    pub fn resident_before(&self) -> [u64; 2] {
        self.new.map(|vitals| vitals.resident)
    }

    /// After the crowd has left: what is still held, in sentences. Waits until sessions must have ended.
    ///
    /// # Errors
    /// When relay or agent is gone.
    pub async fn leaks(&mut self) -> Result<Vec<String>, Fault> {
        let mut leaks = Vec::new();
        let until = Instant::now() + self.props.udp_idle + LET_GO;
        let mut sessions = self.sessions().await?;
        while sessions > 0.0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            sessions = self.sessions().await?;
        }
        if sessions > 0.0 {
            leaks.push(format!("{sessions} sessions"));
        }
        for (side, new) in [&self.relay, &self.agent].into_iter().zip(self.new) {
            let until = Instant::now() + LET_GO;
            let mut held = excess(side.vitals()?, new);
            while !held.is_empty() && Instant::now() < until {
                tokio::time::sleep(LOOK).await;
                held = excess(side.vitals()?, new);
            }
            leaks.extend(held.into_iter().map(|held| format!("{}: {held}", side.command)));
            let processes = side.processes().len();
            if processes != 1 {
                leaks.push(format!("{}: {processes} processes", side.command));
            }
        }
        Ok(leaks)
    }

    async fn sessions(&mut self) -> Result<f64, Fault> {
        let page = Order::Page {
            admin: admin(&self.relay)?,
            path: "/metrics".to_owned(),
        };
        let text: String = self.players.ask(page).await?;
        let lines = text.lines().filter(|line| line.starts_with("relay_sessions_active{"));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

fn excess(now: Vitals, new: Vitals) -> Vec<String> {
    let mut held = Vec::new();
    if now.descriptors > new.descriptors + SPARE {
        held.push(format!("{} descriptors, {} when new", now.descriptors, new.descriptors));
    }
    if now.threads > new.threads + SPARE {
        held.push(format!("{} threads, {} when new", now.threads, new.threads));
    }
    if now.resident > new.resident + SPARE_BYTES {
        let [now, new] = [now.resident, new.resident].map(mebibytes);
        held.push(format!("{now}, {new} when new"));
    }
    held
}

/// Where a tunnel's players go.
async fn public(agent: &Running, tunnel: &str) -> Result<SocketAddr, Fault> {
    let event = agent.event("tunnel", |event| event["tunnel"] == tunnel).await?;
    let text = event["public"].as_str().unwrap_or_default();
    text.parse().map_err(|error| Fault::new(text, error))
}

/// Where the relay's newest process serves its metrics.
fn admin(relay: &Running) -> Result<SocketAddr, Fault> {
    let event = relay.last("ready")?;
    let text = event["admin"].as_str().unwrap_or_default();
    text.parse().map_err(|error| Fault::new(text, error))
}

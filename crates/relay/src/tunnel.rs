//! One open tunnel of one link: what its players' tasks need, and the scope they live in.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use spawnpoint_core::access::{Lists, Rule};
use spawnpoint_core::admission::{Circle, DenyReason, Permit};
use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_net::{Meter, TaskScope, unix_now};
use spawnpoint_ops::{Event, TunnelLabels};
use spawnpoint_proto::{SessionId, TunnelId, TunnelName};

use crate::context::Context;
use crate::link::Link;
use crate::list::List;
use crate::meter::SessionMeter;
use crate::rates::Way;
use crate::udp::UdpTunnel;
use crate::usage::Book;

/// An open tunnel. Its players end when it is dropped or its scope is cancelled.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub context: Arc<Context>,
    pub id: TunnelId,
    pub name: TunnelName,
    /// Its public port.
    pub port: u16,
    pub labels: TunnelLabels,
    /// Its players, within those of its host.
    pub circle: Arc<Circle>,
    /// What they pay on their way.
    pub way: Arc<Way>,
    /// What it uses.
    pub book: Arc<Book>,
    /// Bytes from and to players.
    pub bytes: [Counter; 2],
    pub scope: TaskScope,
    /// The flows, when the tunnel carries packets.
    pub udp: Option<Arc<UdpTunnel>>,
    /// Its names on shared ports.
    pub names: Mutex<Vec<Pattern>>,
    /// What the server list shows of it, for a game that has one.
    pub list: Option<Arc<List>>,
    /// From where the host itself lets players come.
    pub own_rule: Arc<OwnRule>,
}

/// From where a host lets players come to one of its tunnels, as its agent says.
#[derive(Debug, Default)]
pub(crate) struct OwnRule(Mutex<Arc<Rule>>);

impl OwnRule {
    /// It is what `lists` say.
    pub fn new(lists: &Lists) -> Self {
        Self(Mutex::new(Arc::new(Rule::new(lists, []))))
    }

    /// From here on it is what `lists` say.
    pub fn set(&self, lists: &Lists) {
        let rule = Arc::new(Rule::new(lists, []));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Whether players from `ip` may come.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, ip: IpAddr, now: UnixTime) -> Result<(), DenyReason> {
        let rule = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rule.check(ip, now).map_err(DenyReason::Barred)
    }
}

impl Tunnel {
    /// Its names on shared ports.
    pub fn names(&self) -> Vec<Pattern> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether players from `ip` may come to it, over `link`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, link: &Link, ip: IpAddr) -> Result<(), DenyReason> {
        let now = unix_now();
        self.context.access().check_tunnel(link.host, &self.name, ip, now)?;
        self.own_rule.check(ip, now)
    }

    /// Its names on shared ports are these from here on.
    pub fn set_names(&self, names: Vec<Pattern>) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }
}

/// A player who is in; dropping it counts, reports and releases.
#[derive(Debug)]
pub(crate) struct Seat {
    pub session: SessionId,
    player: SocketAddr,
    context: Arc<Context>,
    labels: TunnelLabels,
    book: Arc<Book>,
    started: tokio::time::Instant,
    end: &'static str,
    bytes: [u64; 2],
    /// Counts a session that may be cut at any moment.
    meters: Option<Arc<[SessionMeter; 2]>>,
    permit: Option<Arc<Permit>>,
}

impl Seat {
    /// Reports that `player` is in.
    pub fn take(
        context: &Arc<Context>,
        (labels, book): (&TunnelLabels, &Arc<Book>),
        player: SocketAddr,
        permit: Permit,
    ) -> Self {
        book.enter(true);
        let session = context.next_session();
        context.metrics.session_started(labels);
        context.events.emit(Event::PlayerJoined {
            host: Some(labels.host.clone()),
            tunnel: labels.tunnel.clone(),
            protocol: labels.protocol,
            session: session.to_string(),
            player,
        });
        Self::new(context, (labels, book), (session, player), permit, Duration::ZERO)
    }

    /// Goes on with a player who has been in for `age`, in the process that this one follows.
    pub fn restore(
        context: &Arc<Context>,
        (labels, book): (&TunnelLabels, &Arc<Book>),
        (session, player): (SessionId, SocketAddr),
        permit: Permit,
        age: Duration,
    ) -> Self {
        book.enter(false);
        context.metrics.session_started(labels);
        Self::new(context, (labels, book), (session, player), permit, age)
    }

    fn new(
        context: &Arc<Context>,
        (labels, book): (&TunnelLabels, &Arc<Book>),
        (session, player): (SessionId, SocketAddr),
        permit: Permit,
        age: Duration,
    ) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            session,
            player,
            context: context.clone(),
            labels: labels.clone(),
            book: book.clone(),
            started: now.checked_sub(age).unwrap_or(now),
            end: "tunnel_closed",
            bytes: [0; 2],
            meters: None,
            permit: Some(Arc::new(permit)),
        }
    }

    /// What `meters` have counted is reported even if the session is cut without a word.
    pub fn watch(&mut self, meters: Arc<[SessionMeter; 2]>) {
        self.meters = Some(meters);
    }

    /// The server has answered the player.
    pub fn settle(&self) {
        self.permit.iter().for_each(|permit| permit.settle());
    }

    /// The player's place, for whoever learns that the server has answered.
    pub fn place(&self) -> Weak<Permit> {
        self.permit.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Notes how the session ended and what it carried; the rest happens when the seat is dropped.
    pub fn leave(mut self, end: &'static str, up: u64, down: u64) {
        self.end = end;
        self.bytes = [up, down];
        self.meters = None;
    }

    /// How long the player has been in.
    pub fn lasted(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(meters) = self.meters.take() {
            self.bytes = [meters[0].total(), meters[1].total()];
        }
        let Self {
            session,
            player,
            labels,
            end,
            bytes: [up, down],
            ..
        } = &*self;
        self.context.metrics.session_ended(labels, end);
        tracing::info!(host = labels.host, tunnel = labels.tunnel, session = %session, session.up = up, session.down = down, reason = end, "session ended");
        self.context.events.emit(Event::PlayerLeft {
            host: Some(labels.host.clone()),
            tunnel: labels.tunnel.clone(),
            protocol: labels.protocol,
            session: session.to_string(),
            reason: end,
            up: *up,
            down: *down,
            lasted_ms: self.lasted().as_millis() as u64,
            player: Some(*player),
        });
        // First the place is free, then it is told: a drain that looks in between would wait for its deadline.
        drop(self.permit.take());
        self.book.leave();
        self.context.left.notify_waiters();
    }
}

//! A TCP player who has to say something before it is known where they go: whom they want, on a shared port; whether they only look, on the port of a game
//! with a server list; who they really are, behind a proxy.
//!
//! What is read here goes on to the origin untouched, and is bounded in bytes and in time. Until a player is known to go somewhere they hold a place among
//! those that are heard ([`Context::hearing`]), not one of a host's. A player who joins a server whose agent is reconnecting is held here, and carried when it is
//! back. Players on other ports never come here.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use spawnpoint_core::admission::{Circle, DenyReason, Permit};
use spawnpoint_core::offences::Offence;
use spawnpoint_core::route::{PublicPort, Route};
use spawnpoint_net::{LocalSocket, TaskScope, canonical, unix_now};
use spawnpoint_proto::Dialect;
use spawnpoint_proto::stream::Purpose;
use spawnpoint_sniff::minecraft::{self, First, Handshake, LEGACY_PAUSE, Listing, Next, legacy, status};
use spawnpoint_sniff::{Progress, http, proxy, tls};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::away::Presence;
use crate::context::Context;
use crate::dnsbl::Standing;
use crate::exposure::{enter, presence_of};
use crate::link::Link;
use crate::list::Question;
use crate::refuse;
use crate::registry::Routes;
use crate::tcp::{self, Visitor};
use crate::tunnel::Tunnel;

/// The most that a player may say before it is clear where they go.
const MAX_HEAD: usize = 20 * 1024;

/// Whoever has had a pong asks for another within this, or has all they wanted.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Between a route and the tunnel that it leads to lies one turn of the link's task.
const TUNNEL_PAUSE: Duration = Duration::from_millis(20);

/// How often a player is let in, at most, when link after link is lost under them.
const TRIES: u8 = 3;

/// How long it takes at most until a link that is lost is known to be.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// What is read at once.
const READ: usize = 4 * 1024;

/// A list ping takes two round trips; whoever needs longer gets no answer to the second.
const LIST_DEADLINE: Duration = Duration::from_secs(15);

/// Where a player came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// The port of one tunnel.
    Own(PublicPort),
    /// A port for all tunnels of a dialect.
    Shared(Dialect),
}

/// Why a player is heard no further.
enum Lost {
    /// They are gone, or too slow.
    Gone,
    /// What they say makes no sense here; the word.
    Nonsense(&'static str),
    /// Who they turned out to be may not come in.
    Denied(DenyReason),
}

impl From<std::io::Error> for Lost {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// Where the players of one port are heard.
#[derive(Debug)]
pub(crate) struct Lobby {
    pub context: Arc<Context>,
    pub routes: watch::Receiver<Routes>,
    pub door: Door,
    /// The tasks of those who are heard; they end with the port.
    pub scope: Weak<TaskScope>,
    /// Places for those who are heard here, so that a flood at one port leaves the others theirs.
    pub circle: Arc<Circle>,
}

/// A player who is heard.
pub(crate) struct Hearing {
    context: Arc<Context>,
    routes: watch::Receiver<Routes>,
    door: Door,
    lobby: Arc<Lobby>,
    socket: LocalSocket,
    player: SocketAddr,
    /// What they have said.
    head: BytesMut,
    /// Their place among those that are heard.
    permit: Option<Permit>,
    /// How often they may still be let in when a link is lost under them.
    tries: u8,
}

/// How a player is heard once more whose link was lost before their server has said a word.
pub(crate) struct Again {
    lobby: Arc<Lobby>,
    tries: u8,
}

impl Again {
    /// Hears the player, who has said `head`.
    pub fn hear(self, socket: LocalSocket, player: SocketAddr, head: Bytes) {
        self.lobby.begin(socket, player, false, head, self.tries);
    }
}

/// What a player said, as far as it matters here.
enum Said {
    Minecraft(First, usize),
    /// Whom they want.
    Name(Option<String>),
    /// Nothing that was waited for.
    Nothing,
}

impl Lobby {
    /// Hears a player. One whom a proxy brings is admitted once it is known who they are.
    ///
    /// Returns whether they are heard.
    pub fn hear(self: &Arc<Self>, socket: LocalSocket, player: SocketAddr, is_proxy: bool) -> bool {
        self.begin(socket, player, is_proxy, Bytes::new(), TRIES)
    }

    fn begin(
        self: &Arc<Self>,
        socket: LocalSocket,
        player: SocketAddr,
        is_proxy: bool,
        head: Bytes,
        tries: u8,
    ) -> bool {
        let context = &self.context;
        let permit = match is_proxy {
            true => None,
            false => match context.hearing.admit(context.clock.now(), player.ip(), &self.circle) {
                Ok(permit) => Some(permit),
                // Whoever comes too often gets no conversation out of it.
                Err(reason) => {
                    context.deny(player.ip(), reason);
                    return false;
                }
            },
        };
        tcp::prepare(socket.get());
        let hearing = Hearing {
            context: context.clone(),
            routes: self.routes.clone(),
            door: self.door,
            lobby: self.clone(),
            socket,
            player,
            head: head.into(),
            permit,
            tries,
        };
        if let Some(scope) = self.scope.upgrade() {
            scope.spawn(hearing.run());
        }
        true
    }
}

impl Hearing {
    /// Hears the player and takes them where they want to go, to the end of their visit.
    pub async fn run(mut self) {
        let deadline = Instant::now() + self.context.config().players.hello_timeout;
        // Asked about while they say whom they want. Those whom a proxy brings are when it is known who they are.
        let standing = self.permit.is_some().then(|| self.context.standing(self.player.ip()));
        let said = match tokio::time::timeout_at(deadline, self.hear()).await {
            Ok(Ok(said)) => said,
            Ok(Err(Lost::Gone)) => return self.context.metrics.denied("gone"),
            Ok(Err(Lost::Denied(reason))) => return self.context.metrics.denied(reason.as_str()),
            Ok(Err(Lost::Nonsense(what))) => {
                tracing::debug!(player = %self.player, reason = what, "a player said nothing that makes sense");
                self.offend();
                return self.context.metrics.denied("bad_hello");
            }
            Err(_) => {
                self.offend();
                return self.context.metrics.denied("hello_timeout");
            }
        };
        let is_listed = match standing.unwrap_or_else(|| self.context.standing(self.player.ip())) {
            Standing::Clear => false,
            Standing::Listed => true,
            Standing::Asked(question) => question.answer().await,
        };
        if is_listed {
            self.context.metrics.denied(DenyReason::Listed.as_str());
            return match said {
                Said::Minecraft(..) => self.refuse_for(DenyReason::Listed).await,
                Said::Name(_) | Said::Nothing => {}
            };
        }
        match said {
            Said::Minecraft(first, consumed) => self.take_minecraft(first, consumed).await,
            Said::Name(name) => {
                let route = |routes: &Routes, this: &Self| this.find(routes, name.as_deref()).cloned();
                let Some(route) = route(&self.routes.borrow().clone(), &self) else {
                    return self.turn_away().await;
                };
                self.take(&route).await;
            }
            Said::Nothing => {
                let Door::Own(port) = self.door else { return };
                let route = self.routes.borrow().get(port).cloned();
                if let Some(route) = route {
                    self.take(&route).await;
                }
            }
        }
    }

    /// The player makes no sense; a proxy that brings nonsense is its operator's trouble.
    fn offend(&self) {
        if self.permit.is_some() {
            self.context.offend(self.player.ip(), Offence::BadHello);
        }
    }

    /// Reads until it is known where the player wants to go.
    async fn hear(&mut self) -> Result<Said, Lost> {
        if self.permit.is_none() {
            self.hear_proxy().await?;
        }
        let dialect = match self.door {
            Door::Shared(dialect) => Some(dialect),
            Door::Own(port) => self.routes.borrow().get(port).and_then(|route| route.dialect),
        };
        match (dialect, self.door) {
            (Some(Dialect::Minecraft), _) => self.hear_minecraft().await,
            (Some(Dialect::Tls), Door::Shared(_)) => {
                let hello = self
                    .until(|head| tls::Hello::decode(head).map_err(tls::Violation::as_str))
                    .await?;
                Ok(Said::Name(hello.0.server_name))
            }
            (Some(Dialect::Http), Door::Shared(_)) => {
                let head = self
                    .until(|head| http::Head::decode(head).map_err(http::Violation::as_str))
                    .await?;
                Ok(Said::Name(head.0.host))
            }
            _ => Ok(Said::Nothing),
        }
    }

    /// Learns from a proxy in front of us who the player is.
    async fn hear_proxy(&mut self) -> Result<(), Lost> {
        let (proxied, length) = self
            .until(|head| proxy::decode(head).map_err(proxy::Violation::as_str))
            .await?;
        self.head.advance(length);
        if let proxy::Proxied::Addresses(addresses) = proxied {
            self.player = canonical(addresses.source);
        }
        let context = &self.context;
        let circle = &self.lobby.circle;
        let barred = context.access().check(self.player.ip(), unix_now());
        barred.map_err(Lost::Denied)?;
        let admitted = context.hearing.admit(context.clock.now(), self.player.ip(), circle);
        self.permit = Some(admitted.map_err(Lost::Denied)?);
        Ok(())
    }

    async fn hear_minecraft(&mut self) -> Result<Said, Lost> {
        loop {
            let decode = |head: &[u8]| First::decode(head).map_err(minecraft::Violation::as_str);
            let (first, consumed) = self.until(decode).await?;
            if first.is_settled() {
                return Ok(Said::Minecraft(first, consumed));
            }
            match tokio::time::timeout(LEGACY_PAUSE, self.read()).await {
                Ok(read) => read?,
                Err(_) => return Ok(Said::Minecraft(first, consumed)),
            }
        }
    }

    /// Reads until `decode` has what it wants: the value, and how many bytes it took.
    async fn until<T>(
        &mut self,
        decode: impl Fn(&[u8]) -> Result<Progress<T>, &'static str>,
    ) -> Result<(T, usize), Lost> {
        loop {
            match decode(&self.head) {
                Ok(Progress::Done { value, consumed }) => return Ok((value, consumed)),
                Ok(Progress::NeedMore) if self.head.len() < MAX_HEAD => self.read().await?,
                Ok(Progress::NeedMore) => return Err(Lost::Nonsense("too_long")),
                Err(violation) => return Err(Lost::Nonsense(violation)),
            }
        }
    }

    /// Reads what the player has said meanwhile.
    async fn read(&mut self) -> Result<(), Lost> {
        loop {
            self.socket.get().readable().await?;
            self.head.reserve(READ);
            match self.socket.get().try_read_buf(&mut self.head) {
                Ok(0) => return Err(Lost::Gone),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where a player goes who asks for `name`.
    fn find<'a>(&self, routes: &'a Routes, name: Option<&str>) -> Option<&'a Route<Arc<Link>>> {
        match self.door {
            Door::Own(port) => routes.get(port),
            Door::Shared(dialect) => {
                let default = self.context.default_route();
                let default = default.as_ref().map(|(host, tunnel)| (*host, tunnel));
                routes.get(routes.find(dialect, name, default)?)
            }
        }
    }

    /// Takes the player to a server that speaks first, or has no words for them.
    async fn take(self, route: &Route<Arc<Link>>) {
        match enter(&self.context, route, self.player.ip()) {
            Ok((link, tunnel, permit)) => self.carry(link, tunnel, permit, route, Purpose::Play),
            Err(reason) => {
                self.context.metrics.denied(reason.as_str());
                if self.door == Door::Shared(Dialect::Http) {
                    let words = "This site's host is away. Try again in a moment.\n";
                    self.say(http::reply(503, "Service Unavailable", words)).await;
                }
            }
        }
    }

    /// Tells a player, in words if there are any, that nobody has the name that they asked for.
    async fn turn_away(self) {
        self.context.metrics.denied("unknown_name");
        match self.door {
            Door::Shared(Dialect::Tls) => self.say(tls::unrecognized_name()).await,
            Door::Shared(Dialect::Http) => {
                let words = "There is no site of this name here.\n";
                self.say(http::reply(404, "Not Found", words)).await;
            }
            _ => {}
        }
    }

    async fn say(self, words: Bytes) {
        if let Ok(_place) = self.context.refusals.clone().try_acquire_owned()
            && let Some(socket) = self.socket.into_inner()
        {
            refuse::say(socket, &words).await;
        }
    }

    /// Hands the player to their tunnel.
    fn carry(self, link: Arc<Link>, tunnel: Arc<Tunnel>, permit: Permit, route: &Route<Arc<Link>>, purpose: Purpose) {
        let Self {
            socket,
            player,
            head,
            lobby,
            tries,
            ..
        } = self;
        let (inner, game) = (tunnel.clone(), route.game.clone());
        // Only of Minecraft it is known that it can be let in once more.
        let is_known = route.dialect == Some(Dialect::Minecraft);
        let tries = tries.checked_sub(1).filter(|_| is_known);
        let again = tries.map(|tries| Again { lobby, tries });
        let visitor = Visitor::heard(socket, player, head.freeze(), purpose, again);
        tunnel.scope.spawn(async move {
            tcp::carry(&inner, link, visitor, game.as_deref(), permit).await;
        });
    }

    async fn take_minecraft(mut self, first: First, consumed: usize) {
        let name = first.hostname();
        let routes = self.routes.borrow_and_update().clone();
        let Some(route) = self.find(&routes, name.as_deref()).cloned() else {
            self.context.metrics.denied("unknown_name");
            return self.refuse(Presence::Unknown, None).await;
        };
        let is_list = !matches!(
            &first,
            First::Handshake(Handshake {
                next: Next::Login | Next::Transfer,
                ..
            })
        );
        match (is_list, self.context.config().players.list_cache.is_zero()) {
            (true, false) => self.show_list(&route, &first, consumed).await,
            (true, true) => self.pass_list(&route).await,
            (false, _) => self.join(name.as_deref(), route).await,
        }
    }

    /// Lets somebody who only looks look at the server itself.
    async fn pass_list(self, route: &Route<Arc<Link>>) {
        match enter(&self.context, route, self.player.ip()) {
            Ok((link, tunnel, permit)) => self.carry(link, tunnel, permit, route, Purpose::List),
            Err(DenyReason::NoAgent) => {
                let presence = presence_of(&self.context, route);
                self.refuse_at(route, presence).await;
            }
            Err(reason) => {
                self.context.metrics.denied(reason.as_str());
                self.refuse_for(reason).await;
            }
        }
    }

    /// Lets a player in, at once or as soon as the agent is back.
    async fn join(mut self, name: Option<&str>, mut route: Route<Arc<Link>>) {
        let deadline = Instant::now() + self.context.config().players.hold;
        if self.tries < TRIES {
            // The link that was lost under them may not know it yet.
            let _ = tokio::time::timeout(AGAIN_PAUSE, self.routes.changed()).await;
        }
        loop {
            let link = route.target.as_ref().map(|(link, _)| link.clone());
            let is_up = |link: &Arc<Link>| {
                let connection = link.connection();
                connection.is_some_and(|(connection, _)| connection.close_reason().is_none())
            };
            let is_here = link.as_ref().is_some_and(is_up);
            // Whoever waits is not counted as new each time they look.
            let entered = match is_here || route.is_gone {
                true => enter(&self.context, &route, self.player.ip()),
                false => Err(DenyReason::NoAgent),
            };
            match entered {
                Ok((link, tunnel, permit)) => {
                    self.context.lists.of(route.host, &route.name).is_stale();
                    return self.carry(link, tunnel, permit, &route, Purpose::Play);
                }
                Err(DenyReason::NoAgent) if route.is_gone => {
                    self.context.metrics.denied(DenyReason::NoAgent.as_str());
                    let presence = presence_of(&self.context, &route);
                    return self.refuse_at(&route, presence).await;
                }
                Err(DenyReason::NoAgent) => {}
                Err(reason) => {
                    self.context.metrics.denied(reason.as_str());
                    return self.refuse_for(reason).await;
                }
            }
            let back = async {
                match &link {
                    // The link is here, and its tunnel will be in a moment.
                    Some(_) if is_here => tokio::time::sleep(TUNNEL_PAUSE).await,
                    Some(link) => link.carried().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = back => {}
                changed = self.routes.changed() => if changed.is_err() { return },
                read = Self::follow(&self.socket, &mut self.head) => if read.is_err() { return },
                () = tokio::time::sleep_until(deadline) => {
                    self.context.metrics.denied(DenyReason::NoAgent.as_str());
                    return self.refuse_at(&route, Presence::Reconnecting).await;
                }
            }
            let routes = self.routes.borrow_and_update().clone();
            match self.find(&routes, name).cloned() {
                Some(found) => route = found,
                None => return self.refuse(Presence::Unknown, None).await,
            }
        }
    }

    /// Takes what a waiting player says, up to a bound, and notices when they go.
    async fn follow(socket: &LocalSocket, head: &mut BytesMut) -> Result<(), Lost> {
        if head.len() >= MAX_HEAD {
            return std::future::pending().await;
        }
        socket.get().readable().await?;
        match socket.get().try_read_buf(head) {
            Ok(0) => Err(Lost::Gone),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers a list ping.
    async fn show_list(self, route: &Route<Arc<Link>>, first: &First, consumed: usize) {
        let list = self.context.lists.of(route.host, &route.name);
        let target = route.target.as_ref().and_then(|(link, id)| {
            let tunnel = link.tunnel(*id)?;
            link.connection()
                .map(|(connection, _)| (link.clone(), tunnel, connection))
        });
        let Some((link, tunnel, connection)) = target else {
            let presence = presence_of(&self.context, route);
            return self.refuse_at(route, presence).await;
        };
        let (protocol, hello) = match first {
            First::Handshake(handshake) => (handshake.protocol, Bytes::copy_from_slice(&self.head[..consumed])),
            First::Legacy(ping) => (ping.protocol(), ask_for(ping)),
        };
        let question = Question {
            tunnel: &tunnel,
            link: &link,
            protocol,
            hello: &hello,
            player: self.player,
            local: self.local(),
        };
        match list.entry(&question).await {
            Ok(json) => {
                self.context.metrics.list_told("server");
                // The way to the server and back is part of what the player sees as latency.
                let told = self.tell_list(first, consumed, &json, connection.rtt());
                let _ = tokio::time::timeout(LIST_DEADLINE, told).await;
            }
            Err(presence) => self.refuse_at(route, presence).await,
        }
    }

    async fn tell_list(mut self, first: &First, consumed: usize, json: &str, way: Duration) -> Result<(), Lost> {
        let mut reply = BytesMut::new();
        self.head.advance(consumed);
        if let First::Legacy(ping) = first {
            let listing = Listing::from_json(json).unwrap_or_default();
            legacy::encode_reply(&listing, ping, &mut reply);
        } else {
            let decode = |head: &[u8]| status::Query::decode(head).map_err(minecraft::Violation::as_str);
            let mut is_told = false;
            // The game asks once; others who look at servers ask again on the same connection.
            let mut patience = LIST_DEADLINE;
            while let Ok(Ok((query, length))) = tokio::time::timeout(patience, self.until(decode)).await {
                self.head.advance(length);
                match query {
                    status::Query::Request if is_told => return Err(Lost::Nonsense("unexpected_packet")),
                    status::Query::Request => {
                        is_told = true;
                        status::encode_json(json, &mut reply);
                    }
                    status::Query::Ping(number) => {
                        tokio::time::sleep(way).await;
                        status::Reply::Pong(number).encode(&mut reply);
                        patience = ASK_AGAIN;
                    }
                }
                refuse::write(self.socket.get(), &reply.split()).await?;
            }
        }
        if let Some(socket) = self.socket.into_inner() {
            refuse::say(socket, &reply).await;
        }
        Ok(())
    }

    fn local(&self) -> SocketAddr {
        canonical(self.socket.get().local_addr().unwrap_or(self.player))
    }

    async fn refuse_at(self, route: &Route<Arc<Link>>, presence: Presence) {
        let known = self.context.lists.of(route.host, &route.name).known();
        self.refuse(presence, Some(known)).await;
    }

    async fn refuse(self, presence: Presence, known: Option<crate::away::Known>) {
        self.context.metrics.list_told(presence.as_str());
        let refusal = self.context.refusal(presence, &known.unwrap_or_default());
        self.tell(refusal).await;
    }

    async fn refuse_for(self, reason: DenyReason) {
        self.tell(minecraft::Refusal::new(crate::away::words_for_denied(reason)))
            .await;
    }

    async fn tell(mut self, refusal: minecraft::Refusal) {
        // From here on the place that counts is one among those who are refused.
        drop(self.permit.take());
        if let Ok(_place) = self.context.refusals.clone().try_acquire_owned()
            && let Some(socket) = self.socket.into_inner()
        {
            refuse::tell(socket, refusal, &self.head).await;
        }
    }
}

/// The handshake with which a modern server is asked on behalf of an old player.
fn ask_for(ping: &legacy::Ping) -> Bytes {
    let (host, port) = match ping {
        legacy::Ping::WithHost { host, port, .. } => (host.clone(), *port),
        _ => (String::new(), Dialect::Minecraft.default_port()),
    };
    let handshake = Handshake {
        protocol: ping.protocol(),
        host,
        port,
        next: Next::Status,
    };
    let mut hello = BytesMut::new();
    // A host that an old game could type is never too long for a new one.
    let _ = handshake.encode(&mut hello);
    hello.freeze()
}

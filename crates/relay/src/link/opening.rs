//! Opening a tunnel: what the grant allows, which port is the tunnel's for good, and the socket.
//!
//! A port that players know is waited for and never replaced; one that nothing came of is given back. Every refusal says why in a sentence.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spawnpoint_core::admission::Circle;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_net::TaskScope;
use spawnpoint_ops::{Event, TunnelLabels, describe};
use spawnpoint_proto::control::{OpenedTunnel, Refusal, TunnelReply, TunnelRequest};
use spawnpoint_proto::{Protocol, RefusalCode, TunnelId, host_port};
use spawnpoint_store::{ClaimError, Reservation, ReserveError, StoreError};

use super::LinkTask;
use super::wishes::{Wishes, dialect_of, lists_of, spec};
use crate::allowance::Allowance;
use crate::list::is_listed;
use crate::rates::{Speeds, Way};
use crate::registry::{OpenFailure, Opened};
use crate::tunnel::{OwnRule, Tunnel};
use crate::udp::UdpTunnel;

/// How long our own socket may take to close before the port counts as another program's, in steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

/// How many steps that is.
const CLOSING_STEPS: u32 = 10;

/// Ports tried before the pool counts as taken by other programs.
const MAX_BUSY_PORTS: usize = 64;

impl LinkTask {
    /// Opens the tunnels of the hello, in its order.
    pub async fn open_all(&mut self, requests: &[TunnelRequest]) -> Vec<TunnelReply> {
        let mut replies = Vec::with_capacity(requests.len());
        let mut names = HashSet::new();
        for request in requests {
            let kept = self.kept(request).await;
            let reply = match (names.insert(&request.name), kept) {
                (true, Some(kept)) => kept,
                (true, None) => self.open(request).await,
                (false, _) => refused(
                    request,
                    RefusalCode::DuplicateName,
                    "two tunnels of this agent have the same name",
                ),
            };
            replies.push(reply);
        }
        replies
    }

    /// The answer to a request for a tunnel that the agent has, as it has it, and may still have.
    async fn kept(&mut self, request: &TunnelRequest) -> Option<TunnelReply> {
        let (had, id) = self.requests.get(&request.name).filter(|(had, _)| had == request)?;
        let (id, name) = (*id, had.name.clone());
        self.link.tunnel(id)?;
        let port = self.registry.port_of(self.link.host, &name).await?;
        let pool = &self.context.config().players.ports;
        self.host.grant.check(request.protocol, Some(port), pool).ok()?;
        // What the grant says of names may have changed while the agent was away, and whose it is no more does not lead here.
        if let Err((RefusalCode::NameNotGranted, _)) = self.settle(request).await {
            self.close(&name).await;
            return None;
        }
        Some(self.reply(request, id, port))
    }

    fn reply(&self, request: &TunnelRequest, id: TunnelId, public_port: u16) -> TunnelReply {
        let names = self.link.tunnel(id).map(|tunnel| tunnel.names()).unwrap_or_default();
        let opened = OpenedTunnel {
            id,
            address: self.address(request, &names, public_port),
            public_host: self.context.public_host.clone(),
            public_port,
            idle_ms: self.context.config().players.udp_idle.as_millis() as u32,
            limited: request.limits.is_some().then_some(true),
        };
        TunnelReply {
            name: request.name.clone(),
            opened: Some(opened),
            refused: None,
        }
    }

    /// Opens one tunnel: grant, port, names, socket.
    pub(super) async fn open(&mut self, asked: &TunnelRequest) -> TunnelReply {
        let context = self.context.clone();
        let config = context.config();
        let pool = &config.players.ports;
        let wishes = self.settle(asked).await;
        if let Some(updated) = self.update(asked, &wishes).await {
            return updated;
        }
        let Wishes { request, names, shared } = match wishes {
            Ok(wishes) => wishes,
            Err((code, text)) => return self.refuse(asked, code, &text),
        };
        let request = &request;
        if let Err(code) = self.host.grant.check(request.protocol, request.public_port, pool) {
            let text = self.grant_text(code, request);
            return self.refuse(request, code, &text);
        }
        if let Some(port) = request.public_port
            && let Some(other) = self.registry.name_at(self.link.host, (request.protocol, port)).await
            && other != request.name
        {
            // Another agent of this host, or its ghost, may have it; that passes.
            let code = if self.requests.contains_key(&other) {
                RefusalCode::PortTaken
            } else {
                RefusalCode::PortBusy
            };
            let text = format!(
                "public {} port {port} is open for the tunnel `{other}` of this host: give one of them another",
                request.protocol
            );
            return self.refuse(request, code, &text);
        }
        self.close(&request.name).await;
        if let Err(reply) = self.make_room(request).await {
            return reply;
        }
        let allowed = self.host.grant.ports(pool).without(&shared);
        let mut busy = HashSet::new();
        let owned = match self.context.hosts.reserved(self.host.id, request).await {
            Ok(owned) => owned,
            Err(error) => return self.refuse_port(request, &ReserveError::Store(error), &busy),
        };
        let mut patience = CLOSING_STEPS;
        loop {
            let reserved = self
                .context
                .hosts
                .reserve(self.host.id, request, allowed.clone(), busy.clone())
                .await;
            let port = match reserved {
                Ok(port) => port,
                Err(error) => return self.refuse_port(request, &error, &busy),
            };
            let names = match self.claim(request, &names).await {
                Ok(names) => names,
                Err(error) => {
                    self.give_back(request, owned).await;
                    return self.refuse_name(request, &error);
                }
            };
            let spec = spec(request, port, names.clone());
            if spec.is_lasting {
                self.keep_entry(request).await;
            }
            match self.registry.open(self.link.id, spec).await {
                Ok(opened) => return self.opened(asked, port, opened, names),
                Err(OpenFailure::NameTaken(name)) => {
                    self.give_back(request, owned).await;
                    let (code, text) = self.taken(&name);
                    return self.refuse(request, code, &text);
                }
                Err(OpenFailure::PortBusy(error)) => {
                    // An address that players know is waited for, not replaced; a fresh one can be any.
                    let is_known = request.public_port.is_some() || owned == Some(port);
                    if owned == Some(port) && error.is_taken() && patience > 0 {
                        // Our own socket for the tunnel's last opening may still be closing.
                        patience -= 1;
                        tokio::time::sleep(CLOSING_PAUSE).await;
                        continue;
                    }
                    tracing::warn!(host = self.link.host_name, tunnel = %request.name, port, error = %describe(&error), "public port cannot be opened");
                    if is_known || busy.len() >= MAX_BUSY_PORTS || !error.is_taken() {
                        self.give_back(request, owned).await;
                        let text = format!(
                            "{} port {port} of the relay's machine cannot be opened: {}",
                            request.protocol, error.source
                        );
                        return self.refuse(request, RefusalCode::PortBusy, &text);
                    }
                    self.give_back(request, owned).await;
                    busy.insert(port);
                }
                Err(OpenFailure::Draining) => {
                    self.give_back(request, owned).await;
                    return self.refuse(request, RefusalCode::Draining, "the relay is going down");
                }
                Err(OpenFailure::TooMany) => {
                    self.give_back(request, owned).await;
                    let most = config.links.max_tunnels_per_host;
                    return self.refuse(
                        request,
                        RefusalCode::TooManyTunnels,
                        &format!("this relay gives a host at most {most} tunnels"),
                    );
                }
                Err(OpenFailure::Refused) => {
                    self.give_back(request, owned).await;
                    return self.refuse(
                        request,
                        RefusalCode::Internal,
                        "the relay's book of ports does not allow it",
                    );
                }
            }
        }
    }

    /// From here on the tunnel is answered while its agent is gone.
    async fn keep_entry(&self, request: &TunnelRequest) {
        let list = self.context.lists.of(self.link.host, &request.name);
        list.open(request.away.as_ref());
        let game = request.game.clone().unwrap_or_default();
        let kept = self
            .context
            .hosts
            .keep_entry(self.host.id, request, game, dialect_of(request))
            .await;
        if let Err(error) = kept {
            tracing::error!(error = %describe(&error), "a tunnel will not be answered once its agent is gone");
        }
    }

    /// Changes what can be changed of an open tunnel under its players: its names, its words for when it is away, and who may come. `None` when it is not open, or other
    /// things are to be changed. What is refused stays as it was, and the answer says so.
    async fn update(
        &mut self,
        asked: &TunnelRequest,
        wishes: &Result<Wishes, (RefusalCode, String)>,
    ) -> Option<TunnelReply> {
        let (had, id) = self.requests.get(&asked.name)?;
        let plain = |request: &TunnelRequest| TunnelRequest {
            names: None,
            away: None,
            limits: None,
            preferred_port: None,
            ..request.clone()
        };
        let (id, is_same) = (*id, plain(had) == plain(asked));
        let tunnel = self.link.tunnel(id).filter(|_| is_same)?;
        let mut now = had.clone();
        // Who may not come any more is out, whatever becomes of the names.
        if let Ok(lists) = lists_of(asked) {
            now.limits.clone_from(&asked.limits);
            self.requests.insert(asked.name.clone(), (now.clone(), id));
            tunnel.own_rule.set(&lists);
            self.apply_allowance();
            self.evict();
        }
        let changed = match wishes {
            Ok(wishes) => self.change_names(asked, &wishes.names, &tunnel).await,
            Err((code, text)) => Err(Refusal::new(*code, text)),
        };
        let refused = changed.err();
        if refused.is_none() {
            now = asked.clone();
            self.requests.insert(asked.name.clone(), (now.clone(), id));
            if tunnel.list.is_some() {
                self.keep_entry(asked).await;
            }
        }
        Some(TunnelReply {
            refused,
            ..self.reply(&now, id, tunnel.port)
        })
    }

    /// What to answer to a tunnel that wants a name which is open for another one of its host.
    fn taken(&self, name: &Pattern) -> (RefusalCode, String) {
        let has_it = |(_, id): &(TunnelRequest, TunnelId)| {
            self.link
                .tunnel(*id)
                .is_some_and(|tunnel| tunnel.names().contains(name))
        };
        let text = format!("the name {name} is open for another tunnel of this host: give it to one of them");
        match self.requests.values().any(has_it) {
            true => (RefusalCode::NameTaken, text),
            // Another agent of this host, or its ghost, has it; that passes.
            false => (RefusalCode::NameBusy, text),
        }
    }

    async fn change_names(&self, asked: &TunnelRequest, wanted: &[Pattern], tunnel: &Tunnel) -> Result<(), Refusal> {
        let names = self.claim(asked, wanted).await.map_err(|error| {
            let code = match error {
                ClaimError::Taken { .. } => RefusalCode::NameTaken,
                _ => RefusalCode::Internal,
            };
            Refusal::new(code, &describe(&error))
        })?;
        let before = tunnel.names();
        let renamed = self
            .registry
            .rename(self.link.id, asked.name.clone(), names.clone())
            .await;
        if renamed.is_err()
            && let Err(error) = self.claim(asked, &before).await
        {
            tracing::error!(error = %describe(&error), "a tunnel's names could not be given back");
        }
        renamed.map_err(|failure| match failure {
            OpenFailure::NameTaken(name) => {
                let (code, text) = self.taken(&name);
                Refusal::new(code, &text)
            }
            _ => Refusal::new(RefusalCode::Internal, "the relay's book of ports does not allow it"),
        })?;
        tunnel.set_names(names);
        Ok(())
    }

    /// Sees to it that a new tunnel does not add to the ports of a host without bound: names that are open nowhere give theirs up.
    async fn make_room(&self, request: &TunnelRequest) -> Result<(), TunnelReply> {
        let failed = |error: StoreError| self.refuse_port(request, &ReserveError::Store(error), &HashSet::new());
        let mut reservations = self.context.hosts.reservations(self.host.id).await.map_err(failed)?;
        let is_own = |own: &Reservation| own.tunnel == request.name && own.protocol == request.protocol;
        let most = self.context.config().links.max_tunnels_per_host as usize;
        if reservations.iter().any(is_own) {
            return Ok(());
        }
        while reservations.len() >= most {
            let mut idle = None;
            for (at, own) in reservations.iter().enumerate() {
                if self.registry.port_of(self.link.host, &own.tunnel).await.is_none() {
                    idle = Some(at);
                    break;
                }
            }
            let Some(at) = idle else {
                let text = format!("this relay gives a host at most {most} tunnels");
                return Err(self.refuse(request, RefusalCode::TooManyTunnels, &text));
            };
            let own = reservations.remove(at);
            tracing::info!(host = self.link.host_name, tunnel = %own.tunnel, port = own.port, "the port of a tunnel that is not open is free again");
            self.context
                .hosts
                .release(self.host.id, own.tunnel.clone(), own.protocol)
                .await
                .map_err(failed)?;
            self.context.lists.forget(self.link.host, &own.tunnel);
            self.context.metrics.forget_tunnel(&TunnelLabels {
                host: self.link.host_name.clone(),
                tunnel: own.tunnel.to_string(),
                protocol: own.protocol.as_str(),
            });
        }
        Ok(())
    }

    /// Undoes a reservation that nothing came of: the tunnel has again what it `owned`.
    async fn give_back(&self, request: &TunnelRequest, owned: Option<u16>) {
        let hosts = &self.context.hosts;
        let undone = match owned {
            Some(port) => {
                let before = TunnelRequest {
                    public_port: Some(port),
                    ..request.clone()
                };
                let allowed = self.host.grant.ports(&self.context.config().players.ports).clone();
                hosts
                    .reserve(self.host.id, &before, allowed, HashSet::new())
                    .await
                    .map(drop)
                    .map_err(|error| describe(&error))
            }
            None => {
                self.context.lists.forget(self.link.host, &request.name);
                let released = hosts
                    .release(self.host.id, request.name.clone(), request.protocol)
                    .await;
                released.map(drop).map_err(|error| describe(&error))
            }
        };
        if let Err(error) = undone {
            tracing::error!(error, "a reserved port could not be given back");
        }
    }

    fn opened(&mut self, request: &TunnelRequest, port: u16, opened: Opened, names: Vec<Pattern>) -> TunnelReply {
        let address = self.address(request, &names, port);
        let id = opened.id;
        let tunnel = self.enter_tunnel(request, id, port, opened.has_packets, names);
        let labels = &tunnel.labels;
        tracing::info!(
            host = labels.host,
            tunnel = labels.tunnel,
            protocol = labels.protocol,
            port,
            "tunnel open"
        );
        self.context.events.emit(Event::Tunnel {
            host: Some(labels.host.clone()),
            tunnel: labels.tunnel.clone(),
            protocol: labels.protocol,
            public: host_port(&self.context.public_host, port),
            address,
            origin: None,
        });
        self.reply(request, id, port)
    }

    /// Enters a tunnel whose port is open into the link.
    pub(super) fn enter_tunnel(
        &mut self,
        request: &TunnelRequest,
        id: TunnelId,
        port: u16,
        has_packets: bool,
        names: Vec<Pattern>,
    ) -> Arc<Tunnel> {
        let labels = TunnelLabels {
            host: self.link.host_name.clone(),
            tunnel: request.name.to_string(),
            protocol: request.protocol.as_str(),
        };
        let (context, bytes) = (&self.context, self.context.metrics.bytes(&labels));
        let Allowance { bounds, rates } = Allowance::of_tunnel(context, &self.host, request);
        let circle = Arc::new(Circle::of_tunnel(bounds, &self.link.circle));
        // They made sense when the tunnel was asked for.
        let own_rule = Arc::new(OwnRule::new(&lists_of(request).unwrap_or_default()));
        let way = Arc::new(Way {
            own: Speeds::new(rates),
            host: self.link.speeds.clone(),
            relay: context.speeds.clone(),
        });
        let book = context
            .books
            .of(self.link.host, &request.name, request.protocol, &bytes);
        let scope = TaskScope::new(self.scope.token());
        let list = is_listed(request.game.as_deref()).then(|| context.lists.of(self.link.host, &request.name));
        let pinged = list.clone();
        let udp = has_packets.then(|| {
            let outbox = self.link.outbox.with_redundancy(request.redundancy == Some(true));
            let udp = Arc::new(UdpTunnel::new(
                context,
                id,
                (self.link.host, &request.name),
                (&labels, &bytes, &book),
                (&circle, &own_rule, &way),
                outbox,
                pinged,
            ));
            let keeper = udp.clone();
            scope.spawn(async move { keeper.keep().await });
            udp
        });
        let tunnel = Arc::new(Tunnel {
            context: context.clone(),
            id,
            name: request.name.clone(),
            port,
            labels,
            circle,
            way,
            book,
            bytes,
            scope,
            udp,
            names: Mutex::new(names),
            list,
            own_rule,
        });
        self.link.tunnels().insert(id.lane(), tunnel.clone());
        self.requests.insert(request.name.clone(), (request.clone(), id));
        tunnel
    }

    fn refuse_port(&self, request: &TunnelRequest, error: &ReserveError, busy: &HashSet<u16>) -> TunnelReply {
        let code = match error {
            ReserveError::Taken { .. } => RefusalCode::PortTaken,
            ReserveError::NotAllowed { .. } => RefusalCode::PortNotGranted,
            ReserveError::Exhausted => RefusalCode::PoolExhausted,
            _ => RefusalCode::Internal,
        };
        let text = match (code, busy.is_empty()) {
            (RefusalCode::Internal, _) => "the relay could not read or write its directory".to_owned(),
            (RefusalCode::PoolExhausted, false) => format!("{error} ({} are taken by other programs)", busy.len()),
            _ => error.to_string(),
        };
        if code == RefusalCode::Internal {
            tracing::error!(error = %describe(error), "a port could not be reserved");
        }
        self.refuse(request, code, &text)
    }

    pub(super) fn refuse(&self, request: &TunnelRequest, code: RefusalCode, text: &str) -> TunnelReply {
        tracing::warn!(host = self.link.host_name, tunnel = %request.name, reason = code.as_str(), "tunnel refused");
        self.context.events.emit(Event::TunnelRefused {
            host: Some(self.link.host_name.clone()),
            tunnel: request.name.to_string(),
            reason: code.as_str(),
            text: text.to_owned(),
        });
        refused(request, code, text)
    }

    pub(super) fn grant_text(&self, code: RefusalCode, request: &TunnelRequest) -> String {
        let grant = &self.host.grant;
        match code {
            RefusalCode::ProtocolNotGranted => {
                let allowed: Vec<&str> = grant.protocols.iter().map(Protocol::as_str).collect();
                format!(
                    "the grant of host `{}` allows {} only, not {}",
                    self.host.name,
                    allowed.join(" and "),
                    request.protocol
                )
            }
            _ => {
                let ports = shorten(&grant.ports(&self.context.config().players.ports).to_string());
                let port = request
                    .public_port
                    .map_or_else(|| "the one it had".to_owned(), |port| format!("public port {port}"));
                format!(
                    "the grant of host `{}` allows the public ports {ports}, not {port}: ask for one of these, or the operator for more",
                    self.host.name
                )
            }
        }
    }
}

fn refused(request: &TunnelRequest, code: RefusalCode, text: &str) -> TunnelReply {
    TunnelReply {
        name: request.name.clone(),
        opened: None,
        refused: Some(Refusal::new(code, text)),
    }
}

/// A list of ports that leaves room for the sentence around it.
fn shorten(ports: &str) -> String {
    const MOST: usize = 40;
    match ports.get(..MOST).and_then(|start| start.rfind(',')) {
        Some(end) if ports.len() > MOST => format!("{} and more", &ports[..end]),
        _ => ports.to_owned(),
    }
}

//! An agent's connection, from its first packet to its welcome or reject.
//!
//! Everything here happens in a task of its own. A peer that is not known yet has one deadline, one stream and one small message; what does not fit into that is heard when
//! it is known, within a deadline and bounds of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::Incoming;
use spawnpoint_core::access::Barred;
use spawnpoint_core::admission::Permit;
use spawnpoint_core::offences::Offence;
use spawnpoint_core::route::HostNumber;
use spawnpoint_core::token::{SecretHash, is_proven};
use spawnpoint_net::{Acceptor, ControlError, ControlReader, ControlWriter, unix_now, var};
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::{Reject, Welcome};
use spawnpoint_proto::frame::MAX_HELLO;
use spawnpoint_proto::handshake::{Awaiting, Offered};
use spawnpoint_proto::{CloseCode, LinkId, RejectCode, Ticket, Violation};
use spawnpoint_store::Host;
use tokio_util::sync::CancellationToken;

use crate::allowance::Allowance;
use crate::context::Context;
use crate::door::Entry;
use crate::link::{Arrival, Carriage, LinkTask};
use crate::registry::{Found, Registry};

/// An agent whose tunnels and sessions do not fit into its hello says the rest as fast as its line allows, and waits no longer for an answer.
const FURTHER_DEADLINE: Duration = Duration::from_secs(8);

/// How long an agent may take to read that it is welcome.
pub(crate) const WELCOME_DEADLINE: Duration = Duration::from_secs(2);

/// How long a rejected agent may take to read why.
const REJECT_DEADLINE: Duration = Duration::from_secs(2);

/// What this software calls itself to its peers.
pub(crate) const SOFTWARE: &str = concat!("spawnpoint/", env!("CARGO_PKG_VERSION"));

/// Meets agents.
#[derive(Clone)]
pub(crate) struct Reception {
    pub acceptor: Acceptor,
    pub context: Arc<Context>,
    pub registry: Registry,
    pub stop: CancellationToken,
}

/// Why an agent has no link.
enum Failure {
    Lost,
    Violation(Violation),
    Timeout,
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Violation(violation) => Self::Violation(violation),
            ControlError::Lost(_) | ControlError::Cut => Self::Lost,
        }
    }
}

impl Reception {
    /// Decides in no time what to do with a new connection; `None` when it was turned away.
    pub fn admit(&self, incoming: Incoming) -> Option<(Incoming, Permit)> {
        let (ip, is_validated) = (incoming.remote_address().ip(), incoming.remote_address_validated());
        if self.context.access().is_banned(ip, unix_now()) {
            // Not a word to them: an address that is made up costs its owner nothing.
            incoming.ignore();
            self.context.metrics.handshake(Barred::Banned.as_str());
            return None;
        }
        match self.context.door.enter(self.context.clock.now(), ip, is_validated) {
            Entry::Begin(permit) => return Some((incoming, permit)),
            // Fails only for an address that is already validated.
            Entry::Validate => drop(incoming.retry()),
            Entry::Refuse(reason) => {
                self.context.metrics.handshake(reason);
                incoming.refuse();
            }
        }
        None
    }

    /// Meets one agent and, if it is let in, runs its link to the end.
    pub async fn meet(self, incoming: Incoming, permit: Permit) {
        // What it is now it has shown to be its own; later it is what the last packet said.
        let peer = spawnpoint_net::canonical(incoming.remote_address());
        let deadline = tokio::time::Instant::now() + self.context.config().links.handshake_timeout;
        let connection = match self.connect(incoming, deadline).await {
            Some(connection) => connection,
            None => return self.context.metrics.handshake("lost"),
        };
        let greeted = async {
            tokio::select! {
                greeted = self.greet(&connection) => greeted,
                // Nobody has anything to say in datagrams yet, and they would wait in memory.
                early = connection.read_datagram() => Err(match early {
                    Ok(_) => Failure::Violation(Violation::UnexpectedMessage),
                    Err(_) => Failure::Lost,
                }),
            }
        };
        let greeted = tokio::time::timeout_at(deadline, greeted).await;
        let failure = match greeted.unwrap_or(Err(Failure::Timeout)) {
            Ok((offered, reader, writer)) => {
                let carriage = Carriage {
                    connection,
                    reader,
                    writer,
                };
                return self.decide(offered, carriage, peer, permit).await;
            }
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Violation(_) | Failure::Timeout) {
            self.context.offend(peer.ip(), Offence::BadHandshake);
        }
        self.close(&connection, peer, &failure);
    }

    /// Closes the connection of an agent that did not get to its welcome.
    fn close(&self, connection: &quinn::Connection, peer: SocketAddr, failure: &Failure) {
        let (outcome, code) = match failure {
            Failure::Lost => ("lost", CloseCode::Internal),
            Failure::Timeout => (Violation::HandshakeTimeout.as_str(), CloseCode::Timeout),
            Failure::Violation(violation) => (violation.as_str(), CloseCode::Violation),
        };
        if matches!(failure, Failure::Violation(_) | Failure::Timeout) {
            self.context.metrics.violation(outcome);
        }
        tracing::debug!(%peer, reason = outcome, "an agent failed to introduce itself");
        self.context.metrics.handshake(outcome);
        connection.close(var(code.number()), outcome.as_bytes());
    }

    async fn connect(&self, incoming: Incoming, deadline: tokio::time::Instant) -> Option<quinn::Connection> {
        let connecting = self.acceptor.accept(incoming).ok()?;
        tokio::time::timeout_at(deadline, connecting).await.ok()?.ok()
    }

    async fn greet(&self, connection: &quinn::Connection) -> Result<(Offered, ControlReader, ControlWriter), Failure> {
        let (send, recv) = connection.accept_bi().await.map_err(|_| Failure::Lost)?;
        let mut reader = ControlReader::new(recv, MAX_HELLO);
        let frame = reader.frame().await?;
        let offered = Awaiting::default().on_frame(&frame).map_err(Failure::Violation)?;
        Ok((offered, reader, ControlWriter::new(send)))
    }

    /// Hears what did not fit into the hello of an agent that is known now.
    async fn hear_out(&self, offered: &mut Offered, carriage: &mut Carriage) -> Result<(), Failure> {
        carriage.reader.trust();
        carriage.connection.set_receive_window(quinn::VarInt::MAX);
        let hear = async {
            while !offered.is_complete() {
                let frame = carriage.reader.frame().await?;
                offered.on_frame(&frame).map_err(Failure::Violation)?;
            }
            Ok(())
        };
        tokio::time::timeout(FURTHER_DEADLINE, hear)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    async fn decide(&self, mut offered: Offered, mut carriage: Carriage, peer: SocketAddr, permit: Permit) {
        let decision = match offered.version() {
            Ok(version) => {
                let known = self.authenticate(&offered, &carriage.connection).await;
                known.map(|(host, token)| (version, host, token))
            }
            Err(reject) => Err(reject),
        };
        let (version, host, token) = match decision {
            Ok(decision) => decision,
            Err(reject) => return self.reject(offered, reject, carriage, peer).await,
        };
        if let Err(failure) = self.hear_out(&mut offered, &mut carriage).await {
            // It is slow, or wrong, and yet one of ours.
            return self.close(&carriage.connection, peer, &failure);
        }
        self.context.door.welcome(self.context.clock.now(), peer.ip());
        if host.last_seen.is_none() {
            let host = host.name.to_string();
            self.context.events.emit(Event::FirstSeen { host, peer });
        }
        match self.link_of(&offered, &host).await {
            Found::Here(link) => {
                let arrival = Box::new(Arrival {
                    offered,
                    version,
                    host,
                    token,
                    carriage,
                });
                if let Err(arrival) = link.arrive(arrival) {
                    // It has just ended: the agent gets a new one.
                    let Arrival {
                        offered,
                        carriage,
                        host,
                        ..
                    } = *arrival;
                    self.begin(offered, version, (host, token), (carriage, peer), permit)
                        .await;
                }
            }
            Found::TakenOver => {
                self.context.metrics.handshake(CloseCode::TakenOver.as_str());
                let code = CloseCode::TakenOver;
                carriage.connection.close(var(code.number()), code.as_str().as_bytes());
            }
            Found::Unknown => {
                self.begin(offered, version, (host, token), (carriage, peer), permit)
                    .await;
            }
        }
    }

    /// The link that an agent may take up again: its host's, with the ticket that only this agent has.
    async fn link_of(&self, offered: &Offered, host: &Host) -> Found {
        let Some(resume) = &offered.hello().resume else {
            return Found::Unknown;
        };
        match self.registry.find(resume.link).await {
            Found::Here(link)
                if link.host == HostNumber(host.id.0) && link.ticket == SecretHash::of_ticket(&resume.ticket) =>
            {
                Found::Here(link)
            }
            Found::Here(link) => {
                tracing::warn!(host = %host.name, link = %link.id, "an agent asked for a link that is not its own, it gets a new one");
                Found::Unknown
            }
            other => other,
        }
    }

    /// Begins a new link.
    async fn begin(
        &self,
        offered: Offered,
        version: u16,
        (host, token): (Host, SecretHash),
        (mut carriage, peer): (Carriage, SocketAddr),
        permit: Permit,
    ) {
        let busy = |text: &str| Reject {
            code: RejectCode::Busy,
            text: text.to_owned(),
        };
        let allowance = Allowance::of_host(&self.context, &host);
        let Some(places) = self.registry.places(HostNumber(host.id.0), allowance).await else {
            return self
                .reject(offered, busy("this relay is going down"), carriage, peer)
                .await;
        };
        // First the host's own places, so that a crowd of one host is turned away before it takes everybody's.
        let Ok(own) = places.links.clone().try_acquire_owned() else {
            let text = "this host has as many links as it may have, try again later";
            return self.reject(offered, busy(text), carriage, peer).await;
        };
        let Ok(place) = self.context.links.clone().try_acquire_owned() else {
            let text = "this relay has as many links as it takes, try again later";
            return self.reject(offered, busy(text), carriage, peer).await;
        };
        let links = &self.context.config().links;
        let (ticket, host_name) = (Ticket::new(spawnpoint_net::random_bytes()), host.name.to_string());
        let places = (places, [own, place]);
        let identity = (LinkId(spawnpoint_net::random_bytes()), SecretHash::of_ticket(&ticket));
        let mut task = LinkTask::new(&self.context, &self.registry, host, places, identity, &self.stop);
        task.link.set_agent(offered.hello().agent, token);
        let window = task.window_of(offered.hello());
        task.attach(&carriage.connection, window, offered.hello());
        self.registry.attach(task.link.clone()).await;
        let tunnels = task.open_all(&offered.hello().tunnels).await;
        let welcome = Welcome {
            version,
            link: task.link.id,
            ticket: window.map(|_| ticket),
            resume_window_ms: links.resume_window.as_millis() as u32,
            tunnels,
            software: SOFTWARE.to_owned(),
            host: host_name,
            window: window.map(|_| links.transport.stream_window),
            lost: None,
            repairs: Some(links.transport.repair),
        };
        let (frame, _) = offered.accept(welcome);
        self.context.metrics.handshake("accepted");
        // A write that fails is a connection that is gone, which the link finds out at once and cleans up. One that is cut in the middle must not go on.
        if tokio::time::timeout(WELCOME_DEADLINE, carriage.writer.frame(&frame))
            .await
            .is_err()
        {
            task.link.close(CloseCode::Timeout);
        }
        drop(permit);
        task.run(carriage).await;
    }

    /// The host that an agent belongs to, and the hash of the token that it has shown.
    async fn authenticate(
        &self,
        offered: &Offered,
        connection: &quinn::Connection,
    ) -> Result<(Host, SecretHash), Reject> {
        let reject = |code, text: &str| {
            Err(Reject {
                code,
                text: text.to_owned(),
            })
        };
        let hello = offered.hello();
        // Agents of earlier releases show the token itself.
        let hash = hello.token.as_ref().map(SecretHash::of_token);
        let Some(id) = hello.proof.map(|proof| proof.id).or(hash.map(|hash| hash.id())) else {
            return reject(RejectCode::UnknownToken, "the agent showed no token");
        };
        let candidates = match self.context.hosts.by_token(id).await {
            Ok(candidates) => candidates,
            Err(error) => {
                tracing::error!(error = %describe(&error), "a token could not be looked up");
                return reject(
                    RejectCode::Internal,
                    "the relay could not read its directory, try again later",
                );
            }
        };
        let (now, binding) = (unix_now(), spawnpoint_net::binding(connection).ok());
        let is_shown = |stored: &SecretHash| match (hello.proof, binding) {
            (Some(proof), Some(binding)) => is_proven(&proof, stored, &binding),
            (Some(_), None) => false,
            (None, _) => hash == Some(*stored),
        };
        let shown = |host: Host| {
            let token = host.tokens(now).map(|(token, _)| token).find(is_shown)?;
            Some((host, token))
        };
        let host = candidates.into_iter().find_map(shown);
        match host {
            None => reject(
                RejectCode::UnknownToken,
                "this relay does not know the invite's token: it was replaced, or belongs to another relay; ask for a new invite",
            ),
            Some((host, _)) if host.revoked.is_some() => reject(
                RejectCode::Revoked,
                &format!("host `{}` was revoked by the relay's operator", host.name),
            ),
            Some((host, _)) if host.grant.is_expired(now) => reject(
                RejectCode::Expired,
                &format!("the invite of host `{}` has expired; ask for a new one", host.name),
            ),
            Some(known) => Ok(known),
        }
    }

    async fn reject(&self, offered: Offered, reject: Reject, carriage: Carriage, peer: SocketAddr) {
        let Carriage {
            connection, mut writer, ..
        } = carriage;
        let code = reject.code;
        if code == RejectCode::UnknownToken {
            self.context.offend(peer.ip(), Offence::FailedToken);
        }
        self.context.refuse_agent(peer, code.as_str());
        tracing::debug!(%peer, reason = code.as_str(), "agent rejected");
        self.context.metrics.handshake(code.as_str());
        let frame = offered.reject(reject);
        let say = async {
            if writer.frame(&frame).await.is_ok() {
                writer.finish().await;
            }
        };
        // An agent that does not read its rejection is closed without.
        let _ = tokio::time::timeout(REJECT_DEADLINE, say).await;
        connection.close(var(CloseCode::Rejected.number()), code.as_str().as_bytes());
    }
}

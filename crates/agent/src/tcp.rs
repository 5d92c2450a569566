//! One TCP player, from the relay's stream to the game server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use spawnpoint_net::{LocalSocket, Meter, PlayerStream, SessionEnd, Splice, StreamError, read_header};
use spawnpoint_ops::{Event, Events};
use spawnpoint_proto::ResetCode;
use spawnpoint_proto::stream::StreamHeader;

use crate::tunnels::{OpenTunnel, OpenTunnels};

/// A relay sends the header with the stream's first packet.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Carries the player of one stream, holding `place` as long.
pub(crate) async fn carry(tunnels: OpenTunnels, events: Events, mut stream: PlayerStream, place: Arc<()>) {
    let header = tokio::time::timeout(HEADER_DEADLINE, read_header(stream.incoming())).await;
    let (tunnel, session, player) = match header {
        Ok(Ok(StreamHeader::Open {
            tunnel,
            session,
            player,
            ..
        })) => (tunnel, session, player),
        // This agent never shows a ticket, so no relay has a session of its to resume.
        Ok(Ok(StreamHeader::Resume { .. })) => return stream.cut(ResetCode::UnknownSession),
        Ok(Err(StreamError::Ended(_))) => return,
        Ok(Err(StreamError::Violation(violation))) => {
            tracing::warn!(
                reason = violation.as_str(),
                "the relay opened a stream that makes no sense"
            );
            return stream.cut(ResetCode::BadHeader);
        }
        Err(_) => return stream.cut(ResetCode::BadHeader),
    };
    let Some(tunnel) = tunnels.expect(tunnel).await else {
        return stream.cut(ResetCode::UnknownTunnel);
    };
    let scope = tunnel.scope.clone();
    scope.spawn(async move {
        play(&tunnel, events, session.to_string(), player, stream).await;
        drop(place);
    });
}

async fn play(tunnel: &OpenTunnel, events: Events, session: String, player: SocketAddr, mut stream: PlayerStream) {
    let socket = match tunnel.origin.connect().await {
        Ok(socket) => socket,
        Err(code) => return stream.cut(code),
    };
    let mut socket = LocalSocket::new(socket);
    let visit = Visit::begin(events, tunnel, session, player);
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let splice = Splice {
        socket: socket.get(),
        stream,
        outgoing: &down,
        incoming: &up,
        head: None,
    };
    let end = splice.run().await;
    if end == SessionEnd::Finished {
        drop(socket.into_inner());
    }
    visit.end(end.as_str(), up.total(), down.total());
}

/// A player who is in; dropping it reports that they left.
#[derive(Debug)]
pub(crate) struct Visit {
    events: Events,
    tunnel: String,
    protocol: &'static str,
    session: String,
    started: tokio::time::Instant,
    end: &'static str,
    bytes: [u64; 2],
}

impl Visit {
    /// Reports that `player` is in.
    pub fn begin(events: Events, tunnel: &OpenTunnel, session: String, player: SocketAddr) -> Self {
        let (name, protocol) = (tunnel.tunnel.name.to_string(), tunnel.tunnel.protocol.as_str());
        tracing::info!(tunnel = name, session, "player joined");
        tracing::debug!(session, %player, "player address");
        events.emit(Event::PlayerJoined {
            host: None,
            tunnel: name.clone(),
            protocol,
            session: session.clone(),
            player,
        });
        let started = tokio::time::Instant::now();
        Self {
            events,
            tunnel: name,
            protocol,
            session,
            started,
            end: "tunnel_closed",
            bytes: [0; 2],
        }
    }

    /// Notes how it ended; dropping reports it.
    pub fn end(mut self, end: &'static str, up: u64, down: u64) {
        self.end = end;
        self.bytes = [up, down];
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let [up, down] = self.bytes;
        tracing::info!(
            tunnel = self.tunnel,
            session = self.session,
            session.up = up,
            session.down = down,
            reason = self.end,
            "player left"
        );
        self.events.emit(Event::PlayerLeft {
            host: None,
            tunnel: self.tunnel.clone(),
            protocol: self.protocol,
            session: self.session.clone(),
            reason: self.end,
            up,
            down,
            lasted_ms: self.started.elapsed().as_millis() as u64,
        });
    }
}

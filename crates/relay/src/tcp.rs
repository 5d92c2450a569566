//! One TCP player, from the accepted socket to the last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::admission::Permit;
use spawnpoint_net::{LocalSocket, Meter, PlayerStream, SessionEnd, Splice, canonical};
use spawnpoint_proto::ResetCode;
use spawnpoint_proto::stream::StreamHeader;
use tokio::net::TcpStream;

use crate::meter::SessionMeter;
use crate::refuse;
use crate::tunnel::{Seat, Tunnel};

/// An agent that has no stream to give for this long is full.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// What a player says before the server answers, as far as a refusal needs it.
const HEAD: usize = 1024;

/// A player whose machine vanished is noticed after two minutes of silence by the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Carries one player until the session ends.
pub(crate) async fn carry(
    tunnel: &Arc<Tunnel>,
    connection: quinn::Connection,
    socket: TcpStream,
    player: SocketAddr,
    game: Option<&str>,
    permit: Permit,
) {
    prepare(&socket);
    let mut seat = Seat::take(&tunnel.context, &tunnel.labels, player, permit);
    tracing::debug!(session = %seat.session, %player, tunnel = tunnel.labels.tunnel, "player entered");
    let local = canonical(socket.local_addr().unwrap_or(player));
    // A tunnel that closes drops this task wherever it waits, and the player must see a reset then.
    let mut socket = LocalSocket::new(socket);
    let header = StreamHeader::Open {
        tunnel: tunnel.id,
        session: seat.session,
        player,
        local,
    };
    let meters = Arc::new(tunnel.bytes.clone().map(SessionMeter::new));
    seat.watch(meters.clone());
    let [up, down] = &*meters;
    let mut head = Vec::new();
    let end = match open(&connection, &header).await {
        Ok(stream) => {
            let has_words = refuse::has_words(game);
            if has_words {
                head.reserve_exact(HEAD);
            }
            let head = has_words.then_some(&mut head);
            Splice {
                socket: socket.get(),
                stream,
                outgoing: up,
                incoming: down,
                head,
            }
            .run()
            .await
        }
        Err(end) => end,
    };
    let reason = end.as_str();
    let (up, down) = (up.total(), down.total());
    // The place is free from here on; what follows are only words.
    seat.leave(reason, up, down);
    match end {
        SessionEnd::Finished => drop(socket.into_inner()),
        SessionEnd::RemoteReset(code) if down == 0 && refuse::has_words(game) => {
            if let Ok(_place) = tunnel.context.refusals.clone().try_acquire_owned()
                && let Some(socket) = socket.into_inner()
            {
                refuse::tell(socket, refuse::words_for(code), &head).await;
            }
        }
        _ => drop(socket),
    }
}

async fn open(connection: &quinn::Connection, header: &StreamHeader) -> Result<PlayerStream, SessionEnd> {
    let open = async {
        let (send, recv) = connection.open_bi().await.map_err(|_| SessionEnd::LinkLost)?;
        let mut stream = PlayerStream::new(send, recv);
        stream
            .outgoing()
            .write_chunk(header.encode())
            .await
            .map_err(|_| SessionEnd::LinkLost)?;
        Ok(stream)
    };
    let full = SessionEnd::RemoteReset(ResetCode::TooManySessions);
    tokio::time::timeout(OPEN_DEADLINE, open).await.map_err(|_| full)?
}

fn prepare(socket: &TcpStream) {
    // Fails only on a socket that is already reset, which the first read then tells.
    let _ = socket.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

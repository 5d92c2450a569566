//! A cheap question to a relay that is away: are you back?
//!
//! A QUIC packet of a version that nobody speaks makes any QUIC server answer with the list of versions it does speak, without keeping anything. So an
//! agent in the middle of a long backoff can look often, and comes back within a second of its relay without hammering it with handshakes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::random_bytes;

/// QUIC servers answer unknown versions only in packets of at least this size, so that nobody can amplify.
const PROBE_SIZE: usize = 1200;

/// A version reserved for making servers negotiate (RFC 9000, section 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// Asks `relays` in turn, one packet every `interval`, and returns when one answers.
///
/// Local errors (no network, no route) are a relay that does not answer; the caller bounds the wait.
pub async fn wait_for_answer(relays: &[SocketAddr], interval: Duration) {
    let mut pace = tokio::time::interval(interval);
    let mut turn = 0;
    let id: [u8; 8] = random_bytes();
    let mut open = None;
    loop {
        let answered = async {
            match &open {
                Some(socket) => is_answered(socket, &id).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = answered => return,
            _ = pace.tick() => {
                let Some(&relay) = relays.get(turn % relays.len().max(1)) else { continue };
                turn += 1;
                // A fresh socket each time: after a change of network an old one may be bound to an address that is gone.
                open = ask(relay, &id).await.ok();
            }
        }
    }
}

async fn ask(relay: SocketAddr, id: &[u8; 8]) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if relay.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(relay).await?;
    let mut packet = [0; PROBE_SIZE];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&NO_VERSION);
    packet[5] = 8;
    packet[6..14].copy_from_slice(&random_bytes::<8>());
    packet[14] = 8;
    packet[15..23].copy_from_slice(id);
    socket.send(&packet).await?;
    Ok(socket)
}

/// Waits for a version negotiation packet that carries our id back.
async fn is_answered(socket: &UdpSocket, id: &[u8; 8]) {
    let mut packet = [0; 256];
    loop {
        match socket.recv(&mut packet).await {
            Ok(length) if length >= 14 && packet[0] & 0x80 != 0 && packet[1..5] == [0; 4] && packet[6..14] == *id => {
                return;
            }
            Ok(_) => {}
            // Nobody listens there yet; the next probe asks again.
            Err(_) => std::future::pending().await,
        }
    }
}

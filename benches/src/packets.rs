//! UDP as fast as it goes: a few players, each with a bounded number of packets on the way, and what is lost of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, higher, lower};
use crate::setups::Setup;
use crate::{origin, pattern};

/// Players at once.
const PLAYERS: u32 = 8;

/// Packets of one player on the way at once: together they fit into a socket's usual buffer, so what is lost was not lost there.
const WINDOW: usize = 8;

/// A packet that is away for this long is lost to any game.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// How often a player looks for packets that are lost.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Player and number, and room for a time.
const HEAD: usize = 16;

/// What a player has seen.
#[derive(Default)]
struct Tally {
    sent: u64,
    back: u64,
    lost: u64,
}

/// Packets there and back a second, what is lost, and what the tunnel's processes spend on 100,000 packets (there and back are two).
///
/// # Errors
/// When a packet comes back other than it was sent, or none does.
pub async fn run(setup: &Setup, size: usize, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let before = setup.tunnel.cpu();
    let until = Instant::now() + lasts;
    let mut playing = JoinSet::new();
    for number in 0..PLAYERS {
        let socket = player(setup.tunnel.udp).await?;
        playing.spawn(play(socket, number, size, until));
    }
    let mut all = Tally::default();
    while let Some(played) = playing.join_next().await {
        let tally = played.map_err(|error| Fault::failed("a player", error))??;
        all.sent += tally.sent;
        all.back += tally.back;
        all.lost += tally.lost;
    }
    if all.back == 0 {
        return Err(Fault::Failed(format!("of {} packets none came back", all.sent)));
    }
    let mut figures = vec![
        higher("echoes/s", all.back as f64 / lasts.as_secs_f64()),
        lower("loss %", all.lost as f64 * 100.0 / all.sent as f64),
    ];
    if let (Some(before), Some(after)) = (before, setup.tunnel.cpu()) {
        let packets = (all.back * 2) as f64;
        figures.push(lower("CPU s/100k packets", (after - before) / packets * 1e5));
    }
    Ok(figures)
}

/// A player's socket, which takes packets from `server` only.
///
/// # Errors
/// When the kernel gives none.
pub async fn player(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = origin::packet_socket((Ipv4Addr::UNSPECIFIED, 0).into()).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Packet `number` of `player`, which no other packet is like; its time is zero.
pub fn filled(player: u32, number: u32, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size];
    packet[..4].copy_from_slice(&player.to_be_bytes());
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    let offset = u64::from(player) * 54_321 + u64::from(number) * 31;
    packet[HEAD..].copy_from_slice(pattern::piece(offset, size - HEAD));
    packet
}

/// The number that a packet claims to have.
pub fn number(packet: &[u8]) -> u32 {
    let number = packet.get(4..8).unwrap_or_default();
    number.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

async fn play(socket: UdpSocket, player: u32, size: usize, until: Instant) -> Result<Tally, Fault> {
    let mut tally = Tally::default();
    // The number of each packet on the way and when it left.
    let mut away: Vec<(u32, Instant)> = Vec::with_capacity(WINDOW);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut buffer = [0; 2048];
    loop {
        let now = Instant::now();
        while now < until && away.len() < WINDOW {
            let number = tally.sent as u32;
            socket
                .send(&filled(player, number, size))
                .await
                .map_err(|error| Fault::failed("sending a packet", error))?;
            away.push((number, now));
            tally.sent += 1;
        }
        if away.is_empty() {
            return Ok(tally);
        }
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                let length = received.map_err(|error| Fault::failed("receiving a packet", error))?;
                let number = number(&buffer[..length]);
                if buffer[..length] != *filled(player, number, size) {
                    return Err(Fault::Mismatch(format!("a packet of {length} bytes instead of {size} for player {player}")));
                }
                // One that was given up already stays lost.
                if let Some(at) = away.iter().position(|(waiting, _)| *waiting == number) {
                    away.swap_remove(at);
                    tally.back += u64::from(Instant::now() < until);
                }
            }
            _ = look.tick() => {
                let before = away.len();
                away.retain(|(_, left)| left.elapsed() < PATIENCE);
                tally.lost += (before - away.len()) as u64;
            }
        }
    }
}

//! UDP players at game speed: 20 packets a second each, and how long each takes there and back.

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::figure::{Figure, lower};
use crate::packets::{self, PATIENCE};
use crate::setups::Setup;
use crate::stats;
use crate::ticks::{self, TICK};

/// Players at once.
const PLAYERS: u32 = 20;

/// What a packet of voice or movement is like.
const SIZE: usize = 200;

/// Round trips of UDP packets at game speed.
///
/// # Errors
/// When a packet comes back other than it was sent.
pub async fn run(setup: &Setup, lasts: Duration) -> Result<Vec<Figure>, Fault> {
    let start = Instant::now() + TICK;
    let mut playing = JoinSet::new();
    for player in 0..PLAYERS {
        let socket = packets::player(setup.tunnel.udp).await?;
        playing.spawn(play(
            socket,
            player,
            start + TICK * player / PLAYERS,
            ticks::within(lasts),
        ));
    }
    let mut times = Vec::new();
    while let Some(played) = playing.join_next().await {
        times.extend(played.map_err(|error| Fault::failed("a player", error))??);
    }
    let sent = f64::from(PLAYERS * ticks::within(lasts));
    let loss = lower("loss %", (sent - times.len() as f64) * 100.0 / sent);
    Ok(stats::round_trips(times).into_iter().chain([loss]).collect())
}

async fn play(socket: UdpSocket, player: u32, start: Instant, turns: u32) -> Result<Vec<Duration>, Fault> {
    let speak = async {
        let mut tick = tokio::time::interval_at(start, TICK);
        for turn in 0..turns {
            tick.tick().await;
            socket
                .send(&packet(player, turn))
                .await
                .map_err(|error| Fault::failed("sending a packet", error))?;
        }
        tokio::time::sleep(PATIENCE).await;
        Ok::<_, Fault>(())
    };
    let mut times = Vec::with_capacity(turns as usize);
    let listen = async {
        let mut seen = vec![false; turns as usize];
        let mut buffer = [0; 2048];
        while times.len() < turns as usize {
            let length = socket.recv(&mut buffer).await?;
            let packet = &buffer[..length];
            let turn = check(packet, player)?;
            match seen.get_mut(turn as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Fault::Mismatch(format!("packet {turn} a second time"))),
            }
            times.push(ticks::since(&packet[8..16]));
        }
        Ok(())
    };
    // Whichever is first: everything is back, or nothing more is worth waiting for.
    let done = tokio::select! {
        done = speak => done,
        done = listen => done,
    };
    done.map(|()| times)
}

fn packet(player: u32, turn: u32) -> Vec<u8> {
    let mut packet = packets::filled(player, turn, SIZE);
    packet[8..16].copy_from_slice(&ticks::stamp());
    packet
}

fn check(packet: &[u8], player: u32) -> Result<u32, Fault> {
    let turn = packets::number(packet);
    let expected = packets::filled(player, turn, SIZE);
    if packet.len() != SIZE || packet[..8] != expected[..8] || packet[16..] != expected[16..] {
        return Err(Fault::Mismatch(format!(
            "a packet of {} bytes for player {player}",
            packet.len()
        )));
    }
    Ok(turn)
}

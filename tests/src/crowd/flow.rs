//! UDP players: numbered packets of mixed sizes, each answered by the server.
//!
//! A packet is `id u64 | number u64 | bytes that follow from both`, and so is its answer, with other bytes.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use spawnpoint_benches::pattern;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::TICK;
use super::hello::{Way, count_wrong, piece};
use super::tape::{Kind, Notes, Tape};

const HEADER: usize = 16;

/// What games send: mostly little, sometimes a full Ethernet frame, and once a second something that travels in pieces.
const SIZES: [usize; 20] = [
    32, 60, 96, 400, 60, 1200, 32, 200, 1400, 60, 96, 548, 32, 1400, 60, 300, 1000, 32, 96, 4000,
];

/// An answer that comes later than this many packets counts as repeated.
const WINDOW: usize = 4096;

fn size(number: u64) -> usize {
    SIZES[(number % SIZES.len() as u64) as usize]
}

/// Writes packet `number`.
fn encode(id: u64, number: u64, way: Way) -> Vec<u8> {
    let mut packet = Vec::with_capacity(size(number));
    packet.extend(id.to_be_bytes());
    packet.extend(number.to_be_bytes());
    packet.extend(piece(id, way, offset(number), size(number) - HEADER));
    packet
}

/// Each packet starts elsewhere in the pattern.
fn offset(number: u64) -> u64 {
    number.wrapping_mul(7919) % (1 << 40)
}

/// Reads a packet: id, number, and how many bytes are wrong.
fn decode(packet: &[u8], way: Way) -> Option<(u64, u64, u64)> {
    let (id, rest) = packet.split_first_chunk()?;
    let (number, body) = rest.split_first_chunk()?;
    let (id, number) = (u64::from_be_bytes(*id), u64::from_be_bytes(*number));
    if body.len() > pattern::MAX_PIECE {
        return None;
    }
    let missing = (size(number) - HEADER).abs_diff(body.len()) as u64;
    Some((id, number, missing + count_wrong(id, way, offset(number), body)))
}

/// Plays until it is time to leave. A packet that does not arrive is no fault; a wrong one, or another player's, is.
pub async fn play(tape: &Tape, socket: UdpSocket, first: Instant, leave: &CancellationToken) {
    let mut ticks = interval_at(first, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut buffer, mut number) = (vec![0; 65_536], 0);
    let mut seen = vec![u64::MAX; WINDOW];
    loop {
        let length = tokio::select! {
            biased; // nothing is said after the end
            () = leave.cancelled() => return tape.finished(),
            _ = ticks.tick() => {
                // An ICMP answer to an earlier packet shows here, while the way is broken.
                if socket.send(&encode(tape.id, number, Way::Up)).await.is_ok() {
                    tape.sent(1);
                }
                number += 1;
                continue;
            }
            received = socket.recv(&mut buffer) => match received {
                Ok(length) => length,
                Err(error) => match is_passing(&error) {
                    true => continue,
                    false => return tape.disconnected(&error.to_string()),
                },
            },
        };
        match decode(&buffer[..length], Way::Down) {
            None => tape.wrong(length as u64, || format!("{length} bytes that no server sent")),
            Some((id, number, _)) if id != tape.id => {
                tape.wrong(length as u64, || format!("packet {number} of player {id}"));
            }
            Some((_, number, wrong)) => {
                if wrong > 0 {
                    tape.wrong(wrong, || format!("{wrong} bytes of packet {number}, down"));
                }
                let slot = &mut seen[(number % WINDOW as u64) as usize];
                if std::mem::replace(slot, number) == number {
                    tape.repeated();
                } else {
                    tape.arrived(1);
                }
            }
        }
    }
}

/// What a UDP socket tells while nobody listens or no way leads there.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

/// Whom the UDP server knows.
#[derive(Debug, Default)]
pub struct Mappings(Mutex<HashMap<u64, Mapping>>);

#[derive(Debug)]
struct Mapping {
    tape: Tape,
    source: SocketAddr,
    changes: Vec<String>,
}

impl Mappings {
    /// Answers everybody for as long as it is run.
    pub async fn serve(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_536];
        loop {
            // An agent's closed socket shows as an error of the next call.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let Some((id, number, wrong)) = decode(&buffer[..length], Way::Up) else {
                continue;
            };
            self.note(id, number, wrong, from);
            let _ = socket.send_to(&encode(id, number, Way::Down), from).await;
        }
    }

    /// Of each player: its id, its counts, and each change of the address it comes from.
    pub fn notes(&self) -> Vec<(u64, Notes, Vec<String>)> {
        let mappings = self.lock();
        let each = mappings.iter();
        each.map(|(id, mapping)| (*id, mapping.tape.notes(), mapping.changes.clone()))
            .collect()
    }

    fn note(&self, id: u64, number: u64, wrong: u64, from: SocketAddr) {
        let mut mappings = self.lock();
        let mapping = mappings.entry(id).or_insert_with(|| Mapping {
            tape: Tape::new(id, Kind::Flow),
            source: from,
            changes: Vec::new(),
        });
        if mapping.source != from {
            let text = format!(
                "flow {id} from {} is now from {from}, at packet {number}",
                mapping.source
            );
            mapping.changes.push(text);
            mapping.source = from;
        }
        mapping.tape.arrived(1);
        if wrong > 0 {
            mapping
                .tape
                .wrong(wrong, || format!("{wrong} bytes of packet {number}, up"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Mapping>> {
        self.0.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_short_or_foreign_packet_is_noticed() {
        let mut packet = encode(3, 19, Way::Up);
        assert_eq!((packet.len(), decode(&packet, Way::Up)), (4000, Some((3, 19, 0))));
        assert!(decode(&packet, Way::Down).unwrap().2 > 3000);
        assert_eq!(decode(&packet[..3999], Way::Up), Some((3, 19, 1)));
        packet[100] ^= 1;
        assert_eq!(decode(&packet, Way::Up), Some((3, 19, 1)));
        assert_eq!(decode(&packet[..15], Way::Up), None);
    }

    #[test]
    fn a_flow_that_comes_from_elsewhere_is_noted_once() {
        let mappings = Mappings::default();
        for port in [1, 1, 2, 2] {
            mappings.note(7, 0, 0, SocketAddr::from(([127, 0, 0, 1], port)));
        }
        assert_eq!(mappings.notes()[0].2.len(), 1);
    }
}

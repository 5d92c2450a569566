//! Floods, each in a process of its own: connections from one address, and packets whose addresses are made up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::pinned;
use crate::fault::Fault;

/// The word by which a flood is started.
pub const WORD: &str = "--flood";

/// Starts a flood that lasts so long.
///
/// # Errors
/// When it cannot be started.
pub fn start(word: &str, target: SocketAddr, rate: u64, lasts: Duration) -> Result<std::process::Child, Fault> {
    let mut command = pinned(&std::env::current_exe()?, 1);
    command.args([
        WORD,
        word,
        &target.to_string(),
        &rate.to_string(),
        &lasts.as_secs().to_string(),
    ]);
    command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Fault::failed("starting a flood", error))
}

/// Floods a target as `words` say; returns how many it was in a second.
///
/// # Errors
/// When they say it wrongly, or it has no sockets to flood from.
pub fn run(words: &[String]) -> Result<f64, Fault> {
    let wrong = || Fault::Failed("a flood is: tcp|udp|quic ADDRESS RATE SECONDS".to_owned());
    let [kind, target, rate, seconds] = words else {
        return Err(wrong());
    };
    let target: SocketAddr = target.parse().map_err(|_| wrong())?;
    let rate: f64 = rate.parse().map_err(|_| wrong())?;
    let lasts = Duration::from_secs(seconds.parse().map_err(|_| wrong())?);
    let mut one: Box<dyn FnMut(u32) -> std::io::Result<()>> = match kind.as_str() {
        "tcp" => Box::new(move |_| knock(target)),
        "udp" => packets(target, 60)?,
        "quic" => packets(target, 1_200)?,
        _ => return Err(wrong()),
    };
    let (start, mut sent) = (Instant::now(), 0u32);
    while start.elapsed() < lasts {
        let due = (start.elapsed().as_secs_f64() * rate) as u32;
        if sent >= due {
            std::thread::yield_now();
            continue;
        }
        // A full buffer is what a flood runs into.
        let _ = one(sent);
        sent += 1;
    }
    Ok(f64::from(sent) / start.elapsed().as_secs_f64())
}

/// Connects from one address, and leaves in a reset.
fn knock(target: SocketAddr) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from(([127, 0, 60, 1], 0)).into())?;
    let _ = socket.connect(&target.into());
    Ok(())
}

/// Sends packets from addresses that are made up anew for each, as those do who flood: with the rights for a socket that lets its user write whole packets. Without, they come from
/// twelve thousand sockets of this machine in turn, of which some are let in and come again eight times a second.
fn packets(target: SocketAddr, length: usize) -> Result<Box<dyn FnMut(u32) -> std::io::Result<()>>, Fault> {
    let mut payload = vec![0u8; length];
    if length >= 1_200 {
        // A long header of version 1 with a connection id; what follows is no handshake, which costs the relay its keys to find out.
        payload[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 1]);
    }
    let SocketAddr::V4(to) = target else {
        return Err(Fault::Failed(format!("{target} is no IPv4 address")));
    };
    if let Ok(raw) = raw_socket() {
        let mut packet = forged(*to.ip(), to.port(), &payload);
        let mut dice = 0x9e37_79b9_7f4a_7c15u64;
        return Ok(Box::new(move |number| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let from = (dice >> 32) as u32;
            packet[SOURCE..SOURCE + 4].copy_from_slice(&[
                127,
                (from >> 16) as u8,
                (from >> 8) as u8,
                (from as u8).clamp(1, 254),
            ]);
            packet[HEADERS - 8..HEADERS - 6].copy_from_slice(&((dice >> 16) as u16 | 1024).to_be_bytes());
            packet[HEADERS + 7..HEADERS + 11].copy_from_slice(&number.to_be_bytes());
            raw.send_to(&packet, &target.into()).map(drop)
        }));
    }
    let mut sockets = Vec::new();
    for number in 0..12_000u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let from = IpAddr::V4(Ipv4Addr::new(127, 70 + high % 100, high, low.max(1)));
        sockets.push(UdpSocket::bind((from, 0))?);
    }
    Ok(Box::new(move |number| {
        payload[7..11].copy_from_slice(&number.to_be_bytes());
        let at = number as usize % sockets.len();
        sockets[at].send_to(&payload, target).map(drop)
    }))
}

/// Where the source address is in an IPv4 packet, and how long its header is with that of UDP.
const SOURCE: usize = 12;
const HEADERS: usize = 28;

/// A socket whose user writes whole packets.
fn raw_socket() -> std::io::Result<socket2::Socket> {
    // The number that says so; a header with whatever is in it follows.
    let any = socket2::Protocol::from(255);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(any))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An IPv4 packet with a UDP one, whose source is still to be written. The kernel sums up the one header, and the other needs no sum.
fn forged(to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let whole = (HEADERS + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&whole.to_be_bytes());
    // No number, no fragments, 64 hops, UDP, no sum, no source.
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&(whole - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}

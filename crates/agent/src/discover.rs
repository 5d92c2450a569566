//! Which known games listen on this machine, for a host who has not said what to expose.
//!
//! Only the usual ports are looked at, and only on this machine's own address. Nothing is exposed by being found.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use spawnpoint_config::preset::{PRESETS, Preset};
use spawnpoint_proto::Protocol;

/// A server on this machine answers a connection at once.
const DEADLINE: Duration = Duration::from_millis(200);

/// The presets all of whose ports are in use here; of two that share ports, the one that explains more of them.
pub fn discover() -> Vec<&'static Preset> {
    choose(PRESETS, is_listening)
}

fn choose(presets: &'static [Preset], is_listening: impl Fn(Protocol, u16) -> bool) -> Vec<&'static Preset> {
    let ports = |preset: &Preset| -> HashSet<(Protocol, u16)> {
        preset.ports.iter().map(|port| (port.protocol, port.port)).collect()
    };
    let is_here = |preset: &&Preset| {
        ports(preset)
            .iter()
            .all(|&(protocol, port)| is_listening(protocol, port))
    };
    let here: Vec<&'static Preset> = presets.iter().filter(|preset| preset.is_game).filter(is_here).collect();
    let explains_more = |one: &Preset, other: &Preset| {
        let (one, other) = (ports(one), ports(other));
        one.len() > other.len() && other.is_subset(&one)
    };
    here.iter()
        .filter(|preset| !here.iter().any(|other| explains_more(other, preset)))
        .copied()
        .collect()
}

/// Whether a server listens at `port` of this machine.
fn is_listening(protocol: Protocol, port: u16) -> bool {
    let own = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let mut own = own.into_iter().map(|ip| SocketAddr::new(ip, port));
    match protocol {
        Protocol::Tcp => own.any(|address| TcpStream::connect_timeout(&address, DEADLINE).is_ok()),
        // UDP answers nobody who says nothing, but a port that somebody has cannot be had.
        Protocol::Udp => own.any(
            |address| matches!(UdpSocket::bind(address), Err(error) if error.kind() == std::io::ErrorKind::AddrInUse),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(listening: &[(Protocol, u16)]) -> Vec<&'static str> {
        let found = choose(PRESETS, |protocol, port| listening.contains(&(protocol, port)));
        found.into_iter().map(|preset| preset.word).collect()
    }

    #[test]
    fn a_game_is_known_by_all_its_ports() {
        use Protocol::{Tcp, Udp};
        assert!(found(&[]).is_empty());
        assert_eq!(found(&[(Tcp, 25565)]), ["minecraft"]);
        assert_eq!(found(&[(Tcp, 25565), (Udp, 24454)]), ["minecraft-voice"]);
        assert_eq!(found(&[(Tcp, 25565), (Udp, 19132)]), ["geyser"]);
        assert_eq!(found(&[(Udp, 2456)]), [""; 0], "half of it");
        assert_eq!(found(&[(Tcp, 7777), (Udp, 8303)]), ["terraria", "ddnet"]);
        assert_eq!(found(&[(Tcp, 443), (Tcp, 80)]), [""; 0], "a web server is not a game");
    }

    #[test]
    fn what_listens_here_is_seen() {
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok();
        let port = |address: Option<std::io::Result<SocketAddr>>| address.and_then(Result::ok).map_or(0, |a| a.port());
        assert!(is_listening(
            Protocol::Tcp,
            port(tcp.as_ref().map(std::net::TcpListener::local_addr))
        ));
        assert!(is_listening(
            Protocol::Udp,
            port(udp.as_ref().map(UdpSocket::local_addr))
        ));
        let free = port(udp.as_ref().map(UdpSocket::local_addr));
        drop(udp);
        assert!(!is_listening(Protocol::Udp, free));
    }
}

//! What a relay hands to its successor, as bytes.
//!
//! The bytes are read by other versions of this program, so they are treated like the wire: field numbers are never used again, new fields are optional,
//! and a change that an older reader would get wrong is a new [`FORMAT`]. Descriptors travel beside the bytes; here they are places in that list.

use std::net::{IpAddr, SocketAddr};

use minicbor::{Decode, Encode};
use spawnpoint_core::flow::FlowSnapshot;
use spawnpoint_core::stream::Snapshot;
use spawnpoint_net::Opening;
use spawnpoint_proto::control::TunnelRequest;
use spawnpoint_proto::stream::Purpose;
use spawnpoint_proto::{LinkId, Protocol, SessionId, TunnelId};

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// The formats that this version reads.
pub(crate) const FORMATS: &[u32] = &[1];

/// Everything that goes on.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Handed {
    #[n(0)]
    pub format: u32,
    #[n(1)]
    pub software: String,
    /// The lock of the data directory.
    #[n(2)]
    pub lock: u32,
    /// The socket for agents.
    #[n(3)]
    pub agents: u32,
    /// The admin listener.
    #[n(4)]
    pub admin: Option<u32>,
    /// The number of the next session.
    #[n(5)]
    pub next_session: u64,
    #[n(6)]
    pub ports: Vec<HandedPort>,
    #[n(7)]
    pub links: Vec<HandedLink>,
    /// Links whose agents must not come back, since another has taken over.
    #[n(8)]
    pub buried: Vec<LinkId>,
}

/// An open public port.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedPort {
    #[n(0)]
    pub protocol: Protocol,
    #[n(1)]
    pub port: u16,
    #[n(2)]
    pub socket: u32,
}

/// A link, which has no carrier until its agent is back.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedLink {
    #[n(0)]
    pub link: LinkId,
    /// The host's number in the directory.
    #[n(1)]
    pub host: i64,
    /// The hash of the ticket.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ticket: [u8; 32],
    /// The agent's window.
    #[n(3)]
    pub window: Option<u32>,
    #[n(4)]
    pub tunnels: Vec<HandedTunnel>,
    #[n(5)]
    pub sessions: Vec<HandedSession>,
}

/// An open tunnel.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedTunnel {
    #[n(0)]
    pub id: TunnelId,
    #[n(1)]
    pub request: TunnelRequest,
    #[n(2)]
    pub port: u16,
    /// The serial number of its next flow.
    #[n(3)]
    pub next_serial: u32,
    #[n(4)]
    pub flows: Vec<HandedFlow>,
    /// Its names on shared ports.
    #[n(5)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// One UDP player.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedFlow {
    #[n(0)]
    pub flow: FlowSnapshot,
    #[n(1)]
    pub session: SessionId,
    /// The address that the player spoke to.
    #[n(2)]
    pub local: Option<IpAddr>,
    /// The shared port that the player spoke to, if it was one.
    #[n(3)]
    pub via: Option<u16>,
}

/// One TCP player.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedSession {
    #[n(0)]
    pub session: SessionId,
    #[n(1)]
    pub tunnel: TunnelId,
    #[n(2)]
    pub player: SocketAddr,
    #[n(3)]
    pub local: SocketAddr,
    #[n(4)]
    pub stream: Snapshot,
    /// The player's socket; absent when it is closed and only the peer does not know everything yet.
    #[n(5)]
    pub socket: Option<u32>,
    /// How long the player has been in, in milliseconds.
    #[n(6)]
    pub age_ms: u64,
    /// Bytes from the player.
    #[n(7)]
    pub up: u64,
    /// Bytes to the player.
    #[n(8)]
    pub down: u64,
}

impl HandedSession {
    pub const fn opening(&self) -> Opening {
        Opening {
            session: self.session,
            tunnel: self.tunnel,
            player: self.player,
            local: self.local,
            purpose: Purpose::Play,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use spawnpoint_core::stream::Stream;
    use spawnpoint_proto::FlowId;

    /// What version 0.1.0 writes for the relay of [`handed`].
    const FROZEN: &str = concat!(
        "a900010170737061776e706f696e742f302e312e30020003010402051909f60682a30000011963dd0203a30001011963dd02",
        "040781a600500101010101010101010101010101010101070258200202020202020202020202020202020202020202020202",
        "020202020202020202031a000800000481a5000301a300626d630101031963dd021963dd03050481a300a7001a0300000101",
        "8201825020010db800000000000000000000000919c351021903e8031404f50518640618c8010c0282015020010db8000000",
        "0000000000000000010581a9001909f501030282008244cb00710919c3500382008244c63364011963dd04a6001a00080000",
        "010002447361696404f40500064005050619ee480704080008815009090909090909090909090909090909",
    );

    fn handed() -> Handed {
        let mut stream = Stream::new(Some(512 * 1024));
        stream.outgoing.push(b"said".as_slice().into());
        let session = HandedSession {
            session: SessionId(2549),
            tunnel: TunnelId(3),
            player: "203.0.113.9:50000".parse().unwrap(),
            local: "198.51.100.1:25565".parse().unwrap(),
            stream: stream.snapshot(),
            socket: Some(5),
            age_ms: 61_000,
            up: 4,
            down: 0,
        };
        let flow = HandedFlow {
            flow: FlowSnapshot {
                flow: FlowId(0x0300_0001),
                player: "[2001:db8::9]:50001".parse().unwrap(),
                age_ms: 1000,
                idle_ms: 20,
                is_answered: true,
                up: 100,
                down: 200,
                last_packet: None,
            },
            session: SessionId(12),
            local: Some("2001:db8::1".parse().unwrap()),
            via: None,
        };
        let tunnel = HandedTunnel {
            id: TunnelId(3),
            request: TunnelRequest {
                preferred_port: Some(25565),
                ..TunnelRequest::new("mc".parse().unwrap(), Protocol::Udp)
            },
            port: 25565,
            next_serial: 5,
            flows: vec![flow],
            names: Vec::new(),
        };
        let link = HandedLink {
            link: LinkId([1; 16]),
            host: 7,
            ticket: [2; 32],
            window: Some(512 * 1024),
            tunnels: vec![tunnel],
            sessions: vec![session],
        };
        let port = |protocol, socket| HandedPort {
            protocol,
            port: 25565,
            socket,
        };
        Handed {
            format: FORMAT,
            software: "spawnpoint/0.1.0".to_owned(),
            lock: 0,
            agents: 1,
            admin: Some(2),
            next_session: 2550,
            ports: vec![port(Protocol::Tcp, 3), port(Protocol::Udp, 4)],
            links: vec![link],
            buried: vec![LinkId([9; 16])],
        }
    }

    #[test]
    fn the_hand_over_of_the_first_release_is_read() {
        let bytes: Vec<u8> = (0..FROZEN.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&FROZEN[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(minicbor::decode::<Handed>(&bytes).unwrap(), handed());
    }

    #[test]
    fn the_hand_over_is_written_as_the_first_release_did() {
        let hex: String = minicbor::to_vec(handed())
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, FROZEN);
    }

    #[test]
    fn what_was_added_since_is_handed_over_too() {
        let mut handed = handed();
        let tunnel = &mut handed.links[0].tunnels[0];
        tunnel.request.redundancy = Some(true);
        tunnel.flows[0].flow.last_packet = Some(65_535);
        tunnel.flows[0].via = Some(443);
        tunnel.names = vec!["mc.example.org".to_owned()];
        tunnel.request.speaks = Some("quic".to_owned());
        let bytes = minicbor::to_vec(&handed).unwrap();
        assert_eq!(minicbor::decode::<Handed>(&bytes).unwrap(), handed);
    }

    #[test]
    fn a_field_of_a_newer_relay_is_skipped() {
        let mut bytes = minicbor::to_vec(handed()).unwrap();
        // One more pair in the outer map: number 23, the text "new".
        bytes[0] += 1;
        bytes.extend([0x17, 0x63, b'n', b'e', b'w']);
        assert_eq!(minicbor::decode::<Handed>(&bytes).unwrap(), handed());
    }
}

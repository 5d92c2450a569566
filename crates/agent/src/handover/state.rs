//! What an agent hands to its successor, as bytes.
//!
//! The bytes are read by other versions of this program, so they are treated like the wire: field numbers are never used again, new fields are optional,
//! and a change that an older reader would get wrong is a new [`FORMAT`]. Descriptors travel beside the bytes; here they are places in that list.

use std::net::SocketAddr;

use minicbor::{Decode, Encode};
use spawnpoint_core::stream::Snapshot;
use spawnpoint_net::Opening;
use spawnpoint_proto::stream::Purpose;
use spawnpoint_proto::{AgentId, FlowId, LinkId, SessionId, Ticket, TunnelId, TunnelName};

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// The formats that this version reads.
pub(crate) const FORMATS: &[u32] = &[1];

/// Everything that goes on.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Handed {
    #[n(0)]
    pub format: u32,
    #[n(1)]
    pub software: String,
    /// The agent, as the relay's log knows it.
    #[n(2)]
    pub agent: AgentId,
    /// The links that there are right now.
    #[n(3)]
    pub links: Vec<HandedLink>,
}

/// A link, which has no carrier until the successor dials.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedLink {
    #[n(0)]
    pub link: LinkId,
    /// The host's name at the relay.
    #[n(1)]
    pub host: String,
    #[n(2)]
    pub ticket: Ticket,
    /// How long the relay keeps the link, in milliseconds.
    #[n(3)]
    pub resume_window_ms: u32,
    /// The relay's window.
    #[n(4)]
    pub window: Option<u32>,
    #[n(5)]
    pub tunnels: Vec<HandedTunnel>,
    #[n(6)]
    pub sessions: Vec<HandedSession>,
    #[n(7)]
    pub flows: Vec<HandedFlow>,
    /// The relay, as the invite names it.
    #[n(8)]
    pub relay: String,
    // Number 9 told the packets of all flows; each tells its own now.
}

/// An open tunnel; what it leads to is in the successor's own configuration.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedTunnel {
    #[n(0)]
    pub id: TunnelId,
    #[n(1)]
    pub name: TunnelName,
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
    /// The socket to the game server; absent when it is closed and only the relay does not know everything yet.
    #[n(5)]
    pub socket: Option<u32>,
    /// The name that the player has said in the game.
    #[n(6)]
    pub name: Option<String>,
}

/// One UDP player.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct HandedFlow {
    #[n(0)]
    pub flow: FlowId,
    #[n(1)]
    pub tunnel: TunnelId,
    #[n(2)]
    pub player: SocketAddr,
    /// The socket to the game server.
    #[n(3)]
    pub socket: u32,
    /// Bytes from the player.
    #[n(4)]
    pub up: u64,
    /// Bytes to the player.
    #[n(5)]
    pub down: u64,
    /// The number of the last packet to the player.
    #[n(6)]
    pub last_packet: Option<u16>,
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
    use spawnpoint_core::stream::{Ending, Stream};

    /// What version 0.1.0 writes for the agent of [`handed`].
    const FROZEN: &str = concat!(
        "a400010170737061776e706f696e742f302e312e300250070707070707070707070707070707070381a90050010101010101",
        "0101010101010101010101646465736b02582002020202020202020202020202020202020202020202020202020202020202",
        "0203197530041a000800000582a2000301626d63a200040165766f6963650681a6001909f501030282008244cb00710919c3",
        "500382008244c63364011963dd04a7001a0008000001000240030104f405050645686561726405000781a6001a0400000101",
        "04028201825020010db800000000000000000000000919c35103010418640518c8087272656c61792e6578616d706c653a37",
        "383433",
    );

    fn handed() -> Handed {
        let mut stream = Stream::new(Some(512 * 1024));
        stream.incoming.push(b"heard".as_slice().into());
        stream.outgoing.finish(Ending::Finished);
        let session = HandedSession {
            session: SessionId(2549),
            tunnel: TunnelId(3),
            player: "203.0.113.9:50000".parse().unwrap(),
            local: "198.51.100.1:25565".parse().unwrap(),
            stream: stream.snapshot(),
            socket: Some(0),
            name: None,
        };
        let flow = HandedFlow {
            flow: FlowId::new(4, 1),
            tunnel: TunnelId(4),
            player: "[2001:db8::9]:50001".parse().unwrap(),
            socket: 1,
            up: 100,
            down: 200,
            last_packet: None,
        };
        let tunnel = |id, name: &str| HandedTunnel {
            id: TunnelId(id),
            name: name.parse().unwrap(),
        };
        let link = HandedLink {
            link: LinkId([1; 16]),
            host: "desk".to_owned(),
            ticket: Ticket::new([2; 32]),
            resume_window_ms: 30_000,
            window: Some(512 * 1024),
            tunnels: vec![tunnel(3, "mc"), tunnel(4, "voice")],
            sessions: vec![session],
            flows: vec![flow],
            relay: "relay.example:7843".to_owned(),
        };
        Handed {
            format: FORMAT,
            software: "spawnpoint/0.1.0".to_owned(),
            agent: AgentId([7; 16]),
            links: vec![link],
        }
    }

    #[test]
    fn what_was_added_since_is_handed_over_too() {
        let mut handed = handed();
        handed.links[0].flows[0].last_packet = Some(65_535);
        handed.links[0].sessions[0].name = Some("Ada".to_owned());
        let read: Handed = minicbor::decode(&minicbor::to_vec(&handed).unwrap()).unwrap();
        assert_eq!(read.links[0].flows, handed.links[0].flows);
        assert_eq!(read.links[0].sessions, handed.links[0].sessions);
    }

    fn hex(handed: &Handed) -> String {
        let bytes = minicbor::to_vec(handed).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_hand_over_of_the_first_release_is_read_and_written_as_it_was() {
        let bytes: Vec<u8> = (0..FROZEN.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&FROZEN[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(hex(&handed()), FROZEN);
        // A ticket is compared by what it is written as.
        assert_eq!(hex(&minicbor::decode::<Handed>(&bytes).unwrap()), FROZEN);
    }
}

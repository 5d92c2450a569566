//! The header of a datagram: at most 8 bytes once both ends know the flow.
//!
//! ```text
//! 0      1         5                                              5 or after the announcement
//! +------+---------+--------------------------------------------+-----------------------+---------+
//! | bits | flow u32| announced: tunnel u32 | player address     | fragment: id u16, index u8 | payload |
//! +------+---------+--------------------------------------------+-----------------------+---------+
//! bits 7..4  kind: 0 packet, 1 confirm, 2 close, 3 unknown; 4 is a repair, which belongs to no flow ([`crate::repair`])
//! bit  2     announced: the header tells tunnel and player, as long as the agent has not confirmed the flow
//! bit  1     the last fragment of its packet
//! bit  0     a fragment
//! ```

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::stream::{get_address, put_address};
use crate::{FlowId, TunnelId, Violation};

/// The largest header: flow, IPv6 announcement and fragment.
pub const MAX_HEADER: usize = 1 + 4 + 4 + 19 + 3;

/// The largest payload of a UDP packet.
pub const MAX_PACKET: usize = 65_507;

const ANNOUNCED: u8 = 1 << 2;
const LAST: u8 = 1 << 1;
const FRAGMENT: u8 = 1;

/// Who a new flow belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// The tunnel that the player entered.
    pub tunnel: TunnelId,
    /// The player's address.
    pub player: SocketAddr,
}

/// Which part of a packet follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The packet, among the recent ones of its flow and direction.
    pub packet: u16,
    /// The part, from 0.
    pub index: u8,
    /// Whether no further part follows.
    pub last: bool,
}

/// What a datagram says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A packet of the player or of the origin, or a part of one.
    Packet {
        /// Present until the agent has confirmed the flow.
        announced: Option<Announcement>,
        /// Present when the payload is a part of a packet, or a whole one that has a number.
        fragment: Option<Fragment>,
    },
    /// Agent: I know this flow, announce it no more.
    Confirm,
    /// The flow has ended here.
    Close,
    /// I do not know this flow: announce it again.
    Unknown,
}

/// The header of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The flow.
    pub flow: FlowId,
    /// What the datagram says.
    pub kind: Kind,
}

impl Header {
    /// The header of a whole packet of a flow that both ends know.
    pub const fn packet(flow: FlowId) -> Self {
        Self {
            flow,
            kind: Kind::Packet {
                announced: None,
                fragment: None,
            },
        }
    }

    /// Appends the header to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let (kind, announced, fragment) = match self.kind {
            Kind::Packet { announced, fragment } => (0, announced, fragment),
            Kind::Confirm => (1, None, None),
            Kind::Close => (2, None, None),
            Kind::Unknown => (3, None, None),
        };
        let mut bits = kind << 4;
        bits |= if announced.is_some() { ANNOUNCED } else { 0 };
        bits |= match fragment {
            Some(Fragment { last: true, .. }) => FRAGMENT | LAST,
            Some(_) => FRAGMENT,
            None => 0,
        };
        out.put_u8(bits);
        out.put_u32(self.flow.0);
        if let Some(Announcement { tunnel, player }) = announced {
            out.put_u32(tunnel.0);
            put_address(out, player);
        }
        if let Some(Fragment { packet, index, .. }) = fragment {
            out.put_u16(packet);
            out.put_u8(index);
        }
    }

    /// How many bytes [`Header::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let Kind::Packet { announced, fragment } = self.kind else {
            return 5;
        };
        let announced = announced.map_or(0, |announcement| if announcement.player.is_ipv4() { 11 } else { 23 });
        5 + announced + if fragment.is_some() { 3 } else { 0 }
    }

    /// Takes the header off the front of `datagram`; the payload is left.
    ///
    /// # Errors
    /// [`Violation::MalformedDatagram`] for a cut header, an unknown kind or bits that contradict each other.
    pub fn decode(datagram: &mut Bytes) -> Result<Self, Violation> {
        const BAD: Violation = Violation::MalformedDatagram;
        let bits = datagram.try_get_u8().map_err(|_| BAD)?;
        let flow = FlowId(datagram.try_get_u32().map_err(|_| BAD)?);
        let kind = match (bits >> 4, bits & 0x0f) {
            (0, flags) if flags <= ANNOUNCED | LAST | FRAGMENT && flags & (LAST | FRAGMENT) != LAST => {
                let announced = match flags & ANNOUNCED {
                    0 => None,
                    _ => Some(Announcement {
                        tunnel: TunnelId(datagram.try_get_u32().map_err(|_| BAD)?),
                        player: get_address(datagram).ok_or(BAD)?,
                    }),
                };
                let fragment = match flags & FRAGMENT {
                    0 => None,
                    _ => Some(Fragment {
                        packet: datagram.try_get_u16().map_err(|_| BAD)?,
                        index: datagram.try_get_u8().map_err(|_| BAD)?,
                        last: flags & LAST != 0,
                    }),
                };
                Kind::Packet { announced, fragment }
            }
            (1, 0) => Kind::Confirm,
            (2, 0) => Kind::Close,
            (3, 0) => Kind::Unknown,
            _ => return Err(BAD),
        };
        Ok(Self { flow, kind })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn encode(header: Header) -> BytesMut {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(out.len(), header.encoded_len());
        out
    }

    fn hex(header: Header) -> String {
        encode(header).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn announced() -> Announcement {
        Announcement {
            tunnel: TunnelId(2),
            player: "203.0.113.9:50000".parse().unwrap(),
        }
    }

    #[test]
    fn a_confirmed_flow_costs_5_bytes_and_a_fragment_8() {
        let fragment = Fragment {
            packet: 258,
            index: 3,
            last: true,
        };
        assert_eq!(encode(Header::packet(FlowId(1))).len(), 5);
        assert_eq!(
            encode(Header {
                flow: FlowId(1),
                kind: Kind::Packet {
                    announced: None,
                    fragment: Some(fragment)
                }
            })
            .len(),
            8
        );
    }

    #[test]
    fn the_bytes_of_released_headers_never_change() {
        let flow = FlowId::new(1, 2);
        let fragment = Fragment {
            packet: 258,
            index: 3,
            last: true,
        };
        assert_eq!(hex(Header::packet(flow)), "0001000002");
        assert_eq!(
            hex(Header {
                flow,
                kind: Kind::Packet {
                    announced: Some(announced()),
                    fragment: None
                }
            }),
            "04010000020000000204cb007109c350"
        );
        assert_eq!(
            hex(Header {
                flow,
                kind: Kind::Packet {
                    announced: None,
                    fragment: Some(fragment)
                }
            }),
            "0301000002010203"
        );
        assert_eq!(
            hex(Header {
                flow,
                kind: Kind::Confirm
            }),
            "1001000002"
        );
        assert_eq!(
            hex(Header {
                flow,
                kind: Kind::Close
            }),
            "2001000002"
        );
        assert_eq!(
            hex(Header {
                flow,
                kind: Kind::Unknown
            }),
            "3001000002"
        );
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        let fragment = (any::<u16>(), any::<u8>(), any::<bool>()).prop_map(|(packet, index, last)| Fragment {
            packet,
            index,
            last,
        });
        let announced =
            (any::<u32>(), any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(tunnel, ip, port)| Announcement {
                tunnel: TunnelId(tunnel),
                player: SocketAddr::new(ip, port),
            });
        prop_oneof![
            4 => (proptest::option::of(announced), proptest::option::of(fragment)).prop_map(|(announced, fragment)| Kind::Packet { announced, fragment }),
            1 => Just(Kind::Confirm),
            1 => Just(Kind::Close),
            1 => Just(Kind::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(flow: u32, kind in kinds(), payload in proptest::collection::vec(any::<u8>(), 0..50)) {
            let header = Header { flow: FlowId(flow), kind };
            let mut out = encode(header);
            prop_assert!(out.len() <= MAX_HEADER);
            out.extend_from_slice(&payload);
            let mut datagram = out.freeze();
            prop_assert_eq!(Header::decode(&mut datagram), Ok(header));
            prop_assert_eq!(&datagram[..], &payload[..]);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Header::decode(&mut bytes.into());
        }
    }
}

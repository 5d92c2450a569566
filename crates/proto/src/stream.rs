//! The header with which a relay opens a player's stream.
//!
//! ```text
//! 0      1        2
//! +------+--------+--------------------------------------------+
//! | kind | length | body, `length` bytes; a decoder skips what |
//! |      |        | follows the fields it knows                |
//! +------+--------+--------------------------------------------+
//! kind 1 (open):   tunnel u32 | session u64 | player address | local address | purpose u8, unless it is 0
//! kind 2 (resume): session u64 | from u64 | taken u64
//! address: 4 or 6 (one byte) | 4 or 16 bytes | port u16          integers are big-endian
//! ```
//! The player's bytes follow at once; nothing is awaited.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{SessionId, TunnelId, Violation};

const OPEN: u8 = 1;
const RESUME: u8 = 2;

/// The bytes before the body: kind and length.
pub const PREFIX: usize = 2;

/// The largest header, in bytes.
pub const MAX_HEADER: usize = PREFIX + u8::MAX as usize;

/// The first bytes of a player's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamHeader {
    /// A new player.
    Open {
        /// The tunnel that the player entered.
        tunnel: TunnelId,
        /// The player's session.
        session: SessionId,
        /// The player's address.
        player: SocketAddr,
        /// The relay's address that the player spoke to.
        local: SocketAddr,
        /// What the stream is for.
        purpose: Purpose,
    },
    /// A session that goes on after its connection was lost.
    Resume {
        /// The session.
        session: SessionId,
        /// The offset of the first byte that follows.
        from: u64,
        /// How much of the other direction the relay has taken over, as in [`Delivered`](crate::control::Delivered).
        taken: u64,
    },
}

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Purpose {
    /// A player plays.
    #[default]
    Play,
    /// The relay asks for the server's entry in the server list: nobody joins, and a server that sleeps sleeps on.
    List,
}

impl Purpose {
    const fn number(self) -> u8 {
        match self {
            Self::Play => 0,
            Self::List => 1,
        }
    }

    /// A purpose that this build does not know is taken for playing.
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::List,
            _ => Self::Play,
        }
    }
}

impl StreamHeader {
    /// The header as bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_bytes(0, PREFIX);
        let kind = match self {
            Self::Open {
                tunnel,
                session,
                player,
                local,
                purpose,
            } => {
                out.put_u32(tunnel.0);
                out.put_u64(session.0);
                put_address(&mut out, *player);
                put_address(&mut out, *local);
                if *purpose != Purpose::Play {
                    out.put_u8(purpose.number());
                }
                OPEN
            }
            Self::Resume { session, from, taken } => {
                out.put_u64(session.0);
                out.put_u64(*from);
                out.put_u64(*taken);
                RESUME
            }
        };
        out[0] = kind;
        out[1] = (out.len() - PREFIX) as u8;
        out.freeze()
    }

    /// How many bytes the body has, from the two bytes before it.
    pub const fn body_length(prefix: [u8; PREFIX]) -> usize {
        prefix[1] as usize
    }

    /// Reads a header from its `prefix` and its whole `body`.
    ///
    /// # Errors
    /// [`Violation::MalformedStreamHeader`] when the body is too short or not an address, [`Violation::UnexpectedStream`] for an unknown kind.
    pub fn decode(prefix: [u8; PREFIX], mut body: &[u8]) -> Result<Self, Violation> {
        const SHORT: Violation = Violation::MalformedStreamHeader;
        let body = &mut body;
        match prefix[0] {
            OPEN => Ok(Self::Open {
                tunnel: TunnelId(body.try_get_u32().map_err(|_| SHORT)?),
                session: SessionId(body.try_get_u64().map_err(|_| SHORT)?),
                player: get_address(body).ok_or(SHORT)?,
                local: get_address(body).ok_or(SHORT)?,
                // Older relays say none.
                purpose: Purpose::from_number(body.try_get_u8().unwrap_or(0)),
            }),
            RESUME => Ok(Self::Resume {
                session: SessionId(body.try_get_u64().map_err(|_| SHORT)?),
                from: body.try_get_u64().map_err(|_| SHORT)?,
                taken: body.try_get_u64().map_err(|_| SHORT)?,
            }),
            _ => Err(Violation::UnexpectedStream),
        }
    }
}

/// Appends an address: family, octets, port.
pub(crate) fn put_address(out: &mut BytesMut, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

/// Takes an address off the front; `None` when it is cut or of no known family.
pub(crate) fn get_address(input: &mut impl Buf) -> Option<SocketAddr> {
    let ip = match input.try_get_u8().ok()? {
        4 => IpAddr::from(input.try_get_u32().ok()?.to_be_bytes()),
        6 => IpAddr::from(input.try_get_u128().ok()?.to_be_bytes()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, input.try_get_u16().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<StreamHeader, Violation> {
        let (prefix, body) = bytes.split_first_chunk().unwrap();
        assert_eq!(StreamHeader::body_length(*prefix), body.len());
        StreamHeader::decode(*prefix, body)
    }

    fn open() -> StreamHeader {
        StreamHeader::Open {
            tunnel: TunnelId(3),
            session: SessionId(77),
            player: "203.0.113.9:50000".parse().unwrap(),
            local: "[2001:db8::1]:25565".parse().unwrap(),
            purpose: Purpose::Play,
        }
    }

    #[test]
    fn the_bytes_of_released_headers_never_change() {
        let hex = |header: StreamHeader| {
            header
                .encode()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hex(open()),
            "012600000003000000000000004d04cb007109c3500620010db800000000000000000000000163dd"
        );
        assert_eq!(
            hex(StreamHeader::Resume {
                session: SessionId(77),
                from: 9,
                taken: 10
            }),
            "0218000000000000004d0000000000000009000000000000000a"
        );
    }

    #[test]
    fn a_header_cut_anywhere_is_malformed() {
        let whole = open().encode();
        for length in PREFIX..whole.len() {
            assert_eq!(
                StreamHeader::decode([1, 0], &whole[PREFIX..length]),
                Err(Violation::MalformedStreamHeader),
                "cut at {length}"
            );
        }
    }

    #[test]
    fn fields_of_a_newer_peer_are_skipped() {
        let mut longer = open().encode().to_vec();
        longer.extend([0, 2, 3]);
        longer[1] += 3;
        assert_eq!(decode(&longer), Ok(open()));
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(tunnel: u32, session: u64, player: SocketAddr, local: SocketAddr, list: bool, from: u64, taken: u64) {
            let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
            let open = StreamHeader::Open { tunnel: TunnelId(tunnel), session: SessionId(session), player: plain(player), local: plain(local), purpose: if list { Purpose::List } else { Purpose::Play } };
            prop_assert_eq!(decode(&open.encode()), Ok(open));
            let resume = StreamHeader::Resume { session: SessionId(session), from, taken };
            prop_assert_eq!(decode(&resume.encode()), Ok(resume));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = StreamHeader::decode([kind, body.len() as u8], &body);
        }
    }
}

//! Identifiers of the things that both ends of a link speak about.

use std::fmt;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Eight bytes tell any two apart in a log and keep the line short.
                self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                <[u8; 16]>::try_from(bytes).map(Self).map_err(|_| minicbor::decode::Error::message("not 16 bytes"))
            }
        }
    };
}

hex_id! {
    /// One link between a relay and an agent; it outlives the connection that carries it.
    LinkId
}
hex_id! {
    /// One running agent process, so that a relay can tell a restarted agent from a second one.
    AgentId
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// One tunnel within its link, chosen by the relay.
    TunnelId, u32
}
number_id! {
    /// One player's TCP session within its link, chosen by the relay and never used again in that link.
    SessionId, u64
}
number_id! {
    /// One player's UDP flow within its link, chosen by the relay.
    ///
    /// The upper 8 bits are the tunnel's *lane*, the lower 24 count the flows that the lane has opened, so a late packet of an ended flow finds
    /// nobody rather than the next player.
    FlowId, u32
}

impl TunnelId {
    /// The lane of this tunnel's flows; a relay gives tunnels that are open at the same time on one link different lanes.
    pub const fn lane(self) -> u8 {
        self.0 as u8
    }
}

impl FlowId {
    /// How many flows a lane can count before it starts again.
    pub const SERIALS: u32 = 1 << 24;

    /// The flow number `serial` (modulo [`FlowId::SERIALS`]) of `lane`.
    pub const fn new(lane: u8, serial: u32) -> Self {
        Self(((lane as u32) << 24) | (serial % Self::SERIALS))
    }

    /// The lane, that is which UDP tunnel of the link this flow belongs to.
    pub const fn lane(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

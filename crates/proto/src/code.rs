//! The codes by which streams, links and tunnels end.
//!
//! A number here is on the wire and is never used again for anything else. A code that this build does not know decodes to `Unknown`, so a newer
//! peer can say more than we understand without being misread.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $word:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A code of a newer peer.
            Unknown,
        }

        impl $name {
            /// Every code that has a number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Unknown => u32::MAX >> 2,
                }
            }

            /// The code for a number off the wire.
            pub const fn from_number(number: u64) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Unknown,
                }
            }

            /// The word used in logs, events and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown => "unknown",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u32(self.number())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Ok(Self::from_number(d.u64()?))
            }
        }
    };
}

codes! {
    /// Why one direction of a player's stream was cut.
    ResetCode {
        /// The player's or the origin's socket was reset.
        PeerReset = 1, "peer_reset";
        /// The origin refused the connection.
        OriginRefused = 2, "origin_refused";
        /// The origin did not answer the connection in time.
        OriginTimeout = 3, "origin_timeout";
        /// The origin's name or address could not be reached at all.
        OriginUnreachable = 4, "origin_unreachable";
        /// The agent does not have this tunnel (any more).
        UnknownTunnel = 5, "unknown_tunnel";
        /// The stream's header was not understood.
        BadHeader = 6, "bad_header";
        /// The session to resume is not known (any more).
        UnknownSession = 7, "unknown_session";
        /// The tunnel or the whole link ended.
        TunnelClosed = 8, "tunnel_closed";
        /// The peer has as many sessions as it can hold.
        TooManySessions = 9, "too_many_sessions";
        /// The origin sleeps, and this player does not wake it.
        OriginAsleep = 10, "origin_asleep";
        /// The origin is being started: come again in a moment.
        OriginStarting = 11, "origin_starting";
    }
}

codes! {
    /// Why a link's connection was closed.
    CloseCode {
        /// The process stops on request.
        Shutdown = 1, "shutdown";
        /// Another agent with the same token took over.
        TakenOver = 2, "taken_over";
        /// The token was revoked or replaced, or has expired.
        Revoked = 3, "revoked";
        /// The peer broke the protocol.
        Violation = 4, "violation";
        /// The handshake was refused; the reason went before it.
        Rejected = 5, "rejected";
        /// The peer took too long to say what it had to say.
        Timeout = 6, "timeout";
        /// An error on the side that closes.
        Internal = 7, "internal";
        /// The relay has as many links as it can hold.
        Busy = 8, "busy";
        /// The process makes way for its successor, which has its sessions: come back at once.
        Upgrade = 9, "upgrade";
        /// The peer has opened a newer connection for the same link.
        Superseded = 10, "superseded";
    }
}

codes! {
    /// Why a relay did not let an agent in.
    RejectCode {
        /// No host has this token.
        UnknownToken = 1, "unknown_token";
        /// The host was revoked.
        Revoked = 2, "revoked";
        /// The grant has expired.
        Expired = 3, "expired";
        /// No common version of the protocol.
        Version = 4, "version";
        /// The relay is going down or full; trying again is right.
        Busy = 5, "busy";
        /// The hello was not understood.
        Malformed = 6, "malformed";
        /// The relay failed to look the token up; trying again is right.
        Internal = 7, "internal";
    }
}

impl RejectCode {
    /// Whether trying again later can succeed without anybody changing the invite or the software.
    pub const fn can_heal(self) -> bool {
        matches!(self, Self::Busy | Self::Internal | Self::Unknown)
    }
}

codes! {
    /// Why a relay did not open one tunnel.
    RefusalCode {
        /// The grant does not allow this protocol.
        ProtocolNotGranted = 1, "protocol_not_granted";
        /// The grant does not allow this public port.
        PortNotGranted = 2, "port_not_granted";
        /// Another host holds this public port.
        PortTaken = 3, "port_taken";
        /// Another program on the relay's machine holds this public port.
        PortBusy = 4, "port_busy";
        /// No port of the pool is free.
        PoolExhausted = 5, "pool_exhausted";
        /// The link has as many tunnels as the relay allows.
        TooManyTunnels = 6, "too_many_tunnels";
        /// The relay is going down.
        Draining = 7, "draining";
        /// The relay failed in a way that the host cannot mend.
        Internal = 8, "internal";
        /// The grant changed while the tunnel was open.
        GrantChanged = 9, "grant_changed";
        /// Two tunnels of one request have the same name.
        DuplicateName = 10, "duplicate_name";
        /// Another agent of the same host opened a tunnel of this name.
        TakenOver = 11, "taken_over";
        /// The grant does not allow a host name that the tunnel wants, or it is none.
        NameNotGranted = 12, "name_not_granted";
        /// Another host, or another tunnel of this one, has a host name that the tunnel wants.
        NameTaken = 13, "name_taken";
        /// Another agent of the same host, perhaps one that is gone, has a host name that the tunnel wants.
        NameBusy = 14, "name_busy";
        /// Something in the request makes no sense.
        Malformed = 15, "malformed";
    }
}

impl RefusalCode {
    /// Whether asking again later can succeed without anybody changing grant or configuration.
    pub const fn can_heal(self) -> bool {
        matches!(
            self,
            Self::PortBusy | Self::NameBusy | Self::PoolExhausted | Self::Draining | Self::Internal | Self::Unknown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    macro_rules! check {
        ($name:ident) => {
            let numbers: HashSet<u32> = $name::ALL.iter().map(|code| code.number()).collect();
            let words: HashSet<&str> = $name::ALL.iter().map(|code| code.as_str()).collect();
            assert_eq!((numbers.len(), words.len()), ($name::ALL.len(), $name::ALL.len()));
            for &code in $name::ALL {
                assert_eq!($name::from_number(code.number().into()), code);
            }
            assert_eq!($name::from_number($name::Unknown.number().into()), $name::Unknown);
        };
    }

    #[test]
    fn every_code_has_a_number_and_a_word_of_its_own() {
        check!(ResetCode);
        check!(CloseCode);
        check!(RejectCode);
        check!(RefusalCode);
    }
}

//! Secrets and fingerprints: values that must not be printed, or must be compared with care.

use std::fmt;

use minicbor::{Decode, Encode};
use zeroize::Zeroize;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `Debug` prints no byte of it and there is no `Display` or `PartialEq`: whoever compares two of them goes through a hash in constant time. Its memory is
        /// wiped when it is dropped.
        #[derive(Clone)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 bytes from a cryptographic random source.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret itself, for hashing or sending.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
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
                <[u8; 32]>::try_from(d.bytes()?).map(Self).map_err(|_| minicbor::decode::Error::message("not 32 bytes"))
            }
        }
    };
}

secret! {
    /// What a host shows to be let in: 256 random bits.
    Token
}
secret! {
    /// What an agent shows to take up its own link again on a new connection: 256 random bits, given in the relay's welcome.
    Ticket
}

/// What shows a relay that an agent has a token, without showing the token: it is worth nothing on another connection, nor to whoever does not know the token's hash.
///
/// `spawnpoint_core::token` makes and checks it.
#[derive(Clone, Copy, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TokenProof {
    /// Which of the relay's hosts this is: the first bytes of the token's hash.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 8],
    /// The token, under a mask of its hash and the connection.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub masked: [u8; 32],
}

/// The SHA-256 of a relay's certificate (DER), by which an invite pins it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash(pub [u8; 32]);

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed_by_debug() {
        let text = format!("{:?}", Token::new([0xab; 32]));
        assert_eq!(text, "Token(secret)");
    }
}

//! Tokens as a relay keeps them: hashed, and compared in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use spawnpoint_proto::{Ticket, Token};
use subtle::ConstantTimeEq;

/// The SHA-256 of a token or ticket under its own label.
///
/// A plain hash is enough because what is hashed has 256 random bits: there is nothing to guess that a slow hash would protect.
/// Equality takes the same time wherever the difference is.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a host's token.
    pub fn of_token(token: &Token) -> Self {
        Self::labelled(b"spawnpoint token v1\0", token.expose())
    }

    /// The hash of a link's ticket.
    pub fn of_ticket(ticket: &Ticket) -> Self {
        Self::labelled(b"spawnpoint ticket v1\0", ticket.expose())
    }

    /// A hash as it was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash as it is stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn labelled(label: &[u8], secret: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(label).chain_update(secret).finalize().into())
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_matches() {
        let stored = SecretHash::of_token(&Token::new([1; 32]));
        assert_eq!(stored, SecretHash::of_token(&Token::new([1; 32])));
        assert_ne!(stored, SecretHash::of_token(&Token::new([2; 32])));
    }

    #[test]
    fn a_ticket_with_the_bytes_of_a_token_is_not_that_token() {
        assert_ne!(
            SecretHash::of_token(&Token::new([1; 32])),
            SecretHash::of_ticket(&Ticket::new([1; 32]))
        );
    }
}

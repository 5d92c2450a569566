//! Tokens as a relay keeps them: hashed, and compared in constant time; and how an agent shows that it has one.

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use spawnpoint_proto::{Ticket, Token, TokenProof};
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

    /// By which the hash is looked up; it says nothing about the token.
    pub fn id(&self) -> [u8; 8] {
        *self.0.first_chunk().unwrap_or(&[0; 8])
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

/// Shows that an agent has `token`, on the connection with this `binding` (what TLS exports for it, the same at both ends and on no other connection).
///
/// It is what SCRAM (RFC 5802) does with its client key: the token goes under a mask that is made of its hash and the binding. A relay, which has the hash, takes the mask off and
/// looks whether what is below has that hash. Whoever only reads the directory learns no token, and whoever terminates another connection cannot use what came by it.
pub fn prove(token: &Token, binding: &[u8; 32]) -> TokenProof {
    let hash = SecretHash::of_token(token);
    let mut masked = mask(&hash, binding);
    masked
        .iter_mut()
        .zip(token.expose())
        .for_each(|(byte, secret)| *byte ^= secret);
    TokenProof { id: hash.id(), masked }
}

/// Whether `proof` shows the token with the hash `stored`, on the connection with this `binding`.
pub fn is_proven(proof: &TokenProof, stored: &SecretHash, binding: &[u8; 32]) -> bool {
    let mut shown = mask(stored, binding);
    shown
        .iter_mut()
        .zip(proof.masked)
        .for_each(|(byte, masked)| *byte ^= masked);
    SecretHash::of_token(&Token::new(shown)) == *stored
}

fn mask(hash: &SecretHash, binding: &[u8; 32]) -> [u8; 32] {
    let mut mask = [0; 32];
    // It fails only for more than 255 times as much.
    let _ = Hkdf::<Sha256>::new(Some(binding), &hash.0).expand(b"spawnpoint token proof v1", &mut mask);
    mask
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
    fn a_proof_shows_its_token_on_its_connection_and_nowhere_else() {
        let (token, here, there) = (Token::new([7; 32]), [1; 32], [2; 32]);
        let stored = SecretHash::of_token(&token);
        let proof = prove(&token, &here);
        assert!(is_proven(&proof, &stored, &here));
        assert_eq!(proof.id, stored.id());
        assert!(!is_proven(&proof, &stored, &there), "replayed on another connection");
        assert!(!is_proven(&proof, &SecretHash::of_token(&Token::new([8; 32])), &here));
        let mut bent = proof;
        bent.masked[31] ^= 1;
        assert!(!is_proven(&bent, &stored, &here));
        // Who only has the directory has nothing to show.
        let forged = TokenProof {
            id: stored.id(),
            masked: *stored.as_bytes(),
        };
        assert!(!is_proven(&forged, &stored, &here));
        assert_ne!(proof.masked, *token.expose());
    }

    #[test]
    fn a_ticket_with_the_bytes_of_a_token_is_not_that_token() {
        assert_ne!(
            SecretHash::of_token(&Token::new([1; 32])),
            SecretHash::of_ticket(&Ticket::new([1; 32]))
        );
    }
}

//! Hosts and reserved ports, as the directory hands them out.

use std::fmt;

use spawnpoint_core::grant::{Grant, UnixTime};
use spawnpoint_core::token::SecretHash;
use spawnpoint_proto::{HostName, Protocol, TunnelName};

/// The number of a host, never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostId(pub i64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The account that a token authenticates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Its name, unique in the directory.
    pub name: HostName,
    /// What it may expose.
    pub grant: Grant,
    /// The hash of its token.
    pub token: SecretHash,
    /// The hash of the token that it had before, and until when that one works too.
    pub old_token: Option<(SecretHash, UnixTime)>,
    /// When it was first added.
    pub created: UnixTime,
    /// Since when it may not come in any more.
    pub revoked: Option<UnixTime>,
    /// When it was last linked to a relay.
    pub last_seen: Option<UnixTime>,
}

impl Host {
    /// The tokens that let it in at `now`: their hashes, and until when those that have been replaced do.
    pub fn tokens(&self, now: UnixTime) -> impl Iterator<Item = (SecretHash, Option<UnixTime>)> {
        let old = self.old_token.filter(|(_, until)| now < *until);
        let old = old.map(|(token, until)| (token, Some(until)));
        std::iter::once((self.token, None)).chain(old)
    }

    /// Whether it may come in and stay at `now`.
    pub fn is_welcome(&self, now: UnixTime) -> bool {
        self.revoked.is_none() && !self.grant.is_expired(now)
    }
}

/// A public port that belongs to one tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Whose tunnel it is.
    pub host: HostId,
    /// The tunnel, by its name within the host.
    pub tunnel: TunnelName,
    /// The protocol; the same port number of the other protocol may belong to somebody else.
    pub protocol: Protocol,
    /// The public port.
    pub port: u16,
}

//! Who has which public port.
//!
//! The choice itself is a pure function of who holds what, so it is the same in every process; the rest is three statements around it.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction, params};
use spawnpoint_core::port::PortSet;
use spawnpoint_proto::{Protocol, TunnelName};

use crate::{HostId, ReserveError};

/// Who holds a port.
pub(super) struct Holder {
    host: HostId,
    revoked: bool,
}

/// The port that a tunnel has.
pub(super) fn own(
    transaction: &Transaction<'_>,
    host: HostId,
    tunnel: &TunnelName,
    protocol: Protocol,
) -> rusqlite::Result<Option<u16>> {
    transaction
        .prepare_cached("SELECT port FROM reservations WHERE host = ? AND tunnel = ? AND protocol = ?")?
        .query_row(params![host.0, tunnel.as_str(), protocol.as_str()], |row| row.get(0))
        .optional()
}

/// Every port of `protocol` that is held.
pub(super) fn holders(transaction: &Transaction<'_>, protocol: Protocol) -> rusqlite::Result<HashMap<u16, Holder>> {
    transaction
        .prepare_cached(
            "SELECT port, host, revoked IS NOT NULL FROM reservations JOIN hosts ON hosts.id = reservations.host WHERE protocol = ?",
        )?
        .query_map([protocol.as_str()], |row| Ok((row.get(0)?, Holder { host: HostId(row.get(1)?), revoked: row.get(2)? })))?
        .collect()
}

/// Chooses a port for a tunnel of `host` that cannot keep the one it has.
pub(super) fn choose(
    holders: &HashMap<u16, Holder>,
    host: HostId,
    wanted: Option<u16>,
    preferred: Option<u16>,
    allowed: &PortSet,
    avoid: &dyn Fn(u16) -> bool,
) -> Result<u16, ReserveError> {
    if let Some(port) = wanted {
        // A host may move its own port to another tunnel: that is what renaming a tunnel looks like from here.
        return match holders.get(&port) {
            Some(holder) if holder.host != host && !holder.revoked => Err(ReserveError::Taken { port }),
            _ => Ok(port),
        };
    }
    let free = |port: &u16| !holders.contains_key(port) && !avoid(*port);
    // Ports of revoked hosts go last: a host that is reinstated should find its own.
    let abandoned = |port: &u16| holders.get(port).is_some_and(|holder| holder.revoked) && !avoid(*port);
    preferred
        .filter(|&port| allowed.contains(port))
        .filter(free)
        // From the top: the first port of a pool is usually one that players know, and is left to a tunnel that prefers it.
        .or_else(|| allowed.iter().filter(free).last())
        .or_else(|| allowed.iter().filter(abandoned).last())
        .ok_or(ReserveError::Exhausted)
}

/// Gives `port` to the tunnel, whoever had it before and whatever the tunnel had before.
pub(super) fn take(
    transaction: &Transaction<'_>,
    host: HostId,
    tunnel: &TunnelName,
    protocol: Protocol,
    port: u16,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM reservations WHERE protocol = ? AND port = ?")?
        .execute(params![protocol.as_str(), port])?;
    transaction
        .prepare_cached(
            "INSERT INTO reservations (host, tunnel, protocol, port) VALUES (?, ?, ?, ?)
             ON CONFLICT (host, tunnel, protocol) DO UPDATE SET port = excluded.port",
        )?
        .execute(params![host.0, tunnel.as_str(), protocol.as_str(), port])?;
    Ok(())
}

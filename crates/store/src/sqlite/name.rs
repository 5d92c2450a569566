//! Who has which host name.

use rusqlite::{OptionalExtension, Transaction, params};
use spawnpoint_core::grant::Grant;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_proto::{Dialect, Protocol, TunnelName};

use crate::HostId;

/// A live host other than `host` that has `name` in any dialect.
pub(super) fn has_other(transaction: &Transaction<'_>, host: HostId, name: &Pattern) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached(
            "SELECT 1 FROM names JOIN hosts ON hosts.id = names.host WHERE names.name = ? AND names.host <> ? AND hosts.revoked IS NULL LIMIT 1",
        )?
        .query_row(params![name.to_string(), host.0], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// The tunnel of `host` that has `name` in this dialect.
pub(super) fn own(
    transaction: &Transaction<'_>,
    host: HostId,
    name: &Pattern,
    dialect: Dialect,
) -> rusqlite::Result<Option<String>> {
    transaction
        .prepare_cached("SELECT tunnel FROM names WHERE name = ? AND dialect = ? AND host = ?")?
        .query_row(params![name.to_string(), dialect.as_str(), host.0], |row| row.get(0))
        .optional()
}

/// Gives `name` to a tunnel, whoever had it before.
pub(super) fn take(
    transaction: &Transaction<'_>,
    host: HostId,
    tunnel: &TunnelName,
    name: &Pattern,
    dialect: Dialect,
    is_granted: bool,
) -> rusqlite::Result<()> {
    let text = name.to_string();
    // A revoked host gives a name up in every dialect, so that it is never two hosts'.
    transaction
        .prepare_cached("DELETE FROM names WHERE name = ? AND host <> ?")?
        .execute(params![text, host.0])?;
    transaction
        .prepare_cached(
            "INSERT INTO names (name, dialect, host, tunnel, protocol, granted) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (name, dialect) DO UPDATE SET host = excluded.host, tunnel = excluded.tunnel, protocol = excluded.protocol,
                 granted = excluded.granted",
        )?
        .execute(params![text, dialect.as_str(), host.0, tunnel.as_str(),
            dialect.protocol().as_str(),
            is_granted])?;
    Ok(())
}

/// Takes from a host the names that it has by its grant, and by this one has no more.
pub(super) fn restrict(transaction: &Transaction<'_>, host: i64, grant: &Grant) -> rusqlite::Result<()> {
    let had: Vec<String> = transaction
        .prepare_cached("SELECT DISTINCT name FROM names WHERE host = ? AND granted")?
        .query_map([host], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let is_allowed = |name: &String| name.parse().is_ok_and(|name| grant.allows_name(&name));
    for name in had.iter().filter(|name| !is_allowed(name)) {
        transaction
            .prepare_cached("DELETE FROM names WHERE host = ? AND name = ?")?
            .execute(params![host, name])?;
    }
    Ok(())
}

/// Takes from a tunnel the names that are not in `kept`, and all that it has in another dialect than this one.
pub(super) fn retain(
    transaction: &Transaction<'_>,
    host: HostId,
    (tunnel, protocol): (&TunnelName, Protocol),
    dialect: Option<Dialect>,
    kept: &[Pattern],
) -> rusqlite::Result<()> {
    let had: Vec<(String, String)> = transaction
        .prepare_cached("SELECT name, dialect FROM names WHERE host = ? AND tunnel = ? AND protocol = ?")?
        .query_map(params![host.0, tunnel.as_str(), protocol.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let kept: Vec<String> = kept.iter().map(Pattern::to_string).collect();
    let is_kept = |name, spoken: &str| dialect.is_some_and(|own| own.as_str() == spoken) && kept.contains(name);
    for (name, spoken) in had.iter().filter(|(name, spoken)| !is_kept(name, spoken)) {
        transaction
            .prepare_cached("DELETE FROM names WHERE name = ? AND dialect = ?")?
            .execute(params![name, spoken])?;
    }
    Ok(())
}

//! Tunnels that are answered while their agents are gone.

use std::path::Path;

use rusqlite::{Transaction, params};
use spawnpoint_proto::{Dialect, Protocol, TunnelName};

use super::row;
use crate::{Entry, HostId, Result};

/// Which tunnel of which host.
type Key<'a> = (HostId, &'a TunnelName, Protocol);

/// An entry as its row has it.
pub(super) struct EntryRow {
    host: i64,
    tunnel: String,
    protocol: String,
    port: u16,
    game: String,
    dialect: Option<String>,
    names: Vec<String>,
    away: Option<String>,
    listing: Option<String>,
    seen: Option<i64>,
}

pub(super) fn keep(
    transaction: &Transaction<'_>,
    (host, tunnel, protocol): Key<'_>,
    game: &str,
    dialect: Option<Dialect>,
    away: Option<&str>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO entries (host, tunnel, protocol, game, dialect, away) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (host, tunnel, protocol) DO UPDATE SET game = excluded.game, dialect = excluded.dialect, away = excluded.away",
        )?
        .execute(params![host.0, tunnel.as_str(), protocol.as_str(), game, dialect.map(Dialect::as_str), away])?;
    Ok(())
}

pub(super) fn note(
    transaction: &Transaction<'_>,
    (host, tunnel, protocol): Key<'_>,
    listing: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE entries SET listing = ? WHERE host = ? AND tunnel = ? AND protocol = ?")?
        .execute(params![listing, host.0, tunnel.as_str(), protocol.as_str()])?;
    Ok(())
}

/// Every entry of every live host.
pub(super) fn all(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<EntryRow>> {
    let mut rows: Vec<EntryRow> = transaction
        .prepare_cached(
            "SELECT host, tunnel, protocol, port, game, dialect, away, listing, last_seen FROM entries
             JOIN reservations USING (host, tunnel, protocol) JOIN hosts ON hosts.id = host WHERE revoked IS NULL ORDER BY host, tunnel, protocol",
        )?
        .query_map([], |row| {
            Ok(EntryRow {
                host: row.get(0)?,
                tunnel: row.get(1)?,
                protocol: row.get(2)?,
                port: row.get(3)?,
                game: row.get(4)?,
                dialect: row.get(5)?,
                names: Vec::new(),
                away: row.get(6)?,
                listing: row.get(7)?,
                seen: row.get(8)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut names = transaction
        .prepare_cached("SELECT name FROM names WHERE host = ? AND tunnel = ? AND protocol = ? ORDER BY name")?;
    for row in &mut rows {
        row.names = names
            .query_map(params![row.host, row.tunnel, row.protocol], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
    }
    Ok(rows)
}

impl EntryRow {
    /// The entry, if the row makes sense.
    pub(super) fn read(self, path: &Path) -> Result<Entry> {
        let bad = |what: &str, error: &dyn std::fmt::Display| row::bad(path, format!("entry of {what}: {error}"));
        let tunnel = self.tunnel.parse().map_err(|error| bad(&self.tunnel, &error))?;
        let names = self
            .names
            .iter()
            .map(|name| name.parse().map_err(|error| bad(&self.tunnel, &error)));
        Ok(Entry {
            host: HostId(self.host),
            tunnel,
            protocol: self.protocol.parse().map_err(|error| bad(&self.tunnel, &error))?,
            port: self.port,
            game: self.game,
            // One that a newer release has written is read as none.
            dialect: self.dialect.as_deref().and_then(Dialect::from_word),
            names: names.collect::<Result<_>>()?,
            away: self.away,
            listing: self.listing,
            seen: self.seen.map(row::from_seconds),
        })
    }
}

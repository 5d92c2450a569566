//! The table of bans.

use std::path::Path;

use rusqlite::{Connection, Row, params};
use spawnpoint_core::access::parse_prefix;
use spawnpoint_core::grant::UnixTime;

use super::row::{bad, from_seconds, to_seconds};
use crate::{Ban, BannedBy, HostId, Result, StoreError};

/// What stands in `host` for a ban of the whole relay.
const RELAY: i64 = 0;

fn of(host: Option<HostId>) -> i64 {
    host.map_or(RELAY, |host| host.0)
}

/// Bans that each of one host, the operator, and the relay itself may have on at a time.
pub(super) const MOST: i64 = 10_000;

/// Sets a ban, in place of the one that the same prefix had; `false` when there are as many as may be. Those that have ended go, and what a person has said of a prefix the relay
/// does not take back.
pub(super) fn set(connection: &Connection, ban: &Ban, now: UnixTime) -> rusqlite::Result<bool> {
    connection.execute("DELETE FROM bans WHERE until <= ?", [to_seconds(now)])?;
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM bans WHERE host = ?1 AND prefix <> ?2 AND (banned_by = ?3) = (?4 = ?3)",
        params![
            of(ban.host),
            ban.prefix.to_string(),
            BannedBy::Relay.as_str(),
            ban.by.as_str()
        ],
        |row| row.get(0),
    )?;
    if count >= MOST {
        return Ok(false);
    }
    connection.execute(
        "INSERT INTO bans (host, prefix, until, created, banned_by, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (host, prefix) DO UPDATE SET until = ?3, created = ?4, banned_by = ?5, reason = ?6
        WHERE ?5 <> ?7 OR banned_by = ?7",
        params![
            of(ban.host),
            ban.prefix.to_string(),
            ban.until.map(to_seconds),
            to_seconds(ban.created),
            ban.by.as_str(),
            ban.reason,
            BannedBy::Relay.as_str()
        ],
    )?;
    Ok(true)
}

/// Lifts a ban; `false` when there was none.
pub(super) fn lift(connection: &Connection, host: Option<HostId>, prefix: &str) -> rusqlite::Result<bool> {
    let lifted = connection.execute(
        "DELETE FROM bans WHERE host = ? AND prefix = ?",
        params![of(host), prefix],
    )?;
    Ok(lifted > 0)
}

/// All bans, the newest first.
pub(super) fn all(connection: &Connection, path: &Path) -> Result<Vec<Ban>> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let mut query = connection
        .prepare_cached(
            "SELECT host, prefix, until, created, banned_by, reason FROM bans ORDER BY created DESC, prefix",
        )
        .map_err(fail)?;
    let rows = query.query_map([], |row| Ok(read(row, path))).map_err(fail)?;
    rows.map(|row| row.map_err(fail)?).collect()
}

fn read(row: &Row<'_>, path: &Path) -> Result<Ban> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let host: i64 = row.get(0).map_err(fail)?;
    let prefix: String = row.get(1).map_err(fail)?;
    let until: Option<i64> = row.get(2).map_err(fail)?;
    let word: String = row.get(4).map_err(fail)?;
    let by = BannedBy::ALL.into_iter().find(|by| by.as_str() == word);
    Ok(Ban {
        host: (host != RELAY).then_some(HostId(host)),
        prefix: parse_prefix(&prefix).map_err(|why| bad(path, format!("bans: {why}")))?,
        until: until.map(from_seconds),
        created: from_seconds(row.get(3).map_err(fail)?),
        by: by.ok_or_else(|| bad(path, format!("bans: nobody is called `{word}`")))?,
        reason: row.get(5).map_err(fail)?,
    })
}

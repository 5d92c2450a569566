//! The table of usage.

use std::path::Path;

use rusqlite::{Connection, Row, Transaction, params};
use spawnpoint_proto::{NameError, Protocol};

use super::row::bad;
use crate::{Day, HostId, Result, StoreError, Usage};

/// Days that are kept: two years, so that a month can be held against that of the year before.
const KEPT: u32 = 730;

/// Adds what was used since the last time; a host that is gone uses nothing. What is too old goes.
pub(super) fn add(transaction: &Transaction<'_>, usage: &[Usage]) -> rusqlite::Result<()> {
    if let Some(newest) = usage.iter().map(|used| used.day.0).max() {
        let first = newest.saturating_sub(KEPT);
        transaction
            .prepare_cached("DELETE FROM usage WHERE day < ?")?
            .execute([first])?;
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO usage (host, tunnel, protocol, day, sessions, peak, up, down)
         SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM hosts WHERE id = ?1
         ON CONFLICT (host, tunnel, protocol, day) DO UPDATE SET sessions = sessions + excluded.sessions, peak = max(peak, excluded.peak),
             up = up + excluded.up, down = down + excluded.down",
    )?;
    for used in usage {
        insert.execute(params![
            used.host.0,
            used.tunnel.as_str(),
            used.protocol.as_str(),
            used.day.0,
            count(used.sessions),
            used.peak,
            count(used.up),
            count(used.down)
        ])?;
    }
    Ok(())
}

/// What was used from `first` to `last`, both included, by day.
pub(super) fn between(connection: &Connection, path: &Path, first: Day, last: Day) -> Result<Vec<Usage>> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let mut query = connection
        .prepare_cached(
            "SELECT host, tunnel, protocol, day, sessions, peak, up, down FROM usage WHERE day BETWEEN ? AND ? ORDER BY day, host, tunnel, protocol",
        )
        .map_err(fail)?;
    let rows = query
        .query_map([first.0, last.0], |row| Ok(read(row, path)))
        .map_err(fail)?;
    rows.map(|row| row.map_err(fail)?).collect()
}

fn read(row: &Row<'_>, path: &Path) -> Result<Usage> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let number = |at: usize| row.get::<_, i64>(at).map(|number| number.max(0) as u64).map_err(fail);
    let nonsense = |error: NameError| bad(path, format!("usage: {error}"));
    let (tunnel, protocol): (String, String) = (row.get(1).map_err(fail)?, row.get(2).map_err(fail)?);
    Ok(Usage {
        host: HostId(row.get(0).map_err(fail)?),
        tunnel: tunnel.parse().map_err(nonsense)?,
        protocol: protocol.parse::<Protocol>().map_err(nonsense)?,
        day: Day(row.get(3).map_err(fail)?),
        sessions: number(4)?,
        peak: row.get(5).map_err(fail)?,
        up: number(6)?,
        down: number(7)?,
    })
}

/// SQLite counts to 2^63; nobody carries more in a day.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

//! The host directory in one SQLite file.
//!
//! A relay and any number of command-line processes have the file open at once. Readers never wait for a writer (WAL), a writer waits for another
//! one for at most [`BUSY_TIMEOUT`], and every change is synced to disk before the call returns.
//!
//! Changes by other processes are found by polling [`Directory::version`]: SQLite tells nobody in another process that a file has changed, and
//! file-system events for a WAL are neither portable nor reliable. The question is one look into shared memory (`PRAGMA data_version`), so asking
//! it every few hundred milliseconds costs nothing. SQLite leaves a connection's own writes out of that number, which is why reads and writes share
//! one connection here: the relay is never woken by its own touches and reservations.

mod ban;
mod entry;
mod file;
mod name;
mod reservation;
mod row;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params, params};
use spawnpoint_core::grant::{Grant, UnixTime};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::port::PortSet;
use spawnpoint_core::token::SecretHash;
use spawnpoint_proto::{Dialect, HostName, Protocol, TunnelName};

use crate::{
    Ban, ClaimError, Day, Directory, Entry, Host, HostId, Reservation, ReserveError, Result, StoreError, Usage,
};
use row::Columns;

/// Longer than any transaction of ours on a slow disk; short enough that a stuck process becomes a message and not a hang.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the directory's file in the data directory.
pub const FILE: &str = "directory.sqlite3";

/// The host directory of one relay, in `directory.sqlite3` of its data directory.
///
/// Calls of several threads take turns on one connection; none of them lasts longer than a write to disk, or than 5 s of waiting for another process.
#[derive(Debug)]
pub struct SqliteDirectory {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// The `data_version` of the last look.
    seen: i64,
    /// What [`Directory::version`] has returned last.
    version: u64,
}

impl SqliteDirectory {
    /// Opens the directory in `data_dir`, making both if they are missing, checks the file, and brings an older one up to date.
    ///
    /// # Errors
    /// Every variant of [`StoreError`] that names a file. A damaged file is reported and left as it is.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE);
        let connection = file::open(data_dir, &path)?;
        let seen = data_version(&connection).map_err(|error| StoreError::from_sqlite(&path, error))?;
        Ok(Self {
            path,
            state: Mutex::new(State {
                connection,
                seen,
                version: 1,
            }),
        })
    }

    /// The file that holds the directory, for messages and backups.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a test of a locked file a quick one.
    #[cfg(test)]
    pub(crate) fn shorten_busy_timeout(&self) {
        self.state()
            .connection
            .busy_timeout(Duration::from_millis(20))
            .expect("a connection takes any timeout");
    }

    /// Runs `work` in a write transaction that is rolled back unless it returns `Ok`.
    fn write<T, E: From<StoreError>>(
        &self,
        change: Change,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.state();
        let fail = |error| self.fail(error);
        // Immediate, so that what is read inside cannot be changed by another process before it is written.
        let transaction = state
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fail)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(fail)?;
        if change == Change::Host {
            state.version += 1;
        }
        Ok(value)
    }

    fn read_hosts(&self, condition: &str, value: impl rusqlite::ToSql) -> Result<Vec<Host>> {
        let state = self.state();
        hosts_where(&state.connection, condition, value)
            .map_err(|error| self.fail(error))?
            .into_iter()
            .map(|row| row.host(&self.path))
            .collect()
    }

    /// Changes a live host by `work`, which gets its number.
    fn change_live(
        &self,
        name: &HostName,
        work: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<usize>,
    ) -> Result<()> {
        self.write(Change::Host, |transaction| {
            let (id, revoked) = self
                .find(transaction, name)?
                .ok_or_else(|| StoreError::NoSuchHost { name: name.clone() })?;
            if revoked {
                return Err(StoreError::HostRevoked { name: name.clone() });
            }
            work(transaction, id).map_err(|error| self.fail(error))?;
            Ok(())
        })
    }

    /// The number of the host and whether it is revoked.
    fn find(&self, connection: &Connection, name: &HostName) -> Result<Option<(i64, bool)>> {
        connection
            .prepare_cached("SELECT id, revoked IS NOT NULL FROM hosts WHERE name = ?")
            .and_then(|mut query| {
                query
                    .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(|error| self.fail(error))
    }

    fn fail(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside a transaction has rolled it back on its way out, so the connection is as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a write concerns who may come in with what, and so moves the version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Host,
    Routine,
}

impl Directory for SqliteDirectory {
    fn create_host(&self, name: &HostName, token: &SecretHash, grant: &Grant, now: UnixTime) -> Result<HostId> {
        self.write(Change::Host, |transaction| {
            let found = self.find(transaction, name)?;
            if let Some((_, false)) = found {
                return Err(StoreError::HostExists { name: name.clone() });
            }
            let columns = Columns::new(grant);
            let fail = |error| self.fail(error);
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO hosts (name, token, token_prefix, protocols, ports, hostnames, max_players, caps, lists, expires, created)
                     VALUES (:name, :token, :prefix, :protocols, :ports, :hostnames, :max_players, :caps, :lists, :expires, :now)
                     ON CONFLICT (name) DO UPDATE SET token = :token, token_prefix = :prefix, protocols = :protocols, ports = :ports,
                         hostnames = :hostnames, max_players = :max_players, caps = :caps, lists = :lists, old_token = NULL, old_prefix = NULL, old_until = NULL, expires = :expires, revoked = NULL
                     RETURNING id",
                )
                .map_err(fail)?;
            let id = insert.query_row(
                named_params! {
                    ":name": name.as_str(), ":token": token.as_bytes(), ":prefix": token.id(), ":protocols": columns.protocols,
                    ":ports": columns.ports, ":hostnames": columns.hostnames, ":max_players": columns.max_players, ":caps": columns.caps, ":lists": columns.lists,
                    ":expires": columns.expires, ":now": row::to_seconds(now),
                },
                |row| row.get(0),
            );
            Ok(HostId(id.map_err(fail)?))
        })
    }

    fn hosts_by_token(&self, id: [u8; 8]) -> Result<Vec<Host>> {
        // The indices may leak by their timing how much of the id is right. That is the beginning of a hash: it helps nobody to a token.
        self.read_hosts("token_prefix = ?1 OR old_prefix = ?1", id)
    }

    fn host(&self, id: HostId) -> Result<Option<Host>> {
        Ok(self.read_hosts("id = ?", id.0)?.pop())
    }

    fn host_by_name(&self, name: &HostName) -> Result<Option<Host>> {
        Ok(self.read_hosts("name = ?", name.as_str())?.pop())
    }

    fn hosts(&self) -> Result<Vec<Host>> {
        self.read_hosts("?", true)
    }

    fn revoke(&self, name: &HostName, now: UnixTime) -> Result<()> {
        self.write(Change::Host, |transaction| {
            let changed = transaction
                .prepare_cached("UPDATE hosts SET revoked = coalesce(revoked, ?) WHERE name = ?")
                .and_then(|mut update| update.execute(params![row::to_seconds(now), name.as_str()]))
                .map_err(|error| self.fail(error))?;
            if changed == 0 {
                Err(StoreError::NoSuchHost { name: name.clone() })
            } else {
                Ok(())
            }
        })
    }

    fn rotate(&self, name: &HostName, token: &SecretHash, keep_until: Option<UnixTime>) -> Result<()> {
        self.change_live(name, |transaction, id| {
            match keep_until {
                Some(until) => transaction
                    .prepare_cached(
                        "UPDATE hosts SET old_token = token, old_prefix = token_prefix, old_until = ? WHERE id = ?",
                    )?
                    .execute(params![row::to_seconds(until), id])?,
                None => transaction
                    .prepare_cached(
                        "UPDATE hosts SET old_token = NULL, old_prefix = NULL, old_until = NULL WHERE id = ?",
                    )?
                    .execute([id])?,
            };
            transaction
                .prepare_cached("UPDATE hosts SET token = ?, token_prefix = ? WHERE id = ?")?
                .execute(params![token.as_bytes(), token.id(), id])
        })
    }

    fn set_grant(&self, name: &HostName, grant: &Grant) -> Result<()> {
        let columns = Columns::new(grant);
        self.change_live(name, |transaction, id| {
            name::restrict(transaction, id, grant)?;
            transaction
                .prepare_cached("UPDATE hosts SET protocols = ?, ports = ?, hostnames = ?, max_players = ?, caps = ?, lists = ?, expires = ? WHERE id = ?")?
                .execute(params![columns.protocols, columns.ports, columns.hostnames, columns.max_players, columns.caps, columns.lists, columns.expires, id])
        })
    }

    fn touch(&self, id: HostId, now: UnixTime) -> Result<()> {
        self.write(Change::Routine, |transaction| {
            transaction
                .prepare_cached("UPDATE hosts SET last_seen = max(coalesce(last_seen, 0), ?) WHERE id = ?")
                .and_then(|mut update| update.execute([row::to_seconds(now), id.0]))
                .map_err(|error| self.fail(error))?;
            Ok(())
        })
    }

    fn reserve(
        &self,
        host: HostId,
        tunnel: &TunnelName,
        protocol: Protocol,
        wanted: Option<u16>,
        preferred: Option<u16>,
        allowed: &PortSet,
        avoid: &dyn Fn(u16) -> bool,
        needs: &[(Protocol, i32)],
    ) -> Result<u16, ReserveError> {
        if let Some(port) = wanted.filter(|&port| !allowed.contains(port)) {
            return Err(ReserveError::NotAllowed { port });
        }
        self.write(Change::Routine, |transaction| {
            let fail = |error| self.fail(error);
            let own = reservation::own(transaction, host, tunnel, protocol).map_err(fail)?;
            let free_to_keep =
                |port: &u16| wanted.map_or(allowed.contains(*port) && !avoid(*port), |wanted| wanted == *port);
            if let Some(port) = own.filter(free_to_keep) {
                return Ok(port);
            }
            let holders = reservation::holders(transaction, protocol).map_err(fail)?;
            let neighbours = Protocol::ALL
                .into_iter()
                .filter(|protocol| needs.iter().any(|(need, _)| need == protocol))
                .map(|protocol| Ok((protocol, reservation::holders(transaction, protocol)?)))
                .collect::<rusqlite::Result<Vec<_>>>()
                .map_err(fail)?;
            let has_room = |port: u16| {
                needs.iter().all(|(protocol, offset)| {
                    let beside = u16::try_from(i32::from(port).saturating_add(*offset)).unwrap_or(0);
                    let held = neighbours.iter().find(|(held, _)| held == protocol);
                    allowed.contains(beside) && held.is_none_or(|(_, holders)| !holders.contains_key(&beside))
                })
            };
            let avoid = |port: u16| avoid(port) || !has_room(port);
            let port = reservation::choose(&holders, host, wanted, preferred, allowed, &avoid)?;
            reservation::take(transaction, host, tunnel, protocol, port).map_err(fail)?;
            Ok(port)
        })
    }

    fn reservations(&self, host: HostId) -> Result<Vec<Reservation>> {
        let state = self.state();
        let rows: Vec<(String, String, u16)> = state
            .connection
            .prepare_cached("SELECT tunnel, protocol, port FROM reservations WHERE host = ? ORDER BY tunnel, protocol")
            .and_then(|mut query| {
                query
                    .query_map([host.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                    .collect()
            })
            .map_err(|error| self.fail(error))?;
        rows.into_iter()
            .map(|(tunnel, protocol, port)| {
                let bad = |error| row::bad(&self.path, format!("reservation of port {port}: {error}"));
                Ok(Reservation {
                    host,
                    tunnel: tunnel.parse().map_err(bad)?,
                    protocol: protocol.parse().map_err(bad)?,
                    port,
                })
            })
            .collect()
    }

    fn claim(
        &self,
        host: HostId,
        (tunnel, protocol): (&TunnelName, Protocol),
        dialect: Option<Dialect>,
        wanted: &[Pattern],
        offered: &[Pattern],
    ) -> Result<Vec<Pattern>, ClaimError> {
        self.write(Change::Routine, |transaction| {
            let fail = |error| self.fail(error);
            let mut names = Vec::new();
            let Some(dialect) = dialect else {
                name::retain(transaction, host, (tunnel, protocol), None, &names).map_err(fail)?;
                return Ok(names);
            };
            for name in wanted {
                if name::has_other(transaction, host, name).map_err(fail)? {
                    return Err(ClaimError::Taken { name: name.clone() });
                }
                names.push(name.clone());
            }
            for name in offered.iter().filter(|name| !wanted.contains(name)) {
                let own = name::own(transaction, host, name, dialect).map_err(fail)?;
                let is_free = own.is_none_or(|own| own == tunnel.as_str())
                    && !name::has_other(transaction, host, name).map_err(fail)?;
                if is_free {
                    names.push(name.clone());
                }
            }
            name::retain(transaction, host, (tunnel, protocol), Some(dialect), &names).map_err(fail)?;
            for name in &names {
                name::take(transaction, host, tunnel, name, dialect, wanted.contains(name)).map_err(fail)?;
            }
            Ok(names)
        })
    }

    fn keep_entry(
        &self,
        host: HostId,
        tunnel: &TunnelName,
        protocol: Protocol,
        game: &str,
        dialect: Option<Dialect>,
        away: Option<&str>,
    ) -> Result<()> {
        self.write(Change::Routine, |transaction| {
            entry::keep(transaction, (host, tunnel, protocol), game, dialect, away).map_err(|error| self.fail(error))
        })
    }

    fn note_listing(&self, host: HostId, tunnel: &TunnelName, protocol: Protocol, listing: &str) -> Result<()> {
        self.write(Change::Routine, |transaction| {
            entry::note(transaction, (host, tunnel, protocol), listing).map_err(|error| self.fail(error))
        })
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut state = self.state();
        // One view of both tables, also beside a writer.
        let transaction = state.connection.transaction().map_err(|error| self.fail(error))?;
        let rows = entry::all(&transaction).map_err(|error| self.fail(error))?;
        rows.into_iter().map(|row| row.read(&self.path)).collect()
    }

    fn release(&self, host: HostId, tunnel: &TunnelName, protocol: Protocol) -> Result<bool> {
        self.write(Change::Routine, |transaction| {
            let released = transaction
                .prepare_cached("DELETE FROM reservations WHERE host = ? AND tunnel = ? AND protocol = ?")
                .and_then(|mut delete| delete.execute(params![host.0, tunnel.as_str(), protocol.as_str()]))
                .map_err(|error| self.fail(error))?;
            Ok(released > 0)
        })
    }

    fn ban(&self, ban: &Ban, now: UnixTime) -> Result<()> {
        self.write(Change::Host, |transaction| {
            match ban::set(transaction, ban, now).map_err(|error| self.fail(error))? {
                true => Ok(()),
                false => Err(StoreError::TooManyBans),
            }
        })
    }

    fn lift(&self, host: Option<HostId>, prefix: &IpNet) -> Result<bool> {
        self.write(Change::Host, |transaction| {
            ban::lift(transaction, host, &prefix.to_string()).map_err(|error| self.fail(error))
        })
    }

    fn bans(&self) -> Result<Vec<Ban>> {
        ban::all(&self.state().connection, &self.path)
    }

    fn add_usage(&self, usage: &[Usage]) -> Result<()> {
        self.write(Change::Routine, |transaction| {
            usage::add(transaction, usage).map_err(|error| self.fail(error))
        })
    }

    fn usage(&self, first: Day, last: Day) -> Result<Vec<Usage>> {
        usage::between(&self.state().connection, &self.path, first, last)
    }

    fn leave_note(&self, time: UnixTime, note: &str) -> Result<()> {
        self.write(Change::Host, |transaction| {
            transaction
                .execute(
                    "INSERT INTO notes (time, note) VALUES (?, ?)",
                    params![row::to_seconds(time), note],
                )
                .and_then(|_| {
                    transaction.execute("DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - 10000", [])
                })
                .map_err(|error| self.fail(error))?;
            Ok(())
        })
    }

    fn take_notes(&self) -> Result<Vec<(UnixTime, String)>> {
        // Mostly there is none, which is no reason to write.
        let any: bool = self
            .state()
            .connection
            .query_row("SELECT EXISTS (SELECT 1 FROM notes)", [], |row| row.get(0))
            .map_err(|error| self.fail(error))?;
        if !any {
            return Ok(Vec::new());
        }
        self.write(Change::Routine, |transaction| {
            let take = || {
                let mut query = transaction.prepare_cached("SELECT time, note FROM notes ORDER BY id")?;
                let rows = query.query_map([], |row| Ok((row::from_seconds(row.get(0)?), row.get(1)?)))?;
                let notes: rusqlite::Result<Vec<_>> = rows.collect();
                transaction.execute("DELETE FROM notes", [])?;
                notes
            };
            take().map_err(|error| self.fail(error))
        })
    }

    fn setting(&self, key: &str) -> Result<Option<String>> {
        self.state()
            .connection
            .prepare_cached("SELECT value FROM settings WHERE key = ?")
            .and_then(|mut query| query.query_row([key], |row| row.get(0)).optional())
            .map_err(|error| self.fail(error))
    }

    fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.write(Change::Routine, |transaction| {
            transaction
                .prepare_cached("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
                .and_then(|mut insert| insert.execute([key, value]))
                .map_err(|error| self.fail(error))?;
            Ok(())
        })
    }

    fn version(&self) -> Result<u64> {
        let mut state = self.state();
        let now = data_version(&state.connection).map_err(|error| self.fail(error))?;
        if now != state.seen {
            state.seen = now;
            state.version += 1;
        }
        Ok(state.version)
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

fn hosts_where(
    connection: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Vec<row::HostRow>> {
    let sql = format!(
        "SELECT {} FROM hosts WHERE {condition} ORDER BY name",
        row::HOST_COLUMNS
    );
    connection
        .prepare_cached(&sql)?
        .query_map([value], row::HostRow::read)?
        .collect()
}

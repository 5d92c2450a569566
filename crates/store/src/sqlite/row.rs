//! Hosts and grants as columns.
//!
//! Columns are text that an operator can read and, in an emergency, mend with the `sqlite3` shell; so what comes back is parsed as strictly as
//! configuration, and a value that makes no sense is named rather than guessed at.

use std::num::NonZeroU32;
use std::path::Path;

use rusqlite::Row;
use spawnpoint_core::grant::{Grant, PortRule, ProtocolSet, UnixTime};
use spawnpoint_core::token::SecretHash;
use spawnpoint_proto::{NameError, Protocol};

use crate::{Host, HostId, Result, StoreError};

/// The columns of a host, in the order in which [`HostRow::read`] takes them.
pub(super) const HOST_COLUMNS: &str =
    "id, name, token, protocols, ports, hostnames, max_players, expires, created, revoked, last_seen";

/// What stands in `ports` for a host that may have any port of the pool.
const POOL: &str = "pool";

/// A host as it stands in the file.
pub(super) struct HostRow {
    id: i64,
    name: String,
    token: [u8; 32],
    grant: Columns,
    created: i64,
    revoked: Option<i64>,
    last_seen: Option<i64>,
}

impl HostRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            token: row.get(2)?,
            grant: Columns {
                protocols: row.get(3)?,
                ports: row.get(4)?,
                hostnames: row.get(5)?,
                max_players: row.get(6)?,
                expires: row.get(7)?,
            },
            created: row.get(8)?,
            revoked: row.get(9)?,
            last_seen: row.get(10)?,
        })
    }

    /// The host, or which of its values makes no sense; `path` is for the message.
    pub(super) fn host(self, path: &Path) -> Result<Host> {
        let bad = |what: String| bad(path, format!("host `{}`: {what}", self.name));
        Ok(Host {
            id: HostId(self.id),
            name: self.name.parse().map_err(|error: NameError| bad(error.to_string()))?,
            grant: self.grant.grant().map_err(bad)?,
            token: SecretHash::from_bytes(self.token),
            created: from_seconds(self.created),
            revoked: self.revoked.map(from_seconds),
            last_seen: self.last_seen.map(from_seconds),
        })
    }
}

/// A grant as it stands in the file.
pub(super) struct Columns {
    pub(super) protocols: String,
    pub(super) ports: String,
    pub(super) hostnames: String,
    pub(super) max_players: Option<u32>,
    pub(super) expires: Option<i64>,
}

impl Columns {
    pub(super) fn new(grant: &Grant) -> Self {
        Self {
            protocols: grant
                .protocols
                .iter()
                .map(Protocol::as_str)
                .collect::<Vec<_>>()
                .join(","),
            ports: match &grant.ports {
                PortRule::Pool => POOL.to_owned(),
                PortRule::Only(ports) => ports.to_string(),
            },
            hostnames: grant
                .hostnames
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            max_players: grant.max_players.map(NonZeroU32::get),
            expires: grant.expires.map(to_seconds),
        }
    }

    fn grant(&self) -> Result<Grant, String> {
        let protocols: Result<ProtocolSet, NameError> = parts(&self.protocols).map(str::parse::<Protocol>).collect();
        let ports = match self.ports.as_str() {
            POOL => PortRule::Pool,
            // A grant of no port at all is odd but possible, and `PortSet` reads no empty text.
            "" => PortRule::Only(Default::default()),
            ports => PortRule::Only(ports.parse().map_err(|error| format!("ports: {error}"))?),
        };
        Ok(Grant {
            protocols: protocols.map_err(|error| format!("protocols: {error}"))?,
            ports,
            // Releases that served no names did not look at what was written here.
            hostnames: parts(&self.hostnames).filter_map(|name| name.parse().ok()).collect(),
            max_players: self
                .max_players
                .map(|max| NonZeroU32::new(max).ok_or("max_players is 0"))
                .transpose()?,
            expires: self.expires.map(from_seconds),
        })
    }
}

/// The part of a token's hash that is indexed; all of it is compared afterwards, in constant time.
pub(super) fn prefix(token: &SecretHash) -> &[u8] {
    &token.as_bytes()[..8]
}

/// SQLite counts to 2^63: later moments become that one, 292 billion years away.
pub(super) fn to_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(super) fn bad(path: &Path, detail: String) -> StoreError {
    StoreError::BadRow {
        path: path.to_owned(),
        detail,
    }
}

pub(super) fn from_seconds(seconds: i64) -> UnixTime {
    UnixTime(u64::try_from(seconds).unwrap_or(0))
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

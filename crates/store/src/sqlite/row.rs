//! Hosts and grants as columns.
//!
//! Columns are text that an operator can read and, in an emergency, mend with the `sqlite3` shell; so what comes back is parsed as strictly as
//! configuration, and a value that makes no sense is named rather than guessed at.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use ipnet::IpNet;
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_core::grant::{Caps, Grant, PortRule, ProtocolSet, Rates, UnixTime};
use spawnpoint_core::token::SecretHash;
use spawnpoint_proto::{NameError, Protocol, TunnelName};

use crate::{Host, HostId, Result, StoreError};

/// The columns of a host, in the order in which [`HostRow::read`] takes them.
pub(super) const HOST_COLUMNS: &str = "id, name, token, protocols, ports, hostnames, max_players, caps, lists, expires, created, revoked, last_seen, old_token, old_until";

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
    old_token: Option<[u8; 32]>,
    old_until: Option<i64>,
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
                caps: row.get(7)?,
                lists: row.get(8)?,
                expires: row.get(9)?,
            },
            created: row.get(10)?,
            revoked: row.get(11)?,
            last_seen: row.get(12)?,
            old_token: row.get(13)?,
            old_until: row.get(14)?,
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
            old_token: self
                .old_token
                .map(SecretHash::from_bytes)
                .zip(self.old_until.map(from_seconds)),
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
    /// JSON, empty when nothing is said.
    pub(super) caps: String,
    /// JSON, empty when nothing is said.
    pub(super) lists: String,
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
            max_players: grant.caps.players.map(NonZeroU32::get),
            caps: AllCaps::write(grant),
            lists: AllLists::write(grant),
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
        let AllCaps { own, tunnels } = AllCaps::read(&self.caps)?;
        let players = self
            .max_players
            .map(|max| NonZeroU32::new(max).ok_or("max_players is 0"))
            .transpose()?;
        let by_name = |(name, caps): (String, CapsRow)| Ok((name.parse::<TunnelName>()?, caps.into()));
        let tunnel_caps: Result<BTreeMap<_, _>, NameError> = tunnels.into_iter().map(by_name).collect();
        let (lists, tunnel_lists) = AllLists::read(&self.lists).map_err(|why| format!("lists: {why}"))?;
        Ok(Grant {
            protocols: protocols.map_err(|error| format!("protocols: {error}"))?,
            ports,
            // Releases that served no names did not look at what was written here.
            hostnames: parts(&self.hostnames).filter_map(|name| name.parse().ok()).collect(),
            caps: Caps { players, ..own.into() },
            tunnel_caps: tunnel_caps.map_err(|error| format!("caps: {error}"))?,
            lists,
            tunnel_lists,
            expires: self.expires.map(from_seconds),
        })
    }
}

/// What stands in `caps`: the host's own, but for its players, which have a column, and those of its tunnels.
#[derive(Default, Serialize, Deserialize)]
struct AllCaps {
    #[serde(flatten)]
    own: CapsRow,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tunnels: BTreeMap<String, CapsRow>,
}

#[derive(Default, Serialize, Deserialize)]
struct CapsRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    players: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    half_open: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_players: Option<NonZeroU32>,
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down: Option<u64>,
    /// UDP packets a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packets: Option<u32>,
    /// Bytes in a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<u64>,
}

impl AllCaps {
    fn write(grant: &Grant) -> String {
        let own = Caps {
            players: None,
            ..grant.caps
        };
        if own.is_empty() && grant.tunnel_caps.is_empty() {
            return String::new();
        }
        let tunnels = grant.tunnel_caps.iter();
        let all = Self {
            own: own.into(),
            tunnels: tunnels.map(|(name, caps)| (name.to_string(), (*caps).into())).collect(),
        };
        // Numbers under names of ours: nothing in it cannot be written.
        serde_json::to_string(&all).unwrap_or_default()
    }

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::default()),
            text => serde_json::from_str(text).map_err(|error| format!("caps: {error}")),
        }
    }
}

/// What stands in `lists`: the host's own, and those of its tunnels.
#[derive(Default, Serialize, Deserialize)]
struct AllLists {
    #[serde(flatten)]
    own: ListsRow,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tunnels: BTreeMap<String, ListsRow>,
}

#[derive(Default, Serialize, Deserialize)]
struct ListsRow {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

impl AllLists {
    fn write(grant: &Grant) -> String {
        if grant.lists.is_empty() && grant.tunnel_lists.is_empty() {
            return String::new();
        }
        let tunnels = grant.tunnel_lists.iter();
        let all = Self {
            own: ListsRow::of(&grant.lists),
            tunnels: tunnels
                .map(|(name, lists)| (name.to_string(), ListsRow::of(lists)))
                .collect(),
        };
        serde_json::to_string(&all).unwrap_or_default()
    }

    fn read(text: &str) -> Result<(Lists, BTreeMap<TunnelName, Lists>), String> {
        let all: Self = match text {
            "" => Self::default(),
            text => serde_json::from_str(text).map_err(|error| error.to_string())?,
        };
        let by_name = |(name, lists): (String, ListsRow)| {
            let name = name.parse::<TunnelName>().map_err(|error| error.to_string())?;
            Ok((name, lists.lists()?))
        };
        let tunnels: Result<BTreeMap<_, _>, String> = all.tunnels.into_iter().map(by_name).collect();
        Ok((all.own.lists()?, tunnels?))
    }
}

impl ListsRow {
    fn of(lists: &Lists) -> Self {
        let texts = |prefixes: &[IpNet]| prefixes.iter().map(ToString::to_string).collect();
        Self {
            allow: texts(&lists.allow),
            deny: texts(&lists.deny),
        }
    }

    fn lists(self) -> Result<Lists, String> {
        let prefixes = |texts: Vec<String>| -> Result<Vec<IpNet>, String> {
            texts.iter().map(|text| parse_prefix(text)).collect()
        };
        Ok(Lists {
            allow: prefixes(self.allow)?,
            deny: prefixes(self.deny)?,
        })
    }
}

impl From<Caps> for CapsRow {
    fn from(caps: Caps) -> Self {
        let Caps {
            players,
            half_open,
            new_players,
            rates: Rates { up, down, packets },
            quota,
        } = caps;
        Self {
            players,
            half_open,
            new_players,
            up,
            down,
            packets,
            quota,
        }
    }
}

impl From<CapsRow> for Caps {
    fn from(row: CapsRow) -> Self {
        let CapsRow {
            players,
            half_open,
            new_players,
            up,
            down,
            packets,
            quota,
        } = row;
        Self {
            players,
            half_open,
            new_players,
            rates: Rates { up, down, packets },
            quota,
        }
    }
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

//! From where players may come: the lists of the configuration, of hosts and of tunnels, countries, and everybody's bans, as one value that is read without
//! waiting and replaced whenever any of them changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use spawnpoint_config::relay::{Country, Guard};
use spawnpoint_core::access::{Barred, Lists, PrefixSet, Rule, parse_list};
use spawnpoint_core::admission::DenyReason;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::unix_now;
use spawnpoint_ops::describe;
use spawnpoint_proto::TunnelName;
use spawnpoint_store::{Ban, Host, StoreError};

use crate::context::Context;
use crate::start::RelayError;

/// What the configuration says of where players may come from, with the files that it names read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Borders {
    lists: Lists,
    immune: PrefixSet,
    countries: Option<Arc<Countries>>,
}

/// Which countries players may come from.
struct Countries {
    database: maxminddb::Reader<Vec<u8>>,
    allow: Vec<Country>,
    deny: Vec<Country>,
}

impl std::fmt::Debug for Countries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Countries")
            .field("allow", &self.allow)
            .field("deny", &self.deny)
            .finish_non_exhaustive()
    }
}

impl Borders {
    /// Reads what `guard` names.
    pub fn load(guard: &Guard) -> Result<Self, RelayError> {
        let mut lists = guard.lists.clone();
        lists.allow.extend(read_list(guard.allow_file.as_deref())?);
        lists.deny.extend(read_list(guard.deny_file.as_deref())?);
        let countries = guard
            .country_db
            .as_deref()
            .map(|path| Countries::load(path, guard))
            .transpose()?;
        Ok(Self {
            lists,
            immune: guard.immune.iter().copied().collect(),
            countries: countries.map(Arc::new),
        })
    }

    /// The files that `guard` names.
    pub fn files(guard: &Guard) -> Vec<PathBuf> {
        let files = [&guard.allow_file, &guard.deny_file, &guard.country_db];
        files.into_iter().flatten().cloned().collect()
    }
}

fn read_list(path: Option<&Path>) -> Result<Vec<IpNet>, RelayError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let fail = |why: String| RelayError::List {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    parse_list(&text).map_err(|(line, why)| fail(format!("line {line}: {why}")))
}

impl Countries {
    fn load(path: &Path, guard: &Guard) -> Result<Self, RelayError> {
        let fail = |why: String| RelayError::List {
            path: path.to_owned(),
            why,
        };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let database = maxminddb::Reader::from_source(bytes)
            .map_err(|error| fail(format!("it is no database in MaxMind's format: {error}")))?;
        Ok(Self {
            database,
            allow: guard.allow_countries.clone(),
            deny: guard.deny_countries.clone(),
        })
    }

    /// The country of `ip`, if the database knows it.
    fn of(&self, ip: IpAddr) -> Option<Country> {
        let found = self.database.lookup(ip.to_canonical()).ok()?;
        // Most databases have it in the first place, some in the second.
        let nested = found
            .decode_path::<&str>(&maxminddb::path!["country", "iso_code"])
            .ok()
            .flatten();
        let code = nested.or_else(|| {
            found
                .decode_path::<&str>(&maxminddb::path!["country_code"])
                .ok()
                .flatten()
        })?;
        code.parse().ok()
    }

    /// An address of which nothing is known is in no country: it is let in unless only some are.
    fn allow(&self, ip: IpAddr) -> bool {
        let country = self.of(ip);
        let is_in = |list: &[Country]| country.is_some_and(|country| list.contains(&country));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

/// Who may come where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    relay: Rule,
    immune: PrefixSet,
    countries: Option<Arc<Countries>>,
    hosts: HashMap<HostNumber, HostAccess>,
}

#[derive(Clone, Debug, Default)]
struct HostAccess {
    own: Rule,
    tunnels: HashMap<TunnelName, Rule>,
}

impl Access {
    fn new(borders: &Borders, hosts: &[Host], bans: &[Ban]) -> Self {
        let of = |host: Option<HostNumber>| {
            let bans = bans
                .iter()
                .filter(move |ban| ban.host.map(|host| HostNumber(host.0)) == host);
            bans.map(|ban| (ban.prefix, ban.until))
        };
        let host_access = |host: &Host| {
            let number = HostNumber(host.id.0);
            let tunnels = host.grant.tunnel_lists.iter();
            let access = HostAccess {
                own: Rule::new(&host.grant.lists, of(Some(number))),
                tunnels: tunnels
                    .map(|(name, lists)| (name.clone(), Rule::new(lists, [])))
                    .collect(),
            };
            (number, access)
        };
        Self {
            relay: Rule::new(&borders.lists, of(None)),
            immune: borders.immune.clone(),
            countries: borders.countries.clone(),
            hosts: hosts.iter().map(host_access).collect(),
        }
    }

    /// Whether players from `ip` may come to this relay at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, ip: IpAddr, now: UnixTime) -> Result<(), DenyReason> {
        self.relay.check(ip, now).map_err(DenyReason::Barred)?;
        match &self.countries {
            Some(countries) if !self.immune.contains(ip) && !countries.allow(ip) => Err(DenyReason::Country),
            _ => Ok(()),
        }
    }

    /// Whether players from `ip` may come to this tunnel.
    ///
    /// # Errors
    /// Why not.
    pub fn check_tunnel(
        &self,
        host: HostNumber,
        tunnel: &TunnelName,
        ip: IpAddr,
        now: UnixTime,
    ) -> Result<(), DenyReason> {
        self.check(ip, now)?;
        let Some(access) = self.hosts.get(&host) else {
            return Ok(());
        };
        let own = access.own.check(ip, now);
        let tunnel = access.tunnels.get(tunnel).map_or(Ok(()), |rule| rule.check(ip, now));
        own.and(tunnel).map_err(DenyReason::Barred)
    }

    /// Whether agents from `ip` may come.
    pub fn is_banned(&self, ip: IpAddr, now: UnixTime) -> bool {
        self.relay.check(ip, now) == Err(Barred::Banned)
    }

    /// Whether somebody in `network` is not to be banned automatically.
    pub fn is_anybody_immune(&self, network: IpNet) -> bool {
        self.immune.intersects(network)
    }

    /// Whether nobody from `ip` is banned automatically.
    pub fn is_immune(&self, ip: IpAddr) -> bool {
        self.immune.contains(ip)
    }
}

/// Who may come where, as configuration and directory say now.
pub(crate) async fn read(context: &Context) -> Result<Access, StoreError> {
    let (hosts, bans) = (context.hosts.all().await?, context.hosts.bans().await?);
    let now = unix_now();
    let bans: Vec<Ban> = bans.into_iter().filter(|ban| ban.is_on(now)).collect();
    Ok(Access::new(&context.config().borders, &hosts, &bans))
}

/// Keeps it as they say, for as long as it is polled.
pub(crate) async fn follow(context: Arc<Context>) {
    let (mut hosts, mut config) = (context.hosts.changes(), context.config_changes());
    hosts.mark_changed();
    loop {
        tokio::select! {
            changed = hosts.changed() => if changed.is_err() { return },
            changed = config.changed() => if changed.is_err() { return },
        }
        refresh(&context).await;
    }
}

/// Reads it anew, for what is to be live at once.
pub(crate) async fn refresh(context: &Context) {
    match read(context).await {
        Ok(access) => context.set_access(access),
        Err(error) => {
            tracing::error!(error = %describe(&error), "bans and lists could not be read, they stay as they were");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two prefixes: 192.0.2.0/24 is in DE, 2001:db8::/32 in FR.
    const DATABASE: &[u8] = include_bytes!("access/country.mmdb");

    fn countries(allow: &[&str], deny: &[&str]) -> Countries {
        let list = |countries: &[&str]| countries.iter().map(|country| country.parse().unwrap()).collect();
        Countries {
            database: maxminddb::Reader::from_source(DATABASE.to_vec()).unwrap(),
            allow: list(allow),
            deny: list(deny),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn countries_are_told_apart_and_the_unknown_is_nowhere() {
        let allows = |countries: &Countries| {
            ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "203.0.113.1"].map(|text| countries.allow(ip(text)))
        };
        assert_eq!(allows(&countries(&["DE"], &[])), [true, true, false, false]);
        assert_eq!(allows(&countries(&[], &["DE"])), [false, false, true, true]);
        assert_eq!(allows(&countries(&["DE", "FR"], &["FR"])), [true, true, false, false]);
    }

    #[test]
    fn a_file_that_is_no_list_or_database_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        std::fs::write(&path, "10.0.0.0/8\nnonsense\n").unwrap();
        let guard = Guard {
            deny_file: Some(path.clone()),
            ..Guard::default()
        };
        let error = Borders::load(&guard).unwrap_err().to_string();
        assert!(
            error.contains("list") && error.contains("line 2: `nonsense`"),
            "{error}"
        );
        let guard = Guard {
            country_db: Some(path),
            ..Guard::default()
        };
        let error = Borders::load(&guard).unwrap_err().to_string();
        assert!(error.contains("no database in MaxMind's format"), "{error}");
    }

    #[test]
    fn whoever_is_immune_is_asked_for_no_country_and_a_ban_counts_all_the_same() {
        let borders = Borders {
            immune: ["203.0.113.0/24".parse::<IpNet>().unwrap()].into_iter().collect(),
            countries: Some(Arc::new(countries(&["DE"], &[]))),
            ..Borders::default()
        };
        let ban = Ban {
            host: None,
            prefix: "203.0.113.9/32".parse().unwrap(),
            until: None,
            created: UnixTime(0),
            by: spawnpoint_store::BannedBy::Operator,
            reason: String::new(),
        };
        let access = Access::new(&borders, &[], &[ban]);
        let check = |text| access.check(ip(text), UnixTime(1));
        assert_eq!(check("203.0.113.1"), Ok(()));
        assert_eq!(check("203.0.113.9"), Err(DenyReason::Barred(Barred::Banned)));
        assert_eq!(check("198.51.100.1"), Err(DenyReason::Country));
    }
}

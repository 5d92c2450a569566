//! What an operator does with hosts, on the relay's machine, while the relay runs or not.
//!
//! The directory is the meeting point: the running relay left its address and certificate there for invites, and notices within a second what is changed
//! here.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_core::access::{Lists, canonical};
use spawnpoint_core::grant::{Caps, Grant, PortRule, ProtocolSet, Rates, UnixTime};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::token::SecretHash;
use spawnpoint_net::{random_bytes, unix_now};
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::MAX_REASON;
use spawnpoint_proto::{CertificateHash, HostName, Invite, Token, Trust, TunnelName, cut, plain};
use spawnpoint_store::{
    Ban, BannedBy, Day, Directory, Entry, Host, HostId, Reservation, SqliteDirectory, StoreError, Usage,
};

/// The name or address in invites.
pub(crate) const PUBLIC_HOST: &str = "public_host";
/// The port for agents.
pub(crate) const AGENT_PORT: &str = "agent_port";
/// The hash of the certificate that the relay shows.
pub(crate) const CERTIFICATE_HASH: &str = "certificate_hash";
/// `pin` or `name`.
pub(crate) const VERIFY: &str = "verify";

/// What cannot be done with hosts.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    /// The directory says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No relay has ever run here.
    #[error("no relay has run with the data directory {}: start `spawnpoint relay` first, or name its directory with --data-dir", .0.display())]
    NoRelay(PathBuf),
    /// There is no such host.
    #[error("there is no host `{0}`: `spawnpoint host list` shows all")]
    NoSuchHost(HostName),
}

/// Changes to a grant; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct GrantChange {
    /// Protocols.
    pub protocols: Option<ProtocolSet>,
    /// Public ports.
    pub ports: Option<PortRule>,
    /// Host names.
    pub hostnames: Option<Vec<Pattern>>,
    /// How much it may use, or one of its tunnels.
    pub caps: CapsChange,
    /// From where players may come.
    pub allow: Option<Vec<IpNet>>,
    /// From where they may not.
    pub deny: Option<Vec<IpNet>>,
    /// The tunnel that `caps`, `allow` and `deny` are of; all together when absent.
    pub tunnel: Option<TunnelName>,
    /// End.
    pub expires: Option<Option<UnixTime>>,
}

/// Changes to how much a host or a tunnel may use; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct CapsChange {
    /// Players at once.
    pub players: Option<Option<NonZeroU32>>,
    /// Players at once whom no server has answered.
    pub half_open: Option<Option<NonZeroU32>>,
    /// New players a second.
    pub new_players: Option<Option<NonZeroU32>>,
    /// Bytes a second from players.
    pub up: Option<Option<u64>>,
    /// Bytes a second to players.
    pub down: Option<Option<u64>>,
    /// UDP packets a second from players.
    pub packets: Option<Option<u32>>,
    /// Bytes in a month.
    pub quota: Option<Option<u64>>,
}

impl CapsChange {
    fn apply(self, caps: Caps) -> Caps {
        Caps {
            players: self.players.unwrap_or(caps.players),
            half_open: self.half_open.unwrap_or(caps.half_open),
            new_players: self.new_players.unwrap_or(caps.new_players),
            rates: Rates {
                up: self.up.unwrap_or(caps.rates.up),
                down: self.down.unwrap_or(caps.rates.down),
                packets: self.packets.unwrap_or(caps.rates.packets),
            },
            quota: self.quota.unwrap_or(caps.quota),
        }
    }
}

impl GrantChange {
    /// `grant` with the changes.
    pub fn apply(self, mut grant: Grant) -> Grant {
        let change = |lists: Lists| Lists {
            allow: self.allow.unwrap_or(lists.allow),
            deny: self.deny.unwrap_or(lists.deny),
        };
        match self.tunnel {
            None => {
                grant.caps = self.caps.apply(grant.caps);
                grant.lists = change(grant.lists);
            }
            Some(tunnel) => {
                let caps = self.caps.apply(grant.caps_of(&tunnel));
                grant.tunnel_caps.insert(tunnel.clone(), caps);
                grant.tunnel_caps.retain(|_, caps| !caps.is_empty());
                let lists = change(grant.tunnel_lists.remove(&tunnel).unwrap_or_default());
                grant.tunnel_lists.insert(tunnel, lists);
                grant.tunnel_lists.retain(|_, lists| !lists.is_empty());
            }
        }
        Grant {
            protocols: self.protocols.unwrap_or(grant.protocols),
            ports: self.ports.unwrap_or(grant.ports),
            hostnames: self.hostnames.unwrap_or(grant.hostnames),
            expires: self.expires.unwrap_or(grant.expires),
            ..grant
        }
    }
}

/// The directory of one relay, opened for an operator.
pub struct Office {
    directory: SqliteDirectory,
    data_dir: PathBuf,
}

impl Office {
    /// Opens the directory of the relay whose data is in `data_dir`.
    ///
    /// # Errors
    /// [`OfficeError::NoRelay`] when no relay has run there, and what is wrong with the directory.
    pub fn open(data_dir: &Path) -> Result<Self, OfficeError> {
        // Opening makes a directory of hosts; in a wrong place that would only hide the mistake.
        if !data_dir.join(spawnpoint_store::FILE).is_file() {
            return Err(OfficeError::NoRelay(data_dir.to_owned()));
        }
        let directory = SqliteDirectory::open(data_dir)?;
        Ok(Self {
            directory,
            data_dir: data_dir.to_owned(),
        })
    }

    /// Adds a host and returns its invite, which names `public_host` instead of what the relay found, if given.
    ///
    /// # Errors
    /// When the host exists, or no relay has run yet.
    pub fn invite(&self, name: &HostName, grant: &Grant, public_host: Option<&str>) -> Result<Invite, OfficeError> {
        let invite = self.draft(public_host)?;
        self.directory
            .create_host(name, &SecretHash::of_token(&invite.token), grant, unix_now())?;
        let (host, by) = (name.to_string(), operator());
        self.note(&Event::Invited { host, by });
        Ok(invite)
    }

    /// Replaces a host's token and returns the new invite; the old one works for another `grace`, or is worth nothing from then on.
    ///
    /// # Errors
    /// When there is no such live host.
    pub fn rotate(
        &self,
        name: &HostName,
        public_host: Option<&str>,
        grace: Option<Duration>,
    ) -> Result<Invite, OfficeError> {
        let invite = self.draft(public_host)?;
        let keep_until = grace.map(|grace| UnixTime(unix_now().0 + grace.as_secs()));
        self.directory
            .rotate(name, &SecretHash::of_token(&invite.token), keep_until)?;
        self.note(&Event::Rotated {
            host: name.to_string(),
            grace_s: grace.map_or(0, |grace| grace.as_secs()),
            by: operator(),
        });
        Ok(invite)
    }

    /// Ends a host; a running relay closes its links.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn revoke(&self, name: &HostName) -> Result<(), OfficeError> {
        self.directory.revoke(name, unix_now())?;
        let (host, by) = (name.to_string(), operator());
        self.note(&Event::Revoked { host, by });
        Ok(())
    }

    /// Changes a host's grant and returns the new one.
    ///
    /// # Errors
    /// When there is no such live host.
    pub fn grant(&self, name: &HostName, change: GrantChange) -> Result<Grant, OfficeError> {
        let (host, _) = self.host(name)?;
        let grant = change.apply(host.grant);
        self.directory.set_grant(name, &grant)?;
        let (host, by) = (name.to_string(), operator());
        self.note(&Event::Granted { host, by });
        Ok(grant)
    }

    /// A host with its reserved ports.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn host(&self, name: &HostName) -> Result<(Host, Vec<Reservation>), OfficeError> {
        let host = self
            .directory
            .host_by_name(name)?
            .ok_or_else(|| OfficeError::NoSuchHost(name.clone()))?;
        let reservations = self.directory.reservations(host.id)?;
        Ok((host, reservations))
    }

    /// Every host with its reserved ports, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn hosts(&self) -> Result<Vec<(Host, Vec<Reservation>)>, OfficeError> {
        let hosts = self.directory.hosts()?;
        let with_ports = hosts
            .into_iter()
            .map(|host| Ok((self.directory.reservations(host.id)?, host)));
        with_ports
            .map(|pair: Result<_, StoreError>| Ok(pair.map(|(ports, host)| (host, ports))?))
            .collect()
    }

    /// Every tunnel that is answered while its agent is gone.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, OfficeError> {
        Ok(self.directory.entries()?)
    }

    /// Bans players from `prefix`, from the tunnels of one host or from the whole relay, for a while or until it is lifted. A running relay ends their sessions.
    ///
    /// # Errors
    /// When there is no such host, or there are too many bans.
    pub fn ban(
        &self,
        host: Option<&HostName>,
        prefix: IpNet,
        lasts: Option<Duration>,
        reason: &str,
    ) -> Result<(), OfficeError> {
        let name = host.map(ToString::to_string);
        let host = host.map(|name| self.host(name)).transpose()?;
        let now = unix_now();
        let ban = Ban {
            host: host.map(|(host, _)| host.id),
            prefix: canonical(prefix),
            until: lasts.map(|lasts| UnixTime(now.0 + lasts.as_secs().max(1))),
            created: now,
            by: BannedBy::Operator,
            reason: cut(&plain(reason), MAX_REASON).to_owned(),
        };
        self.directory.ban(&ban, now)?;
        self.note(&Event::Banned {
            host: name,
            prefix: ban.prefix.to_string(),
            by: ban.by.as_str(),
            reason: ban.reason,
            lasts_s: lasts.map(|lasts| lasts.as_secs()),
        });
        Ok(())
    }

    /// Lifts the ban of this very prefix; returns whether there was one.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn lift(&self, host: Option<&HostName>, prefix: IpNet) -> Result<bool, OfficeError> {
        let name = host.map(ToString::to_string);
        let host = host.map(|name| self.host(name)).transpose()?;
        let prefix = canonical(prefix);
        let is_lifted = self.directory.lift(host.map(|(host, _)| host.id), &prefix)?;
        if is_lifted {
            self.note(&Event::Unbanned {
                host: name,
                prefix: prefix.to_string(),
            });
        }
        Ok(is_lifted)
    }

    /// Every ban that is on, with the host that it is for, the newest first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn bans(&self) -> Result<Vec<(Option<HostName>, Ban)>, OfficeError> {
        let (hosts, now) = (self.directory.hosts()?, unix_now());
        let name = |id: HostId| hosts.iter().find(|host| host.id == id).map(|host| host.name.clone());
        let bans = self.directory.bans()?.into_iter().filter(|ban| ban.is_on(now));
        Ok(bans.map(|ban| (ban.host.and_then(name), ban)).collect())
    }

    /// What tunnels have used from `first` to `last`, both included, with their hosts' names, by day. A running relay writes it every few seconds.
    ///
    /// # Errors
    /// When there is no such host, or the directory cannot be read.
    pub fn usage(&self, host: Option<&HostName>, first: Day, last: Day) -> Result<Vec<(HostName, Usage)>, OfficeError> {
        let only = host.map(|name| self.host(name)).transpose()?.map(|(host, _)| host.id);
        let hosts = self.directory.hosts()?;
        let name = |id: HostId| hosts.iter().find(|host| host.id == id).map(|host| host.name.clone());
        let used = self.directory.usage(first, last)?.into_iter();
        let used = used.filter(|used| only.is_none_or(|only| only == used.host));
        Ok(used.filter_map(|used| Some((name(used.host)?, used))).collect())
    }

    /// The name or address that invites show unless told otherwise.
    ///
    /// # Errors
    /// When no relay has run yet.
    pub fn public_host(&self) -> Result<String, OfficeError> {
        self.setting(PUBLIC_HOST)
    }

    /// Leaves what was done for the relay's audit log. What is done is done, also if that cannot be noted.
    fn note(&self, event: &Event) {
        let noted = serde_json::to_string(event).map_err(|error| error.to_string());
        let left = noted.and_then(|note| {
            self.directory
                .leave_note(unix_now(), &note)
                .map_err(|error| describe(&error))
        });
        if let Err(error) = left {
            tracing::error!(error, "this is missing from the audit log");
        }
    }

    fn draft(&self, public_host: Option<&str>) -> Result<Invite, OfficeError> {
        let port = self.setting(AGENT_PORT)?.parse().map_err(|_| self.no_relay())?;
        let trust = match self.setting(VERIFY)?.as_str() {
            "name" => Trust::Name,
            _ => Trust::Pin(parse_hash(&self.setting(CERTIFICATE_HASH)?).ok_or_else(|| self.no_relay())?),
        };
        let host = match public_host {
            Some(host) => host.to_owned(),
            None => self.public_host()?,
        };
        Ok(Invite {
            host,
            port,
            trust,
            token: Token::new(random_bytes()),
        })
    }

    fn setting(&self, key: &str) -> Result<String, OfficeError> {
        self.directory.setting(key)?.ok_or_else(|| self.no_relay())
    }

    fn no_relay(&self) -> OfficeError {
        OfficeError::NoRelay(self.data_dir.clone())
    }
}

/// Who does this, as the machine knows them.
fn operator() -> String {
    let names = ["SUDO_USER", "USER", "USERNAME"].into_iter();
    let name = names
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty());
    plain(&name.unwrap_or_else(|| "unknown".to_owned()))
}

fn parse_hash(text: &str) -> Option<CertificateHash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(CertificateHash(hash))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hash_survives_its_text() {
        let hash = CertificateHash(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(parse_hash(&hash.to_string()), Some(hash));
        assert_eq!(parse_hash("xyz"), None);
    }

    #[test]
    fn an_invite_before_the_first_start_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Office::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("start `spawnpoint relay` first"), "{error}");
        assert!(
            std::fs::read_dir(dir.path()).unwrap().next().is_none(),
            "nothing was made"
        );
        SqliteDirectory::open(dir.path()).unwrap();
        let office = Office::open(dir.path()).unwrap();
        let error = office
            .invite(&"desk".parse().unwrap(), &Grant::default(), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("start `spawnpoint relay` first"), "{error}");
        assert!(office.hosts().unwrap().is_empty());
    }
}

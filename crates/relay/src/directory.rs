//! The host directory for tasks: calls go through the blocking pool, changes are noticed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::port::PortSet;
use spawnpoint_net::unix_now;
use spawnpoint_ops::describe;
use spawnpoint_proto::control::TunnelRequest;
use spawnpoint_proto::{Dialect, HostName, Protocol, TunnelName};
use spawnpoint_store::{
    Ban, ClaimError, Day, Directory, Entry, Host, HostId, Reservation, ReserveError, StoreError, Usage,
};
use tokio::sync::watch;

/// How often the directory is asked whether another process changed it. It is one read of a page that is in memory; a change must be live within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The directory; clones are the same one.
#[derive(Clone)]
pub(crate) struct Hosts {
    directory: Arc<dyn Directory>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hosts")
    }
}

impl Hosts {
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self {
            directory,
            changed: watch::Sender::new(0),
        }
    }

    /// Sees a new value whenever hosts or grants may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Looks for changes as long as it is polled.
    pub async fn watch(&self) {
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            pace.tick().await;
            match self.call(|directory| directory.version()).await {
                Ok(version) if last != Some(version) => {
                    last = Some(version);
                    self.changed.send_replace(version);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(error = %describe(&error), "the directory could not be read"),
            }
        }
    }

    pub async fn by_token(&self, id: [u8; 8]) -> Result<Vec<Host>, StoreError> {
        self.call(move |directory| directory.hosts_by_token(id)).await
    }

    pub async fn host(&self, id: HostId) -> Result<Option<Host>, StoreError> {
        self.call(move |directory| directory.host(id)).await
    }

    pub async fn touch(&self, id: HostId, now: UnixTime) -> Result<(), StoreError> {
        self.call(move |directory| directory.touch(id, now)).await
    }

    /// Gives a tunnel its public port; those in `busy` belong to other programs.
    pub async fn reserve(
        &self,
        host: HostId,
        request: &TunnelRequest,
        allowed: PortSet,
        busy: HashSet<u16>,
    ) -> Result<u16, ReserveError> {
        let (name, protocol) = (request.name.clone(), request.protocol);
        let (wanted, preferred) = (request.public_port, request.preferred_port);
        let needs = request.needs.iter().flatten();
        let needs: Vec<(Protocol, i32)> = needs.map(|need| (need.protocol, need.offset)).collect();
        self.call(move |directory| {
            let is_busy = |port: u16| busy.contains(&port);
            directory.reserve(host, &name, protocol, wanted, preferred, &allowed, &is_busy, &needs)
        })
        .await
    }

    /// The ports that a host has for good.
    pub async fn reservations(&self, host: HostId) -> Result<Vec<Reservation>, StoreError> {
        self.call(move |directory| directory.reservations(host)).await
    }

    /// The port that a tunnel already has for good.
    pub async fn reserved(&self, host: HostId, request: &TunnelRequest) -> Result<Option<u16>, StoreError> {
        let (name, protocol) = (request.name.clone(), request.protocol);
        let reservations = self.reservations(host).await?;
        let own = reservations
            .into_iter()
            .find(|own| own.tunnel == name && own.protocol == protocol);
        Ok(own.map(|own| own.port))
    }

    /// Gives a tunnel its names.
    pub async fn claim(
        &self,
        host: HostId,
        (tunnel, protocol): (TunnelName, Protocol),
        dialect: Option<Dialect>,
        wanted: Vec<Pattern>,
        offered: Vec<Pattern>,
    ) -> Result<Vec<Pattern>, ClaimError> {
        self.call(move |directory| directory.claim(host, (&tunnel, protocol), dialect, &wanted, &offered))
            .await
    }

    /// Notes that a tunnel is answered while its agent is gone.
    pub async fn keep_entry(
        &self,
        host: HostId,
        request: &TunnelRequest,
        game: String,
        dialect: Option<Dialect>,
    ) -> Result<(), StoreError> {
        let (tunnel, protocol, away) = (request.name.clone(), request.protocol, request.away.clone());
        self.call(move |directory| directory.keep_entry(host, &tunnel, protocol, &game, dialect, away.as_deref()))
            .await
    }

    /// Notes what the server list shows of such a tunnel.
    pub async fn note_listing(
        &self,
        host: HostId,
        tunnel: TunnelName,
        protocol: Protocol,
        listing: Arc<str>,
    ) -> Result<(), StoreError> {
        self.call(move |directory| directory.note_listing(host, &tunnel, protocol, &listing))
            .await
    }

    /// Every such tunnel of every live host.
    pub async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.call(|directory| directory.entries()).await
    }

    /// Every host.
    pub async fn all(&self) -> Result<Vec<Host>, StoreError> {
        self.call(|directory| directory.hosts()).await
    }

    /// Every ban.
    pub async fn bans(&self) -> Result<Vec<Ban>, StoreError> {
        self.call(|directory| directory.bans()).await
    }

    /// Sets a ban.
    pub async fn ban(&self, ban: Ban) -> Result<(), StoreError> {
        self.call(move |directory| directory.ban(&ban, unix_now())).await
    }

    /// Lifts a ban; returns whether there was one.
    pub async fn lift(&self, host: Option<HostId>, prefix: IpNet) -> Result<bool, StoreError> {
        self.call(move |directory| directory.lift(host, &prefix)).await
    }

    /// Adds what was used.
    pub async fn add_usage(&self, usage: Vec<Usage>) -> Result<(), StoreError> {
        self.call(move |directory| directory.add_usage(&usage)).await
    }

    /// What was used in these days.
    pub async fn usage(&self, first: Day, last: Day) -> Result<Vec<Usage>, StoreError> {
        self.call(move |directory| directory.usage(first, last)).await
    }

    /// What was left for the audit log.
    pub async fn take_notes(&self) -> Result<Vec<(UnixTime, String)>, StoreError> {
        self.call(|directory| directory.take_notes()).await
    }

    /// The host with this name, unless it is revoked.
    pub async fn by_name(&self, name: HostName) -> Result<Option<Host>, StoreError> {
        let host = self.call(move |directory| directory.host_by_name(&name)).await?;
        Ok(host.filter(|host| host.revoked.is_none()))
    }

    /// Gives a tunnel's port back.
    pub async fn release(&self, host: HostId, name: TunnelName, protocol: Protocol) -> Result<bool, StoreError> {
        self.call(move |directory| directory.release(host, &name, protocol))
            .await
    }

    pub async fn set_setting(&self, key: &'static str, value: String) -> Result<(), StoreError> {
        self.call(move |directory| directory.set_setting(key, &value)).await
    }

    async fn call<T, E>(&self, call: impl FnOnce(&dyn Directory) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let directory = self.directory.clone();
        match tokio::task::spawn_blocking(move || call(&*directory)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and with it whoever waits for this.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

//! The host directory: who may come in, what they may expose, which public ports and names are theirs for good.
//!
//! [`Directory`] is the one trait; [`SqliteDirectory`] keeps it in a single file of the relay's data directory, so one relay needs no other
//! service. [`DataDir`] makes that directory and locks it, so two relays never serve the same hosts from one machine by accident.
//!
//! Everything here is synchronous and reads no clock: callers pass `now`, and an asynchronous caller goes through its blocking pool. Tokens come
//! in as [`SecretHash`] only, so no file, backup or error message of this crate can hold one.

mod ban;
mod datadir;
mod entry;
mod error;
mod host;
mod sqlite;
mod usage;

use ipnet::IpNet;
use spawnpoint_core::grant::{Grant, UnixTime};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_core::port::PortSet;
use spawnpoint_core::token::SecretHash;
use spawnpoint_proto::{Dialect, HostName, Protocol, TunnelName};

pub use ban::{Ban, BannedBy};
pub use datadir::{DataDir, DataDirLock};
pub use entry::Entry;
pub use error::{ClaimError, ReserveError, StoreError};
pub use host::{Host, HostId, Reservation};
pub use sqlite::{FILE, SqliteDirectory};
pub use usage::{Day, Usage};

/// What a call of this crate returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Hosts, their reserved ports, and the few settings that a relay and its command line share.
///
/// Every call is a transaction of its own: when it returns, the change is on disk and visible to every other process.
pub trait Directory: Send + Sync {
    /// Adds a host, or reinstates a revoked one of that name with this token and grant; its reserved ports are still its own then.
    ///
    /// # Errors
    /// [`StoreError::HostExists`] when a live host has the name.
    fn create_host(&self, name: &HostName, token: &SecretHash, grant: &Grant, now: UnixTime) -> Result<HostId>;

    /// The hosts one of whose tokens has a hash with this [`SecretHash::id`], revoked or not; the caller looks at [`Host::tokens`] and [`Host::revoked`], and can so tell a revoked
    /// token from an unknown one. There is more than one at most by an accident that nobody will live to see.
    fn hosts_by_token(&self, id: [u8; 8]) -> Result<Vec<Host>>;

    /// The host with this number.
    fn host(&self, id: HostId) -> Result<Option<Host>>;

    /// The host with this name, revoked or not.
    fn host_by_name(&self, name: &HostName) -> Result<Option<Host>>;

    /// Every host, revoked ones too, by name.
    fn hosts(&self) -> Result<Vec<Host>>;

    /// Ends a host at `now`; its ports stay reserved until somebody else asks for them. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// [`StoreError::NoSuchHost`].
    fn revoke(&self, name: &HostName, now: UnixTime) -> Result<()>;

    /// Replaces the token of a live host; the old one works until `keep_until`, or is unknown from now on.
    ///
    /// # Errors
    /// [`StoreError::NoSuchHost`]; [`StoreError::HostRevoked`], since a new token alone would not let it in.
    fn rotate(&self, name: &HostName, token: &SecretHash, keep_until: Option<UnixTime>) -> Result<()>;

    /// Replaces the grant of a live host, and takes the names from it that it allows no more.
    ///
    /// # Errors
    /// [`StoreError::NoSuchHost`]; [`StoreError::HostRevoked`].
    fn set_grant(&self, name: &HostName, grant: &Grant) -> Result<()>;

    /// Notes that the host was here at `now`. Does not count as a change for [`Directory::version`].
    fn touch(&self, id: HostId, now: UnixTime) -> Result<()>;

    /// Gives a tunnel its public port, the same one as ever if that is possible.
    ///
    /// A `wanted` port is given or refused: it is taken over from a revoked host and from another tunnel of the same host, never from a live host.
    /// With none wanted, the tunnel keeps the port it has while `allowed` holds it; else it gets `preferred`, else the highest free port of
    /// `allowed`, else the highest one that a revoked host holds. Ports for which `avoid` says `true` (another program of the machine holds them)
    /// are passed over, even the tunnel's own; a caller who would rather wait for that one does not name it. So are ports beside which one of the `needs`
    /// (a protocol, and what to add to the port) is not free, but for a port that is wanted or kept.
    ///
    /// # Errors
    /// [`ReserveError::Taken`], [`ReserveError::NotAllowed`], [`ReserveError::Exhausted`], or a [`StoreError`].
    #[expect(
        clippy::too_many_arguments,
        reason = "one decision in one transaction; a struct would only rename the arguments"
    )]
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
    ) -> Result<u16, ReserveError>;

    /// The reserved ports of a host, by tunnel and protocol.
    fn reservations(&self, host: HostId) -> Result<Vec<Reservation>>;

    /// Gives a tunnel that has a port its names on the shared ports of a `dialect`, the same ones as ever if that is possible, and returns them.
    ///
    /// Those `wanted` are given or refused: they are taken over from a revoked host and from another tunnel of the same host, never from a live host, in
    /// whatever dialect that has them. Those `offered` are given if no other host and no other tunnel has them. Names that are in neither are given up, and
    /// so are those that it had in another dialect; without one it has none.
    ///
    /// # Errors
    /// [`ClaimError::Taken`], or a [`StoreError`]; nothing is changed then.
    fn claim(
        &self,
        host: HostId,
        tunnel: (&TunnelName, Protocol),
        dialect: Option<Dialect>,
        wanted: &[Pattern],
        offered: &[Pattern],
    ) -> Result<Vec<Pattern>, ClaimError>;

    /// Notes that a tunnel that has a port is answered while its agent is gone, and how; what its server list showed is kept.
    fn keep_entry(
        &self,
        host: HostId,
        tunnel: &TunnelName,
        protocol: Protocol,
        game: &str,
        dialect: Option<Dialect>,
        away: Option<&str>,
    ) -> Result<()>;

    /// Notes what the server list shows of such a tunnel.
    fn note_listing(&self, host: HostId, tunnel: &TunnelName, protocol: Protocol, listing: &str) -> Result<()>;

    /// Every such tunnel of every live host.
    fn entries(&self) -> Result<Vec<Entry>>;

    /// Gives a tunnel's port back, and its names with it; returns whether it had one.
    fn release(&self, host: HostId, tunnel: &TunnelName, protocol: Protocol) -> Result<bool>;

    /// Sets a ban, in place of the one that the same prefix had there; those that have ended at `now` are forgotten.
    ///
    /// # Errors
    /// [`StoreError::TooManyBans`] when 10,000 of them are on already.
    fn ban(&self, ban: &Ban, now: UnixTime) -> Result<()>;

    /// Lifts the ban that this very prefix has, for a host or for the whole relay; returns whether there was one.
    fn lift(&self, host: Option<HostId>, prefix: &IpNet) -> Result<bool>;

    /// Every ban, also those that have ended by themselves, the newest first.
    fn bans(&self) -> Result<Vec<Ban>>;

    /// Adds what tunnels have used since it was added last: sessions and bytes add up, of peaks the highest stays. Does not count as a change for
    /// [`Directory::version`].
    fn add_usage(&self, usage: &[Usage]) -> Result<()>;

    /// What tunnels have used from `first` to `last`, both included, by day, host and tunnel.
    fn usage(&self, first: Day, last: Day) -> Result<Vec<Usage>>;

    /// Leaves a note for the relay's audit log, whether one runs or not. The oldest go when there are more than 10,000.
    fn leave_note(&self, time: UnixTime, note: &str) -> Result<()>;

    /// Takes the notes that were left, the oldest first. Does not count as a change for [`Directory::version`].
    fn take_notes(&self) -> Result<Vec<(UnixTime, String)>>;

    /// A value that a process left under `key`.
    fn setting(&self, key: &str) -> Result<Option<String>>;

    /// Leaves a value under `key`. Does not count as a change for [`Directory::version`] when this process makes it.
    fn set_setting(&self, key: &str, value: &str) -> Result<()>;

    /// A number that grows when hosts or grants may have changed: by any write of another process, and by this one's own changes of a host.
    ///
    /// What the relay itself writes all day ([`Directory::touch`], [`Directory::reserve`], [`Directory::set_setting`]) does not move it.
    fn version(&self) -> Result<u64>;
}

#[cfg(test)]
mod tests;

//! What every task of a relay shares.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spawnpoint_core::admission::{Bounds, DenyReason, Full, Gate, Limits, Whose};
use spawnpoint_core::offences::Offence;
use spawnpoint_core::pace::Pace;
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::Clock;
use spawnpoint_ops::{Audit, Event, Events, RelayMetrics};
use spawnpoint_proto::{SessionId, TunnelName};
use spawnpoint_sniff::minecraft::Refusal;
use tokio::sync::{Notify, Semaphore, watch};

use crate::access::Access;
use crate::away::{self, Known, Presence};
use crate::directory::Hosts;
use crate::dnsbl::Standing;
use crate::door::Door;
use crate::list::Lists;
use crate::offend::Book;
use crate::rates::{AddressSpeeds, Speeds};
use crate::settings::Settings;
use crate::usage::{Books, Quota};

/// Prefixes that admission tells apart; about 5 MB when all are in use.
const PREFIXES: usize = 65_536;

/// Players who may be heard at the same time, before it is known whom they want.
pub(crate) const MAX_HEARING: u32 = 4_096;

/// So many refusals a second of those who keep to their own address's bounds are an attack.
const SIEGE: u32 = 500;

/// Refused agents that are told one by one, in a second.
const REFUSALS_TOLD: u32 = 10;

/// No host has this number.
const NO_HOST: i64 = -1;

/// Players who are told at the same time why they cannot enter; further ones are cut off without words.
pub(crate) const REFUSALS: usize = 256;

/// What the gates of players and of those who are heard allow.
fn limits(config: &Settings) -> (Limits, Limits) {
    let players = Limits {
        relay: config.players.total,
        prefix: config.players.per_address,
        prefixes: PREFIXES,
        siege: SIEGE,
    };
    let hearing = Limits {
        relay: Bounds::of_players(config.hearing),
        ..players
    };
    (players, hearing)
}

/// Shared surroundings, and the few counters that belong to the relay as a whole.
#[derive(Debug)]
pub(crate) struct Context {
    pub clock: Clock,
    settings: watch::Sender<Arc<Settings>>,
    /// What players type before the port.
    pub public_host: String,
    pub hosts: Hosts,
    pub metrics: RelayMetrics,
    pub events: Events,
    pub audit: Audit,
    /// Refused agents are told so often.
    refusals_told: Mutex<(Pace, u64)>,
    /// Admission of players.
    pub players: Gate,
    /// Admission of agents up to their welcome.
    pub door: Door,
    /// Admission of TCP players up to where it is known whom they want.
    pub hearing: Gate,
    /// From where players may come, with everybody's bans.
    access: watch::Sender<Arc<Access>>,
    /// Who has offended.
    pub book: Book,
    /// What the server list shows.
    pub lists: Lists,
    /// The number of the host who gets players that ask for nobody.
    default_host: AtomicI64,
    /// What hosts and tunnels use.
    pub books: Books,
    /// How fast all players together may be.
    pub speeds: Arc<Speeds>,
    /// How fast those of an address may be.
    pub addresses: AddressSpeeds,
    /// A place for each link.
    pub links: Arc<Semaphore>,
    /// A place for each player who is being told why they cannot enter.
    pub refusals: Arc<Semaphore>,
    /// Somebody left; a drain looks again.
    pub left: Notify,
    next_session: AtomicU64,
}

impl Context {
    pub fn new(
        clock: Clock,
        settings: Settings,
        public_host: String,
        hosts: Hosts,
        metrics: RelayMetrics,
        (events, audit): (Events, Audit),
        book: Book,
    ) -> Self {
        let settings = Arc::new(settings);
        let config = &settings.config;
        let links = Arc::new(Semaphore::new(config.links.max_links as usize));
        let (players, hearing) = limits(&settings);
        Self {
            clock,
            settings: watch::Sender::new(settings.clone()),
            public_host,
            hosts,
            metrics,
            events,
            audit,
            refusals_told: Mutex::new((Pace::new(REFUSALS_TOLD, REFUSALS_TOLD), 0)),
            players: Gate::new(players),
            door: Door::default(),
            hearing: Gate::new(hearing),
            access: watch::Sender::default(),
            book,
            lists: Lists::default(),
            books: Books::default(),
            speeds: Arc::new(Speeds::new(config.bandwidth.total)),
            addresses: AddressSpeeds::default(),
            default_host: AtomicI64::new(NO_HOST),
            links,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            left: Notify::new(),
            next_session: AtomicU64::new(1),
        }
    }

    /// What the configuration says now.
    pub fn config(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// Sees a new value whenever the configuration changes.
    pub fn config_changes(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// The configuration says this from here on.
    pub fn reconfigure(&self, settings: Settings) {
        let (players, hearing) = limits(&settings);
        self.players.set_limits(players);
        self.hearing.set_limits(hearing);
        let per_address = settings.bandwidth.per_address;
        self.settings.send_replace(Arc::new(settings));
        // Whoever comes in between has the new rates, or is told of them here.
        self.addresses.set(per_address);
        self.set_speeds();
    }

    /// The relay is as fast as its configuration and its quota say.
    pub fn set_speeds(&self) {
        let bandwidth = &self.config().bandwidth;
        let rates = self
            .books
            .rates_of(&Quota::Relay, bandwidth.total, bandwidth.after_quota);
        self.speeds.set(rates);
    }

    /// An agent from `peer` is not let in; told, unless there are too many.
    pub fn refuse_agent(&self, peer: SocketAddr, reason: &'static str) {
        let mut told = self.refusals_told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.0.allows(self.clock.now()) {
            true => {
                let untold = std::mem::take(&mut told.1);
                drop(told);
                self.events.emit(Event::AgentRefused { peer, reason, untold });
            }
            false => told.1 += 1,
        }
    }

    /// A TCP player from `ip` is not let in.
    pub fn deny(&self, ip: IpAddr, reason: DenyReason) {
        self.metrics.denied(reason.as_str());
        if reason == DenyReason::Full(Whose::Address, Full::Rate) {
            self.offend(ip, Offence::Rate);
        }
    }

    /// Whether a tunnel may still have new players this month.
    pub fn check_quota(&self, host: HostNumber, tunnel: &TunnelName) -> Result<(), DenyReason> {
        match self.books.has_quota(host, tunnel) {
            true => Ok(()),
            false => Err(DenyReason::Quota),
        }
    }

    /// From where players may come.
    pub fn access(&self) -> Arc<Access> {
        self.access.borrow().clone()
    }

    /// Sees a new value whenever that changes.
    pub fn access_changes(&self) -> watch::Receiver<Arc<Access>> {
        self.access.subscribe()
    }

    /// From where players may come from here on.
    pub fn set_access(&self, access: Access) {
        self.access.send_replace(Arc::new(access));
    }

    /// What the lists say of `ip` that are asked through DNS.
    pub fn standing(&self, ip: IpAddr) -> Standing {
        match &self.config().blocklists {
            Some(lists) if !self.access().is_immune(ip) && !self.door.is_known(self.clock.now(), ip) => {
                lists.look_up(ip)
            }
            _ => Standing::Clear,
        }
    }

    /// Who gets players that ask for nobody.
    pub fn default_route(&self) -> Option<(HostNumber, TunnelName)> {
        let (_, tunnel) = self.config().shared.default.clone()?;
        match self.default_host.load(Ordering::Relaxed) {
            NO_HOST => None,
            host => Some((HostNumber(host), tunnel)),
        }
    }

    /// The number of the host who gets players that ask for nobody, if there is such a host.
    pub fn set_default_host(&self, host: Option<HostNumber>) {
        let number = host.map_or(NO_HOST, |host| host.0);
        self.default_host.store(number, Ordering::Relaxed);
    }

    /// Whether connections from `ip` begin with who the player is.
    pub fn is_proxy(&self, ip: IpAddr) -> bool {
        self.config()
            .players
            .proxy_from
            .iter()
            .any(|prefix| prefix.contains(&ip))
    }

    /// What a player is told whose server is away.
    pub fn refusal(&self, presence: Presence, known: &Known) -> Refusal {
        let settings = self.config();
        away::refusal(&settings.away, settings.icon.as_deref(), presence, known)
    }

    /// Goes on with the numbers of another process.
    #[cfg(unix)]
    pub fn set_next_session(&self, next: u64) {
        self.next_session.store(next, Ordering::Relaxed);
    }

    /// A number that no session of this relay had before.
    pub fn next_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }
}

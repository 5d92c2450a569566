//! What hosts and tunnels use: written to the directory by day, held against their monthly quotas.
//!
//! Sessions and bytes are counted where they happen, by counters that are there anyway; a task takes them over every few seconds. Who has used up a quota takes no new players
//! and goes on slowly, which is looked up without waiting by whoever lets players in.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use spawnpoint_core::grant::Rates;
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::{Protocol, TunnelName};
use spawnpoint_store::{Day, Host, HostId, StoreError, Usage};
use tokio::sync::watch;

use crate::context::Context;

/// How often it is taken over; a quota is overdrawn by what passes in this time.
const EVERY: Duration = Duration::from_secs(10);

/// Tunnels of one host that are told apart in a day; what further ones use is written down under one name.
const NAMES: usize = 256;

/// That name.
const OTHERS: &str = "others";

/// Which tunnel.
type Key = (HostNumber, TunnelName, Protocol);

/// What a tunnel has used since it was taken over last.
#[derive(Debug)]
pub(crate) struct Book {
    sessions: AtomicU64,
    active: AtomicU32,
    peak: AtomicU32,
    bytes: Mutex<Bytes>,
}

/// The bytes of a tunnel.
#[derive(Debug)]
struct Bytes {
    counters: [Counter; 2],
    /// How far they were taken over.
    taken: [u64; 2],
    /// What other counters had that is not taken over yet.
    before: [u64; 2],
}

impl Bytes {
    fn of(counters: &[Counter; 2]) -> Self {
        Self {
            counters: counters.clone(),
            taken: counters.each_ref().map(Counter::get),
            before: [0; 2],
        }
    }

    fn take(&mut self) -> [u64; 2] {
        let now = self.counters.each_ref().map(Counter::get);
        let used = [0, 1].map(|at: usize| now[at].saturating_sub(self.taken[at]) + self.before[at]);
        (self.taken, self.before) = (now, [0; 2]);
        used
    }
}

impl Book {
    fn new(bytes: &[Counter; 2]) -> Self {
        Self {
            sessions: AtomicU64::new(0),
            active: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            bytes: Mutex::new(Bytes::of(bytes)),
        }
    }

    /// A player is in; one who `is_new` was not, in the process before.
    pub fn enter(&self, is_new: bool) {
        self.sessions.fetch_add(u64::from(is_new), Ordering::Relaxed);
        let active = self.active.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(active, Ordering::Relaxed);
    }

    /// A player has left.
    pub fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    fn take(&self) -> (u64, u32, [u64; 2]) {
        let sessions = self.sessions.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(self.active.load(Ordering::Relaxed), Ordering::Relaxed);
        (sessions, peak, self.bytes().take())
    }

    /// The tunnel's bytes are counted by these counters: others than before, when it was forgotten meanwhile.
    fn follow(&self, counters: &[Counter; 2]) {
        let mut bytes = self.bytes();
        let is_same = |(own, other): (&Counter, &Counter)| std::ptr::eq(own.inner(), other.inner());
        if !bytes.counters.iter().zip(counters).all(is_same) {
            let before = bytes.take();
            *bytes = Bytes::of(counters);
            bytes.before = before;
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a quota is of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Quota {
    /// The relay.
    Relay,
    /// A host.
    Host(HostNumber),
    /// One of its tunnels.
    Tunnel(HostNumber, TunnelName),
}

/// The quotas that are used up.
pub(crate) type UsedUp = HashSet<Quota>;

/// The books of all tunnels, and what they have used this month.
#[derive(Debug, Default)]
pub(crate) struct Books {
    open: Mutex<HashMap<Key, Arc<Book>>>,
    names: Mutex<Names>,
    month: Mutex<Month>,
    used_up: watch::Sender<Arc<UsedUp>>,
}

/// The tunnels that have used something today.
#[derive(Debug, Default)]
struct Names {
    day: Option<Day>,
    of: HashMap<HostNumber, HashSet<TunnelName>>,
}

impl Names {
    /// Under which name it is written down what `tunnel` uses; one that `is_granted` something of its own has its name for good.
    fn of(&mut self, day: Day, host: HostNumber, tunnel: &TunnelName, is_granted: bool) -> TunnelName {
        if self.day != Some(day) {
            *self = Self {
                day: Some(day),
                ..Self::default()
            };
        }
        let names = self.of.entry(host).or_default();
        match is_granted || names.len() < NAMES || names.contains(tunnel) {
            true => {
                names.insert(tunnel.clone());
                tunnel.clone()
            }
            false => OTHERS.parse().unwrap_or_else(|_| tunnel.clone()),
        }
    }
}

#[derive(Debug, Default)]
struct Month {
    first: Option<Day>,
    bytes: HashMap<(HostNumber, TunnelName), u64>,
}

impl Month {
    fn add(&mut self, used: &Usage) {
        let key = (HostNumber(used.host.0), used.tunnel.clone());
        *self.bytes.entry(key).or_default() += used.up + used.down;
    }

    fn of(&self, quota: &Quota) -> u64 {
        let counts = |(host, tunnel): &(HostNumber, TunnelName)| match quota {
            Quota::Relay => true,
            Quota::Host(own) => own == host,
            Quota::Tunnel(own, name) => own == host && name == tunnel,
        };
        self.bytes
            .iter()
            .filter(|(key, _)| counts(key))
            .map(|(_, bytes)| bytes)
            .sum()
    }
}

impl Books {
    /// The book of a tunnel, whose bytes are counted by `bytes`.
    pub fn of(&self, host: HostNumber, tunnel: &TunnelName, protocol: Protocol, bytes: &[Counter; 2]) -> Arc<Book> {
        let mut open = self.open();
        let book = open
            .entry((host, tunnel.clone(), protocol))
            .or_insert_with(|| Arc::new(Book::new(bytes)));
        book.follow(bytes);
        book.clone()
    }

    /// The quotas that are used up.
    pub fn used_up(&self) -> Arc<UsedUp> {
        self.used_up.borrow().clone()
    }

    /// Sees a new value whenever one is used up, or begins anew.
    pub fn changes(&self) -> watch::Receiver<Arc<UsedUp>> {
        self.used_up.subscribe()
    }

    /// How fast whatever `quota` is of may be: as `rates` say, or as `slow` does when it is used up.
    pub fn rates_of(&self, quota: &Quota, rates: Rates, slow: u64) -> Rates {
        match self.used_up.borrow().contains(quota) {
            true => slowed(rates, slow),
            false => rates,
        }
    }

    /// Whether this tunnel may have new players.
    pub fn has_quota(&self, host: HostNumber, tunnel: &TunnelName) -> bool {
        let used_up = self.used_up.borrow();
        used_up.is_empty()
            || !(used_up.contains(&Quota::Relay)
                || used_up.contains(&Quota::Host(host))
                || used_up.contains(&Quota::Tunnel(host, tunnel.clone())))
    }

    /// What was used since the last time; the grants of hosts name those tunnels that have something of their own.
    fn take(&self, day: Day, granted: &HashSet<(HostNumber, TunnelName)>) -> Vec<Usage> {
        let mut open = self.open();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        open.retain(|(host, tunnel, protocol), book| {
            let is_open = Arc::strong_count(book) > 1;
            let (sessions, peak, [up, down]) = book.take();
            if (sessions, peak, up, down) != (0, 0, 0, 0) {
                all.push(Usage {
                    host: HostId(host.0),
                    tunnel: names.of(day, *host, tunnel, granted.contains(&(*host, tunnel.clone()))),
                    protocol: *protocol,
                    day,
                    sessions,
                    peak,
                    up,
                    down,
                });
            }
            is_open
        });
        all
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Arc<Book>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn month(&self) -> MutexGuard<'_, Month> {
        self.month.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes usage over, as long as it is polled.
pub(crate) async fn keep(context: Arc<Context>) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changes = context.hosts.changes();
    let mut config = context.config_changes();
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            // A quota may be another one now.
            Ok(()) = changes.changed() => {}
            Ok(()) = config.changed() => {}
        }
        take_over(&context).await;
    }
}

/// Takes over what was used since the last time, and looks at the quotas.
pub(crate) async fn take_over(context: &Context) {
    let books = &context.books;
    let today = Day::of(unix_now());
    let used = books.take(today, &granted(context).await);
    let is_known = books.month().first == Some(today.month());
    if is_known {
        let mut month = books.month();
        used.iter().for_each(|used| month.add(used));
    }
    if !used.is_empty()
        && let Err(error) = context.hosts.add_usage(used).await
    {
        tracing::error!(error = %describe(&error), "usage could not be written, what was used meanwhile is missing from it");
    }
    if !is_known {
        // A new month, or the first look: what was written just now is in it.
        match context.hosts.usage(today.month(), today).await {
            Ok(all) => {
                let mut month = Month {
                    first: Some(today.month()),
                    ..Month::default()
                };
                all.iter().for_each(|used| month.add(used));
                *books.month() = month;
            }
            Err(error) => {
                return tracing::error!(error = %describe(&error), "usage could not be read, quotas do not count");
            }
        }
    }
    match used_up(context).await {
        Ok(now) => tell(context, now),
        Err(error) => tracing::error!(error = %describe(&error), "quotas could not be read"),
    }
}

/// The tunnels to which grants give something of their own.
async fn granted(context: &Context) -> HashSet<(HostNumber, TunnelName)> {
    let hosts = match context.hosts.all().await {
        Ok(hosts) => hosts,
        // The quotas, which are all that it matters for, cannot be read either.
        Err(_) => return HashSet::new(),
    };
    let tunnels = |host: &Host| {
        let number = HostNumber(host.id.0);
        host.grant
            .tunnel_caps
            .keys()
            .map(move |name| (number, name.clone()))
            .collect::<Vec<_>>()
    };
    hosts.iter().flat_map(tunnels).collect()
}

async fn used_up(context: &Context) -> Result<UsedUp, StoreError> {
    let config = context.config();
    let mut quotas: Vec<(Quota, u64)> = config
        .bandwidth
        .quota
        .map(|bytes| (Quota::Relay, bytes))
        .into_iter()
        .collect();
    for host in context.hosts.all().await? {
        let number = HostNumber(host.id.0);
        let own = host.grant.caps.quota.or(config.bandwidth.quota_per_host);
        quotas.extend(own.map(|bytes| (Quota::Host(number), bytes)));
        let tunnels = host.grant.tunnel_caps.iter();
        quotas.extend(tunnels.filter_map(|(name, caps)| Some((Quota::Tunnel(number, name.clone()), caps.quota?))));
    }
    let month = context.books.month();
    let is_used_up = |(quota, bytes): &(Quota, u64)| month.of(quota) >= *bytes;
    Ok(quotas.into_iter().filter(is_used_up).map(|(quota, _)| quota).collect())
}

fn tell(context: &Context, now: UsedUp) {
    let before = context.books.used_up();
    if *before == now {
        return;
    }
    for quota in now.difference(&before) {
        let (host, tunnel) = match quota {
            Quota::Relay => (None, None),
            Quota::Host(host) => (Some(host.0), None),
            Quota::Tunnel(host, tunnel) => (Some(host.0), Some(tunnel.to_string())),
        };
        tracing::warn!(
            host,
            tunnel,
            "the quota of this month is used up: no new players, and those who are in go on slowly"
        );
        context.events.emit(Event::QuotaUsed { host, tunnel });
    }
    context.books.used_up.send_replace(Arc::new(now));
    context.set_speeds();
}

/// How fast those may still be who may have `rates`, when the quota is used up and `slow` is left.
fn slowed(rates: Rates, slow: u64) -> Rates {
    let least = |rate: Option<u64>| Some(rate.map_or(slow, |rate| rate.min(slow)));
    Rates {
        up: least(rates.up),
        down: least(rates.down),
        ..rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostNumber = HostNumber(1);

    fn used(books: &Books) -> (u64, u64) {
        let taken = books.take(Day::of(spawnpoint_core::grant::UnixTime(0)), &HashSet::new());
        (
            taken.iter().map(|usage| usage.up).sum(),
            taken.iter().map(|usage| usage.down).sum(),
        )
    }

    #[test]
    fn a_tunnel_that_was_forgotten_is_counted_by_its_new_counters_and_loses_nothing() {
        let (books, name) = (Books::default(), "game".parse::<TunnelName>().expect("a name"));
        let old: [Counter; 2] = Default::default();
        let _first = books.of(HOST, &name, Protocol::Tcp, &old);
        old[0].inc_by(70);
        let new: [Counter; 2] = Default::default();
        let _second = books.of(HOST, &name, Protocol::Tcp, &new);
        new[0].inc_by(5);
        new[1].inc_by(3);
        assert_eq!(used(&books), (75, 3));
        let unused: [Counter; 2] = Default::default();
        let _third = books.of(HOST, &name, Protocol::Tcp, &unused);
        unused[1].inc_by(1);
        assert_eq!(used(&books), (0, 1), "counters that read the same are not the same");
    }

    #[test]
    fn a_host_with_ever_new_tunnels_has_so_many_lines_a_day_and_loses_no_byte() {
        let books = Books::default();
        let use_one = |number: u32| {
            let counters: [Counter; 2] = Default::default();
            let name = format!("game-{number}").parse::<TunnelName>().expect("a name");
            let _book = books.of(HOST, &name, Protocol::Tcp, &counters);
            counters[0].inc_by(1);
            let granted = [(HOST, "game-999".parse::<TunnelName>().expect("a name"))].into();
            books.take(Day::of(spawnpoint_core::grant::UnixTime(0)), &granted)
        };
        let used: Vec<Usage> = (0..1_000).flat_map(use_one).collect();
        let names: HashSet<&TunnelName> = used.iter().map(|used| &used.tunnel).collect();
        assert_eq!(
            names.len(),
            NAMES + 2,
            "the first, the others, and one that has a quota"
        );
        assert!(used.iter().any(|used| used.tunnel.as_str() == "game-999"));
        assert_eq!(used.iter().map(|used| used.up).sum::<u64>(), 1_000);
    }

    #[test]
    fn who_has_used_up_a_quota_is_slow_whoever_asks() {
        let books = Books::default();
        let (own, slow) = (Rates::default(), 8_000);
        assert_eq!(books.rates_of(&Quota::Relay, own, slow), own);
        books.used_up.send_replace(Arc::new([Quota::Relay].into()));
        assert_eq!(books.rates_of(&Quota::Relay, own, slow).down, Some(slow));
        assert_eq!(books.rates_of(&Quota::Host(HOST), own, slow), own);
    }
}

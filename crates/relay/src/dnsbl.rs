//! What lists that are asked through DNS say of players' addresses.
//!
//! An address is asked about once and the answer kept; whoever comes meanwhile shares the question. Nobody waits longer than the deadline, and whoever is not
//! answered for in time comes in: a name server that is away closes no game. A list that has everybody, as one does that was given up, is not asked.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use spawnpoint_config::relay::Dnsbl;
use spawnpoint_core::admission::prefix_of;
use spawnpoint_core::dnsbl::{ALWAYS_LISTED, Answer, NEVER_LISTED, Zone};
use spawnpoint_net::TaskScope;
use spawnpoint_ops::RelayMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Addresses that are asked about at the same time; further ones come in unasked.
pub(crate) const MAX_ASKED: usize = 64;

/// Addresses whose answers are kept.
const MAX_KEPT: usize = 65_536;

/// How often it is looked for room at most, however many come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whoever was not answered for is asked about again after this.
const RETRY: Duration = Duration::from_secs(30);

/// How often it is looked whether the lists are lists.
const TEST_EVERY: Duration = Duration::from_secs(3_600);

/// The lists, with what they have said. Its questions end with it.
#[derive(Debug)]
pub(crate) struct Blocklists {
    asker: Arc<Asker>,
    scope: TaskScope,
}

/// How an address stands with the lists.
#[derive(Debug)]
pub(crate) enum Standing {
    /// On none that is known of.
    Clear,
    /// On one.
    Listed,
    /// They are being asked.
    Asked(Question),
}

/// A question that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Question(watch::Receiver<Option<bool>>);

impl Question {
    /// Whether the address is known to be listed by now.
    pub fn is_listed(&self) -> bool {
        *self.0.borrow() == Some(true)
    }

    /// Waits for the answer, no longer than the deadline of the lists; returns whether the address is listed.
    pub async fn answer(mut self) -> bool {
        match self.0.wait_for(Option::is_some).await {
            Ok(answer) => *answer == Some(true),
            // Without an answer, when the lists are changed meanwhile, nothing is known.
            Err(_) => false,
        }
    }
}

#[derive(Debug)]
enum Entry {
    Asked(Question),
    Known { is_listed: bool, until: Instant },
}

/// What is known.
#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<IpAddr, Entry>,
    /// When it was looked for room last.
    looked: Option<Instant>,
}

struct Asker {
    lists: Vec<List>,
    resolver: TokioResolver,
    settings: Dnsbl,
    kept: Mutex<Kept>,
    places: Arc<Semaphore>,
    /// Whether the lists were looked at for the first time.
    tested: watch::Sender<bool>,
    metrics: RelayMetrics,
}

#[derive(Debug)]
struct List {
    zone: Zone,
    /// Whether it has everybody, or nobody may ask it.
    is_broken: AtomicBool,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("lists", &self.lists)
            .finish_non_exhaustive()
    }
}

impl Blocklists {
    /// The lists of `settings`; `None` when there are none.
    ///
    /// # Errors
    /// In words, when no name server is known to ask.
    pub fn open(settings: &Dnsbl, metrics: &RelayMetrics) -> Result<Option<Self>, String> {
        if settings.lists.is_empty() {
            return Ok(None);
        }
        let list = |zone: &Zone| List {
            zone: zone.clone(),
            is_broken: AtomicBool::new(false),
        };
        let asker = Arc::new(Asker {
            lists: settings.lists.iter().map(list).collect(),
            resolver: resolver(settings).map_err(|error| error.to_string())?,
            settings: settings.clone(),
            kept: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_ASKED)),
            tested: watch::Sender::new(false),
            metrics: metrics.clone(),
        });
        let scope = TaskScope::new(&CancellationToken::new());
        scope.spawn(asker.clone().test());
        Ok(Some(Self { asker, scope }))
    }

    /// What they are.
    pub fn settings(&self) -> &Dnsbl {
        &self.asker.settings
    }

    /// How `ip` stands; begins to ask when that is not known.
    pub fn look_up(&self, ip: IpAddr) -> Standing {
        let (asker, key, now) = (&self.asker, prefix_of(ip), Instant::now());
        let mut kept = asker.kept();
        match kept.entries.get(&key) {
            Some(Entry::Asked(question)) => return Standing::Asked(question.clone()),
            Some(Entry::Known { is_listed, until }) if now < *until => {
                return if *is_listed { Standing::Listed } else { Standing::Clear };
            }
            _ => {}
        }
        let place = asker.places.clone().try_acquire_owned();
        let Some(place) = place.ok().filter(|_| kept.has_room(now)) else {
            asker.metrics.dnsbl("unasked");
            return Standing::Clear;
        };
        let (answer, question) = watch::channel(None);
        let question = Question(question);
        kept.entries.insert(key, Entry::Asked(question.clone()));
        drop(kept);
        self.scope.spawn(asker.clone().ask(ip, answer, place));
        Standing::Asked(question)
    }
}

impl Kept {
    /// Whether there is room for another entry, which is made at the price of what is over or says nothing.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < MAX_KEPT {
            return true;
        }
        if self.looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return false;
        }
        self.looked = Some(now);
        self.entries
            .retain(|_, entry| !matches!(entry, Entry::Known { until, .. } if *until <= now));
        if self.entries.len() >= MAX_KEPT {
            self.entries
                .retain(|_, entry| !matches!(entry, Entry::Known { is_listed: false, .. }));
        }
        self.entries.len() < MAX_KEPT
    }

    /// Forgets what lists have said that were something else then.
    fn forget_answers(&mut self) {
        self.entries.retain(|_, entry| matches!(entry, Entry::Asked(_)));
    }
}

fn resolver(settings: &Dnsbl) -> Result<TokioResolver, NetError> {
    let mut builder = match settings.server {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let at_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    // Of two questions, since packets are lost, both can be answered in time.
    options.timeout = settings.deadline / 2;
    options.attempts = 1;
    // What is known is kept here, and no machine has its opponents in /etc/hosts.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

impl Asker {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all lists about `ip`, and keeps what they say.
    async fn ask(self: Arc<Self>, ip: IpAddr, answer: watch::Sender<Option<bool>>, _place: OwnedSemaphorePermit) {
        let asked = tokio::time::timeout(self.settings.deadline, async {
            // Of a sender that lives as long as this, waiting cannot fail.
            let _ = self.tested.subscribe().wait_for(|is_tested| *is_tested).await;
            self.clone().ask_all(ip).await
        });
        let listed = asked.await.ok().flatten();
        let (is_listed, keep, word) = match listed {
            Some(true) => (true, self.settings.keep, "listed"),
            Some(false) => (false, self.settings.keep, "clear"),
            None => (false, RETRY.min(self.settings.keep), "unanswered"),
        };
        self.metrics.dnsbl(word);
        let until = Instant::now() + keep;
        let known = Entry::Known { is_listed, until };
        self.kept().entries.insert(prefix_of(ip), known);
        answer.send_replace(Some(is_listed));
    }

    /// Whether any list has `ip`; `None` when none has, and not all have answered.
    async fn ask_all(self: Arc<Self>, ip: IpAddr) -> Option<bool> {
        let mut questions = JoinSet::new();
        for at in 0..self.lists.len() {
            if !self.lists[at].is_broken.load(Ordering::Relaxed) {
                let asker = self.clone();
                questions.spawn(async move { asker.ask_one(at, ip).await });
            }
        }
        let mut is_answered = !questions.is_empty();
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok(Some(Answer::Listed)) => return Some(true),
                Ok(Some(Answer::Clear)) => {}
                Ok(Some(Answer::Refused) | None) | Err(_) => is_answered = false,
            }
        }
        is_answered.then_some(false)
    }

    async fn ask_one(&self, list: usize, ip: IpAddr) -> Option<Answer> {
        let zone = &self.lists[list].zone;
        match self.resolver.ipv4_lookup(zone.question(ip)).await {
            Ok(found) => {
                let addresses = found.answers().iter().filter_map(|record| match &record.data {
                    RData::A(address) => Some(Ipv4Addr::from(*address)),
                    _ => None,
                });
                Some(zone.verdict(addresses))
            }
            Err(error) if error.is_no_records_found() => Some(Answer::Clear),
            Err(error) => {
                tracing::debug!(list = zone.name(), %error, "a list did not answer");
                None
            }
        }
    }

    /// Looks whether the lists are lists, from time to time.
    async fn test(self: Arc<Self>) {
        let mut pace = tokio::time::interval(TEST_EVERY);
        loop {
            pace.tick().await;
            let mut tests = JoinSet::new();
            for at in 0..self.lists.len() {
                let asker = self.clone();
                tests.spawn(async move { asker.test_one(at).await });
            }
            while tests.join_next().await.is_some() {}
            self.tested.send_replace(true);
        }
    }

    async fn test_one(&self, at: usize) {
        let (nobody, somebody) = tokio::join!(self.ask_one(at, NEVER_LISTED), self.ask_one(at, ALWAYS_LISTED));
        let list = &self.lists[at];
        let name = list.zone.name();
        let is_broken = matches!(nobody, Some(Answer::Listed | Answer::Refused)) || somebody == Some(Answer::Refused);
        if list.is_broken.swap(is_broken, Ordering::Relaxed) != is_broken {
            self.kept().forget_answers();
        }
        match (is_broken, somebody) {
            (true, _) => tracing::error!(
                list = name,
                "dnsbl: the list has everybody, or does not answer this name server: it is not asked; look whether it still exists, and whom it serves"
            ),
            (false, Some(Answer::Listed)) => tracing::info!(list = name, "dnsbl: the list answers"),
            (false, Some(_)) => tracing::warn!(
                list = name,
                "dnsbl: the list does not have 127.0.0.2, which every list has: look whether its name is right, and which of its answers count"
            ),
            (false, None) => tracing::warn!(
                list = name,
                "dnsbl: the list does not answer: look whether its name and `dnsbl.server` are right; players come in unasked meanwhile"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn who_is_listed_stays_so_however_many_come() {
        let now = Instant::now();
        let known = |is_listed, seconds| Entry::Known {
            is_listed,
            until: now + Duration::from_secs(seconds),
        };
        let mut kept = Kept::default();
        kept.entries.insert(ip(1), known(true, 60));
        for number in 2..=MAX_KEPT as u32 {
            kept.entries.insert(ip(number), known(false, 60));
        }
        assert!(kept.has_room(now));
        assert!(kept.entries.contains_key(&ip(1)) && kept.entries.len() == 1);
        for number in 2..=MAX_KEPT as u32 {
            kept.entries.insert(ip(number), known(true, u64::from(number % 2) * 60));
        }
        assert!(!kept.has_room(now), "it was looked for just now");
        assert!(kept.has_room(now + LOOK_EVERY), "what is over goes first");
        assert!(kept.entries.contains_key(&ip(3)) && !kept.entries.contains_key(&ip(2)));
        for number in 0..=MAX_KEPT as u32 {
            kept.entries.insert(ip(number), known(true, 60));
        }
        assert!(
            !kept.has_room(now + 2 * LOOK_EVERY),
            "beyond that nobody is asked about"
        );
        kept.forget_answers();
        assert!(kept.entries.is_empty());
    }
}

//! The catalogue of loads.

use std::time::Duration;

use crate::bulk::Way;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::setups::Setup;
use crate::subject::Subject;
use crate::{bulk, connects, memory, packets, pingpong, stalled, voice};

/// What a load may take beyond what it should before it counts as stuck.
const GRACE: Duration = Duration::from_secs(20);

/// One thing that players do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its name, for `--load` and in the table.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bulk(u64, Way),
    Small { is_beside_bulk: bool },
    Connects,
    Packets(usize),
    Voice,
    Memory,
    Stalled,
}

/// How long loads last.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds over all subjects.
    pub rounds: u32,
    /// Loads that go as fast as they can.
    pub full: Duration,
    /// Loads at game speed, which need their time to gather samples.
    pub game: Duration,
    /// Until memory has come to rest.
    pub settle: Duration,
}

impl Pace {
    /// About a quarter of an hour for everything.
    pub const FULL: Self = Self {
        rounds: 3,
        full: Duration::from_millis(1500),
        game: Duration::from_millis(2500),
        settle: Duration::from_millis(1000),
    };

    /// About four minutes.
    pub const QUICK: Self = Self {
        rounds: 1,
        full: Duration::from_millis(700),
        game: Duration::from_millis(1500),
        settle: Duration::from_millis(500),
    };
}

impl Load {
    /// All, in the order they run.
    pub const ALL: [Self; 13] = [
        Self::new("bulk-1-up", Kind::Bulk(1, Way::Up)),
        Self::new("bulk-1-down", Kind::Bulk(1, Way::Down)),
        Self::new("bulk-16-up", Kind::Bulk(16, Way::Up)),
        Self::new("bulk-16-down", Kind::Bulk(16, Way::Down)),
        Self::new("small-alone", Kind::Small { is_beside_bulk: false }),
        Self::new("small-beside-bulk", Kind::Small { is_beside_bulk: true }),
        Self::new("connects", Kind::Connects),
        Self::new("udp-200", Kind::Packets(200)),
        Self::new("udp-1200", Kind::Packets(1200)),
        Self::new("udp-1400", Kind::Packets(1400)),
        Self::new("udp-20hz", Kind::Voice),
        Self::new("memory", Kind::Memory),
        Self::new("stalled", Kind::Stalled),
    ];

    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// Whether `subject` can be asked for it.
    pub fn suits(&self, subject: Subject) -> bool {
        match self.kind {
            Kind::Packets(_) | Kind::Voice => subject.has_packets(),
            Kind::Memory => subject.has_streams() && subject != Subject::Direct,
            // Nothing is promised beside peers. Theirs is a connection for each player from end to end, and on loopback the kernel's own buffers of a thousand
            // of them fill what it allows all of TCP: it would say little of them, and disturb whatever else the machine does.
            Kind::Stalled => !subject.is_peer(),
            _ => subject.has_streams(),
        }
    }

    /// Whether each round needs processes that have done nothing before.
    pub const fn wants_new_processes(&self) -> bool {
        matches!(self.kind, Kind::Memory | Kind::Stalled)
    }

    /// Puts the load on a subject once.
    ///
    /// # Errors
    /// When data is wrong, or the load cannot be carried out in time.
    pub async fn run(&self, setup: &Setup, pace: &Pace) -> Result<Vec<Figure>, Fault> {
        let load = async {
            match self.kind {
                Kind::Bulk(players, way) => bulk::run(setup, players, way, pace.full).await,
                Kind::Small { is_beside_bulk } => pingpong::run(setup, is_beside_bulk, pace.game).await,
                Kind::Connects => connects::run(setup, pace.full).await,
                Kind::Packets(size) => packets::run(setup, size, pace.full).await,
                Kind::Voice => voice::run(setup, pace.game).await,
                Kind::Memory => memory::run(setup, pace.settle).await,
                Kind::Stalled => stalled::run(setup, pace.game, pace.settle).await,
            }
        };
        let rest = match self.kind {
            Kind::Stalled => stalled::REST_DEADLINE + pace.game,
            _ => Duration::ZERO,
        };
        match tokio::time::timeout(GRACE + pace.game + rest, load).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Failed("it is stuck".to_owned())),
        }
    }
}

//! The players of a crowd: they come, play, are asked how it goes, and leave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_net::TaskScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hello::{self, Game, Way};
use super::origin::FRAME;
use super::report::{Player, Report};
use super::stream::{Pace, Side, Talk};
use super::tape::{Kind, Tape};
use super::{Size, TICK, flow};

/// What a game client sends a tick.
const INPUT: usize = 30;

/// Ids that one crowd may use.
const CROWD: u64 = 100_000;

/// So many arrivals show that a player is in.
const SETTLED: u64 = 5;

/// A tidy end takes a round trip and what was on the way.
const FAREWELL: Duration = Duration::from_secs(20);

/// A new player who gets no frame for so long tries again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often something that will come is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// The players; they are gone when it is dropped.
#[derive(Debug)]
pub struct Players {
    tapes: Vec<Arc<Tape>>,
    leave: CancellationToken,
    scope: TaskScope,
}

impl Players {
    /// Lets everybody in. `number` tells crowds of one server apart.
    pub async fn start(number: u32, public_tcp: SocketAddr, public_udp: SocketAddr, size: Size) -> Self {
        let leave = CancellationToken::new();
        let scope = TaskScope::new(&CancellationToken::new());
        let kinds = [
            (Kind::Tick, size.ticks),
            (Kind::Bulk, size.bulks),
            (Kind::Flow, size.flows),
        ];
        let kinds = kinds
            .into_iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(kind, count as usize));
        let (mut tapes, start) = (Vec::new(), Instant::now());
        for (index, kind) in kinds.enumerate() {
            let tape = Arc::new(Tape::new(u64::from(number) * CROWD + index as u64, kind));
            tapes.push(tape.clone());
            // Spread over a tick.
            let first = start + TICK + TICK * index as u32 / size.players();
            let leave = leave.clone();
            scope.spawn(async move {
                match kind {
                    Kind::Tick => stream(&tape, public_tcp, Game::Tick, first, &leave).await,
                    Kind::Bulk => {
                        let game = Game::Bulk { rate: size.bulk_rate };
                        stream(&tape, public_tcp, game, first, &leave).await;
                    }
                    Kind::Flow => match datagrams(public_udp).await {
                        Ok(socket) => flow::play(&tape, socket, first, &leave).await,
                        Err(error) => tape.disconnected(&format!("no socket: {error}")),
                    },
                }
            });
        }
        Self { tapes, leave, scope }
    }

    /// Waits until everybody plays, or was cut off; whether that was before the deadline.
    pub async fn settle(&self, deadline: Duration) -> bool {
        self.all(deadline, |tape| tape.notes().arrivals >= SETTLED).await
    }

    /// Sets the mark that pauses are counted from.
    pub fn mark(&self) {
        let now = std::time::Instant::now();
        self.tapes.iter().for_each(|tape| tape.mark(now));
    }

    /// Waits until everybody who is in has heard something since the mark; whether that was before the deadline.
    pub async fn back(&self, deadline: Duration) -> bool {
        self.all(deadline, |tape| tape.back_after().is_some()).await
    }

    /// How it goes.
    pub fn report(&self) -> Report {
        Report {
            players: self.tapes.iter().map(|tape| Player::of(tape)).collect(),
            moved: Vec::new(),
        }
    }

    /// Everybody finishes and listens to the end. Who does not hear it in time was cut off.
    pub async fn stop(self) -> Report {
        let mut report = self.report();
        self.leave.cancel();
        self.scope.finished(FAREWELL).await;
        for (player, tape) in report.players.iter_mut().zip(&self.tapes) {
            if !tape.notes().finished {
                tape.disconnected("left, but heard no end of the stream");
            }
            player.notes = tape.notes();
        }
        report
    }

    async fn all(&self, deadline: Duration, is_so: impl Fn(&Tape) -> bool) -> bool {
        let is_fine = |tape: &Arc<Tape>| is_so(tape) || tape.notes().disconnect.is_some();
        let wait = async {
            while !self.tapes.iter().all(is_fine) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }
}

async fn stream(tape: &Tape, public: SocketAddr, game: Game, first: Instant, leave: &CancellationToken) {
    let stream = match enter(tape.id, public, game).await {
        Ok(stream) => stream,
        Err(error) => return tape.disconnected(&format!("cannot enter: {error}")),
    };
    let talk = Talk {
        tape,
        side: Side::Player,
        pace: match game {
            Game::Tick => Pace::Frames(INPUT),
            Game::Bulk { .. } => Pace::Silent,
        },
        first,
        leave,
    };
    talk.run(stream).await;
}

async fn enter(id: u64, public: SocketAddr, game: Game) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(public).await?;
    stream.write_all(&hello::encode(id, game)).await?;
    Ok(stream)
}

async fn datagrams(public: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(public).await?;
    Ok(socket)
}

/// Tries to play over and over; how long it took until a new player got its first frame, or none when that was never before the deadline.
pub async fn probe(number: u32, public: SocketAddr, deadline: Duration) -> Option<Duration> {
    let start = Instant::now();
    let mut id = u64::from(number) * CROWD;
    let tries = async {
        loop {
            id += 1;
            if let Ok(mut stream) = enter(id, public, Game::Tick).await {
                let mut frame = [0; FRAME];
                let answer = tokio::time::timeout(PATIENCE, stream.read_exact(&mut frame)).await;
                if matches!(answer, Ok(Ok(_))) && hello::count_wrong(id, Way::Down, 0, &frame) == 0 {
                    return start.elapsed();
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(deadline, tries).await.ok()
}

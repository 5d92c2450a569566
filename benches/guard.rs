//! What floods at one host leave of another host's game, on one relay: `cargo bench --bench guard`.
//!
//! ```sh
//! cargo bench -p spawnpoint-benches --bench guard                     # three rounds, about three minutes
//! cargo bench -p spawnpoint-benches --bench guard -- --rounds 1 --seconds 4
//! ```
//!
//! A relay with its usual limits has two hosts. Twenty players of one send 30 bytes twenty times a second and are answered; meanwhile, in turns, nothing happens, the other host's
//! TCP tunnel is knocked at 10,000 times a second from one address, its UDP tunnel gets 100,000 packets a second from made-up addresses, and the port for agents first packets of
//! handshakes. What a busy second processor alone does to a game here is shown by as many packets to a socket that nobody reads. Floods run in processes of their own, on a processor of their own where there are two.
//! Then idle players come until a limit of memory turns them away, and once more until there is no room for a socket.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use spawnpoint_benches::about;
use spawnpoint_benches::binaries::Binaries;
use spawnpoint_benches::fault::Fault;
use spawnpoint_benches::guard::players::{exchange, greet, play};
use spawnpoint_benches::guard::town::Town;
use spawnpoint_benches::guard::{flood, raise_descriptors, server};
use spawnpoint_benches::stats::{median, percentiles};
use spawnpoint_benches::subject::Subject;

/// A relay that takes as many as come.
const OPEN: &str = "max_players = 100000\nmax_players_per_host = 50000\nmax_players_per_tunnel = 50000\nnew_players = \"100000/s\"\nnew_players_per_host = \"100000/s\"\nnew_players_per_tunnel = \"100000/s\"\nmax_players_per_address = 100000\n\
                    new_players_per_address = \"100000/s\"\nnew_players_burst = 100000\nmax_half_open_per_address = 1000\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let part = match words.first().map(String::as_str) {
        Some(flood::WORD) => Some(flood::run(&words[1..]).map(|sent| println!("{sent}"))),
        Some(server::WORD) => Some(server::serve()),
        _ => None,
    };
    match part {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(fault)) => {
            eprintln!("{fault}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    if cfg!(debug_assertions) {
        println!("the bench of the guard runs by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    raise_descriptors();
    // Players and servers beside the relay, floods elsewhere.
    #[cfg(target_os = "linux")]
    if about::cores() >= 2 {
        let mut first = rustix::thread::CpuSet::new();
        first.set(0);
        let _ = rustix::thread::sched_setaffinity(None, &first);
    }
    let number = |flag: &str, usual: u64| {
        let at = words.iter().position(|word| word == flag);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(usual)
    };
    let (rounds, seconds) = (number("--rounds", 3), number("--seconds", 8));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    match runtime.block_on(bench(rounds, Duration::from_secs(seconds))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// What runs beside the game.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Quiet,
    /// A flood that is none of the relay's business.
    Elsewhere,
    Tcp,
    Udp,
    Handshakes,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Quiet, Self::Elsewhere, Self::Tcp, Self::Udp, Self::Handshakes];

    const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "nothing",
            Self::Elsewhere => "UDP packets to nobody",
            Self::Tcp => "TCP connections, one address",
            Self::Udp => "UDP packets, made-up addresses",
            Self::Handshakes => "first packets of handshakes",
        }
    }

    /// The word, the target and how many a second.
    fn flood(self, town: &Town) -> Option<(&'static str, SocketAddr, u64)> {
        match self {
            Self::Quiet => None,
            Self::Elsewhere => Some(("udp", town.nobody.local_addr().ok()?, 100_000)),
            Self::Tcp => Some(("tcp", town.flooded[0], 10_000)),
            Self::Udp => Some(("udp", town.flooded[1], 100_000)),
            Self::Handshakes => Some(("quic", town.listen, 20_000)),
        }
    }
}

async fn bench(rounds: u64, lasts: Duration) -> Result<(), Fault> {
    let binaries = Binaries::find().await?;
    let program = binaries
        .get(Subject::Spawnpoint)
        .ok_or_else(|| Fault::Failed("there is no spawnpoint".to_owned()))?;
    let town = Town::start(program, "", "").await?;
    let mut figures: Vec<(Phase, [f64; 2], f64)> = Vec::new();
    play(town.game, Duration::from_secs(1)).await?;
    for _ in 0..rounds {
        for phase in Phase::ALL {
            let flood = phase
                .flood(&town)
                .map(|(word, target, rate)| flood::start(word, target, rate, lasts + Duration::from_secs(1)));
            let flood = flood.transpose()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (times, mut sent) = (play(town.game, lasts).await?, 0.0);
            if let Some(mut child) = flood {
                let output = child.stdout.take();
                child.wait()?;
                let mut text = String::new();
                output
                    .map(|mut output| std::io::Read::read_to_string(&mut output, &mut text))
                    .transpose()?;
                sent = text.trim().parse::<f64>().unwrap_or(0.0);
            }
            figures.push((phase, percentiles(times), sent));
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "floods on a processor of their own; medians of {rounds} rounds of {} s, milliseconds",
        lasts.as_secs()
    )?;
    writeln!(
        out,
        "{:<34} {:>10} {:>8} {:>8} {:>12} {:>12}",
        "at the other host", "a second", "p50", "p99", "p99 / quiet", "p99 / nobody"
    )?;
    let of = |phase: Phase, pick: fn(&(Phase, [f64; 2], f64)) -> f64| {
        let values: Vec<f64> = figures.iter().filter(|figure| figure.0 == phase).map(pick).collect();
        median(&values).unwrap_or(f64::NAN)
    };
    let quiet = of(Phase::Quiet, |figure| figure.1[1]);
    let nobody = of(Phase::Elsewhere, |figure| figure.1[1]);
    for phase in Phase::ALL {
        let (p50, p99) = (of(phase, |figure| figure.1[0]), of(phase, |figure| figure.1[1]));
        let sent = of(phase, |figure| figure.2);
        writeln!(
            out,
            "{:<34} {sent:>10.0} {p50:>8.2} {p99:>8.2} {:>12.2} {:>12.2}",
            phase.name(),
            p99 / quiet,
            p99 / nobody
        )?;
    }
    let resident = town.relay.resident().unwrap_or(f64::NAN) / 1e6;
    writeln!(out, "the relay had {resident:.1} MB at the end; it turned away:")?;
    for line in town.metrics().await?.lines() {
        if line.starts_with("relay_players_denied_total") || line.starts_with("relay_handshakes_total") {
            writeln!(out, "    {line}")?;
        }
    }
    drop(town);
    for limit in [Some("64 MiB"), None] {
        idle(program, limit, &mut out).await?;
    }
    Ok(())
}

/// Idle players until the relay's limit of memory turns them away, or it has no room for another socket.
async fn idle(program: &Path, limit: Option<&str>, out: &mut impl std::io::Write) -> Result<(), Fault> {
    let line = limit.map(|limit| format!("memory_limit = \"{limit}\"\n"));
    let town = Town::start(program, line.as_deref().unwrap_or_default(), OPEN).await?;
    let mut inside = Vec::new();
    let mut refused = 0u32;
    // Twenty thousand, unless the machine has fewer descriptors.
    for number in 0..20_000u32 {
        let [_, _, second, last] = number.to_be_bytes();
        let from = Ipv4Addr::new(127, 1, second, last.max(1));
        match greet(from, town.game).await {
            Ok(player) => inside.push(player),
            Err(_) => refused += 1,
        }
        if refused > 500 {
            break;
        }
    }
    let resident = town.relay.resident().unwrap_or(f64::NAN);
    let mut alive = 0;
    for player in &mut inside {
        alive += u32::from(exchange(player).await.is_ok());
    }
    writeln!(
        out,
        "with a memory limit of {}: {} idle players came in and {refused} were turned away, at {:.1} MiB; {alive} of them still play",
        limit.unwrap_or("most of the machine"),
        inside.len(),
        resident / 1048576.0
    )?;
    for line in town
        .metrics()
        .await?
        .lines()
        .filter(|line| line.starts_with("relay_players_denied_total"))
    {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

//! What floods at one host leave of another host's game, on one relay: `cargo bench --bench guard`.
//!
//! ```sh
//! cargo bench -p spawnpoint-benches --bench guard                     # three rounds, about three minutes
//! cargo bench -p spawnpoint-benches --bench guard -- --rounds 1 --seconds 4
//! ```
//!
//! A relay with its usual limits has two hosts. Twenty players of one send 30 bytes twenty times a second and are answered; meanwhile, in turns, nothing happens, the other host's
//! TCP tunnel is knocked at 10,000 times a second from one address, its UDP tunnel gets 100,000 packets a second from made-up addresses, and the port for agents first packets of
//! handshakes. What a busy second processor alone does to a game here is shown by as many packets to a socket that nobody reads. Floods run in processes of their own, on a processor of their own where there are two. Then idle players come until a limit of memory turns them away.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use spawnpoint_benches::about;
use spawnpoint_benches::binaries::Binaries;
use spawnpoint_benches::fault::Fault;
use spawnpoint_benches::ports;
use spawnpoint_benches::process::{self, Process};
use spawnpoint_benches::stats::{median, percentiles};
use spawnpoint_benches::subject::Subject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PLAYERS: u8 = 20;
const TICK: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(20);
/// A relay that takes as many as come.
const OPEN: &str = "max_players = 100000\nmax_players_per_host = 50000\nmax_players_per_tunnel = 50000\nnew_players = \"100000/s\"\nnew_players_per_host = \"100000/s\"\nnew_players_per_tunnel = \"100000/s\"\nmax_players_per_address = 100000\n\
                    new_players_per_address = \"100000/s\"\nnew_players_burst = 100000\nmax_half_open_per_address = 1000\n";
/// The word by which a flood is started in a process of its own.
const FLOOD: &str = "--flood";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == FLOOD) {
        return match flood(&words[1..]) {
            Ok(sent) => {
                println!("{sent}");
                ExitCode::SUCCESS
            }
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::FAILURE
            }
        };
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

/// Room for the descriptors of twenty thousand players, here and in each process that is started.
fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        // With fewer the bench says how far it came.
        let _ = setrlimit(Resource::Nofile, wanted);
    }
}

/// The relay, its two hosts and their servers.
struct Town {
    relay: Process,
    _agents: [Process; 2],
    listen: SocketAddr,
    game: SocketAddr,
    flooded: [SocketAddr; 2],
    admin: SocketAddr,
    /// A socket that is never read.
    nobody: UdpSocket,
    _directory: tempfile::TempDir,
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
                .map(|(word, target, rate)| start_flood(word, target, rate, lasts + Duration::from_secs(1)));
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
    for line in metrics(town.admin).await?.lines() {
        if line.starts_with("relay_players_denied_total") || line.starts_with("relay_handshakes_total") {
            writeln!(out, "    {line}")?;
        }
    }
    drop(town);
    idle(program, &mut out).await
}

/// Idle players until the relay's limit of memory turns them away.
async fn idle(program: &Path, out: &mut impl std::io::Write) -> Result<(), Fault> {
    const LIMIT: f64 = 64.0 * 1024.0 * 1024.0;
    let town = Town::start(program, "memory_limit = \"64 MiB\"\n", OPEN).await?;
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
        "with a memory limit of {:.0} MiB: {} idle players came in and {refused} were turned away, at {:.1} MiB; {alive} of them still play",
        LIMIT / 1048576.0,
        inside.len(),
        resident / 1048576.0
    )?;
    for line in metrics(town.admin)
        .await?
        .lines()
        .filter(|line| line.starts_with("relay_players_denied_total"))
    {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

impl Town {
    async fn start(program: &Path, top: &str, players: &str) -> Result<Self, Fault> {
        let directory = tempfile::tempdir()?;
        let place = |name: &str| directory.path().join(name);
        let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (listen, admin) = (localhost(ports::free()?), localhost(ports::free()?));
        let public = [ports::free()?, ports::free()?, ports::free()?];
        let (config, data) = (place("relay.toml"), place("relay-data"));
        std::fs::write(
            &config,
            format!(
                "listen = \"{listen}\"\npublic_host = \"127.0.0.1\"\ndata_dir = \"{}\"\n{top}[players]\nbind = \"127.0.0.1\"\nports = \"{},{},{}\"\n\
                 {players}[admin]\nlisten = \"{admin}\"\n",
                data.display(),
                public[0],
                public[1],
                public[2]
            ),
        )?;
        let mut relay = Process::start(
            "relay",
            pinned(program, 0)
                .arg("relay")
                .arg("--json")
                .arg("--config")
                .arg(&config),
            directory.path(),
        )?;
        relay.spoken(START).await?;
        let mut agents = Vec::new();
        let tunnels = [
            vec![format!("game=tcp:{}@{}", echo()?, public[0])],
            vec![
                format!("tcp=tcp:{}@{}", echo()?, public[1]),
                format!("udp=udp:{}@{}", echo()?, public[2]),
            ],
        ];
        for (name, tunnels) in ["quiet", "flooded"].into_iter().zip(tunnels) {
            let mut invite = Command::new(program);
            invite.args(["invite", name, "--data-dir"]).arg(&data);
            let invite = process::output(invite, START).await?.stdout;
            let state = place(name);
            std::fs::create_dir(&state)?;
            let mut command = pinned(program, 0);
            command
                .args(["agent", "--json", "--state-dir"])
                .arg(&state)
                .arg(invite.trim())
                .args(tunnels);
            let mut agent = Process::start("agent", &mut command, &state)?;
            agent.spoken(START).await?;
            agents.push(agent);
        }
        let game = localhost(public[0]);
        let deadline = Instant::now() + START;
        while greet(Ipv4Addr::LOCALHOST, game).await.is_err() {
            if Instant::now() > deadline {
                return Err(Fault::Failed(format!("the tunnel does not open: {}", relay.tail())));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let agents: [Process; 2] = agents.try_into().map_err(|_| Fault::Failed("two agents".to_owned()))?;
        Ok(Self {
            relay,
            _agents: agents,
            listen,
            game,
            flooded: [localhost(public[1]), localhost(public[2])],
            admin,
            nobody: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            _directory: directory,
        })
    }
}

/// A server on threads of its own that says back what it hears over TCP, and takes packets at the same port.
fn echo() -> Result<SocketAddr, Fault> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let packets = UdpSocket::bind(address)?;
    // It takes packets and says nothing, as a game server does to whoever does not go on.
    std::thread::spawn(move || while packets.recv_from(&mut [0; 2_048]).is_ok() {});
    listener.set_nonblocking(true)?;
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            let mut talking = tokio::task::JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                talking.spawn_local(async move {
                    let mut buffer = [0; 256];
                    while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                        if socket.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    });
    Ok(address)
}

/// A command on one processor, where there are two.
fn pinned(program: &Path, processor: usize) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &processor.to_string()]).arg(program);
    command
}

async fn greet(from: Ipv4Addr, address: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut player = tokio::time::timeout(START, socket.connect(address))
        .await
        .map_err(|_| Fault::Failed("nobody answers".to_owned()))??;
    player.set_nodelay(true)?;
    exchange(&mut player).await?;
    Ok(player)
}

async fn exchange(player: &mut TcpStream) -> Result<(), Fault> {
    let talk = async {
        player.write_all(&[7; 30]).await?;
        player.read_exact(&mut [0; 30]).await.map(drop)
    };
    let talked: Result<std::io::Result<()>, _> = tokio::time::timeout(START, talk).await;
    talked
        .map_err(|_| Fault::Failed("a player is not answered".to_owned()))?
        .map_err(Fault::from)
}

/// Twenty players from as many addresses; the round trips.
async fn play(address: SocketAddr, lasts: Duration) -> Result<Vec<Duration>, Fault> {
    let local = tokio::task::LocalSet::new();
    let play = async {
        let mut playing = tokio::task::JoinSet::new();
        for number in 1..=PLAYERS {
            let mut player = greet(Ipv4Addr::new(127, 0, 50, number), address).await?;
            playing.spawn_local(async move {
                let mut tick = tokio::time::interval(TICK);
                tokio::time::sleep(TICK * u32::from(number) / u32::from(PLAYERS)).await;
                let (until, mut times) = (Instant::now() + lasts, Vec::new());
                while Instant::now() < until {
                    tick.tick().await;
                    let before = Instant::now();
                    exchange(&mut player).await?;
                    times.push(before.elapsed());
                }
                Ok::<_, Fault>(times)
            });
        }
        let mut all = Vec::new();
        while let Some(played) = playing.join_next().await {
            all.extend(played.map_err(|error| Fault::failed("playing", error))??);
        }
        Ok(all)
    };
    local.run_until(play).await
}

async fn metrics(admin: SocketAddr) -> Result<String, Fault> {
    let mut socket = TcpStream::connect(admin).await?;
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    Ok(text)
}

fn start_flood(word: &str, target: SocketAddr, rate: u64, lasts: Duration) -> Result<std::process::Child, Fault> {
    let mut command = pinned(&std::env::current_exe()?, 1);
    command.args([
        FLOOD,
        word,
        &target.to_string(),
        &rate.to_string(),
        &lasts.as_secs().to_string(),
    ]);
    command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Fault::failed("starting a flood", error))
}

/// Floods a target; returns how many it was in a second.
fn flood(words: &[String]) -> Result<f64, Fault> {
    let wrong = || Fault::Failed("a flood is: tcp|udp|quic ADDRESS RATE SECONDS".to_owned());
    let [kind, target, rate, seconds] = words else {
        return Err(wrong());
    };
    let target: SocketAddr = target.parse().map_err(|_| wrong())?;
    let rate: f64 = rate.parse().map_err(|_| wrong())?;
    let lasts = Duration::from_secs(seconds.parse().map_err(|_| wrong())?);
    let mut one: Box<dyn FnMut(u32) -> std::io::Result<()>> = match kind.as_str() {
        "tcp" => Box::new(move |_| knock(target)),
        "udp" => packets(target, 60)?,
        "quic" => packets(target, 1_200)?,
        _ => return Err(wrong()),
    };
    let (start, mut sent) = (Instant::now(), 0u32);
    while start.elapsed() < lasts {
        let due = (start.elapsed().as_secs_f64() * rate) as u32;
        if sent >= due {
            std::thread::yield_now();
            continue;
        }
        // A full buffer is what a flood runs into.
        let _ = one(sent);
        sent += 1;
    }
    Ok(f64::from(sent) / start.elapsed().as_secs_f64())
}

/// Connects from one address, and leaves in a reset.
fn knock(target: SocketAddr) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from(([127, 0, 60, 1], 0)).into())?;
    let _ = socket.connect(&target.into());
    Ok(())
}

/// Sends packets from addresses that are made up anew for each, as those do who flood: with the rights for a socket that lets its user write whole packets. Without, they come from
/// twelve thousand sockets of this machine in turn, of which some are let in and come again eight times a second.
fn packets(target: SocketAddr, length: usize) -> Result<Box<dyn FnMut(u32) -> std::io::Result<()>>, Fault> {
    let mut payload = vec![0u8; length];
    if length >= 1_200 {
        // A long header of version 1 with a connection id; what follows is no handshake, which costs the relay its keys to find out.
        payload[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, 1]);
    }
    let SocketAddr::V4(to) = target else {
        return Err(Fault::Failed(format!("{target} is no IPv4 address")));
    };
    if let Ok(raw) = raw_socket() {
        let mut packet = forged(*to.ip(), to.port(), &payload);
        let mut dice = 0x9e37_79b9_7f4a_7c15u64;
        return Ok(Box::new(move |number| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let from = (dice >> 32) as u32;
            packet[SOURCE..SOURCE + 4].copy_from_slice(&[
                127,
                (from >> 16) as u8,
                (from >> 8) as u8,
                (from as u8).clamp(1, 254),
            ]);
            packet[HEADERS - 8..HEADERS - 6].copy_from_slice(&((dice >> 16) as u16 | 1024).to_be_bytes());
            packet[HEADERS + 7..HEADERS + 11].copy_from_slice(&number.to_be_bytes());
            raw.send_to(&packet, &target.into()).map(drop)
        }));
    }
    let mut sockets = Vec::new();
    for number in 0..12_000u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let from = IpAddr::V4(Ipv4Addr::new(127, 70 + high % 100, high, low.max(1)));
        sockets.push(UdpSocket::bind((from, 0))?);
    }
    Ok(Box::new(move |number| {
        payload[7..11].copy_from_slice(&number.to_be_bytes());
        let at = number as usize % sockets.len();
        sockets[at].send_to(&payload, target).map(drop)
    }))
}

/// Where the source address is in an IPv4 packet, and how long its header is with that of UDP.
const SOURCE: usize = 12;
const HEADERS: usize = 28;

/// A socket whose user writes whole packets.
fn raw_socket() -> std::io::Result<socket2::Socket> {
    // The number that says so; a header with whatever is in it follows.
    let any = socket2::Protocol::from(255);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(any))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An IPv4 packet with a UDP one, whose source is still to be written. The kernel sums up the one header, and the other needs no sum.
fn forged(to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let whole = (HEADERS + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&whole.to_be_bytes());
    // No number, no fragments, 64 hops, UDP, no sum, no source.
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&(whole - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}

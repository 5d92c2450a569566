//! `spawnpoint relay`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use spawnpoint_config::ConfigError;
use spawnpoint_config::relay::{RelayConfig, parse_public_host};
use spawnpoint_config::unit::parse_size;
use spawnpoint_core::port::PortSet;
use spawnpoint_ops::Events;
use spawnpoint_relay::{Relay, RelayInfo};
use tokio::sync::Notify;

use super::{Done, Failure};
#[cfg(unix)]
use crate::desk::Answer;
use crate::desk::{self, Asked, Desk};
use crate::output::{self, LogArguments, say, tell_supervisor};
#[cfg(unix)]
use crate::successor::Program;
use crate::{paths, signals};

/// The socket in the data directory at which the running relay can be asked for something.
const SOCKET: &str = "relay.sock";

/// A successor that is not ready by then never will be.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(90);

/// The longest that a configuration may let players stay.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// What a relay without players still takes to end.
const STOP_SLACK: Duration = Duration::from_secs(15);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<RelayCommand>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum RelayCommand {
    /// Read the configuration and say whether it is right, without starting anything
    Check(Options),
    /// Start the program anew in place of the running relay: players, agents and addresses stay
    Upgrade(Running),
    /// Print the DNS records that the relay's `domain` needs, and look them up
    Dns(super::dns::Arguments),
    /// Let nobody from an address or prefix in, to the whole relay or to a host's tunnels; their sessions end
    Ban(super::bans::Ban),
    /// Lift a ban
    Unban(super::bans::Unban),
    /// Show every ban: the operator's, those of hosts, and those for repeated offences
    Bans(super::bans::Bans),
    /// Take the running relay out of service: nobody new, and the end once everybody has left
    Drain(Drain),
}

/// Which running relay.
#[derive(Args)]
struct Running {
    /// Its data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Its configuration, if that says where it keeps its data
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Drain {
    #[command(flatten)]
    running: Running,
    /// How long players who are in may stay, such as 90s or 10min [default: drain.deadline of its configuration]
    #[arg(long, value_name = "TIME", value_parser = spawnpoint_config::unit::parse_duration)]
    deadline: Option<Duration>,
}

#[derive(Args)]
struct Options {
    /// Read settings from this file; flags go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Await agents on this UDP address (`[::]:7843` unless told otherwise)
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// Keep hosts, ports and the relay's identity in this directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The name or address that invites and players use [default: this machine's address]
    #[arg(long, value_name = "HOST", value_parser = parse_public_host)]
    public_host: Option<String>,
    /// Public ports for tunnels, such as 25565-25664 or 25565,30000-30010
    #[arg(long, value_name = "PORTS")]
    ports: Option<PortSet>,
    /// Take no new players beyond this much memory, such as 2GiB [default: four fifths of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_limit: Option<u64>,
    /// Serve health and metrics on this TCP address [default: 127.0.0.1:7844]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    admin: Option<SocketAddr>,
    /// Print one JSON event a line on standard output, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArguments,
}

pub async fn run(arguments: Arguments) -> Result<Done, Failure> {
    let options = match arguments.command {
        Some(RelayCommand::Check(options)) => return check(options),
        Some(RelayCommand::Upgrade(running)) => {
            let said = desk::ask(&running.socket()?, "upgrade", UPGRADE_DEADLINE).await?;
            say(said);
            return Ok(Done::Finished);
        }
        Some(RelayCommand::Dns(arguments)) => return super::dns::run(arguments).await.map(|()| Done::Finished),
        Some(RelayCommand::Ban(ban)) => return ban.run().map(|()| Done::Finished),
        Some(RelayCommand::Unban(unban)) => return unban.run().map(|()| Done::Finished),
        Some(RelayCommand::Bans(bans)) => return bans.run().map(|()| Done::Finished),
        Some(RelayCommand::Drain(drain)) => return drain.run().await,
        None => arguments.options,
    };
    let (log, json) = (options.log.clone(), options.json);
    let (config, data_dir) = settle(&options)?;
    let _logs = log.init(&config.log).map_err(Failure::Usage)?;
    let mut stop = signals::Stop::install()?;
    let (events, writer) = if json {
        output::json_events()
    } else {
        output::no_events()
    };
    #[cfg(unix)]
    let program = Program::here()?;
    #[cfg(unix)]
    let succeeds = spawnpoint_net::is_successor();
    #[cfg(not(unix))]
    let succeeds = false;
    let mut desk = Desk::open()?;
    let relay = start(config, &data_dir, events).await?;
    desk.listen(&data_dir.join(SOCKET), succeeds)?;
    let again = Arc::new(Notify::new());
    let reload = signals::on_reload({
        let again = again.clone();
        move || again.notify_one()
    })?;
    tokio::pin!(reload);
    if let Some(path) = options.config.clone() {
        relay.follow_file(path, again, Box::new(move || configure(&options)));
    }
    if !json && !succeeds {
        explain(relay.info());
    }
    tell_supervisor("READY=1");
    let (mut drained, mut asked) = (None, None);
    loop {
        let request = tokio::select! {
            () = stop.requested() => break,
            () = &mut reload => continue,
            error = relay.failed() => return Err(error.into()),
            request = desk.next() => request,
        };
        match request.asked {
            #[cfg(unix)]
            Asked::Upgrade => {
                if let Some(pid) = upgrade(&relay, &program, request.answer).await {
                    tell_supervisor(&format!("MAINPID={pid}"));
                    writer.finish();
                    // What they would close belongs to the successor.
                    std::mem::forget((relay, desk));
                    return Ok(Done::HandedOver);
                }
            }
            #[cfg(not(unix))]
            Asked::Upgrade => {}
            Asked::Players => {
                let text = format!("{} players; their host's agent knows who they are", relay.players());
                request.answer.finish(Ok(text)).await;
            }
            Asked::Bans(_) => {
                let text = "a relay's bans are changed by `spawnpoint relay ban` and `unban`, and shown by `bans`";
                request.answer.finish(Err(text.to_owned())).await;
            }
            Asked::Drain(deadline) => {
                asked = deadline;
                drained = Some(request.answer);
                break;
            }
        }
    }
    let patience = asked.unwrap_or_else(|| relay.patience());
    // Until the last player has left, or the deadline, and a little longer.
    let patience_us = (patience + STOP_SLACK).as_micros();
    tell_supervisor(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={patience_us}"));
    let players = relay.players();
    let seconds = patience.as_secs();
    if players > 0 {
        // On a thread of its own, as a terminal that is held must not hold up the end.
        std::thread::spawn(move || {
            eprintln!("stopping: players who are in ({players}) may stay for {seconds} s; once more ends it at once");
        });
    }
    if let Some(answer) = &mut drained {
        answer
            .say(&format!(
                "draining: players who are in ({players}) may stay for {seconds} s"
            ))
            .await;
    }
    relay.stop(patience, stop.requested()).await;
    if let Some(answer) = drained {
        answer.finish(Ok("drained: the relay has ended".to_owned())).await;
    }
    writer.finish();
    Ok(Done::Finished)
}

/// Starts a relay, in place of another one when this process was started for that.
async fn start(config: RelayConfig, data_dir: &Path, events: Events) -> Result<Relay, Failure> {
    #[cfg(unix)]
    if spawnpoint_net::is_successor() {
        let mut channel = spawnpoint_net::Channel::inherited()?;
        return Ok(Relay::take_over(config, data_dir, events, &mut channel).await?);
    }
    Ok(Relay::start(config, data_dir, events).await?)
}

/// Hands the relay to a new process; returns its number, or nothing when the relay goes on.
#[cfg(unix)]
async fn upgrade(relay: &Relay, program: &Program, mut answer: Answer) -> Option<u32> {
    let before = std::time::Instant::now();
    let mut channel = match program.start().await {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "upgrade failed");
            answer.finish(Err(format!("{error:#}"))).await;
            return None;
        }
    };
    answer.say("a new process is getting ready").await;
    match relay.hand_over(&mut channel).await {
        Ok(pid) => {
            let millis = before.elapsed().as_millis();
            tracing::info!(successor = pid, "handed over");
            answer
                .finish(Ok(format!("upgraded: process {pid} has taken over after {millis} ms")))
                .await;
            Some(pid)
        }
        Err(error) => {
            let error = spawnpoint_ops::describe(&error);
            tracing::error!(error, "upgrade failed");
            answer.finish(Err(error)).await;
            None
        }
    }
}

impl Running {
    fn socket(&self) -> Result<PathBuf, Failure> {
        let configured = match &self.config {
            Some(path) => RelayConfig::load(path)?.data_dir,
            None => None,
        };
        let data_dir = self.data_dir.clone().or(configured);
        let data_dir = data_dir.map_or_else(paths::relay_data, Ok).map_err(Failure::Usage)?;
        Ok(data_dir.join(SOCKET))
    }
}

impl Drain {
    async fn run(self) -> Result<Done, Failure> {
        let (request, deadline) = match self.deadline {
            Some(deadline) => (format!("drain {}", deadline.as_millis()), deadline),
            None => ("drain".to_owned(), MAX_DRAIN),
        };
        let said = desk::ask(&self.running.socket()?, &request, deadline + UPGRADE_DEADLINE).await?;
        say(said);
        Ok(Done::Finished)
    }
}

fn check(options: Options) -> Result<Done, Failure> {
    let file = options.config.clone();
    let (_, data_dir) = settle(&options)?;
    let file = file.map_or_else(
        || "no file, so the defaults".to_owned(),
        |file| file.display().to_string(),
    );
    say(format_args!("{file}: right; data directory {}", data_dir.display()));
    Ok(Done::Finished)
}

/// The file, with the flags before it.
fn configure(options: &Options) -> Result<RelayConfig, ConfigError> {
    let mut config = match &options.config {
        Some(path) => RelayConfig::load(path)?,
        None => RelayConfig::default(),
    };
    config.listen = options.listen.unwrap_or(config.listen);
    config.public_host = options.public_host.clone().or(config.public_host);
    config.players.ports = options.ports.clone().unwrap_or(config.players.ports);
    config.admin = options.admin.or(config.admin);
    config.memory_limit = options.memory_limit.or(config.memory_limit);
    Ok(config)
}

fn settle(options: &Options) -> Result<(RelayConfig, PathBuf), Failure> {
    let config = configure(options)?;
    let data_dir = options.data_dir.clone().or_else(|| config.data_dir.clone());
    let data_dir = data_dir.map_or_else(paths::relay_data, Ok).map_err(Failure::Usage)?;
    Ok((config, data_dir))
}

fn explain(info: &RelayInfo) {
    let RelayInfo {
        listen,
        public_host,
        guessed,
        ports,
        shared,
        ..
    } = info;
    let hint = if *guessed {
        " (found out; --public-host NAME changes it)"
    } else {
        ""
    };
    let directory = paths::flag_for(&info.data_dir);
    say(format_args!(
        "The relay is up: agents connect to {public_host} udp {}{hint}.",
        listen.port()
    ));
    say(format_args!(
        "1. Let udp {}{} and tcp+udp {ports} through this machine's firewall.",
        listen.port(),
        shared
            .iter()
            .map(|(protocol, ports)| format!(", {protocol} {ports}"))
            .collect::<String>()
    ));
    say(format_args!(
        "2. Invite a host, here:          spawnpoint invite NAME{directory}"
    ));
    say("3. On the game server's machine: spawnpoint agent INVITE minecraft");
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write ADDRESS:PORT, for example 0.0.0.0:7843 or [::]:7843".to_owned())
}

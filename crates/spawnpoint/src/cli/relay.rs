//! `spawnpoint relay`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use spawnpoint_config::relay::{RelayConfig, parse_public_host};
use spawnpoint_core::port::PortSet;
use spawnpoint_relay::{Relay, RelayInfo};

use super::Failure;
use crate::output::{self, LogArguments, say};
use crate::{paths, signals};

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
    /// Serve health and metrics on this TCP address [default: 127.0.0.1:7844]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    admin: Option<SocketAddr>,
    /// Print one JSON event a line on standard output, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArguments,
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (options, only_check) = match arguments.command {
        Some(RelayCommand::Check(options)) => (options, true),
        None => (arguments.options, false),
    };
    let (log, json, file) = (options.log.clone(), options.json, options.config.clone());
    let (config, data_dir) = settle(options)?;
    if only_check {
        let file = file.map_or_else(
            || "no file, so the defaults".to_owned(),
            |file| file.display().to_string(),
        );
        say(format_args!("{file}: right; data directory {}", data_dir.display()));
        return Ok(());
    }
    log.init(&config.log).map_err(Failure::Usage)?;
    let mut stop = signals::Stop::install()?;
    let patience = config.drain_deadline;
    let (events, writer) = if json {
        output::json_events()
    } else {
        output::no_events()
    };
    let relay = Relay::start(config, &data_dir, events).await?;
    if !json {
        explain(relay.info());
    }
    tokio::select! {
        () = stop.requested() => {}
        error = relay.failed() => return Err(error.into()),
    }
    if relay.players() > 0 {
        eprintln!(
            "stopping: players who are in ({}) may stay for {} s; once more ends it at once",
            relay.players(),
            patience.as_secs()
        );
    }
    relay.stop(patience, stop.requested()).await;
    writer.finish();
    Ok(())
}

fn settle(options: Options) -> Result<(RelayConfig, PathBuf), Failure> {
    let mut config = match &options.config {
        Some(path) => RelayConfig::load(path)?,
        None => RelayConfig::default(),
    };
    config.listen = options.listen.unwrap_or(config.listen);
    config.public_host = options.public_host.or(config.public_host);
    config.players.ports = options.ports.unwrap_or(config.players.ports);
    config.admin = options.admin.or(config.admin);
    let data_dir = options.data_dir.or_else(|| config.data_dir.clone());
    let data_dir = data_dir.map_or_else(paths::relay_data, Ok).map_err(Failure::Usage)?;
    Ok((config, data_dir))
}

fn explain(info: &RelayInfo) {
    let RelayInfo {
        listen,
        public_host,
        guessed,
        ports,
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
        "1. Let udp {} and tcp+udp {ports} through this machine's firewall.",
        listen.port()
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

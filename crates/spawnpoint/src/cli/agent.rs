//! `spawnpoint agent`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use spawnpoint_agent::{Agent, AgentSettings, GiveUp, follow_file, remember};
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::tunnel::{Origin, Tunnel};
use spawnpoint_net::TaskScope;
use spawnpoint_proto::Invite;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::output::{self, LogArguments};
use crate::{paths, signals};

#[derive(Args)]
pub struct Arguments {
    /// The invite (or `-` to read it from standard input; or leave it out and set SPAWNPOINT_INVITE, or be asked), then what to expose: `minecraft`,
    /// `bedrock`, `tcp:PORT`, `udp:HOST:PORT`; `NAME=` before it names it, `@PORT` behind it asks for a public port. With neither, what was given last time
    #[arg(value_name = "INVITE TUNNEL...")]
    words: Vec<String>,
    /// Read invite and tunnels from this file, and follow its changes
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    config: Option<PathBuf>,
    /// Remember invite and tunnels in this directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON event a line on standard output, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArguments,
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (log, json) = (arguments.log.clone(), arguments.json);
    let (path, config, _lock) = settle(arguments)?;
    log.init(&config.log).map_err(Failure::Usage)?;
    let invite = match (config.resolve_invite()?, from_environment()?) {
        // The environment is how a service keeps the secret out of its file.
        (None, Some(invite)) | (Some(invite), _) => invite,
        (None, None) => {
            return Err(Failure::Usage(anyhow!(
                "{} holds no invite: add `invite = \"...\"` or set SPAWNPOINT_INVITE",
                path.display()
            )));
        }
    };
    if config.tunnels.is_empty() {
        return Err(Failure::Usage(anyhow!(
            "{} names no tunnel: add a [[tunnel]], or run `spawnpoint agent minecraft`",
            path.display()
        )));
    }
    let mut stop = signals::Stop::install()?;
    let again = Arc::new(Notify::new());
    let scope = TaskScope::new(&CancellationToken::new());
    let tunnels = watch::Sender::new(config.tunnels.clone());
    let wanted = tunnels.subscribe();
    scope.spawn(follow_file(path, again.clone(), tunnels));
    scope.spawn(signals::on_reload(move || again.notify_one())?);
    let (events, writer) = if json {
        output::json_events()
    } else {
        output::agent_events()
    };
    let mut agent = Agent::start(AgentSettings::new(&config, invite), wanted, events);
    let gave_up = tokio::select! {
        () = stop.requested() => None,
        reason = agent.gave_up() => Some(reason),
    };
    match &gave_up {
        None => agent.stop().await,
        Some(_) => drop(agent),
    }
    writer.finish();
    match gave_up {
        None => Ok(()),
        // A new start may mend what broke here; it mends nothing else.
        Some(GiveUp::Crashed) => Err(Failure::Failed(GiveUp::Crashed.into())),
        Some(reason) => Err(Failure::GaveUp(reason.into())),
    }
}

/// The configuration to run with and the file it is in; words on the command line are remembered there first.
fn settle(arguments: Arguments) -> Result<(PathBuf, AgentConfig, Option<remember::StateLock>), Failure> {
    if let Some(path) = arguments.config {
        let config = AgentConfig::load(&path)?;
        return Ok((path, config, None));
    }
    let state_dir = arguments
        .state_dir
        .map_or_else(paths::agent_state, Ok)
        .map_err(Failure::Usage)?;
    let path = remember::path(&state_dir);
    let mut words = arguments.words.as_slice();
    let mut invite = from_environment()?;
    if let Some((first, rest)) = words.split_first()
        && (first == "-" || looks_like_invite(first))
    {
        let text = if first == "-" { read_stdin()? } else { first.clone() };
        (invite, words) = (Some(parse_invite(&text)?), rest);
    }
    let parsed: Result<Vec<Tunnel>, Failure> = words.iter().map(|word| parse_tunnel(word)).collect();
    let mut tunnels = parsed?;
    Tunnel::check_distinct(&tunnels).map_err(|error| Failure::Usage(error.into()))?;
    let is_new = invite.is_some() || !tunnels.is_empty();
    // What is remembered is read only where something is missing: a damaged file must not stand in the way of a new invite.
    let known = match path.exists() && (invite.is_none() || tunnels.is_empty()) {
        true => AgentConfig::load(&path)?,
        false => AgentConfig::default(),
    };
    if tunnels.is_empty() {
        tunnels.clone_from(&known.tunnels);
    }
    let remembered = known.resolve_invite()?;
    let is_new = is_new || remembered.is_none();
    let invite = match invite.or(remembered) {
        Some(invite) => invite,
        None => ask()?,
    };
    if tunnels.is_empty() {
        let text = "say what to expose: for example `spawnpoint agent INVITE minecraft`, or tcp:PORT or udp:PORT";
        return Err(Failure::Usage(anyhow!(text)));
    }
    if !is_new {
        return Ok((path, known, Some(remember::lock(&state_dir)?)));
    }
    // Before anything is written: a running agent follows the file.
    let lock = remember::lock(&state_dir)?;
    remember::remember(&state_dir, &invite, &tunnels)?;
    let config = AgentConfig::load(&path)?;
    Ok((path, config, Some(lock)))
}

/// A first word that cannot be a tunnel was meant as an invite, even if it is damaged.
fn looks_like_invite(word: &str) -> bool {
    word.to_ascii_lowercase().starts_with("spawnpoint") || (word.len() > 60 && !word.contains(':'))
}

fn parse_tunnel(word: &str) -> Result<Tunnel, Failure> {
    let error = match word.parse() {
        Ok(tunnel) => return Ok(tunnel),
        Err(error) => anyhow::Error::new(error),
    };
    Err(Failure::Usage(if word.eq_ignore_ascii_case("invite") {
        anyhow!("put the line that `spawnpoint invite NAME` printed on the relay's machine in place of `{word}`")
    } else if looks_like_invite(word) {
        anyhow!("the invite comes first, then what to expose")
    } else if word.parse::<Origin>().is_ok() {
        anyhow!("did you mean tcp:{word} or udp:{word}?")
    } else {
        error
    }))
}

fn parse_invite(text: &str) -> Result<Invite, Failure> {
    text.parse::<Invite>().map_err(|error| Failure::Usage(error.into()))
}

fn from_environment() -> Result<Option<Invite>, Failure> {
    match std::env::var("SPAWNPOINT_INVITE") {
        Ok(text) if !text.trim().is_empty() => match text.parse::<Invite>() {
            Ok(invite) => Ok(Some(invite)),
            Err(error) => Err(Failure::Usage(anyhow::Error::new(error).context("SPAWNPOINT_INVITE"))),
        },
        _ => Ok(None),
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .context("cannot read the invite from standard input")?;
    Ok(text)
}

fn ask() -> Result<Invite, Failure> {
    if !std::io::stdin().is_terminal() {
        let text = "no invite: give it as the first argument, as `-` on standard input, or in SPAWNPOINT_INVITE";
        return Err(Failure::Usage(anyhow!(text)));
    }
    parse_invite(
        &rpassword::prompt_password("Invite (from `spawnpoint invite NAME`): ").context("cannot read the invite")?,
    )
}

//! `spawnpoint agent`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use spawnpoint_agent::remember::StateLock;
use spawnpoint_agent::{Agent, AgentSettings, GiveUp, discover, follow_file, remember};
use spawnpoint_config::agent::AgentConfig;
use spawnpoint_config::tunnel::{Origin, Tunnel};
use spawnpoint_config::unit::parse_duration;
use spawnpoint_net::TaskScope;
use spawnpoint_ops::Events;
use spawnpoint_proto::Invite;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Done, Failure};
#[cfg(unix)]
use crate::desk::Answer;
use crate::desk::{self, Asked, Desk};
use crate::output::{self, LogArguments, say, tell_supervisor};
#[cfg(unix)]
use crate::secrets;
#[cfg(unix)]
use crate::successor::Program;
use crate::{paths, signals};

/// Where a service leaves the invite.
const INVITE: &str = "SPAWNPOINT_INVITE";

/// The old agent has only its lock left to hand over.
#[cfg(unix)]
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<AgentCommand>,
    /// The invite (or `-` to read it from standard input; or leave it out and set SPAWNPOINT_INVITE, or be asked), then what to expose: `minecraft`,
    /// `valheim` (see `spawnpoint presets`), `tcp:PORT`, `udp:HOST:PORT`; `NAME=` before it names it, `@PORT` behind it asks for a public port. With neither, what was given last time
    #[arg(value_name = "INVITE TUNNEL...")]
    words: Vec<String>,
    /// Read invite and tunnels from this file, and follow its changes
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    config: Option<PathBuf>,
    /// Remember invite and tunnels in this directory; with --config, only await `spawnpoint agent upgrade` there
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON event a line on standard output, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Show who plays through the running agent, and under which address the game server sees them
    Players {
        /// The state directory of the running agent
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Let nobody from an address or prefix into this host's tunnels, at the relay: their sessions end
    Ban {
        /// A player's name or address as `spawnpoint agent players` shows it, any address, or a prefix such as 203.0.113.0/24
        who: String,
        /// For how long, such as 2h or 30d; until it is lifted when absent
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        r#for: Option<Duration>,
        /// Why, for whoever reads the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// The state directory of the running agent
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Lift a ban of this host
    Unban {
        /// The address or prefix as `spawnpoint agent bans` shows it
        who: String,
        /// The state directory of the running agent
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Show the bans of this host
    Bans {
        /// The state directory of the running agent
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Start the program anew in place of the running agent: players stay
    Upgrade {
        /// The state directory of the running agent
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
}

/// The socket in the state directory at which the running agent can be asked for something.
const SOCKET: &str = "agent.sock";

/// A running agent answers what it knows at once.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Longer than relays may take to answer.
const BANS_DEADLINE: Duration = Duration::from_secs(30);

/// A successor that is not ready by then never will be.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(90);

pub async fn run(arguments: Arguments) -> Result<Done, Failure> {
    if let Some(command) = arguments.command {
        let (state_dir, request, deadline) = match command {
            AgentCommand::Upgrade { state_dir } => (state_dir, "upgrade".to_owned(), UPGRADE_DEADLINE),
            AgentCommand::Players { state_dir } => (state_dir, "players".to_owned(), ANSWER_DEADLINE),
            AgentCommand::Bans { state_dir } => (state_dir, "bans".to_owned(), BANS_DEADLINE),
            AgentCommand::Unban { who, state_dir } => (state_dir, format!("unban {}", one_word(&who)?), BANS_DEADLINE),
            AgentCommand::Ban {
                who,
                r#for,
                reason,
                state_dir,
            } => {
                let lasts = r#for.map_or_else(
                    || "-".to_owned(),
                    |lasts| lasts.as_secs().clamp(1, u32::MAX.into()).to_string(),
                );
                (
                    state_dir,
                    format!("ban {} {lasts} {reason}", one_word(&who)?),
                    BANS_DEADLINE,
                )
            }
        };
        let state_dir = state_dir.map_or_else(paths::agent_state, Ok).map_err(Failure::Usage)?;
        say(desk::ask(&state_dir.join(SOCKET), &request, deadline).await?);
        return Ok(Done::Finished);
    }
    let (log, json) = (arguments.log.clone(), arguments.json);
    let Settled {
        shown,
        path,
        config,
        state_dir,
        lock,
    } = settle(arguments)?;
    // What comes after this process was started by another has no such word any more.
    #[cfg(unix)]
    let stays_visible = shown
        .filter(|_| !successor())
        .map(|shown| secrets::start_without(&shown, INVITE));
    #[cfg(not(unix))]
    drop(shown);
    let _logs = log.init(&config.log).map_err(Failure::Usage)?;
    #[cfg(unix)]
    if let Some(error) = stays_visible {
        tracing::warn!(%error, "the invite stays visible in the list of processes");
    }
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
    #[cfg(unix)]
    let program = Program::here()?;
    let mut desk = Desk::open()?;
    let (mut agent, lock) = start(AgentSettings::new(&config, invite), wanted, events, lock).await?;
    if let Some(dir) = state_dir {
        desk.listen(&dir.join(SOCKET), successor())?;
    }
    tell_supervisor("READY=1");
    let gave_up = loop {
        let request = tokio::select! {
            () = stop.requested() => break None,
            reason = agent.gave_up() => break Some(reason),
            request = desk.next() => request,
        };
        match request.asked {
            #[cfg(unix)]
            Asked::Upgrade => {
                if let Some(pid) = upgrade(&agent, lock.as_ref(), &program, request.answer).await {
                    tell_supervisor(&format!("MAINPID={pid}"));
                    writer.finish();
                    // What they would close belongs to the successor.
                    std::mem::forget((agent, desk, scope));
                    return Ok(Done::HandedOver);
                }
            }
            #[cfg(not(unix))]
            Asked::Upgrade => {}
            Asked::Players => {
                request
                    .answer
                    .finish(Ok(output::list_players(&agent.guests().show())))
                    .await
            }
            Asked::Bans(banning) => {
                let said = super::bans::answer(&agent, banning).await;
                request.answer.finish(said).await;
            }
            Asked::Drain(_) => {
                let text = "an agent is not drained: stop it, or drain its relay";
                request.answer.finish(Err(text.to_owned())).await;
            }
        }
    };
    tell_supervisor("STOPPING=1");
    match &gave_up {
        None => agent.stop().await,
        Some(_) => drop(agent),
    }
    writer.finish();
    match gave_up {
        None => Ok(Done::Finished),
        // A new start may mend what broke here; it mends nothing else.
        Some(GiveUp::Crashed) => Err(Failure::Failed(GiveUp::Crashed.into())),
        Some(reason) => Err(Failure::GaveUp(reason.into())),
    }
}

/// What goes into a request as one word.
fn one_word(text: &str) -> Result<&str, Failure> {
    match text.split_ascii_whitespace().count() {
        1 => Ok(text.trim()),
        _ => Err(Failure::Usage(anyhow!("`{text}` is no name, address or prefix"))),
    }
}

/// Whether this process was started to take over from another.
fn successor() -> bool {
    #[cfg(unix)]
    return spawnpoint_net::is_successor();
    #[cfg(not(unix))]
    false
}

/// Starts an agent, in place of another one when this process was started for that.
async fn start(
    settings: AgentSettings,
    tunnels: watch::Receiver<Vec<Tunnel>>,
    events: Events,
    lock: Option<StateLock>,
) -> Result<(Agent, Option<StateLock>), Failure> {
    #[cfg(unix)]
    if successor() {
        let mut channel = spawnpoint_net::Channel::inherited()?;
        let agent = Agent::take_over(settings, tunnels, events, &mut channel).await?;
        // The lock comes last; an agent that runs from a file of its own has none.
        let received = tokio::time::timeout(LOCK_DEADLINE, channel.receive(16)).await;
        let descriptor = received.ok().and_then(|received| received.ok()?.1.pop());
        return Ok((agent, descriptor.map(StateLock::adopt)));
    }
    Ok((Agent::start(settings, tunnels, events), lock))
}

/// Hands the agent to a new process; returns its number, or nothing when the agent goes on.
#[cfg(unix)]
async fn upgrade(agent: &Agent, lock: Option<&StateLock>, program: &Program, mut answer: Answer) -> Option<u32> {
    use std::os::fd::AsFd;
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
    match agent.hand_over(&mut channel).await {
        Ok(pid) => {
            let descriptors: Vec<_> = lock.iter().map(|lock| lock.as_fd()).collect();
            // Without it the successor runs all the same.
            let _ = tokio::time::timeout(LOCK_DEADLINE, channel.send(b"lock", &descriptors)).await;
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

/// What to run with.
struct Settled {
    /// The invite as a word on the command line, when it was one and is remembered.
    shown: Option<String>,
    /// The file that is followed.
    path: PathBuf,
    config: AgentConfig,
    /// Where requests are awaited.
    state_dir: Option<PathBuf>,
    lock: Option<StateLock>,
}

/// The configuration to run with and the file it is in; words on the command line are remembered there first.
fn settle(arguments: Arguments) -> Result<Settled, Failure> {
    if let Some(path) = arguments.config {
        let config = AgentConfig::load(&path)?;
        let state_dir = arguments.state_dir;
        let lock = match &state_dir {
            Some(dir) => take_lock(dir)?,
            None => None,
        };
        return Ok(Settled {
            shown: None,
            path,
            config,
            state_dir,
            lock,
        });
    }
    let state_dir = arguments
        .state_dir
        .map_or_else(paths::agent_state, Ok)
        .map_err(Failure::Usage)?;
    let path = remember::path(&state_dir);
    // A successor goes on with what its predecessor followed last, whatever that was started with.
    let mut words = match successor() && path.exists() {
        true => &[],
        false => arguments.words.as_slice(),
    };
    let (mut invite, mut shown) = (from_environment()?, None);
    if let Some((first, rest)) = words.split_first()
        && (first == "-" || looks_like_invite(first))
    {
        words = rest;
        // The successor's standard input is something else; what was read there is remembered.
        if first != "-" || !successor() {
            let text = if first == "-" { read_stdin()? } else { first.clone() };
            invite = Some(parse_invite(&text)?);
            shown = Some(first.clone()).filter(|first| first != "-");
        }
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
    let is_new = is_new || tunnels.is_empty();
    if tunnels.is_empty() {
        tunnels = propose()?;
    }
    // Before anything is written: a running agent follows the file.
    let lock = take_lock(&state_dir)?;
    let mut config = known;
    if is_new {
        remember::remember(&state_dir, &invite, &tunnels)?;
        config = AgentConfig::load(&path)?;
    }
    Ok(Settled {
        shown,
        path,
        config,
        state_dir: Some(state_dir),
        lock,
    })
}

/// What listens here and the host wants to expose, for one who has said nothing.
fn propose() -> Result<Vec<Tunnel>, Failure> {
    let found = discover();
    let words: Vec<&str> = found.iter().map(|preset| preset.word).collect();
    if words.is_empty() {
        let text = "say what to expose: for example `spawnpoint agent INVITE minecraft`, or tcp:PORT or udp:PORT; no known game listens on this machine";
        return Err(Failure::Usage(anyhow!(text)));
    }
    let all = words.join(" ");
    if !std::io::stdin().is_terminal() {
        let text = format!(
            "say what to expose; on this machine listens what looks like: {all}. So: `spawnpoint agent INVITE {all}`"
        );
        return Err(Failure::Usage(anyhow!(text)));
    }
    for preset in found {
        say(format_args!("{:<16} {}", preset.word, preset.title));
    }
    say("These listen on this machine. Expose them? [Y/n]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" => words.into_iter().map(parse_tunnel).collect(),
        _ => Err(Failure::Usage(anyhow!(
            "then say what to expose: `spawnpoint agent INVITE TUNNEL...`"
        ))),
    }
}

/// Takes the state directory; a successor is given it.
fn take_lock(state_dir: &Path) -> Result<Option<StateLock>, Failure> {
    match successor() {
        true => Ok(None),
        false => Ok(Some(remember::lock(state_dir)?)),
    }
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
    match std::env::var(INVITE) {
        Ok(text) if !text.trim().is_empty() => match text.parse::<Invite>() {
            Ok(invite) => Ok(Some(invite)),
            Err(error) => Err(Failure::Usage(anyhow::Error::new(error).context(INVITE))),
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

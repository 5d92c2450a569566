//! Bans, as the person at an agent and the operator of a relay set and see them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use ipnet::IpNet;
use spawnpoint_agent::Agent;
use spawnpoint_config::unit::parse_duration;
use spawnpoint_core::access::{household, parse_prefix};
use spawnpoint_net::unix_now;
use spawnpoint_proto::control::{BanEntry, BanReply, BanRequest, MAX_REASON};
use spawnpoint_proto::{HostName, cut, plain};
use spawnpoint_relay::office::Office;

use super::Failure;
use crate::desk::Banning;
use crate::output::{print, rough, say};
use crate::paths;

/// Does what is asked about the bans of the host whose agent runs.
pub async fn answer(agent: &Agent, banning: Banning) -> Result<String, String> {
    let prefix = |who: &str| match agent.guests().address_of(who)? {
        Some(ip) => Ok(household(ip)),
        None => parse_prefix(who)
            .map_err(|error| format!("nobody who is or was here goes by the name `{who}`, and {error}")),
    };
    let mut request = BanRequest {
        id: 0,
        prefix: None,
        lift: None,
        lasts_s: None,
        reason: None,
    };
    let done = match banning {
        Banning::List => None,
        Banning::Set(who, lasts_s, reason) => {
            let prefix = prefix(&who)?;
            request.prefix = Some(prefix.to_string());
            (request.lasts_s, request.reason) = (lasts_s, Some(cut(&reason, MAX_REASON).to_owned()));
            let lasts = lasts_s.map_or_else(String::new, |lasts| format!(" for {}", rough(lasts.into())));
            Some(format!("{} is banned from this host's tunnels{lasts}", spoken(prefix)))
        }
        Banning::Lift(who) => {
            let prefix = prefix(&who)?;
            (request.prefix, request.lift) = (Some(prefix.to_string()), Some(true));
            Some(format!("{} may come again", spoken(prefix)))
        }
    };
    let answers = agent.bans(&request).await;
    let is_one = answers.len() == 1;
    let (mut said, mut is_refused) = (String::new(), false);
    for (relay, reply) in answers {
        let text = match reply {
            None => Err("the relay is away, or too old for bans from here: try again, or ask its operator".to_owned()),
            Some(BanReply { refused: Some(why), .. }) => Err(plain(&why)),
            Some(reply) => Ok(done.clone().unwrap_or_else(|| list(&reply))),
        };
        is_refused |= text.is_err();
        let text = text.unwrap_or_else(|why| why);
        // Writing to a string cannot fail.
        let _ = match is_one {
            true => write!(said, "{text}"),
            false => writeln!(said, "{relay}: {text}"),
        };
    }
    let said = said.trim_end().to_owned();
    if is_refused { Err(said) } else { Ok(said) }
}

/// A prefix as people write it: without its length when it is one address.
fn spoken(prefix: IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

fn list(reply: &BanReply) -> String {
    if reply.bans.is_empty() {
        return "nobody is banned from this host's tunnels".to_owned();
    }
    let mut text = format!("{:<44} {:<10} WHY", "FROM", "LEFT");
    for BanEntry { prefix, left_s, reason } in &reply.bans {
        let left = left_s.map_or_else(|| "for good".to_owned(), rough);
        let _ = write!(text, "\n{:<44} {left:<10} {}", plain(prefix), plain(reason));
    }
    let more = (reply.total.unwrap_or(0) as usize).saturating_sub(reply.bans.len());
    if more > 0 {
        let _ = write!(text, "\nand {more} more");
    }
    text
}

/// Whose bans, for an operator.
#[derive(Args)]
pub struct Scope {
    /// Only for the tunnels of this host, instead of the whole relay
    #[arg(long, value_name = "HOST")]
    host: Option<HostName>,
    /// The relay's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Whom an operator bans.
#[derive(Args)]
pub struct Ban {
    /// An address, or a prefix such as 203.0.113.0/24
    #[arg(value_parser = parse_prefix)]
    who: IpNet,
    /// For how long, such as 2h or 30d; until it is lifted when absent
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    r#for: Option<Duration>,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    scope: Scope,
}

/// Whose ban an operator lifts.
#[derive(Args)]
pub struct Unban {
    /// The address or prefix as `spawnpoint relay bans` shows it
    #[arg(value_parser = parse_prefix)]
    who: IpNet,
    #[command(flatten)]
    scope: Scope,
}

/// The bans that an operator looks at.
#[derive(Args)]
pub struct Bans {
    /// The relay's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn office(data_dir: Option<PathBuf>) -> Result<Office, Failure> {
    let data_dir = data_dir.map_or_else(paths::relay_data, Ok).map_err(Failure::Usage)?;
    Ok(Office::open(&data_dir)?)
}

impl Ban {
    pub fn run(self) -> Result<(), Failure> {
        let Self {
            who,
            r#for: lasts,
            reason,
            scope,
        } = self;
        office(scope.data_dir)?.ban(scope.host.as_ref(), who, lasts, &reason)?;
        let lasts = lasts.map_or_else(String::new, |lasts| format!(" for {}", rough(lasts.as_secs())));
        let place = scope
            .host
            .map_or_else(|| "this relay".to_owned(), |host| format!("the tunnels of {host}"));
        say(format_args!("{who} is banned from {place}{lasts}"));
        Ok(())
    }
}

impl Unban {
    pub fn run(self) -> Result<(), Failure> {
        let Self { who, scope } = self;
        match office(scope.data_dir)?.lift(scope.host.as_ref(), who)? {
            true => say(format_args!("{who} may come again")),
            false => {
                let text =
                    "is not banned there: `spawnpoint relay bans` shows who is, and --host NAME is for those of a host";
                return Err(Failure::Failed(anyhow!("{who} {text}")));
            }
        }
        Ok(())
    }
}

impl Bans {
    pub fn run(self) -> Result<(), Failure> {
        let bans = office(self.data_dir)?.bans()?;
        if bans.is_empty() {
            say("nobody is banned");
            return Ok(());
        }
        let mut text = format!("{:<44} {:<20} {:<10} {:<9} WHY", "FROM", "HOST", "LEFT", "BY");
        let now = unix_now();
        for (host, ban) in bans {
            let left = ban
                .until
                .map_or_else(|| "for good".to_owned(), |until| rough(until.0.saturating_sub(now.0)));
            let host = host.map_or_else(|| "-".to_owned(), |host| host.to_string());
            let _ = write!(
                text,
                "\n{:<44} {host:<20} {left:<10} {:<9} {}",
                ban.prefix.to_string(),
                ban.by.as_str(),
                ban.reason
            );
        }
        print(text)?;
        Ok(())
    }
}

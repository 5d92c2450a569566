//! `spawnpoint host`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use spawnpoint_config::relay::parse_public_host;
use spawnpoint_config::unit::{parse_duration, parse_rate, parse_size, parse_speed};
use spawnpoint_core::access::parse_prefix;
use spawnpoint_core::grant::{Grant, PortRule, UnixTime};
use spawnpoint_core::hostname::Pattern;
use spawnpoint_net::unix_now;
use spawnpoint_proto::{HostName, Protocol, TunnelName};
use spawnpoint_relay::office::{CapsChange, GrantChange, Office};

use super::Failure;
use super::usage::{self, By, Format};
use crate::output::{describe_grant, describe_host, list_hosts, print, say};
use crate::paths;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: HostCommand,
    /// The relay's data directory
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum HostCommand {
    /// List all hosts
    List,
    /// Show a host's grant and its public ports
    Show {
        /// Its name
        name: HostName,
    },
    /// End a host: its links close within a second, its players with them
    Revoke {
        /// Its name
        name: HostName,
    },
    /// Replace a host's invite; the old one is worth nothing from then on, or after a time of grace
    Rotate {
        /// Its name
        name: HostName,
        /// The name or address by which the agent reaches the relay
        #[arg(long, value_name = "HOST", value_parser = parse_public_host)]
        public_host: Option<String>,
        /// For how long the old invite works too, such as 24h; not at all when absent, which is right when it got into wrong hands
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        grace: Option<Duration>,
    },
    /// Show what hosts and their tunnels have used: players and bytes, by day or by month
    Usage {
        /// Only this host
        name: Option<HostName>,
        /// How many days back, or months with --by month
        #[arg(long, value_name = "NUMBER", default_value_t = 30)]
        last: u32,
        /// What a line is
        #[arg(long, value_enum, default_value_t)]
        by: By,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change what a host may expose; what is not named stays
    Grant {
        /// Its name
        name: HostName,
        #[command(flatten)]
        grant: Box<GrantArguments>,
    },
}

/// What a host may expose.
#[derive(Args)]
pub struct GrantArguments {
    /// Public ports, such as 25565,30000-30010, or `pool` for any of the relay's pool
    #[arg(long, value_name = "PORTS")]
    ports: Option<String>,
    /// Host names of its own that the host may claim on shared ports; `*.example.org` allows every name under it
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    hostnames: Option<Vec<Pattern>>,
    /// tcp, udp or tcp,udp
    #[arg(long, value_name = "PROTOCOLS", value_delimiter = ',')]
    protocols: Option<Vec<Protocol>>,
    /// Players at once, or `any` for the relay's own limit
    #[arg(long, value_name = "NUMBER")]
    max_players: Option<String>,
    /// Players at once whom no server has answered yet, or `any` for the relay's own limit
    #[arg(long, value_name = "NUMBER")]
    max_half_open: Option<String>,
    /// New players a second, such as 20/s, or `any` for the relay's own limit
    #[arg(long, value_name = "RATE")]
    new_players: Option<String>,
    /// How fast players may send, such as 20Mbit/s, or `any` for the relay's own limit
    #[arg(long, value_name = "SPEED")]
    up: Option<String>,
    /// How fast players may receive, such as 50Mbit/s, or `any` for the relay's own limit
    #[arg(long, value_name = "SPEED")]
    down: Option<String>,
    /// UDP packets a second that players may send, such as 2000/s, or `any` for the relay's own limit
    #[arg(long, value_name = "RATE")]
    packets: Option<String>,
    /// Bytes in a month, both ways together, such as 500GiB, or `any` for the relay's own quota
    #[arg(long, value_name = "SIZE")]
    quota: Option<String>,
    /// Addresses and prefixes from which alone players may come, or `any`
    #[arg(long, value_name = "PREFIXES")]
    allow: Option<String>,
    /// Addresses and prefixes from which players may not come, or `none`
    #[arg(long, value_name = "PREFIXES")]
    deny: Option<String>,
    /// The tunnel that these limits are for, instead of all tunnels of the host together
    #[arg(long, value_name = "TUNNEL")]
    tunnel: Option<TunnelName>,
    /// When the grant ends, from now, such as 12h or 30d, or `never`
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

impl GrantArguments {
    pub fn into_change(self) -> anyhow::Result<GrantChange> {
        let ports = |text: String| match text.as_str() {
            "pool" => Ok(PortRule::Pool),
            ports => ports.parse().map(PortRule::Only).context("--ports"),
        };
        let caps = CapsChange {
            players: players("--max-players", self.max_players)?,
            half_open: players("--max-half-open", self.max_half_open)?,
            new_players: or_any(self.new_players, |rate| {
                let rate = parse_rate(rate).with_context(|| format!("--new-players {rate}: write for example 20/s"))?;
                NonZeroU32::new(rate).context("--new-players: write 1/s or more, or `any`")
            })?,
            up: speed("--up", self.up)?,
            down: speed("--down", self.down)?,
            packets: or_any(self.packets, |rate| {
                parse_rate(rate).with_context(|| format!("--packets {rate}: write for example 2000/s"))
            })?,
            quota: or_any(self.quota, |size| {
                parse_size(size).with_context(|| format!("--quota {size}: write for example 500GiB"))
            })?,
        };
        let expires = |text: String| match text.as_str() {
            "never" => Ok(None),
            time => parse_duration(time)
                .map(|time| Some(UnixTime(unix_now().0 + time.as_secs())))
                .with_context(|| format!("--expires {time}: write for example 12h or 90d")),
        };
        Ok(GrantChange {
            protocols: self.protocols.map(|protocols| protocols.into_iter().collect()),
            ports: self.ports.map(ports).transpose()?,
            hostnames: self.hostnames,
            caps,
            allow: prefixes("--allow", self.allow, "any")?,
            deny: prefixes("--deny", self.deny, "none")?,
            tunnel: self.tunnel,
            expires: self.expires.map(expires).transpose()?,
        })
    }
}

/// What `parse` makes of a value, which may be `any` for what is usual.
fn or_any<T>(text: Option<String>, parse: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Option<Option<T>>> {
    match text.as_deref() {
        None => Ok(None),
        Some("any") => Ok(Some(None)),
        Some(text) => parse(text).map(|value| Some(Some(value))),
    }
}

fn prefixes(flag: &str, text: Option<String>, nothing: &str) -> anyhow::Result<Option<Vec<IpNet>>> {
    let list = |text: String| match text.as_str() {
        text if text == nothing => Ok(Vec::new()),
        text => text
            .split(',')
            .map(parse_prefix)
            .collect::<Result<_, _>>()
            .map_err(|why| anyhow!("{flag}: {why}")),
    };
    text.map(list).transpose()
}

fn speed(flag: &str, text: Option<String>) -> anyhow::Result<Option<Option<u64>>> {
    or_any(text, |speed| {
        parse_speed(speed).with_context(|| format!("{flag} {speed}: write for example 20Mbit/s"))
    })
}

fn players(flag: &str, text: Option<String>) -> anyhow::Result<Option<Option<NonZeroU32>>> {
    or_any(text, |number| {
        number
            .parse()
            .map_err(|_| anyhow!("{flag}: `{number}` is no number of players: write 1 or more, or `any`"))
    })
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let data_dir = arguments
        .data_dir
        .map_or_else(paths::relay_data, Ok)
        .map_err(Failure::Usage)?;
    let office = Office::open(&data_dir)?;
    match arguments.command {
        HostCommand::List => print(list_hosts(&office.hosts()?).trim_end())?,
        HostCommand::Show { name } => {
            let (host, ports) = office.host(&name)?;
            print(describe_host(&host, &ports).trim_end())?;
        }
        HostCommand::Revoke { name } => {
            office.revoke(&name)?;
            say(format_args!(
                "host {name} is revoked; `spawnpoint invite {name}` would reinstate it with its ports and the default grant"
            ));
        }
        HostCommand::Rotate {
            name,
            public_host,
            grace,
        } => {
            let invite = office.rotate(&name, public_host.as_deref(), grace)?;
            print(invite).context("the invite could not be printed; rotate once more")?;
        }
        HostCommand::Usage { name, last, by, format } => {
            let (first, today) = usage::period(by, last);
            let used = office.usage(name.as_ref(), first, today)?;
            print(usage::show(used, by, format).trim_end())?;
        }
        HostCommand::Grant { name, grant } => {
            let grant: Grant = office.grant(&name, grant.into_change().map_err(Failure::Usage)?)?;
            say(format_args!("host {name} may now expose {}", describe_grant(&grant)));
        }
    }
    Ok(())
}

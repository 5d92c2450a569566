//! What is printed: logs, events as JSON lines, and what people read.

use std::fmt::Write as _;
use std::io::{BufWriter, Stdout, Write as _};

use clap::Args;
use spawnpoint_agent::Shown;
use spawnpoint_config::log::{Log, LogFormat as Configured};
use spawnpoint_config::unit::{show_rate, show_size, show_speed};
use spawnpoint_core::access::Lists;
use spawnpoint_core::grant::{Caps, Grant, PortRule, UnixTime};
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, Events, LogFormat, Logs, Page, Writing, init_logs};
use spawnpoint_store::{Host, Reservation};

/// Events that may wait for a slow reader of standard output; further ones are lost to it rather than stop the process.
const EVENTS: usize = 4096;

/// How a command logs.
#[derive(Args, Clone)]
pub struct LogArguments {
    /// What to log: error, warn, info, debug or trace, or a filter such as spawnpoint_relay=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log as JSON instead of lines for people
    #[arg(long)]
    log_json: bool,
}

impl LogArguments {
    /// Sets logs up, as long as what it returns is kept; the command line goes before the configuration.
    pub fn init(&self, configured: &Log) -> anyhow::Result<Logs> {
        let json = self.log_json || configured.format == Configured::Json;
        let format = if json { LogFormat::Json } else { LogFormat::Human };
        init_logs(format, self.log.as_deref().unwrap_or(&configured.filter)).map_err(anyhow::Error::msg)
    }

    /// Sets logs up for a command whose own words say what matters.
    pub fn init_quiet(&self) -> anyhow::Result<Logs> {
        let format = if self.log_json {
            LogFormat::Json
        } else {
            LogFormat::Human
        };
        init_logs(format, self.log.as_deref().unwrap_or("error")).map_err(anyhow::Error::msg)
    }
}

/// Prints what a command was asked for, and fails when it cannot be printed.
pub fn print(text: impl std::fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints a line on standard output; a reader who has gone, as `head` does, is no mistake.
pub fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Tells systemd, if it has started this process, what this process is doing.
pub fn tell_supervisor(state: &str) {
    if let Err(error) = spawnpoint_net::notify(state) {
        tracing::warn!(error = spawnpoint_ops::describe(&error), "systemd could not be told");
    }
}

/// Writes events on a thread of its own, so that a reader who stops reading stops nobody else.
pub struct Writer(Option<Writing<Event>>);

impl Writer {
    /// Writes what is left, unless the reader has stopped reading.
    pub fn finish(self) {
        drop(self.0);
    }
}

/// Events nobody wants.
pub fn no_events() -> (Events, Writer) {
    (Events::none(), Writer(None))
}

/// Events as JSON lines.
pub fn json_events() -> (Events, Writer) {
    written(|_| true, |event| serde_json::to_string(event).ok())
}

/// What the person at an agent wants to see: the address to share, and what hinders it.
pub fn agent_events() -> (Events, Writer) {
    let is_wanted = |event: &Event| {
        matches!(
            event,
            Event::Tunnel { .. } | Event::TunnelRefused { .. } | Event::Notice { .. }
        )
    };
    written(is_wanted, |event| match event {
        Event::Tunnel {
            tunnel,
            public,
            address: Some(address),
            ..
        } => Some(format!("{tunnel}: players connect to  {address}  (or {public})")),
        Event::Tunnel { tunnel, public, .. } => Some(format!("{tunnel}: players connect to  {public}")),
        Event::TunnelRefused { tunnel, text, .. } => Some(format!("{tunnel}: not open: {text}")),
        Event::Notice { text } => Some(format!("the relay says: {text}")),
        _ => None,
    })
}

/// Writes the line of each event that is wanted. Whoever emits one that is not pays for nothing: players come and go by the thousand.
fn written(
    is_wanted: impl Fn(&Event) -> bool + Send + Sync + 'static,
    line: impl Fn(&Event) -> Option<String> + Send + 'static,
) -> (Events, Writer) {
    let out = BufWriter::new(std::io::stdout());
    let writing = Writing::start(EVENTS, Lines { out, line });
    let queue = writing.queue();
    // What finds no room belongs to a reader who has stopped reading.
    let events = Events::new(move |event| {
        if is_wanted(&event) {
            queue.put(event);
        }
    });
    (events, Writer(Some(writing)))
}

/// Standard output, with a line for each event that has one. Nobody reads any more when it fails.
struct Lines<F> {
    out: BufWriter<Stdout>,
    line: F,
}

impl<F: Fn(&Event) -> Option<String>> Page<Event> for Lines<F> {
    fn add(&mut self, event: Event) {
        if let Some(line) = (self.line)(&event) {
            let _ = writeln!(self.out, "{line}");
        }
    }

    fn let_go(&mut self) {
        let _ = self.out.flush();
    }
}

/// Who plays, a line each; the newest of very many are left out.
pub fn list_players(players: &[Shown]) -> String {
    const MOST: usize = 400;
    if players.is_empty() {
        return "nobody plays right now".to_owned();
    }
    let mut text = format!(
        "{:<42} {:<16} {:<20} {:>8} {:>8} {:>10} {:>10}  NAME",
        "PLAYER", "SERVER SEES", "TUNNEL", "SINCE", "LINK RTT", "UP", "DOWN"
    );
    for player in players.iter().take(MOST) {
        let seen_as = player.seen_as.map_or("-".to_owned(), |ip| ip.to_string());
        let round_trip = player
            .round_trip
            .map_or("-".to_owned(), |time| format!("{} ms", time.as_millis()));
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{:<42} {seen_as:<16} {:<20} {:>8} {round_trip:>8} {:>10} {:>10}  {}",
            format!("{} {}", player.player, player.protocol),
            player.tunnel,
            rough(player.lasted.as_secs()),
            rough_size(player.up),
            rough_size(player.down),
            player.name.as_deref().unwrap_or("-"),
        );
    }
    if players.len() > MOST {
        let _ = write!(text, "\nand {} more", players.len() - MOST);
    }
    text
}

/// All hosts, a line each.
pub fn list_hosts(hosts: &[(Host, Vec<Reservation>)]) -> String {
    if hosts.is_empty() {
        return "no hosts yet: `spawnpoint invite NAME` adds one\n".to_owned();
    }
    let mut text = format!("{:<20} {:<10} {:<12} PUBLIC PORTS\n", "HOST", "STATE", "LAST SEEN");
    for (host, ports) in hosts {
        let ports: Vec<String> = ports
            .iter()
            .map(|own| format!("{}={}/{}", own.tunnel, own.port, own.protocol))
            .collect();
        let seen = seen(host.last_seen);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<20} {:<10} {seen:<12} {}",
            host.name,
            state(host),
            ports.join(" ")
        );
    }
    text
}

/// One host in full.
pub fn describe_host(host: &Host, ports: &[Reservation]) -> String {
    let mut text = format!("host        {}\nstate       {}\n", host.name, state(host));
    let seen = seen(host.last_seen);
    let _ = writeln!(
        text,
        "invited     {}\nlast seen   {seen}\nmay expose  {}",
        ago(host.created),
        describe_grant(&host.grant)
    );
    for own in ports {
        let _ = writeln!(
            text,
            "port        {} {} for tunnel {}",
            own.protocol, own.port, own.tunnel
        );
    }
    text
}

/// What a grant allows, in one line.
pub fn describe_grant(grant: &Grant) -> String {
    let protocols: Vec<&str> = grant.protocols.iter().map(spawnpoint_proto::Protocol::as_str).collect();
    let ports = match &grant.ports {
        PortRule::Pool => "ports of the pool".to_owned(),
        PortRule::Only(ports) => format!("ports {ports}"),
    };
    let mut text = format!("{} on {ports}", protocols.join(" and "));
    if !grant.hostnames.is_empty() {
        let names: Vec<String> = grant.hostnames.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", names {}", names.join(" "));
    }
    text += &describe_caps(&grant.caps);
    text += &describe_lists(&grant.lists);
    for (tunnel, lists) in &grant.tunnel_lists {
        let _ = write!(
            text,
            ", tunnel {tunnel}{}",
            describe_lists(lists).trim_start_matches(',')
        );
    }
    for (tunnel, caps) in &grant.tunnel_caps {
        let _ = write!(
            text,
            ", tunnel {tunnel}: {}",
            describe_caps(caps).trim_start_matches(", ")
        );
    }
    if let Some(end) = grant.expires {
        let left = end.0.saturating_sub(unix_now().0);
        let _ = write!(text, ", for another {}", rough(left));
    }
    text
}

fn describe_lists(lists: &Lists) -> String {
    let mut text = String::new();
    for (prefixes, words) in [(&lists.allow, "only from"), (&lists.deny, "not from")] {
        if !prefixes.is_empty() {
            let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            let _ = write!(text, ", {words} {}", prefixes.join(" "));
        }
    }
    text
}

fn describe_caps(caps: &Caps) -> String {
    let mut text = String::new();
    if let Some(most) = caps.players {
        let _ = write!(text, ", {most} players at most");
    }
    if let Some(most) = caps.half_open {
        let _ = write!(text, ", {most} of them half open");
    }
    if let Some(rate) = caps.new_players {
        let _ = write!(text, ", {} new", show_rate(rate.get()));
    }
    for (speed, word) in [(caps.rates.up, "up"), (caps.rates.down, "down")] {
        if let Some(speed) = speed {
            let _ = write!(text, ", {} {word}", show_speed(speed));
        }
    }
    if let Some(rate) = caps.rates.packets {
        let _ = write!(text, ", {} UDP packets", show_rate(rate));
    }
    if let Some(quota) = caps.quota {
        let _ = write!(text, ", {} a month", show_size(quota));
    }
    text
}

fn state(host: &Host) -> &'static str {
    match (host.revoked, host.grant.is_expired(unix_now())) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "active",
    }
}

/// A host that is linked is noted every minute.
fn seen(time: Option<UnixTime>) -> String {
    match time {
        None => "never".to_owned(),
        Some(time) if unix_now().0.saturating_sub(time.0) < 90 => "just now".to_owned(),
        Some(time) => ago(time),
    }
}

fn ago(time: UnixTime) -> String {
    format!("{} ago", rough(unix_now().0.saturating_sub(time.0)))
}

/// Bytes, roughly.
pub fn rough_size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// A time, roughly.
pub fn rough(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", (secs + 30) / 60),
        7200..172_800 => format!("{} h", (secs + 1800) / 3600),
        _ => format!("{} d", (secs + 43_200) / 86_400),
    }
}

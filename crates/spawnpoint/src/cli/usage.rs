//! What hosts have used, as an operator reads it or puts it into a bill.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::json;
use spawnpoint_net::unix_now;
use spawnpoint_proto::HostName;
use spawnpoint_store::{Day, Usage};

use crate::output::rough_size;

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum By {
    /// A day, UTC
    #[default]
    Day,
    /// A month of the calendar
    Month,
}

/// How it is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// With a line of names, bytes as numbers
    Csv,
    /// One object a line
    Json,
}

/// The first and the last day of the `last` days or months.
pub fn period(by: By, last: u32) -> (Day, Day) {
    let today = Day::of(unix_now());
    let first = match by {
        By::Day => Day(today.0.saturating_sub(last.saturating_sub(1))),
        By::Month => (1..last).fold(today.month(), |month, _| Day(month.0.saturating_sub(1)).month()),
    };
    (first, today)
}

struct Sum {
    sessions: u64,
    peak: u32,
    up: u64,
    down: u64,
}

/// Everything, a line for each tunnel and day or month.
pub fn show(used: Vec<(HostName, Usage)>, by: By, format: Format) -> String {
    let mut sums: BTreeMap<(String, String, String, &str), Sum> = BTreeMap::new();
    for (host, used) in used {
        let period = match by {
            By::Day => used.day.to_string(),
            By::Month => used.day.month().to_string()[..7].to_owned(),
        };
        let key = (
            period,
            host.to_string(),
            used.tunnel.to_string(),
            used.protocol.as_str(),
        );
        let sum = sums.entry(key).or_insert(Sum {
            sessions: 0,
            peak: 0,
            up: 0,
            down: 0,
        });
        sum.sessions += used.sessions;
        sum.peak = sum.peak.max(used.peak);
        sum.up += used.up;
        sum.down += used.down;
    }
    let word = match by {
        By::Day => "day",
        By::Month => "month",
    };
    // Writing to a string cannot fail.
    let mut text = match format {
        Format::Table if sums.is_empty() => return "nothing was used".to_owned(),
        Format::Table => format!(
            "{:<10} {:<20} {:<20} {:>8} {:>6} {:>10} {:>10}\n",
            word.to_ascii_uppercase(),
            "HOST",
            "TUNNEL",
            "PLAYERS",
            "PEAK",
            "UP",
            "DOWN"
        ),
        Format::Csv => format!("{word},host,tunnel,protocol,sessions,peak,up,down\n"),
        Format::Json => String::new(),
    };
    for ((period, host, tunnel, protocol), sum) in sums {
        let Sum {
            sessions,
            peak,
            up,
            down,
        } = sum;
        let _ = match format {
            Format::Table => writeln!(
                text,
                "{period:<10} {host:<20} {:<20} {sessions:>8} {peak:>6} {:>10} {:>10}",
                format!("{tunnel}/{protocol}"),
                rough_size(up),
                rough_size(down)
            ),
            // None of the words may have a comma or a quote in it.
            Format::Csv => writeln!(
                text,
                "{period},{host},{tunnel},{protocol},{sessions},{peak},{up},{down}"
            ),
            Format::Json => {
                let line = json!({ word: period, "host": host, "tunnel": tunnel, "protocol": protocol, "sessions": sessions, "peak": peak, "up": up, "down": down });
                writeln!(text, "{line}")
            }
        };
    }
    text
}

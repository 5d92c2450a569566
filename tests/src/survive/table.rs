//! What came of the show, as a table for people.

use std::fmt;

use super::vitals::mebibytes;
use crate::crowd::Report;
use crate::crowd::report::{Spread, show};

/// How many sentences of a kind are worth repeating.
const EXAMPLES: usize = 3;

const HEADINGS: [&str; 8] = [
    "event",
    "disconnects",
    "wrong bytes",
    "udp mapping changes",
    "pause median",
    "pause worst",
    "leaks",
    "verdict",
];

/// One scenario's outcome.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The scenario.
    pub name: &'static str,
    /// TCP and UDP players who were cut off.
    pub disconnects: usize,
    /// Bytes that were wrong, missing or too many.
    pub wrong: u64,
    /// UDP flows that came to the game server from another address than before.
    pub moved: usize,
    /// The longest silences over all accidents; none where nothing happened.
    pub pause: Option<Spread>,
    /// What was still held after the crowd had left.
    pub leaks: usize,
    /// Why it failed, in sentences; it passed when there are none.
    pub problems: Vec<String>,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
}

impl Row {
    /// Takes over what the crowd tells. Where players may be cut off, that is no problem.
    pub fn take(&mut self, report: &Report, may_cut_off: bool) {
        let (cut, faults) = (report.disconnects(), report.faults());
        (self.disconnects, self.wrong, self.moved) = (cut.len(), report.wrong(), report.moved.len());
        if !may_cut_off {
            self.problems.extend(examples("disconnected", &cut));
            let moved: Vec<&str> = report.moved.iter().map(String::as_str).collect();
            self.problems.extend(examples("mapping changed", &moved));
        }
        self.problems.extend(examples("wrong", &faults));
        let (sent, answered) = report.packets();
        let downloaded = mebibytes(report.downloaded());
        self.notes.push(format!(
            "{downloaded} downloaded, {answered} of {sent} UDP packets answered"
        ));
    }

    /// Notes what an accident did, the worst of several.
    pub fn felt(&mut self, pause: Spread) {
        // Never is longer than anything.
        let longer = |one: Option<_>, other: Option<_>| one.zip(other).map(|(one, other)| std::cmp::max(one, other));
        let before = self.pause.unwrap_or(pause);
        self.pause = Some(Spread {
            median: longer(before.median, pause.median),
            worst: longer(before.worst, pause.worst),
        });
    }

    /// Whether it went as it should.
    pub const fn is_passed(&self) -> bool {
        self.problems.is_empty()
    }

    fn cells(&self) -> [String; 8] {
        let pause = |of: fn(Spread) -> _| self.pause.map_or_else(|| "-".to_owned(), |pause| show(of(pause)));
        [
            self.name.to_owned(),
            self.disconnects.to_string(),
            self.wrong.to_string(),
            self.moved.to_string(),
            pause(|pause| pause.median),
            pause(|pause| pause.worst),
            self.leaks.to_string(),
            if self.is_passed() { "ok" } else { "FAILED" }.to_owned(),
        ]
    }
}

fn examples(what: &str, all: &[&str]) -> Vec<String> {
    let more = all.len().saturating_sub(EXAMPLES);
    let first = all.iter().take(EXAMPLES).map(|text| format!("{what}: {text}"));
    let rest = (more > 0).then(|| format!("{what}: {more} more"));
    first.chain(rest).collect()
}

/// All rows.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.0.iter().map(Row::cells).collect();
        let headings = HEADINGS.map(str::to_owned);
        let widths: [usize; 8] = std::array::from_fn(|column| {
            let cells = rows.iter().chain([&headings]).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        });
        for row in [&headings].into_iter().chain(&rows) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join(" | ").trim_end())?;
        }
        Ok(())
    }
}

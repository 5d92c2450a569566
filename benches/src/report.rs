//! What a run found: every figure of every round, for the table and for `bench-loopback.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::about;
use crate::arguments::Arguments;
use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::figure::{Better, Figure};
use crate::load::Load;
use crate::stats::median;
use crate::subject::Subject;
use crate::targets::{self, Verdict};

/// The figures of one run.
#[derive(Debug)]
pub struct Report {
    /// The machine and the programs, a line each.
    pub about: Vec<String>,
    /// In the order they were first measured.
    pub rows: Vec<Row>,
    /// What did not work.
    pub failures: Vec<Failure>,
    settings: Value,
}

/// One figure of one load.
#[derive(Debug)]
pub struct Row {
    /// The load's name.
    pub load: &'static str,
    /// The figure's name.
    pub figure: &'static str,
    /// Which way is better.
    pub better: Better,
    /// A value a round.
    pub rounds: BTreeMap<Subject, Vec<f64>>,
}

/// A load that a subject did not carry out.
#[derive(Debug)]
pub struct Failure {
    load: &'static str,
    subject: Subject,
    round: u32,
    fault: Fault,
}

impl Report {
    /// An empty report.
    pub fn new(arguments: &Arguments, binaries: &Binaries) -> Self {
        let cores_for = "players, tunnel and origin, on loopback";
        Self {
            about: about::lines(binaries, &arguments.subjects, cores_for),
            rows: Vec::new(),
            failures: Vec::new(),
            settings: json!({ "quick": arguments.is_quick, "rounds": arguments.pace.rounds, "cores": about::cores() }),
        }
    }

    /// Takes the figures of one round over.
    pub fn add(&mut self, load: &Load, subject: Subject, figures: &[Figure]) {
        for figure in figures {
            let is_same = |row: &Row| row.load == load.name && row.figure == figure.name;
            let at = self.rows.iter().position(is_same).unwrap_or_else(|| {
                self.rows.push(Row {
                    load: load.name,
                    figure: figure.name,
                    better: figure.better,
                    rounds: BTreeMap::new(),
                });
                self.rows.len() - 1
            });
            self.rows[at].rounds.entry(subject).or_default().push(figure.value);
        }
    }

    /// Takes a failure over.
    pub fn failed(&mut self, failure: Failure) {
        eprintln!("  {failure}");
        self.failures.push(failure);
    }

    /// Whether the bench as a whole holds: no data was wrong anywhere, and nothing of ours failed.
    pub fn is_good(&self) -> bool {
        self.failures.iter().all(Failure::is_others_own)
    }

    /// Those who were measured, in order.
    pub fn present(&self) -> Vec<Subject> {
        let is_there = |subject: &Subject| self.rows.iter().any(|row| row.rounds.contains_key(subject));
        Subject::LOOPBACK.into_iter().filter(is_there).collect()
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        let failures: Vec<String> = self.failures.iter().map(Failure::to_string).collect();
        let targets: Vec<Value> = targets::verdicts(self).iter().map(Verdict::to_json).collect();
        json!({
            "about": self.about,
            "settings": self.settings,
            "figures": rows,
            "targets": targets,
            "failures": failures,
        })
    }
}

impl Row {
    /// The median over rounds.
    pub fn median(&self, subject: Subject) -> Option<f64> {
        self.rounds.get(&subject).and_then(|values| median(values))
    }

    /// The median of the best peer.
    pub fn best_peer(&self) -> Option<f64> {
        let peers = Subject::LOOPBACK.into_iter().filter(|subject| subject.is_peer());
        self.better.best(peers.filter_map(|peer| self.median(peer)))
    }

    /// Ours over `other`; none when there is nothing to divide by.
    pub fn ratio(&self, other: Option<f64>) -> Option<f64> {
        let (ours, other) = (self.median(Subject::Spawnpoint)?, other?);
        (ours >= 0.0 && other > 0.0).then(|| ours / other)
    }

    fn to_json(&self) -> Value {
        let named = |(subject, values): (&Subject, &Vec<f64>)| (subject.as_str().to_owned(), json!(values));
        let rounds: serde_json::Map<String, Value> = self.rounds.iter().map(named).collect();
        let medians = self
            .rounds
            .keys()
            .map(|subject| (subject.as_str().to_owned(), json!(self.median(*subject))));
        json!({
            "load": self.load,
            "figure": self.figure,
            "better": self.better.as_str(),
            "medians": medians.collect::<serde_json::Map<String, Value>>(),
            "to_direct": self.ratio(self.median(Subject::Direct)),
            "to_best_peer": self.ratio(self.best_peer()),
            "rounds": rounds,
        })
    }
}

impl Failure {
    /// Notes what happened.
    pub const fn new(load: &Load, subject: Subject, round: u32, fault: Fault) -> Self {
        Self {
            load: load.name,
            subject,
            round,
            fault,
        }
    }

    /// A peer may be unable to do something; wrong data shows that it may be us who cannot count.
    fn is_others_own(&self) -> bool {
        !self.subject.is_ours() && matches!(self.fault, Fault::Failed(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (subject, round) = (self.subject.as_str(), self.round + 1);
        write!(f, "{}, {subject}, round {round}: {}", self.load, self.fault)
    }
}

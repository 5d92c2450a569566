//! What a run found: every figure of every round, for the tables, the plot and `bench-wan.json`.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::cell::{Cell, Tcp};
use super::contender::Contender;
use super::load::Load;
use super::measured::Measured;
use super::router::Traffic;
use crate::about;
use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::subject::Subject;

/// The figures of one run.
#[derive(Debug)]
pub struct Report {
    /// The machine and the programs, a line each.
    pub about: Vec<String>,
    /// In the order they were first measured.
    pub rows: Vec<Row>,
    /// What did not work.
    pub failures: Vec<Failure>,
    /// Who may be in it, in order.
    pub contenders: Vec<Contender>,
    /// What went over the line in all.
    passed: Passed,
    settings: Value,
}

/// What was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    /// The line.
    pub cell: Cell,
    /// The kernel's TCP.
    pub tcp: Tcp,
    /// What players did.
    pub load: Load,
    /// Through whom.
    pub contender: String,
}

/// All rounds of it.
#[derive(Debug)]
pub struct Row {
    /// What it is about.
    pub key: Key,
    /// Figures, one a round.
    pub rounds: Vec<Measured>,
    /// The medians.
    pub median: Measured,
    /// What the line saw, one a round.
    pub traffic: Vec<Traffic>,
    /// Seconds of processor time of the tunnel's processes, where they are known.
    pub cpu: Vec<f64>,
}

/// A load that a subject did not carry out.
#[derive(Debug)]
pub struct Failure {
    what: String,
    is_peer: bool,
    fault: Fault,
}

#[derive(Default, Debug)]
struct Passed {
    packets: u64,
    late: u64,
    stalls: u64,
    worst: u64,
    cpu: f64,
}

impl Report {
    /// An empty report.
    pub fn new(arguments: &Arguments, binaries: &Binaries) -> Self {
        let subjects: Vec<Subject> = arguments.contenders.iter().map(|known| known.subject).collect();
        let cores_for = "players, relay, line, agent and origin";
        Self {
            about: about::lines(binaries, &subjects, cores_for),
            rows: Vec::new(),
            failures: Vec::new(),
            contenders: arguments.contenders.clone(),
            passed: Passed::default(),
            settings: json!({
                "rounds": arguments.rounds,
                "seconds": arguments.measure.as_secs_f64(),
                "warm_up_seconds": arguments.warm_up.as_secs_f64(),
                "cores": about::cores(),
            }),
        }
    }

    /// Takes the figures of one round over.
    pub fn add(&mut self, key: Key, measured: Measured, traffic: Traffic, cpu: Option<f64>) {
        let bulk = measured
            .bulk
            .map_or(String::new(), |rate| format!(", bulk {rate:.2} MB/s"));
        let neighbour = measured
            .neighbour
            .map_or(String::new(), |rate| format!(", neighbour {rate:.2} MB/s"));
        let loss = measured
            .loss
            .map_or(String::new(), |loss| format!(", lost {loss:.2} %"));
        eprintln!(
            "  {:<9} {:<18} p50 {:>7.1}  p99 {:>7.1}  max {:>7.1} ms{bulk}{neighbour}{loss}",
            key.load.as_str(),
            key.contender,
            measured.p50,
            measured.p99,
            measured.max,
        );
        let at = self.rows.iter().position(|row| row.key == key).unwrap_or_else(|| {
            self.rows.push(Row {
                key,
                rounds: Vec::new(),
                median: measured,
                traffic: Vec::new(),
                cpu: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        row.rounds.push(measured);
        row.traffic.push(traffic);
        row.cpu.extend(cpu);
        row.median = Measured::median(&row.rounds).unwrap_or(measured);
    }

    /// Takes over what went over the line, and what the router spent on it.
    pub fn passed(&mut self, traffic: Traffic, cpu: Option<f64>) {
        self.passed.packets += traffic.packets();
        self.passed.late += traffic.late;
        self.passed.stalls += traffic.stalls;
        self.passed.worst = self.passed.worst.max(traffic.worst);
        self.passed.cpu += cpu.unwrap_or_default();
    }

    /// Takes a failure over.
    pub fn failed(&mut self, failure: Failure) {
        eprintln!("  {failure}");
        self.failures.push(failure);
    }

    /// Whether the bench as a whole holds: no data was wrong anywhere, and nothing of ours failed.
    pub fn is_good(&self) -> bool {
        self.failures.iter().all(Failure::is_a_peers_own)
    }

    /// Each setting of the line that was measured, in order.
    pub fn settings(&self) -> Vec<(Cell, Tcp)> {
        let mut settings: Vec<(Cell, Tcp)> = Vec::new();
        for row in &self.rows {
            let setting = (row.key.cell, row.key.tcp);
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        settings
    }

    /// The loads that were measured, in order.
    pub fn loads(&self) -> Vec<Load> {
        let is_there = |load: &Load| self.rows.iter().any(|row| row.key.load == *load);
        Load::ALL.into_iter().filter(is_there).collect()
    }

    /// Those who were measured, in order.
    pub fn present(&self) -> Vec<&Contender> {
        let is_there = |known: &&Contender| self.rows.iter().any(|row| row.key.contender == known.name);
        self.contenders.iter().filter(is_there).collect()
    }

    /// All rounds of one contender.
    pub fn row(&self, (cell, tcp): (Cell, Tcp), load: Load, contender: &Contender) -> Option<&Row> {
        let is_it = |row: &&Row| {
            let key = &row.key;
            key.cell == cell && key.tcp == tcp && key.load == load && key.contender == contender.name
        };
        self.rows.iter().find(is_it)
    }

    /// One contender's medians.
    pub fn median(&self, setting: (Cell, Tcp), load: Load, contender: &Contender) -> Option<Measured> {
        self.row(setting, load, contender).map(|row| row.median)
    }

    /// Ours, in whatever variant, as a multiple of the best peer: the 99th percentile, and the download beside it.
    pub fn ratios(&self, setting: (Cell, Tcp), load: Load, ours: &Contender) -> (Option<f64>, Option<f64>) {
        let peers: Vec<Measured> = self
            .contenders
            .iter()
            .filter(|known| known.subject.is_peer())
            .filter_map(|peer| self.median(setting, load, peer))
            .collect();
        let Some(ours) = self.median(setting, load, ours) else {
            return (None, None);
        };
        let p99 = peers.iter().map(|peer| peer.p99).reduce(f64::min);
        let bulk = peers.iter().filter_map(|peer| peer.bulk).reduce(f64::max);
        let divide = |ours: f64, best: f64| (best > 0.0).then(|| ours / best);
        (
            p99.and_then(|best| divide(ours.p99, best)),
            ours.bulk.zip(bulk).and_then(|(ours, best)| divide(ours, best)),
        )
    }

    /// How the router did, in a line: whoever reads figures should know.
    pub fn punctuality(&self) -> String {
        let Passed {
            packets,
            late,
            stalls,
            worst,
            cpu,
        } = &self.passed;
        let share = *late as f64 * 100.0 / (*packets).max(1) as f64;
        let each = cpu * 1e6 / (*packets).max(1) as f64;
        let warning = match share > 0.1 {
            true => ": THE MACHINE WAS TOO BUSY, measure again",
            false => "",
        };
        format!(
            "router: {packets} packets, {late} of them ({share:.3} %) more than 1 ms late, woken late {stalls} times, at worst {:.1} ms; {each:.1} us each{warning}",
            *worst as f64 / 1e3
        )
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_to_json(row)).collect();
        let failures: Vec<String> = self.failures.iter().map(Failure::to_string).collect();
        json!({
            "about": self.about,
            "settings": self.settings,
            "router": self.punctuality(),
            "figures": rows,
            "failures": failures,
        })
    }

    fn row_to_json(&self, row: &Row) -> Value {
        let key = &row.key;
        let known = self.contenders.iter().find(|known| known.name == key.contender);
        let ours = known.filter(|known| known.is_ours());
        let (p99, bulk) = ours.map_or((None, None), |ours| self.ratios((key.cell, key.tcp), key.load, ours));
        json!({
            "cell": key.cell.to_json(),
            "tcp": key.tcp.as_str(),
            "load": key.load.as_str(),
            "subject": key.contender,
            "links": known.map(|known| &known.links),
            "median": row.median,
            "p99_to_best_peer": p99,
            "bulk_to_best_peer": bulk,
            "rounds": row.rounds,
            "cpu_seconds": row.cpu,
            "line": row.traffic,
        })
    }
}

impl Row {
    /// Per cent of packets that the router put out more than a millisecond late: figures of a busy machine are not those of the line.
    pub fn late(&self) -> f64 {
        let packets: u64 = self.traffic.iter().map(Traffic::packets).sum();
        let late: u64 = self.traffic.iter().map(|traffic| traffic.late).sum();
        late as f64 * 100.0 / packets.max(1) as f64
    }
}

impl Failure {
    /// A subject failed under a load.
    pub fn new(key: Key, contender: &Contender, fault: Fault) -> Self {
        Self {
            what: format!(
                "{} on {}, TCP by {}, {}",
                key.contender,
                key.cell.short(),
                key.tcp.as_str(),
                key.load.as_str()
            ),
            is_peer: contender.subject.is_peer(),
            fault,
        }
    }

    /// A subject did not come up.
    pub fn at_start(cell: Cell, tcp: Tcp, contender: &Contender, fault: Fault) -> Self {
        Self {
            what: format!("{} on {}, TCP by {}, start", contender.name, cell.short(), tcp.as_str()),
            is_peer: contender.subject.is_peer(),
            fault,
        }
    }

    /// A peer may be unable to do something; wrong data shows that it may be us who cannot count.
    fn is_a_peers_own(&self) -> bool {
        self.is_peer && matches!(self.fault, Fault::Failed(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.fault)
    }
}

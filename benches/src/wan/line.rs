//! The line as the bench holds it: starts the router's process and steers it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::cell::Cell;
use super::role::Role;
use super::router::{Terms, Traffic};
use crate::fault::Fault;
use crate::process;

/// Runs a program ahead of everything that has no real-time priority: packets should be late only because the line is.
const AHEAD: [&str; 3] = ["chrt", "-r", "10"];

/// A running router; it ends with this handle.
#[derive(Debug)]
pub struct Line {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Line {
    /// Starts the router inside a namespace, where it makes its devices; `enter` are the words that lead there.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(enter: &[String], devices: [&str; 2]) -> Result<Self, Fault> {
        let program = std::env::current_exe()?;
        let mut words: Vec<&str> = enter.iter().map(String::as_str).collect();
        if may_run_ahead() {
            words.extend(AHEAD);
        }
        let mut command = Command::new(words[0]);
        let role = Role::Router(devices.map(str::to_owned));
        command.args(&words[1..]).arg(program).args(role.words());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for the bench, which has its report to write first.
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| Fault::failed("starting the router", error))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault::Failed("the router has no pipes".to_owned()));
        };
        let mut line = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        match line.answer()?.as_str() {
            "ready" => Ok(line),
            other => Err(Fault::Failed(format!("the router says `{other}`"))),
        }
    }

    /// Makes the line as `cell` says; `seed` decides which packets are lost.
    ///
    /// # Errors
    /// When the router is gone.
    pub fn set(&mut self, cell: &Cell, seed: u64) -> Result<(), Fault> {
        let terms = Terms {
            delay: (cell.rtt / 2.0 * 1e6) as u64,
            rate: cell.rate * 1e6,
            queue: (cell.queue * 1e6) as u64,
            loss: cell.loss / 100.0,
            seed,
        };
        let terms = serde_json::to_string(&terms).unwrap_or_default();
        match self.ask(&format!("set {terms}"))?.as_str() {
            "ok" => Ok(()),
            other => Err(Fault::Failed(format!("the router says `{other}`"))),
        }
    }

    /// What went over the line since the last time.
    ///
    /// # Errors
    /// When the router is gone.
    pub fn traffic(&mut self) -> Result<Traffic, Fault> {
        let answer = self.ask("stats")?;
        serde_json::from_str(&answer).map_err(|error| Fault::failed("the router's figures", error))
    }

    /// Seconds of processor time of the router so far.
    pub fn cpu(&self) -> Option<f64> {
        process::cpu(self.child.id())
    }

    fn ask(&mut self, command: &str) -> Result<String, Fault> {
        let asked = writeln!(self.input, "{command}");
        asked.map_err(|error| Fault::failed("asking the router", error))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(1..) => Ok(line.trim().to_owned()),
            Ok(_) => Err(Fault::Failed("the router ended".to_owned())),
            Err(error) => Err(Fault::failed("listening to the router", error)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn may_run_ahead() -> bool {
    let mut trial = Command::new(AHEAD[0]);
    trial
        .args(&AHEAD[1..])
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    trial.status().is_ok_and(|status| status.success())
}

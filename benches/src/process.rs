//! A process of a subject: it ends with its handle, and says what it costs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;

/// The unit of times in `/proc`, fixed for programs whatever the kernel's own is.
const TICKS_PER_SECOND: f64 = 100.0;

/// How much of a log is worth repeating.
const TAIL: usize = 6;

/// A running process, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    /// `relay` or `agent`, whatever its makers call it.
    pub role: &'static str,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in files in `directory`: a pipe would stop it as soon as nobody reads.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(role: &'static str, command: &mut Command, directory: &Path) -> Result<Self, Fault> {
        let (out, log) = (
            directory.join(format!("{role}.out")),
            directory.join(format!("{role}.log")),
        );
        let child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| Fault::failed(&format!("starting {}", command.get_program().display()), error))?;
        Ok(Self { role, child, out, log })
    }

    /// Waits until it has printed something.
    ///
    /// # Errors
    /// When it ends instead, or says nothing before the deadline.
    pub async fn spoken(&mut self, deadline: Duration) -> Result<(), Fault> {
        let until = Instant::now() + deadline;
        while std::fs::metadata(&self.out)?.len() == 0 {
            self.check_alive()?;
            if Instant::now() > until {
                return Err(Fault::Failed(format!("the {} says nothing", self.role)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_alive(&mut self) -> Result<(), Fault> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Fault::Failed(format!("the {} ended: {status}", self.role))),
        }
    }

    /// The last lines that it logged.
    pub fn tail(&self) -> String {
        let text = [&self.out, &self.log].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let lines: Vec<&str> = text.iter().flat_map(|text| text.lines()).collect();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        last.iter().map(|line| format!("\n    {}: {line}", self.role)).collect()
    }

    /// Seconds of processor time so far; none where there is no `/proc`.
    pub fn cpu(&self) -> Option<f64> {
        cpu(self.child.id())
    }

    /// Resident bytes; none where there is no `/proc`.
    pub fn resident(&self) -> Option<f64> {
        let status = self.read("status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }
}

/// What a program printed that ended well.
#[derive(Debug)]
pub struct Printed {
    /// What it was asked for.
    pub stdout: String,
    /// What else it had to say.
    pub stderr: String,
}

/// Runs `command` to its end.
///
/// # Errors
/// [`Fault::Failed`] when it does not start, end in time or succeed, with what it printed.
pub async fn output(command: Command, deadline: Duration) -> Result<Printed, Fault> {
    let name = command.get_program().display().to_string();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(deadline, command.output()).await {
        Ok(output) => output.map_err(|error| Fault::failed(&format!("starting {name}"), error))?,
        Err(_) => return Err(Fault::Failed(format!("{name} does not end"))),
    };
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    match output.status.success() {
        true => Ok(Printed { stdout, stderr }),
        false => Err(Fault::Failed(format!("{name}: {}", stderr.trim()))),
    }
}

/// Seconds of processor time of a process so far; none where there is no `/proc`.
pub fn cpu(id: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything; the fields that follow may not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

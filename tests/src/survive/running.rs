//! A relay or an agent as the show sees it: a command line, JSON events, and whichever process does its work right now.
//!
//! An upgrade replaces the process. The new one is nobody's child here, but it inherits standard output: its events arrive by the same pipe, and by that
//! pipe it is found and at last killed.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spawnpoint_net::TaskScope;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::vitals::{self, Vitals};

/// Nothing that works takes this long, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A process that is replaced has this long to be gone.
const GONE: Duration = Duration::from_secs(5);

/// How often `/proc` is looked at for a change.
const LOOK: Duration = Duration::from_millis(5);

/// A running relay or agent. It and its successors are killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// `relay` or `agent`.
    pub command: &'static str,
    /// The process that does the work now.
    pub pid: u32,
    /// Its standard output.
    pipe: PathBuf,
    log: PathBuf,
    child: Child,
    events: Arc<Events>,
    _scope: TaskScope,
}

#[derive(Debug, Default)]
struct Events {
    lines: Mutex<Vec<Value>>,
    /// Nobody has the pipe any more.
    is_over: AtomicBool,
    new: Notify,
}

impl Running {
    /// Starts `line`, which runs `command` with `--json`, and waits until it is ready. What it logs is added to a file in `logs`.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn start(command: &'static str, logs: &Path, mut line: Command) -> Result<Self, Fault> {
        let log = logs.join(format!("{command}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.map_err(|error| Fault::new(log.display(), error))?;
        line.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true);
        let mut child = line
            .spawn()
            .map_err(|error| Fault::new(format!("starting the {command}"), error))?;
        let gone = || Fault(format!("the {command} ended at once"));
        let pid = child.id().ok_or_else(gone)?;
        let (events, scope) = (Arc::new(Events::default()), TaskScope::new(&CancellationToken::new()));
        let stdout = child.stdout.take().ok_or_else(gone)?;
        scope.spawn(collect(stdout, events.clone()));
        let running = Self {
            command,
            pid,
            pipe: vitals::stdout_of(pid).ok_or_else(gone)?,
            log,
            child,
            events,
            _scope: scope,
        };
        running.event("ready", |_| true).await?;
        Ok(running)
    }

    /// Waits for the first event of this name that `is_it`.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn event(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value, Fault> {
        let wait = async {
            loop {
                let new = self.events.new.notified();
                tokio::pin!(new);
                new.as_mut().enable();
                {
                    let lines = self.events.lines.lock().unwrap();
                    if let Some(line) = lines.iter().find(|line| line["event"] == name && is_it(line)) {
                        return Ok(line.clone());
                    }
                }
                if self.events.is_over.load(Ordering::Acquire) {
                    let words = self.last_words();
                    return Err(Fault(format!("no `{name}` of the {}, it ended: {words}", self.command)));
                }
                new.await;
            }
        };
        let missing = |_| Fault(format!("no `{name}` of the {} within {DEADLINE:?}", self.command));
        tokio::time::timeout(DEADLINE, wait).await.map_err(missing)?
    }

    /// The newest event of a name.
    ///
    /// # Errors
    /// When there was none.
    pub fn last(&self, name: &str) -> Result<Value, Fault> {
        let lines = self.events.lines.lock().unwrap();
        let found = lines.iter().rev().find(|line| line["event"] == name).cloned();
        found.ok_or_else(|| Fault(format!("no `{name}` of the {}", self.command)))
    }

    /// What it holds.
    ///
    /// # Errors
    /// When it is gone.
    pub fn vitals(&self) -> Result<Vitals, Fault> {
        Vitals::of(self.pid).ok_or_else(|| Fault(format!("the {} is gone; {}", self.command, self.last_words())))
    }

    /// It and its successors, as far as they run.
    pub fn processes(&self) -> Vec<u32> {
        vitals::find(&self.pipe)
    }

    /// Runs `line`, which asks it to upgrade itself, and waits until another process does the work and the old one is gone.
    ///
    /// # Errors
    /// When the upgrade fails, or leaves none or two.
    pub async fn upgrade(&mut self, mut line: Command) -> Result<(), Fault> {
        let what = format!("{} upgrade", self.command);
        line.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, line.output()).await;
        let output = output.map_err(|_| Fault::new(&what, "does not end"))?;
        let output = output.map_err(|error| Fault::new(&what, error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let first = text.lines().next().unwrap_or_default();
            return Err(Fault::new(&what, format!("{}: {first}", output.status)));
        }
        let old = self.pid;
        let replaced = async {
            loop {
                // The first process is a child, and stays in the list until it is waited for.
                let _ = self.child.try_wait();
                match self.processes()[..] {
                    [pid] if pid != old => return pid,
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let replaced = tokio::time::timeout(GONE, replaced).await;
        let running = self.processes();
        self.pid = replaced.map_err(|_| Fault::new(&what, format!("{old} was to be replaced, now run {running:?}")))?;
        Ok(())
    }

    /// Kills it as if the machine had failed, and waits until it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn kill(&mut self) -> Result<(), Fault> {
        let dying = self.processes();
        self.kill_all();
        let gone = async {
            while !dying.iter().copied().all(vitals::is_over) {
                let _ = self.child.try_wait();
                tokio::time::sleep(LOOK).await;
            }
        };
        let gone = tokio::time::timeout(GONE, gone).await;
        gone.map_err(|_| Fault(format!("the {} cannot be killed", self.command)))
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().next_back().unwrap_or_default().to_owned()
    }

    fn kill_all(&self) {
        let pids = self.processes().into_iter();
        for pid in pids.filter_map(|pid| Pid::from_raw(pid as i32)) {
            // Fails only for one that is gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_all();
    }
}

async fn collect(stdout: ChildStdout, events: Arc<Events>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str(&line) {
            events.lines.lock().unwrap().push(event);
            events.new.notify_waiters();
        }
    }
    events.is_over.store(true, Ordering::Release);
    events.new.notify_waiters();
}

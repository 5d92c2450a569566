//! Starting a game server because somebody joins, and stopping it because nobody is there: the commands, and the look whether the server answers.
//!
//! When is decided by `spawnpoint_core::wake`. Commands are the host's own, from the configuration; they run without a shell, with the tunnel's name and
//! address in the environment, one at a time, and not for ever. A server that its command starts directly lives on when the agent ends.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spawnpoint_config::tunnel::{Origin, Tunnel, Wake as Config};
use spawnpoint_core::wake::{Joining, Wake};
use spawnpoint_net::{Clock, TaskScope};
use spawnpoint_proto::{Protocol, ResetCode, TunnelName};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a server that is being started is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One look takes no longer.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);

/// How long a player waits for a server that is being started, before they are told to come again. Games give up a login after 30 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// A command that stops a server is ended after this.
const STOP_DEADLINE: Duration = Duration::from_secs(180);

/// A server that sleeps, or can.
#[derive(Debug)]
pub(crate) struct Sleeper {
    tunnel: TunnelName,
    protocol: Protocol,
    origin: Origin,
    config: Config,
    clock: Clock,
    state: Mutex<Wake>,
    /// Changes whenever the state has.
    changed: watch::Sender<()>,
    /// Somebody wants it started.
    start: Notify,
}

/// Somebody who keeps a server awake; dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Awake(Arc<Sleeper>);

impl Sleeper {
    pub fn new(tunnel: TunnelName, protocol: Protocol, origin: Origin, config: Config) -> Self {
        let clock = Clock::default();
        let idle_after = (!config.on_idle.is_empty()).then_some(config.idle_after);
        Self {
            tunnel,
            protocol,
            origin,
            state: Mutex::new(Wake::new(clock.now(), idle_after, config.start_timeout)),
            config,
            clock,
            changed: watch::Sender::default(),
            start: Notify::new(),
        }
    }

    /// Runs the commands, as long as it is polled.
    pub async fn run(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let next = self.state().poll_timeout();
            let due = async {
                match next {
                    Some(time) => tokio::time::sleep_until(self.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.start.notified() => self.start_server().await,
                () = due => {
                    let is_stop = self.state().poll(self.clock.now());
                    if is_stop {
                        self.stop_server().await;
                    }
                }
                _ = changed.changed() => {}
            }
        }
    }

    /// Keeps the server awake for a player.
    pub fn enter(self: &Arc<Self>) -> Awake {
        self.change(Wake::on_enter);
        Awake(self.clone())
    }

    /// The server has answered somebody.
    pub fn is_up(&self) {
        if !self.state().is_up() {
            self.change(|state| state.on_answer(self.clock.now()));
        }
    }

    /// Whether the server is known to answer.
    pub fn is_known_up(&self) -> bool {
        self.state().is_up()
    }

    /// Why a server that does not answer does not.
    pub fn code(&self) -> ResetCode {
        match self.state().is_starting() {
            true => ResetCode::OriginStarting,
            false => ResetCode::OriginAsleep,
        }
    }

    /// A player joins a server that does not answer: waits until it does.
    ///
    /// # Errors
    /// When it takes longer than the player's game waits, or cannot be started.
    pub async fn wake(&self) -> Result<(), ResetCode> {
        let deadline = Instant::now() + PATIENCE;
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let joining = self.state().on_unanswered_join(self.clock.now());
            if joining == Joining::Start {
                self.start.notify_one();
                self.changed.send_replace(());
                changed.mark_unchanged();
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(_) if self.state().is_up() => return Ok(()),
                // It is still being stopped, or it could not be started: then this player does not try for ever.
                Ok(_) if self.state().is_starting() || joining == Joining::Wait => {}
                Ok(_) => return Err(ResetCode::OriginRefused),
                Err(_) => return Err(self.code()),
            }
        }
    }

    async fn start_server(&self) {
        let tunnel = &self.tunnel;
        tracing::info!(%tunnel, "somebody joins: the game server is started");
        let mut child = match self.command(&self.config.on_join).spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%tunnel, command = self.config.on_join.first(), %error, "the game server cannot be started");
                return self.change(Wake::on_start_failed);
            }
        };
        let deadline = Instant::now() + self.config.start_timeout;
        let mut exited = None;
        while Instant::now() < deadline {
            if self.answers(exited).await {
                tracing::info!(%tunnel, "the game server is up");
                return self.change(|state| state.on_answer(self.clock.now()));
            }
            if exited.is_none() {
                exited = child.try_wait().ok().flatten().map(|status| status.success());
                if exited == Some(false) {
                    tracing::error!(%tunnel, command = self.config.on_join.first(), "the command that starts the game server has failed");
                    return self.change(Wake::on_start_failed);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::error!(%tunnel, seconds = self.config.start_timeout.as_secs(), "the game server did not answer in time");
        // One that is still running after this has not become a server.
        end(&mut child).await;
        self.change(Wake::on_start_failed);
    }

    /// Whether the server takes players. UDP tells nothing, so there the command's own end does, or a while without one.
    async fn answers(&self, exited: Option<bool>) -> bool {
        match self.protocol {
            Protocol::Tcp => {
                let look = TcpStream::connect((self.origin.host.as_str(), self.origin.port));
                matches!(tokio::time::timeout(LOOK_DEADLINE, look).await, Ok(Ok(_)))
            }
            Protocol::Udp => exited == Some(true) || is_bound(&self.origin).await,
        }
    }

    async fn stop_server(&self) {
        let tunnel = &self.tunnel;
        tracing::info!(%tunnel, "nobody is there: the game server is stopped");
        match self.command(&self.config.on_idle).spawn() {
            Ok(mut child) => match tokio::time::timeout(STOP_DEADLINE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(_) => {
                    tracing::error!(%tunnel, command = self.config.on_idle.first(), "the command that stops the game server has failed")
                }
                Err(_) => {
                    tracing::error!(%tunnel, "the command that stops the game server took too long");
                    end(&mut child).await;
                }
            },
            Err(error) => {
                tracing::error!(%tunnel, command = self.config.on_idle.first(), %error, "the game server cannot be stopped");
            }
        }
        self.change(Wake::on_stopped);
    }

    fn command(&self, words: &[String]) -> Command {
        let mut words = words.iter();
        // The configuration holds no empty command.
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command
            .args(words)
            .env("SPAWNPOINT_TUNNEL", self.tunnel.as_str())
            .env("SPAWNPOINT_ORIGIN", self.origin.to_string())
            .env_remove("SPAWNPOINT_INVITE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A signal for the agent's group, as Ctrl-C is, is none for the server.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    fn change(&self, change: impl FnOnce(&mut Wake)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, Wake> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        self.0.change(|state| state.on_leave(now));
    }
}

/// Whether somebody on this machine has the server's UDP port: then it cannot be had. Of another machine nothing can be told.
async fn is_bound(origin: &Origin) -> bool {
    let bound = tokio::net::UdpSocket::bind((origin.host.as_str(), origin.port)).await;
    matches!(bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse)
}

async fn end(child: &mut Child) {
    // Fails only for one that has ended.
    let _ = child.start_kill();
    let _ = tokio::time::timeout(LOOK_DEADLINE, child.wait()).await;
}

/// The servers of one agent that sleep; clones are the same. All links of the agent share them, so that no command runs twice at once.
#[derive(Clone, Debug)]
pub(crate) struct Sleepers {
    scope: Arc<TaskScope>,
    all: Arc<Mutex<HashMap<TunnelName, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    sleeper: Arc<Sleeper>,
    /// Ends its task.
    token: CancellationToken,
}

impl Sleepers {
    pub fn new(parent: &CancellationToken) -> Self {
        Self {
            scope: Arc::new(TaskScope::new(parent)),
            all: Arc::default(),
        }
    }

    /// The server of `tunnel`, if it sleeps.
    pub fn of(&self, tunnel: &Tunnel) -> Option<Arc<Sleeper>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = &tunnel.wake else {
            if let Some(old) = all.remove(&tunnel.name) {
                old.token.cancel();
            }
            return None;
        };
        if let Some(known) = all.get(&tunnel.name) {
            if known.sleeper.config == *config && known.sleeper.origin == tunnel.origin {
                return Some(known.sleeper.clone());
            }
            known.token.cancel();
        }
        let sleeper = Arc::new(Sleeper::new(
            tunnel.name.clone(),
            tunnel.protocol,
            tunnel.origin.clone(),
            config.clone(),
        ));
        let token = CancellationToken::new();
        let (running, stopped) = (sleeper.clone(), token.clone());
        self.scope.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = running.run() => {}
            }
        });
        let entry = Entry {
            sleeper: sleeper.clone(),
            token,
        };
        all.insert(tunnel.name.clone(), entry);
        Some(sleeper)
    }
}

//! Starting a game server because somebody joins, and stopping it because nobody is there: the commands, and the look whether the server answers.
//!
//! When is decided by `spawnpoint_core::wake`. Commands are the host's own, from the configuration; they run without a shell, with the tunnel's name and
//! address in the environment, one at a time, and not for ever. A server that its command starts directly is a child of the agent: whoever ends all of the
//! agent's processes, as systemd does with a unit, ends it too, which a command that asks a service manager for it spares it.

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

/// Where a server is, and how it is started and stopped.
#[derive(PartialEq, Eq, Debug)]
struct Setup {
    origin: Origin,
    config: Config,
}

/// A server that sleeps, or can.
#[derive(Debug)]
pub(crate) struct Sleeper {
    tunnel: TunnelName,
    protocol: Protocol,
    setup: Mutex<Arc<Setup>>,
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
        Self {
            tunnel,
            protocol,
            state: Mutex::new(Wake::new(clock.now(), idle_after(&config), config.start_timeout)),
            setup: Mutex::new(Arc::new(Setup { origin, config })),
            clock,
            changed: watch::Sender::default(),
            start: Notify::new(),
        }
    }

    /// Follows a changed configuration; who is there, and what the server does, stays.
    fn set_up(&self, origin: Origin, config: Config) {
        let setup = Setup { origin, config };
        if *self.setup() == setup {
            return;
        }
        self.change(|state| state.reconfigure(idle_after(&setup.config), setup.config.start_timeout));
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    /// Runs the commands, as long as it is polled.
    pub async fn run(&self) {
        let mut changed = self.changed.subscribe();
        if self.answers(None).await {
            self.is_up();
        }
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

    /// The server does not answer any more.
    pub fn is_silent(&self) {
        if self.state().is_up() {
            self.change(Wake::on_silence);
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
                self.changed.send_replace(());
                // Before the start, so that one which fails at once is noticed.
                changed.mark_unchanged();
                self.start.notify_one();
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
        let (tunnel, setup) = (&self.tunnel, self.setup());
        let config = &setup.config;
        if self.answers(None).await {
            return self.change(|state| state.on_answer(self.clock.now()));
        }
        tracing::info!(%tunnel, "somebody joins: the game server is started");
        let mut child = match self.command(&setup, &config.on_join).spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%tunnel, command = config.on_join.first(), %error, "the game server cannot be started");
                return self.change(Wake::on_start_failed);
            }
        };
        let deadline = Instant::now() + config.start_timeout;
        let mut exited = None;
        while Instant::now() < deadline {
            if self.answers(exited).await {
                tracing::info!(%tunnel, "the game server is up");
                return self.change(|state| state.on_answer(self.clock.now()));
            }
            if exited.is_none() {
                exited = child.try_wait().ok().flatten().map(|status| status.success());
                if exited == Some(false) {
                    tracing::error!(%tunnel, command = config.on_join.first(), "the command that starts the game server has failed");
                    return self.change(Wake::on_start_failed);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::error!(%tunnel, seconds = config.start_timeout.as_secs(), "the game server did not answer in time");
        // One that is still running after this has not become a server.
        end(&mut child).await;
        self.change(Wake::on_start_failed);
    }

    /// Whether the server takes players. UDP tells nothing, so there the command's own end does, or a while without one.
    async fn answers(&self, exited: Option<bool>) -> bool {
        let setup = self.setup();
        let origin = &setup.origin;
        match self.protocol {
            Protocol::Tcp => {
                let look = TcpStream::connect((origin.host.as_str(), origin.port));
                matches!(tokio::time::timeout(LOOK_DEADLINE, look).await, Ok(Ok(_)))
            }
            Protocol::Udp => exited == Some(true) || is_bound(origin).await,
        }
    }

    async fn stop_server(&self) {
        let (tunnel, setup) = (&self.tunnel, self.setup());
        let config = &setup.config;
        tracing::info!(%tunnel, "nobody is there: the game server is stopped");
        match self.command(&setup, &config.on_idle).spawn() {
            Ok(mut child) => match tokio::time::timeout(STOP_DEADLINE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(_) => {
                    tracing::error!(%tunnel, command = config.on_idle.first(), "the command that stops the game server has failed")
                }
                Err(_) => {
                    tracing::error!(%tunnel, "the command that stops the game server took too long");
                    end(&mut child).await;
                }
            },
            Err(error) => {
                tracing::error!(%tunnel, command = config.on_idle.first(), %error, "the game server cannot be stopped");
            }
        }
        self.change(Wake::on_stopped);
    }

    fn command(&self, setup: &Setup, words: &[String]) -> Command {
        let mut words = words.iter();
        // The configuration holds no empty command.
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command
            .args(words)
            .env("SPAWNPOINT_TUNNEL", self.tunnel.as_str())
            .env("SPAWNPOINT_ORIGIN", setup.origin.to_string())
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

    fn setup(&self) -> Arc<Setup> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// After how long without players a server is stopped, if it ever is.
fn idle_after(config: &Config) -> Option<Duration> {
    (!config.on_idle.is_empty()).then_some(config.idle_after)
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

    /// Forgets the servers of tunnels that are not there any more.
    pub fn retain(&self, wanted: &[Tunnel]) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, entry| {
            let is_wanted = wanted.iter().any(|tunnel| tunnel.name == *name);
            if !is_wanted {
                entry.token.cancel();
            }
            is_wanted
        });
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
            if known.sleeper.protocol == tunnel.protocol {
                known.sleeper.set_up(tunnel.origin.clone(), config.clone());
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

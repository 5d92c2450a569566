//! A subject ready for players: its processes, our origin behind it, and the addresses that players connect to.
//!
//! Everything ends when the [`Setup`] is dropped. Defaults are kept, as people run them, except for what keeps a single address from playing a thousand
//! players. Logs go to files, as a service manager would take them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::origin::{self, Origin};
use crate::ports;
use crate::process::Process;
use crate::subject::Subject;

/// A process that has not come up by then never will.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// One try of the way from player to origin.
const TRY_DEADLINE: Duration = Duration::from_millis(200);

/// bore's port for its clients, which cannot be chosen.
const BORE_CONTROL: u16 = 7835;

/// A subject at work.
#[derive(Debug)]
pub struct Setup {
    /// Who it is.
    pub subject: Subject,
    /// Where TCP players connect.
    pub tcp: SocketAddr,
    /// Where UDP players send; without meaning when the subject has no UDP.
    pub udp: SocketAddr,
    /// The game server.
    pub origin: Origin,
    /// The relay before the agent.
    pub processes: Vec<Process>,
    _directory: TempDir,
}

impl Setup {
    /// Starts `subject` and waits until players get through.
    ///
    /// # Errors
    /// [`Fault::Failed`] with the last words of its logs.
    pub async fn start(subject: Subject, binaries: &Binaries) -> Result<Self, Fault> {
        let origin = Origin::start().await?;
        let directory = TempDir::new()?;
        let public = match subject {
            Subject::Direct => origin.address,
            _ => local(ports::free()?),
        };
        let mut setup = Self {
            subject,
            tcp: public,
            udp: public,
            origin,
            processes: Vec::new(),
            _directory: directory,
        };
        let started = setup.launch(binaries).await;
        match started {
            Ok(()) => Ok(setup),
            Err(fault) => Err(fault.with(&setup.story())),
        }
    }

    async fn launch(&mut self, binaries: &Binaries) -> Result<(), Fault> {
        let directory = self._directory.path().to_owned();
        if let Some(program) = binaries.get(self.subject) {
            match self.subject {
                Subject::Direct => {}
                Subject::Spawnpoint | Subject::Forgetful => self.launch_spawnpoint(program, &directory).await?,
                Subject::Rathole => self.launch_rathole(program, &directory)?,
                Subject::Bore => self.launch_bore(program, &directory).await?,
            }
        }
        self.wait_until_open().await
    }

    async fn launch_spawnpoint(&mut self, program: &Path, directory: &Path) -> Result<(), Fault> {
        let (public, origin) = (self.tcp.port(), self.origin.address);
        let (config, data, state) = (
            directory.join("relay.toml"),
            directory.join("relay"),
            directory.join("agent"),
        );
        let mut settings = relay_toml(ports::free()?, public);
        if self.subject == Subject::Forgetful {
            settings.push_str("[links]\nresume_window = \"0 s\"\n");
        }
        std::fs::write(&config, settings)?;
        let mut relay = Command::new(program);
        relay
            .arg("relay")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(&data);
        self.processes.push(Process::start("relay", &mut relay, directory)?);
        // It speaks when agents may come, and invites can be made from then on.
        self.processes[0].spoken(START_DEADLINE).await?;
        let mut invite = tokio::process::Command::new(program);
        invite
            .args(["invite", "bench", "--data-dir"])
            .arg(&data)
            .kill_on_drop(true);
        let invite = match tokio::time::timeout(START_DEADLINE, invite.output()).await {
            Ok(output) => output?,
            Err(_) => return Err(Fault::Failed("spawnpoint invite does not end".to_owned())),
        };
        if !invite.status.success() {
            let text = String::from_utf8_lossy(&invite.stderr);
            return Err(Fault::Failed(format!("spawnpoint invite: {text}")));
        }
        let invite = String::from_utf8_lossy(&invite.stdout).trim().to_owned();
        let mut agent = Command::new(program);
        agent
            .arg("agent")
            .arg("--state-dir")
            .arg(&state)
            .arg(format!("game=tcp:{origin}@{public}"))
            .arg(format!("voice=udp:{origin}@{public}"))
            .env("SPAWNPOINT_INVITE", invite);
        self.processes.push(Process::start("agent", &mut agent, directory)?);
        Ok(())
    }

    fn launch_rathole(&mut self, program: &Path, directory: &Path) -> Result<(), Fault> {
        let (control, public, origin) = (local(ports::free()?), self.tcp, self.origin.address);
        let server = format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [server.services.game]\nbind_addr = \"{public}\"\n\
             [server.services.voice]\ntype = \"udp\"\nbind_addr = \"{public}\"\n"
        );
        let client = format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [client.services.game]\nlocal_addr = \"{origin}\"\n\
             [client.services.voice]\ntype = \"udp\"\nlocal_addr = \"{origin}\"\n"
        );
        for (role, flag, text) in [("relay", "--server", server), ("agent", "--client", client)] {
            let file = directory.join(format!("{role}.toml"));
            std::fs::write(&file, text)?;
            let mut command = Command::new(program);
            command.arg(flag).arg(&file);
            self.processes.push(Process::start(role, &mut command, directory)?);
        }
        Ok(())
    }

    async fn launch_bore(&mut self, program: &Path, directory: &Path) -> Result<(), Fault> {
        let public = self.tcp.port().to_string();
        let mut server = Command::new(program);
        server.args(["server", "--bind-addr", "127.0.0.1"]);
        server.args(["--min-port", &public, "--max-port", &public]);
        self.processes.push(Process::start("relay", &mut server, directory)?);
        let until = Instant::now() + START_DEADLINE;
        // Its client gives up at once when the server is not there yet.
        while TcpStream::connect(local(BORE_CONTROL)).await.is_err() {
            self.processes[0].check_alive()?;
            pause(until).await?;
        }
        self.processes[0].check_alive()?;
        let origin = self.origin.address;
        let mut client = Command::new(program);
        client.args(["local", &origin.port().to_string(), "--to", "127.0.0.1"]);
        client.args(["--local-host", "127.0.0.1", "--port", &public]);
        self.processes.push(Process::start("agent", &mut client, directory)?);
        Ok(())
    }

    async fn wait_until_open(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + START_DEADLINE;
        while !in_time(greet(self.tcp)).await {
            self.processes.iter_mut().try_for_each(Process::check_alive)?;
            pause(until).await?;
        }
        while self.subject.has_packets() && !in_time(echo(self.udp)).await {
            self.processes.iter_mut().try_for_each(Process::check_alive)?;
            pause(until).await?;
        }
        Ok(())
    }

    /// Seconds of processor time of all its processes so far.
    pub fn cpu(&self) -> Option<f64> {
        let each: Option<Vec<f64>> = self.processes.iter().map(Process::cpu).collect();
        each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
    }

    /// What its processes logged last.
    pub fn story(&self) -> String {
        self.processes.iter().map(Process::tail).collect()
    }
}

/// The limits are those of a relay whose thousand players all come from one address; the rest is what a relay does without a file.
fn relay_toml(listen: u16, public: u16) -> String {
    format!(
        "listen = \"127.0.0.1:{listen}\"\n\
         public_host = \"127.0.0.1\"\n\
         [players]\n\
         bind = \"127.0.0.1\"\n\
         ports = \"{public}\"\n\
         max_players_per_host = 5000\n\
         max_players_per_address = 5000\n\
         new_players_per_address = \"10000/s\"\n\
         new_players_burst = 100000\n\
         [admin]\n\
         enabled = false\n"
    )
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Connects a TCP player who has been answered once.
///
/// # Errors
/// [`Fault::Mismatch`] when the answer is wrong, [`Fault::Failed`] when there is none.
pub async fn greet(address: SocketAddr) -> Result<TcpStream, Fault> {
    let mut stream = join(address).await?;
    let doing = "one byte each way";
    stream
        .write_u8(origin::BYTE)
        .await
        .map_err(|error| Fault::failed(doing, error))?;
    match stream.read_u8().await.map_err(|error| Fault::failed(doing, error))? {
        origin::BYTE_ANSWER => Ok(stream),
        other => Err(Fault::Mismatch(format!("byte {other} for an answer"))),
    }
}

/// Connects a TCP player.
///
/// # Errors
/// [`Fault::Failed`] when nobody takes it.
pub async fn join(address: SocketAddr) -> Result<TcpStream, Fault> {
    let connect = TcpStream::connect(address).await;
    let stream = connect.map_err(|error| Fault::failed(&format!("connecting to {address}"), error))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn echo(address: SocketAddr) -> Result<(), Fault> {
    let socket = origin::packet_socket(local(0)).await?;
    socket.connect(address).await?;
    socket.send(b"are you there").await?;
    socket.recv(&mut [0; 64]).await?;
    Ok(())
}

async fn in_time<T>(attempt: impl Future<Output = Result<T, Fault>>) -> bool {
    matches!(tokio::time::timeout(TRY_DEADLINE, attempt).await, Ok(Ok(_)))
}

async fn pause(until: Instant) -> Result<(), Fault> {
    if Instant::now() > until {
        return Err(Fault::Failed("it does not come up in time".to_owned()));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

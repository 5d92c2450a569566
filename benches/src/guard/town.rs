//! A relay with two hosts: one has players, the other is flooded.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::players::greet;
use super::server::Server;
use super::{START, pinned};
use crate::fault::Fault;
use crate::ports;
use crate::process::{self, Process};

/// The relay, its two hosts and their servers.
#[derive(Debug)]
pub struct Town {
    /// The relay.
    pub relay: Process,
    _agents: [Process; 2],
    _servers: [Server; 3],
    /// Where it hears agents.
    pub listen: SocketAddr,
    /// The public address of the host with players.
    pub game: SocketAddr,
    /// Those of the other: TCP and UDP.
    pub flooded: [SocketAddr; 2],
    /// The relay's admin pages.
    pub admin: SocketAddr,
    /// A socket that is never read.
    pub nobody: UdpSocket,
    _directory: tempfile::TempDir,
}

impl Town {
    /// Starts everything; `top` and `players` are lines for the configuration of the relay, the second for its `[players]`.
    ///
    /// # Errors
    /// When a part of it does not start, or the tunnel does not open.
    pub async fn start(program: &Path, top: &str, players: &str) -> Result<Self, Fault> {
        let directory = tempfile::tempdir()?;
        let place = |name: &str| directory.path().join(name);
        let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (listen, admin) = (localhost(ports::free()?), localhost(ports::free()?));
        let public = [ports::free()?, ports::free()?, ports::free()?];
        let (config, data) = (place("relay.toml"), place("relay-data"));
        std::fs::write(
            &config,
            format!(
                "listen = \"{listen}\"\npublic_host = \"127.0.0.1\"\ndata_dir = \"{}\"\n{top}[players]\nbind = \"127.0.0.1\"\nports = \"{},{},{}\"\n\
                 {players}[admin]\nlisten = \"{admin}\"\n",
                data.display(),
                public[0],
                public[1],
                public[2]
            ),
        )?;
        let mut relay = Process::start(
            "relay",
            pinned(program, 0)
                .arg("relay")
                .arg("--json")
                .arg("--config")
                .arg(&config),
            directory.path(),
        )?;
        relay.spoken(START).await?;
        let mut agents = Vec::new();
        let servers = [Server::start()?, Server::start()?, Server::start()?];
        let at = |number: usize| format!("{}@{}", servers[number].address, public[number]);
        let tunnels = [
            vec![format!("game=tcp:{}", at(0))],
            vec![format!("tcp=tcp:{}", at(1)), format!("udp=udp:{}", at(2))],
        ];
        for (name, tunnels) in ["quiet", "flooded"].into_iter().zip(tunnels) {
            let mut invite = Command::new(program);
            invite.args(["invite", name, "--data-dir"]).arg(&data);
            let invite = process::output(invite, START).await?.stdout;
            let state = place(name);
            std::fs::create_dir(&state)?;
            let mut command = pinned(program, 0);
            command
                .args(["agent", "--json", "--state-dir"])
                .arg(&state)
                .arg(invite.trim())
                .args(tunnels);
            let mut agent = Process::start("agent", &mut command, &state)?;
            agent.spoken(START).await?;
            agents.push(agent);
        }
        let game = localhost(public[0]);
        let deadline = Instant::now() + START;
        while greet(Ipv4Addr::LOCALHOST, game).await.is_err() {
            if Instant::now() > deadline {
                return Err(Fault::Failed(format!("the tunnel does not open: {}", relay.tail())));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let agents: [Process; 2] = agents.try_into().map_err(|_| Fault::Failed("two agents".to_owned()))?;
        Ok(Self {
            relay,
            _agents: agents,
            _servers: servers,
            listen,
            game,
            flooded: [localhost(public[1]), localhost(public[2])],
            admin,
            nobody: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            _directory: directory,
        })
    }

    /// The figures that the relay shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String, Fault> {
        let mut socket = TcpStream::connect(self.admin).await?;
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await?;
        Ok(text)
    }
}

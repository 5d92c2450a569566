//! How relay and agent of a stage are started.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use spawnpoint_proto::Invite;
use tokio::process::Command;

use super::fault::Fault;
use super::net::Side;
use super::place::Place;
use super::running::Running;
use crate::crowd::Size;

/// What a stage is made of.
#[derive(Clone, Debug)]
pub struct Props {
    /// The program under test.
    pub binary: PathBuf,
    /// Where everything is kept that the processes write.
    pub directory: PathBuf,
    /// The crowd.
    pub size: Size,
    /// How long a silent UDP player is remembered. Shorter than an outage would be no test, longer only takes time at the end.
    pub udp_idle: Duration,
}

impl Props {
    /// The relay's data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("relay")
    }

    /// The agent's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("agent")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("relay.toml")
    }

    /// Makes the directories and the relay's configuration.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self) -> Result<(), Fault> {
        // All players of a crowd come from one address, and at once.
        let text = format!(
            "[players]\nmax_players_per_address = 100000\nmax_half_open = 100000\nmax_half_open_per_host = 100000\nmax_half_open_per_tunnel = 100000\nmax_half_open_per_address = 100000\nnew_players = \"100000/s\"\nnew_players_per_host = \"100000/s\"\nnew_players_per_tunnel = \"100000/s\"\nnew_players_per_address = \"100000/s\"\nnew_players_burst = 100000\nudp_idle = \"{} s\"\n",
            self.udp_idle.as_secs()
        );
        let made = [self.data(), self.state()].iter().try_for_each(std::fs::create_dir_all);
        let written = made.and_then(|()| std::fs::write(self.config(), text));
        written.map_err(|error| Fault::new(self.directory.display(), error))
    }
}

/// The binary on a side, at home in the stage's directory.
pub fn command(place: &Place, side: Side, props: &Props) -> Command {
    let mut command = place.command(side, &props.binary);
    command.env_remove("RUST_LOG").env("HOME", &props.directory);
    command
}

/// Starts the relay and waits until it is ready.
///
/// # Errors
/// When it is not.
pub async fn relay(place: &Place, props: &Props, ports: &str) -> Result<Running, Fault> {
    let (mut command, address) = (command(place, Side::Public, props), place.relay());
    // Any free port on loopback, which the `ready` event names.
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
    command.arg("relay").arg("--config").arg(props.config());
    command
        .arg("--data-dir")
        .arg(props.data())
        .args(["--json", "--admin", &admin, "--ports", ports]);
    command.args([
        "--listen",
        &address.to_string(),
        "--public-host",
        &address.ip().to_string(),
    ]);
    Running::start("relay", &props.directory, command).await
}

/// Starts the agent of a game server at these addresses and waits until its tunnels are open.
///
/// # Errors
/// When they are not.
pub async fn agent(place: &Place, props: &Props, tcp: SocketAddr, udp: SocketAddr) -> Result<Running, Fault> {
    let mut invite = command(place, Side::Public, props);
    invite.args(["invite", "desk", "--data-dir"]).arg(props.data());
    let output = invite.output().await.map_err(|error| Fault::new("invite", error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let invite: Invite = text.parse().map_err(|error| Fault::new("invite", error))?;
    let mut command = command(place, Side::Home, props);
    command.env("SPAWNPOINT_INVITE", place.invite(invite).to_string());
    command.args(["agent", "--json", "--state-dir"]).arg(props.state());
    command.args([format!("game=tcp:{tcp}"), format!("voice=udp:{udp}")]);
    Running::start("agent", &props.directory, command).await
}

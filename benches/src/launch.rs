//! The processes of a subject, from where players connect to where they dial the game server.
//!
//! Everything ends when the [`Tunnel`] is dropped. Defaults are kept, as people run them, except for what keeps a single address from playing a thousand
//! players. Logs go to files, as a service manager would take them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::bare_quic::Role;
use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::knock::START_DEADLINE;
use crate::place::{Place, Side};
use crate::process::{self, Process};
use crate::subject::Subject;
use crate::{nginx, ports, rathole};

/// A subject's processes at work; whether they let players through yet, `knock` finds out.
#[derive(Debug)]
pub struct Tunnel {
    /// Who it is.
    pub subject: Subject,
    /// Where TCP players connect.
    pub tcp: SocketAddr,
    /// Where UDP players send; without meaning when the subject has no UDP.
    pub udp: SocketAddr,
    /// The relay before the agent; none for no tunnel.
    pub processes: Vec<Process>,
    directory: TempDir,
}

/// What the processes are told.
struct Orders<'a> {
    place: &'a Place,
    /// Where the relay awaits the agent.
    control: SocketAddr,
    /// Where the relay awaits players.
    public: SocketAddr,
    /// The game server, as the agent sees it.
    origin: SocketAddr,
    /// Lines for `[links]` of both files of ours.
    links: &'a [String],
}

impl Tunnel {
    /// Starts the processes of `subject` in front of `origin`; `links` are lines for the `[links]` of both configuration files, if it is ours.
    ///
    /// # Errors
    /// [`Fault::Failed`] with the last words of its logs.
    pub async fn launch(
        place: &Place,
        subject: Subject,
        links: &[String],
        origin: SocketAddr,
        binaries: &Binaries,
    ) -> Result<Self, Fault> {
        let address = place.address(Side::Public);
        let public = match subject {
            Subject::Direct => origin,
            _ => SocketAddr::new(address, ports::free()?),
        };
        let orders = Orders {
            place,
            control: SocketAddr::new(address, ports::free()?),
            public,
            origin,
            links,
        };
        let mut tunnel = Self {
            subject,
            tcp: public,
            udp: public,
            processes: Vec::new(),
            directory: TempDir::new()?,
        };
        match tunnel.start(&orders, binaries).await {
            Ok(()) => Ok(tunnel),
            Err(fault) => Err(fault.with(&tunnel.story())),
        }
    }

    async fn start(&mut self, orders: &Orders<'_>, binaries: &Binaries) -> Result<(), Fault> {
        let Some(program) = binaries.get(self.subject) else {
            return Ok(());
        };
        match self.subject {
            Subject::Direct => Ok(()),
            Subject::Spawnpoint | Subject::Forgetful => self.spawnpoint(program, orders).await,
            Subject::Rathole | Subject::RatholeNoise | Subject::RatholeTls => self.rathole(program, orders).await,
            Subject::Bore => self.bore(program, orders).await,
            Subject::Nginx => self.nginx(program, orders).await,
            Subject::Quinn => self.quinn(program, orders).await,
            Subject::Wstunnel => self.wstunnel(program, orders),
            Subject::Frp => self.frp(program, orders),
        }
    }

    async fn spawnpoint(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let (place, data, state) = (orders.place, self.file("relay"), self.file("agent"));
        let mut links = String::new();
        let forgetful = (self.subject == Subject::Forgetful).then_some("resume_window = \"0 s\"");
        for line in forgetful.into_iter().chain(orders.links.iter().map(String::as_str)) {
            // Writing to a string cannot fail.
            let _ = writeln!(links, "{line}");
        }
        let config = self.write("relay.toml", &relay_toml(orders, &links))?;
        let mut relay = place.command(Side::Public, program);
        relay.arg("relay").arg("--config").arg(config);
        relay.arg("--data-dir").arg(&data);
        self.run("relay", &mut relay)?;
        // It speaks when agents may come, and invites can be made from then on.
        self.processes[0].spoken(START_DEADLINE).await?;
        let mut invite = place.command(Side::Public, program);
        invite.args(["invite", "bench", "--data-dir"]).arg(&data);
        let invite = process::output(invite, START_DEADLINE).await?.stdout;
        let invite = invite.trim();
        let config = self.write("agent.toml", &agent_toml(orders, invite, &orders.links.join("\n")))?;
        let mut agent = place.command(Side::Home, program);
        agent.arg("agent").arg("--config").arg(config);
        agent.arg("--state-dir").arg(&state);
        self.run("agent", &mut agent)
    }

    async fn rathole(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let transport = rathole::transport(self.subject, program, self.directory.path()).await?;
        let Orders {
            control,
            public,
            origin,
            ..
        } = orders;
        let server = format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [server.services.game]\nbind_addr = \"{public}\"\n\
             [server.services.voice]\ntype = \"udp\"\nbind_addr = \"{public}\"\n"
        ) + &transport.server;
        let client = format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [client.services.game]\nlocal_addr = \"{origin}\"\n\
             [client.services.voice]\ntype = \"udp\"\nlocal_addr = \"{origin}\"\n"
        ) + &transport.client;
        for (role, side, flag, text) in [
            ("relay", Side::Public, "--server", server),
            ("agent", Side::Home, "--client", client),
        ] {
            let file = self.write(&format!("{role}.toml"), &text)?;
            let mut command = orders.place.command(side, program);
            command.arg(flag).arg(file);
            self.run(role, &mut command)?;
        }
        Ok(())
    }

    /// The port for its clients cannot be chosen: there is one bore at a time.
    async fn bore(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let (address, port) = (orders.public.ip().to_string(), orders.public.port().to_string());
        let mut server = orders.place.command(Side::Public, program);
        server.args(["server", "--bind-addr", &address]);
        server.args(["--min-port", &port, "--max-port", &port]);
        self.run("relay", &mut server)?;
        // Its client gives up at once when the server is not there yet.
        self.processes[0].spoken(START_DEADLINE).await?;
        let mut client = orders.place.command(Side::Home, program);
        client.args(["local", &orders.origin.port().to_string(), "--to", &address]);
        client.args(["--local-host", &orders.origin.ip().to_string(), "--port", &port]);
        self.run("agent", &mut client)
    }

    /// No tunnel: it stands where the relay does and reaches the origin itself.
    async fn nginx(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let text = nginx::config(program, orders.public, orders.origin).await?;
        let file = self.write("nginx.conf", &text)?;
        let mut command = orders.place.command(Side::Public, program);
        command.arg("-p").arg(self.directory.path()).arg("-c").arg(file);
        command.args(["-g", nginx::FOREGROUND]);
        self.run("relay", &mut command)
    }

    /// `program` is this very bench.
    async fn quinn(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let (control, certificate) = (orders.control, self.file("certificate"));
        let relay = Role::Relay {
            control,
            players: orders.public,
            certificate: certificate.clone(),
        };
        let agent = Role::Agent {
            control,
            origin: orders.origin,
            certificate,
        };
        let mut command = orders.place.command(Side::Public, program);
        self.run("relay", command.args(relay.words()))?;
        // The certificate is there as soon as it speaks.
        self.processes[0].spoken(START_DEADLINE).await?;
        let mut command = orders.place.command(Side::Home, program);
        self.run("agent", command.args(agent.words()))
    }

    fn wstunnel(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let Orders {
            control,
            public,
            origin,
            ..
        } = orders;
        let url = format!("ws://{control}");
        let mut server = orders.place.command(Side::Public, program);
        server.args(["server", &url]);
        self.run("relay", &mut server)?;
        let mut client = orders.place.command(Side::Home, program);
        client.args(["client", "-R", &format!("tcp://{public}:{origin}")]);
        client.args(["-R", &format!("udp://{public}:{origin}"), &url]);
        self.run("agent", &mut client)
    }

    /// `program` is frps; frpc lies beside it.
    fn frp(&mut self, program: &Path, orders: &Orders<'_>) -> Result<(), Fault> {
        let (control, public, origin) = (orders.control, orders.public, orders.origin);
        let server = format!(
            "bindAddr = \"{}\"\nbindPort = {}\nauth.token = \"bench\"\n",
            control.ip(),
            control.port()
        );
        let mut client = format!(
            "serverAddr = \"{}\"\nserverPort = {}\nauth.token = \"bench\"\nloginFailExit = false\n",
            control.ip(),
            control.port()
        );
        for (name, protocol) in [("game", "tcp"), ("voice", "udp")] {
            let (ip, port, remote) = (origin.ip(), origin.port(), public.port());
            let _ = write!(
                client,
                "[[proxies]]\nname = \"{name}\"\ntype = \"{protocol}\"\nlocalIP = \"{ip}\"\nlocalPort = {port}\nremotePort = {remote}\n"
            );
        }
        let client_program = program.with_file_name(format!("frpc{}", std::env::consts::EXE_SUFFIX));
        for (role, side, program, text) in [
            ("relay", Side::Public, program, server),
            ("agent", Side::Home, client_program.as_path(), client),
        ] {
            let file = self.write(&format!("{role}.toml"), &text)?;
            let mut command = orders.place.command(side, program);
            command.arg("-c").arg(file);
            self.run(role, &mut command)?;
        }
        Ok(())
    }

    /// Whether all processes still run.
    ///
    /// # Errors
    /// When one does not.
    pub fn check_alive(&mut self) -> Result<(), Fault> {
        self.processes.iter_mut().try_for_each(Process::check_alive)
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

    fn run(&mut self, role: &'static str, command: &mut std::process::Command) -> Result<(), Fault> {
        let process = Process::start(role, command, self.directory.path())?;
        self.processes.push(process);
        Ok(())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<std::path::PathBuf, Fault> {
        let file = self.file(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

/// The limits are those of a relay whose thousand players all come from one address, whose packets are counted and never too many; the rest is what a relay does without a
/// file.
fn relay_toml(orders: &Orders<'_>, links: &str) -> String {
    let (listen, host, port) = (orders.control, orders.public.ip(), orders.public.port());
    format!(
        "listen = \"{listen}\"\n\
         public_host = \"{host}\"\n\
         [players]\n\
         bind = \"{host}\"\n\
         ports = \"{port}\"\n\
         max_players_per_host = 5000\n\
         max_players_per_address = 5000\n\
         max_players_per_tunnel = 5000\n\
         max_half_open = 5000\n\
         max_half_open_per_host = 5000\n\
         max_half_open_per_tunnel = 5000\n\
         max_half_open_per_address = 5000\n\
         new_players = \"100000/s\"\n\
         new_players_per_host = \"100000/s\"\n\
         new_players_per_tunnel = \"100000/s\"\n\
         new_players_per_address = \"10000/s\"\n\
         new_players_burst = 100000\n\
         [bandwidth]\n\
         packets_per_address = \"1000000/s\"\n\
         [admin]\n\
         enabled = false\n\
         [links]\n\
         {links}"
    )
}

fn agent_toml(orders: &Orders<'_>, invite: &str, links: &str) -> String {
    let mut text = format!("invite = \"{invite}\"\n[links]\n{links}\n");
    for (name, protocol) in [("game", "tcp"), ("voice", "udp")] {
        let (origin, port) = (orders.origin, orders.public.port());
        let _ = write!(
            text,
            "[[tunnel]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\norigin = \"{origin}\"\npublic_port = {port}\n"
        );
    }
    text
}

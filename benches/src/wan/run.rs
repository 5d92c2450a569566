//! Cells, loads, rounds: each load on each subject in turn, again and again, on one setting of the line after the other.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::arguments::Arguments;
use super::cell::{Cell, Tcp};
use super::contender::Contender;
use super::load::Load;
use super::measured::{Measured, Outcome};
use super::net::Net;
use super::players::Task;
use super::report::{Failure, Key, Report};
use super::role::{Doors, Role};
use crate::binaries::Binaries;
use crate::fault::Fault;
use crate::launch::Tunnel;
use crate::place::{Place, Side};
use crate::process::Process;

/// The game server's port at home.
const ORIGIN_PORT: u16 = 25_565;

/// For processes to notice that players have left, besides the time that what is on the line takes.
const PAUSE: Duration = Duration::from_millis(500);

/// What a subject usually needs to come up.
const START: Duration = Duration::from_secs(1);

/// Processes that start or end are given so long.
const PROCESS_DEADLINE: Duration = Duration::from_secs(25);

/// Runs what was asked for; `report` has what there is when this is dropped half-way.
///
/// # Errors
/// When there is no net, or it breaks; a subject that fails is in the report.
pub async fn run(arguments: &Arguments, binaries: &Binaries, report: &mut Report) -> Result<(), Fault> {
    let mut bench = Bench {
        arguments,
        binaries,
        net: Net::build()?,
        report,
    };
    eprintln!("about {} min", bench.estimate().as_secs().div_ceil(60));
    for cell in &arguments.cells {
        for tcp in &arguments.tcp {
            bench.cell(*cell, *tcp).await?;
        }
    }
    Ok(())
}

struct Bench<'a> {
    arguments: &'a Arguments,
    binaries: &'a Binaries,
    net: Net,
    report: &'a mut Report,
}

impl Bench<'_> {
    /// How long it takes when nobody fails.
    fn estimate(&self) -> Duration {
        let arguments = self.arguments;
        let round = arguments.warm_up + arguments.measure + PAUSE * 2;
        let mut cell = Duration::ZERO;
        for contender in &arguments.contenders {
            if self.binaries.has(contender.subject) {
                let suits = |load: &&Load| contender.subject.has_packets() || !load.has_packets();
                let loads = arguments.loads.iter().filter(suits).count() as u32;
                cell += START + round * loads * arguments.rounds;
            }
        }
        cell * (arguments.cells.len() * arguments.tcp.len()) as u32
    }

    /// Starts everybody anew on `cell` and runs all loads.
    async fn cell(&mut self, cell: Cell, tcp: Tcp) -> Result<(), Fault> {
        eprintln!("{cell}, TCP by {}", tcp.as_str());
        let place = self.net.place();
        self.net.set_tcp(tcp)?;
        self.net.line.set(&cell, 0)?;
        let _origin = origin(&place).await?;
        let mut tunnels = Vec::new();
        for contender in &self.arguments.contenders {
            if !self.binaries.has(contender.subject) {
                continue;
            }
            match self.start(&place, contender).await {
                Ok(tunnel) => tunnels.push((contender, tunnel)),
                Err(fault) => self.report.failed(Failure::at_start(cell, tcp, contender, fault)),
            }
        }
        for (number, load) in self.arguments.loads.iter().enumerate() {
            for round in 0..self.arguments.rounds {
                for (contender, tunnel) in &mut tunnels {
                    if load.has_packets() && !contender.subject.has_packets() {
                        continue;
                    }
                    let seed = u64::from(round) << 8 | number as u64;
                    let key = Key {
                        cell,
                        tcp,
                        load: *load,
                        contender: contender.name.clone(),
                    };
                    self.measure(&place, key, contender, tunnel, seed).await?;
                }
            }
        }
        Ok(())
    }

    async fn start(&self, place: &Place, contender: &Contender) -> Result<Tunnel, Fault> {
        let origin = (place.address(Side::Home), ORIGIN_PORT).into();
        let mut tunnel = Tunnel::launch(place, contender.subject, &contender.links, origin, self.binaries).await?;
        let udp = contender.subject.has_packets().then_some(tunnel.udp);
        let doors = Role::Knock(Doors { tcp: tunnel.tcp, udp });
        let opened = output(&doors, place, PROCESS_DEADLINE).await.map(drop);
        match tunnel.check_alive().and(opened) {
            Ok(()) => Ok(tunnel),
            Err(fault) => Err(fault.with(&tunnel.story())),
        }
    }

    /// Puts one load on one subject once.
    async fn measure(
        &mut self,
        place: &Place,
        key: Key,
        contender: &Contender,
        tunnel: &mut Tunnel,
        seed: u64,
    ) -> Result<(), Fault> {
        tokio::time::sleep(PAUSE + key.cell.drained()).await;
        self.net.set_tcp(key.tcp)?;
        self.net.line.set(&key.cell, seed)?;
        self.net.line.traffic()?;
        let (line_cpu, cpu) = (self.net.line.cpu(), tunnel.cpu());
        let task = Task {
            tcp: tunnel.tcp,
            udp: tunnel.udp,
            origin: (place.address(Side::Home), ORIGIN_PORT).into(),
            load: key.load,
            warm_up: self.arguments.warm_up,
            measure: self.arguments.measure,
        };
        let measured = play(task, place).await;
        let traffic = self.net.line.traffic()?;
        let spent = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        self.report.passed(traffic, spent(self.net.line.cpu(), line_cpu));
        match measured {
            // A peer may be too slow for it; ours should not.
            Ok(measured) if contender.is_ours() && measured.is_all_lost() => {
                let fault = Fault::Failed("nothing came back in time".to_owned());
                self.report.failed(Failure::new(key, contender, fault));
            }
            Ok(measured) => {
                self.report.add(key, measured, traffic, spent(tunnel.cpu(), cpu));
            }
            Err(fault) => {
                let fault = fault.with(&tunnel.story());
                self.report.failed(Failure::new(key, contender, fault));
            }
        }
        Ok(())
    }
}

/// Starts the game server at home.
async fn origin(place: &Place) -> Result<(Process, TempDir), Fault> {
    let directory = TempDir::new()?;
    let role = Role::Origin((place.address(Side::Home), ORIGIN_PORT).into());
    let mut command = command(&role, place, Side::Home)?;
    let mut process = Process::start("origin", &mut command, directory.path())?;
    match process.spoken(PROCESS_DEADLINE).await {
        Ok(()) => Ok((process, directory)),
        Err(fault) => Err(fault.with(&process.tail())),
    }
}

/// This program in another role, on a side.
fn command(role: &Role, place: &Place, side: Side) -> Result<Command, Fault> {
    let mut command = place.command(side, &std::env::current_exe()?);
    command.args(role.words());
    Ok(command)
}

async fn play(task: Task, place: &Place) -> Result<Measured, Fault> {
    let deadline = task.deadline() + PROCESS_DEADLINE;
    let text = output(&Role::Players(task), place, deadline).await?;
    let outcome: Outcome = serde_json::from_str(&text).map_err(|error| Fault::failed("the players' figures", error))?;
    outcome.into()
}

/// Runs a role on the public side to its end; what it printed.
async fn output(role: &Role, place: &Place, deadline: Duration) -> Result<String, Fault> {
    let mut command = tokio::process::Command::from(command(role, place, Side::Public)?);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(deadline, command.output()).await {
        Ok(output) => output?,
        Err(_) => return Err(Fault::Failed("the players are stuck".to_owned())),
    };
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(Fault::Failed(text.trim().to_owned()))
        }
    }
}

//! The other roles of the bench's program: `--role NAME ...` instead of flags. They are started by the bench in the namespaces, never by hand.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::measured::Outcome;
use super::players::{self, Task};
use super::router;
use crate::fault::Fault;
use crate::knock;
use crate::origin::Origin;

/// One try of the way from player to origin: some round trips of the longest line, with losses among them.
const PATIENCE: Duration = Duration::from_secs(3);

/// What [`Role::Knock`] finds out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Doors {
    /// Where TCP players connect.
    pub tcp: SocketAddr,
    /// Where UDP players send, if any.
    pub udp: Option<SocketAddr>,
}

/// Which part a process plays.
#[derive(Debug)]
pub enum Role {
    /// The line itself; the names of its devices.
    Router([String; 2]),
    /// The game server. Says so when it is ready, and serves until it is killed.
    Origin(SocketAddr),
    /// Waits until players get through.
    Knock(Doors),
    /// Plays, and prints an [`Outcome`].
    Players(Task),
}

impl Role {
    /// The role that the words after the program's name ask for; none when they are flags of the bench itself.
    pub fn parse(words: &[String]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["--role", "router", first, second] => Some(Self::Router([first.to_owned(), second.to_owned()])),
            ["--role", "origin", address] => address.parse().ok().map(Self::Origin),
            ["--role", "knock", doors] => serde_json::from_str(doors).ok().map(Self::Knock),
            ["--role", "players", task] => serde_json::from_str(task).ok().map(Self::Players),
            _ => None,
        }
    }

    /// The words that ask for it.
    pub fn words(&self) -> Vec<String> {
        let json = |task: serde_json::Result<String>| vec![task.unwrap_or_default()];
        let (name, words) = match self {
            Self::Router(devices) => ("router", devices.to_vec()),
            Self::Origin(address) => ("origin", vec![address.to_string()]),
            Self::Knock(doors) => ("knock", json(serde_json::to_string(doors))),
            Self::Players(task) => ("players", json(serde_json::to_string(task))),
        };
        let head = ["--role", name].map(str::to_owned);
        head.into_iter().chain(words).collect()
    }

    /// Plays it to its end.
    pub fn play(self) -> ExitCode {
        match self.work() {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::FAILURE
            }
        }
    }

    fn work(self) -> Result<(), Fault> {
        if let Self::Router([first, second]) = &self {
            return router::run([first, second]);
        }
        // One thread each: there are more processes than cores already.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Router(_) => Ok(()),
                Self::Origin(address) => {
                    let _origin = Origin::start_at(address).await?;
                    println!("ready");
                    std::future::pending().await
                }
                Self::Knock(doors) => knock::until_open(Some(doors.tcp), doors.udp, PATIENCE, || Ok(())).await,
                Self::Players(task) => {
                    let outcome = Outcome::from(players::run(&task).await);
                    println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
                    Ok(())
                }
            }
        })
    }
}

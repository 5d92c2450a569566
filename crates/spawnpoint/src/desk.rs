//! What a running relay or agent can be asked for on its own machine: by its socket, or by a signal.
//!
//! On Windows nothing can be asked yet, so requests never come.

use std::path::Path;
use std::time::Duration;

/// A request, with whom to answer.
pub struct Request {
    pub asked: Asked,
    pub answer: Answer,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Hand everything to a new process of the program as it is now.
    Upgrade,
    /// Take nobody new, and end once everybody has left, or after this long; `None` is what the configuration says.
    Drain(Option<Duration>),
    /// Who plays right now.
    Players,
    /// Something about the host's bans.
    Bans(Banning),
}

/// What is asked about bans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Banning {
    /// All of them.
    List,
    /// Let nobody from there in, for as many seconds, for a reason.
    Set(String, Option<u32>, String),
    /// Let them in again.
    Lift(String),
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use spawnpoint_net::{LocalError, LocalReply, LocalServer};
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{Asked, Banning, Request};

    /// Takes requests.
    pub struct Desk {
        socket: Option<LocalServer>,
        upgrade: Signal,
    }

    /// Whoever asked; nobody when it was a signal.
    pub struct Answer(Option<LocalReply>);

    impl Desk {
        /// Takes requests by SIGUSR2, which before this ends the process the hard way.
        pub fn open() -> io::Result<Self> {
            Ok(Self {
                socket: None,
                upgrade: signal(SignalKind::user_defined2())?,
            })
        }

        /// Takes requests at the socket `path` too.
        pub fn listen(&mut self, path: &Path, succeeds: bool) -> Result<(), LocalError> {
            let socket = match succeeds {
                true => LocalServer::take_over(path),
                false => LocalServer::bind(path),
            };
            match socket {
                Ok(socket) => self.socket = Some(socket),
                // Players play on, and SIGUSR2 still works.
                Err(error) if succeeds => {
                    tracing::error!(
                        error = spawnpoint_ops::describe(&error),
                        "nothing can be asked at the socket"
                    );
                }
                Err(error) => return Err(error),
            }
            Ok(())
        }

        /// Waits for the next request. Cancel-safe.
        pub async fn next(&mut self) -> Request {
            loop {
                let local = async {
                    match &mut self.socket {
                        Some(socket) => socket.accept().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    Some(()) = self.upgrade.recv() => {
                        return Request { asked: Asked::Upgrade, answer: Answer(None) };
                    }
                    request = local => match understand(&request.line) {
                        Some(asked) => return Request { asked, answer: Answer(Some(request.reply)) },
                        None => request.reply.unknown().await,
                    },
                }
            }
        }
    }

    impl Answer {
        /// Says how it goes.
        pub async fn say(&mut self, text: &str) {
            if let Some(reply) = &mut self.0 {
                reply.say(text).await;
            }
        }

        /// Says how it went.
        pub async fn finish(self, result: Result<String, String>) {
            if let Some(reply) = self.0 {
                reply.finish(result).await;
            }
        }
    }

    fn understand(line: &str) -> Option<Asked> {
        let mut words = line.split_ascii_whitespace();
        if let Some(rest) = line.strip_prefix("ban ") {
            let mut parts = rest.splitn(3, ' ');
            let (what, lasts) = (parts.next()?.to_owned(), parts.next()?);
            let lasts = (lasts != "-").then(|| lasts.parse()).transpose().ok()?;
            return Some(Asked::Bans(Banning::Set(
                what,
                lasts,
                parts.next().unwrap_or_default().to_owned(),
            )));
        }
        match (words.next()?, words.next()) {
            ("bans", None) => Some(Asked::Bans(Banning::List)),
            ("unban", Some(what)) => Some(Asked::Bans(Banning::Lift(what.to_owned()))),
            ("upgrade", None) => Some(Asked::Upgrade),
            ("players", None) => Some(Asked::Players),
            ("drain", None) => Some(Asked::Drain(None)),
            ("drain", Some(millis)) => Some(Asked::Drain(Some(Duration::from_millis(millis.parse().ok()?)))),
            _ => None,
        }
    }
}

#[cfg(unix)]
pub use unix::{Answer, Desk};

/// Takes requests, which never come.
#[cfg(not(unix))]
pub struct Desk;

/// Nobody.
#[cfg(not(unix))]
pub struct Answer;

#[cfg(not(unix))]
impl Desk {
    pub fn open() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub fn listen(&mut self, _: &Path, _: bool) -> std::io::Result<()> {
        Ok(())
    }

    pub async fn next(&mut self) -> Request {
        std::future::pending().await
    }
}

#[cfg(not(unix))]
impl Answer {
    pub async fn say(&mut self, _: &str) {}

    pub async fn finish(self, _: Result<String, String>) {}
}

/// Asks the process whose socket is `path`, and prints what it says meanwhile; returns its last word.
#[cfg(unix)]
pub async fn ask(path: &Path, request: &str, deadline: Duration) -> anyhow::Result<String> {
    Ok(spawnpoint_net::ask(path, request, deadline, |text| crate::output::say(text)).await?)
}

/// As on Unix, where it works.
#[cfg(not(unix))]
pub async fn ask(_: &Path, request: &str, _: Duration) -> anyhow::Result<String> {
    anyhow::bail!("`{request}` does not work on Windows: stop the process and start the new one")
}

//! The crowd's processes: the game server beside the agent and the players beside the relay, each where its packets should start.
//!
//! `survive role` reads orders from standard input and prints one answer a line on standard output, until its input ends. One process can be both.

use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::crowd::{Origin, Players, Size, players};

/// The word that makes the program this.
pub const WORD: &str = "role";

/// The admin listener answers at once.
const PAGE_DEADLINE: Duration = Duration::from_secs(5);

/// What to do. Orders are carried out one after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Open the game server at this address; answers its TCP and UDP addresses.
    Open(IpAddr),
    /// Answers the game server's `Books`.
    Books,
    /// Let players in.
    Enter {
        /// Where TCP players go.
        tcp: SocketAddr,
        /// Where UDP players go.
        udp: SocketAddr,
        /// How many.
        size: Size,
    },
    /// Wait until everybody plays; answers whether that was before the deadline.
    Settle(Duration),
    /// Count pauses from now on.
    Mark,
    /// Wait until everybody who is in has heard something since the mark; answers whether that was before the deadline.
    Back(Duration),
    /// Answers the players' `Report`.
    Report,
    /// Leave tidily; answers the last `Report`.
    Leave,
    /// Try to enter until it works; answers how long it took, or null at the deadline.
    Probe {
        /// Where TCP players go.
        tcp: SocketAddr,
        /// When to give up.
        deadline: Duration,
    },
    /// Answers a page of the relay's admin listener.
    Page {
        /// Where it is.
        admin: SocketAddr,
        /// Which page.
        path: String,
    },
}

#[derive(Default)]
struct Role {
    origin: Option<Origin>,
    players: Option<Players>,
    probes: u32,
}

/// Plays a role until standard input ends.
pub async fn run() {
    let (sender, mut orders) = mpsc::channel(16);
    // Reading standard input blocks a thread; it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut role = Role::default();
    while let Some(line) = orders.recv().await {
        let answer = match serde_json::from_str(&line) {
            Ok(order) => role.carry_out(order).await,
            Err(error) => Err(error.to_string()),
        };
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(text) => json!({ "error": text }),
        };
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{answer}").and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

impl Role {
    async fn carry_out(&mut self, order: Order) -> Result<Value, String> {
        let nobody = || "nobody has entered".to_owned();
        let value = match order {
            Order::Open(address) => {
                let origin = Origin::start(address).await.map_err(|error| error.to_string())?;
                let addresses = json!([origin.tcp, origin.udp]);
                self.origin = Some(origin);
                addresses
            }
            Order::Books => json!(self.origin.as_ref().ok_or("the game server is not open")?.books()),
            Order::Enter { tcp, udp, size } => {
                self.players = Some(Players::start(1, tcp, udp, size).await);
                Value::Null
            }
            Order::Settle(deadline) => json!(self.players.as_ref().ok_or_else(nobody)?.settle(deadline).await),
            Order::Mark => {
                self.players.as_ref().ok_or_else(nobody)?.mark();
                Value::Null
            }
            Order::Back(deadline) => json!(self.players.as_ref().ok_or_else(nobody)?.back(deadline).await),
            Order::Report => json!(self.players.as_ref().ok_or_else(nobody)?.report()),
            Order::Leave => json!(self.players.take().ok_or_else(nobody)?.stop().await),
            Order::Probe { tcp, deadline } => {
                self.probes += 1;
                json!(players::probe(1 + self.probes, tcp, deadline).await)
            }
            Order::Page { admin, path } => json!(page(admin, &path).await?),
        };
        Ok(value)
    }
}

async fn page(admin: SocketAddr, path: &str) -> Result<String, String> {
    let get = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match tokio::time::timeout(PAGE_DEADLINE, get).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(format!("{path} of {admin}: {error}")),
        Err(_) => Err(format!("{path} of {admin}: no answer")),
    }
}

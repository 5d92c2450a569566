//! Minecraft: Bedrock Edition's server list, both ends, as far as the tunnel can tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use spawnpoint_sniff::raknet::{Listing, Ping, Pong};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::{loopback, soon};

/// Comes back in the answer.
const TIME: u64 = 4711;

/// A game server that answers list pings: three of twenty play.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts one that calls itself `motd`.
    pub async fn start(motd: &'static str) -> Self {
        Self::start_at(loopback(0), motd).await
    }

    /// Starts one at an address.
    pub async fn start_at(address: SocketAddr, motd: &'static str) -> Self {
        let socket = UdpSocket::bind(address).await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::default());
        let task = tokio::spawn(serve(socket, motd, Arc::clone(&asked)));
        Self { address, asked, task }
    }

    /// How often it was pinged.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends it; its port is closed when this returns.
    pub async fn stop(self) {
        self.task.abort();
        // It was ended, and that is what this waits for.
        let _ = self.task.await;
    }
}

async fn serve(socket: UdpSocket, motd: &'static str, asked: Arc<AtomicUsize>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(ping) = Ping::decode(&buffer[..length]) else {
            continue;
        };
        asked.fetch_add(1, Ordering::Relaxed);
        let listing = Listing {
            edition: "MCPE".into(),
            motd: motd.into(),
            protocol: 800,
            version: "1.21.80".into(),
            online: 3,
            max: 20,
            ..Listing::default()
        };
        let pong = Pong {
            time: ping.time,
            server: 7,
            id: listing.to_string(),
        };
        socket.send_to(&pong.encode().unwrap(), from).await.unwrap();
    }
}

/// A player's list ping.
pub fn ping() -> Bytes {
    Ping {
        time: TIME,
        client: Some(1),
        if_open: false,
    }
    .encode()
}

/// What a player's list shows; asks again until there is an answer.
pub async fn look(public: SocketAddr) -> Listing {
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    socket.connect(public).await.unwrap();
    let mut buffer = [0; 1500];
    let asked = soon("a pong", async {
        loop {
            // Nobody listens while a relay restarts.
            let _ = socket.send(&ping()).await;
            let answer = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await;
            if let Ok(Ok(length)) = answer {
                return length;
            }
        }
    });
    let length = asked.await;
    let pong = Pong::decode(&buffer[..length]).unwrap();
    assert_eq!(pong.time, TIME);
    Listing::parse(&pong.id).unwrap()
}

/// What a player's list shows as soon as it is so.
pub async fn look_until(public: SocketAddr, is_so: impl Fn(&Listing) -> bool) -> Listing {
    soon("the entry says so", async {
        loop {
            let entry = look(public).await;
            if is_so(&entry) {
                return entry;
            }
        }
    })
    .await
}

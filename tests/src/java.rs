//! Minecraft: Java Edition, both ends, as far as the tunnel can tell.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BytesMut};
use spawnpoint_sniff::Progress;
use spawnpoint_sniff::minecraft::{First, Handshake, Listing, Next, login, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{connect_from, loopback, soon};

/// What a server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Every byte up to the first answer.
    pub bytes: Vec<u8>,
    /// What for.
    pub next: Next,
    /// Who the server thinks it was.
    pub peer: SocketAddr,
}

/// A game server that shows `motd` in the server list, and refuses logins with it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts one.
    pub async fn start(motd: &'static str) -> Self {
        Self::start_at(loopback(0), motd).await
    }

    /// Starts one at an address.
    pub async fn start_at(address: SocketAddr, motd: &'static str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = server.asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                tokio::spawn(serve(socket, peer, motd, asked.clone()));
            }
        });
        server
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for this.
    pub fn count(&self, next: Next) -> usize {
        self.asked().iter().filter(|asked| asked.next == next).count()
    }
}

async fn serve(mut socket: TcpStream, peer: SocketAddr, motd: &'static str, asked: Arc<Mutex<Vec<Asked>>>) {
    let (mut held, mut bytes) = (BytesMut::new(), Vec::new());
    let Some(first) = take(&mut socket, &mut held, &mut bytes, First::decode).await else {
        return;
    };
    let First::Handshake(handshake) = first else { return };
    let mut reply = BytesMut::new();
    let note = |bytes: &Vec<u8>| {
        asked.lock().unwrap().push(Asked {
            bytes: bytes.clone(),
            next: handshake.next,
            peer,
        });
    };
    if handshake.next != Next::Status {
        let Some(_) = take(&mut socket, &mut held, &mut bytes, login::Start::decode).await else {
            return;
        };
        note(&bytes);
        login::encode_disconnect(motd, &mut reply);
        let _ = socket.write_all(&reply).await;
        return;
    }
    while let Some(query) = take(&mut socket, &mut held, &mut bytes, status::Query::decode).await {
        let answer = match query {
            status::Query::Request => {
                note(&bytes);
                status::Reply::Listing(Listing {
                    version: "1.21.4".into(),
                    protocol: handshake.protocol,
                    online: 3,
                    max: 20,
                    motd: motd.into(),
                    icon: Some("data:image/png;base64,AAAA".into()),
                    ..Listing::default()
                })
            }
            status::Query::Ping(number) => status::Reply::Pong(number),
        };
        answer.encode(&mut reply);
        if socket.write_all(&reply.split()).await.is_err() {
            return;
        }
    }
}

async fn take<T, E>(
    socket: &mut TcpStream,
    held: &mut BytesMut,
    bytes: &mut Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<Progress<T>, E>,
) -> Option<T> {
    loop {
        if let Progress::Done { value, consumed } = decode(held).ok()? {
            bytes.extend_from_slice(&held[..consumed]);
            held.advance(consumed);
            return Some(value);
        }
        if socket.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
}

/// The first bytes of a player who typed `host`.
pub fn hello(host: &str, next: Next) -> BytesMut {
    let mut bytes = BytesMut::new();
    let handshake = Handshake {
        protocol: 769,
        host: host.to_owned(),
        port: 25565,
        next,
    };
    handshake.encode(&mut bytes).unwrap();
    bytes
}

/// What a player who joins says at once.
pub fn join(host: &str) -> BytesMut {
    let mut bytes = hello(host, Next::Login);
    login::Start { name: "alice".into() }.encode(769, &mut bytes).unwrap();
    bytes
}

/// Joins at `address` as a player who typed `host`, and returns the words of the screen that the game shows then.
pub async fn words(address: SocketAddr, host: &str) -> String {
    words_to([127, 0, 0, 1], address, host).await
}

/// As [`words`], for a player at another address of this machine.
pub async fn words_to(from: [u8; 4], address: SocketAddr, host: &str) -> String {
    let mut socket = connect_from(from, address).await.unwrap();
    socket.write_all(&join(host)).await.unwrap();
    told(&mut socket).await
}

/// As [`words`], for a player whose game says handshake and name one after the other.
pub async fn words_in_pieces(address: SocketAddr, host: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let first = hello(host, Next::Login);
    socket.write_all(&first).await.unwrap();
    // Nobody tells that the first has been read by itself, and a machine so busy that it is not makes this a player as in [`words`].
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    socket.write_all(&join(host)[first.len()..]).await.unwrap();
    told(&mut socket).await
}

/// The words of the screen that a player who joins is shown.
async fn told(socket: &mut TcpStream) -> String {
    match take(socket, &mut BytesMut::new(), &mut Vec::new(), login::Reply::decode).await {
        Some(login::Reply::Disconnect(words)) => words,
        other => panic!("a player who joins is told {other:?}"),
    }
}

/// Looks at `address` as the server list of a player does who typed `host`.
pub async fn look(address: SocketAddr, host: &str) -> Listing {
    soon("the server list has an entry", try_look(address, host))
        .await
        .expect("an entry")
}

/// As [`look`], or nothing when there is no answer.
pub async fn try_look(address: SocketAddr, host: &str) -> Option<Listing> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let mut query = hello(host, Next::Status);
    status::Query::Request.encode(&mut query);
    status::Query::Ping(7).encode(&mut query);
    socket.write_all(&query).await.ok()?;
    let mut held = BytesMut::new();
    let status::Reply::Listing(listing) = take(&mut socket, &mut held, &mut Vec::new(), status::Reply::decode).await?
    else {
        return None;
    };
    let status::Reply::Pong(7) = take(&mut socket, &mut held, &mut Vec::new(), status::Reply::decode).await? else {
        return None;
    };
    Some(listing)
}

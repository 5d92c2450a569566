//! The crowd's game server: a TCP port on which a player's first bytes say what it wants, and a UDP port that answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use spawnpoint_net::TaskScope;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::books::{Books, Entry};
use super::flow::Mappings;
use super::hello::{self, Game};
use super::stream::{Pace, Side, Talk};
use super::tape::{Kind, Tape};

/// What a game server sends a tick.
pub const FRAME: usize = 1024;

/// A running game server; it ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where TCP players go.
    pub tcp: SocketAddr,
    /// Where UDP players go.
    pub udp: SocketAddr,
    streams: Arc<Mutex<Vec<Arc<Tape>>>>,
    flows: Arc<Mappings>,
    _scope: TaskScope,
}

impl Origin {
    /// Serves on free ports of `address`.
    ///
    /// # Errors
    /// When there are none.
    pub async fn start(address: IpAddr) -> io::Result<Self> {
        let (listener, socket) = (
            TcpListener::bind((address, 0)).await?,
            UdpSocket::bind((address, 0)).await?,
        );
        let scope = TaskScope::new(&CancellationToken::new());
        let (streams, flows) = (Arc::<Mutex<Vec<Arc<Tape>>>>::default(), Arc::<Mappings>::default());
        let origin = (
            listener.local_addr()?,
            socket.local_addr()?,
            streams.clone(),
            flows.clone(),
        );
        let players = TaskScope::new(scope.token());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                players.spawn(serve(stream, streams.clone(), players.token().clone()));
            }
        });
        scope.spawn(async move { flows.serve(&socket).await });
        let (tcp, udp, streams, flows) = origin;
        Ok(Self {
            tcp,
            udp,
            streams,
            flows,
            _scope: scope,
        })
    }

    /// What the server knows of its players.
    pub fn books(&self) -> Books {
        let streams: Vec<Entry> = self
            .streams
            .lock()
            .unwrap()
            .iter()
            .map(|tape| Entry::stream(tape))
            .collect();
        let flows = self.flows.notes();
        let flows = flows.into_iter().map(|(id, notes, moved)| Entry { id, notes, moved });
        Books {
            entries: streams.into_iter().chain(flows).collect(),
        }
    }
}

async fn serve(mut stream: TcpStream, streams: Arc<Mutex<Vec<Arc<Tape>>>>, leave: CancellationToken) {
    let mut greeting = [0; hello::LENGTH];
    // Who leaves without a word was a probe, or came while the relay went.
    if stream.read_exact(&mut greeting).await.is_err() {
        return;
    }
    let Some((id, game)) = hello::decode(&greeting) else {
        return;
    };
    let (kind, pace) = match game {
        Game::Tick => (Kind::Tick, Pace::Frames(FRAME)),
        Game::Bulk { rate: 0 } => (Kind::Bulk, Pace::Full),
        Game::Bulk { rate } => (Kind::Bulk, Pace::Rate(rate)),
    };
    let tape = Arc::new(Tape::new(id, kind));
    streams.lock().unwrap().push(tape.clone());
    let talk = Talk {
        tape: &tape,
        side: Side::Server,
        pace,
        first: Instant::now(),
        leave: &leave,
    };
    talk.run(stream).await;
}

//! Game servers, each in a process of its own.

use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{pinned, raise_descriptors};
use crate::fault::Fault;

/// The word by which a server is started.
pub const WORD: &str = "--serve";

/// A server in a process of its own, so that its sockets are not counted with the players'.
#[derive(Debug)]
pub struct Server {
    process: std::process::Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not say where it is.
    pub fn start() -> Result<Self, Fault> {
        let mut command = pinned(&std::env::current_exe()?, 0);
        let mut process = command
            .arg(WORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Fault::failed("starting a server", error))?;
        let mut line = String::new();
        if let Some(said) = process.stdout.take() {
            std::io::BufReader::new(said).read_line(&mut line)?;
        }
        let address = line.trim().parse();
        let address = address.map_err(|error| Fault::failed("starting a server", error))?;
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says back what it hears over TCP, and takes packets at the same port, until its standard input ends.
///
/// # Errors
/// When there is no port for it.
pub fn serve() -> Result<(), Fault> {
    raise_descriptors();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let packets = UdpSocket::bind(address)?;
    // It takes packets and says nothing, as a game server does to whoever does not go on.
    std::thread::spawn(move || while packets.recv_from(&mut [0; 2_048]).is_ok() {});
    listener.set_nonblocking(true)?;
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            let mut talking = tokio::task::JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                talking.spawn_local(async move {
                    let mut buffer = [0; 256];
                    while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                        if socket.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    });
    println!("{address}");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

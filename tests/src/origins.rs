//! Game servers of all tempers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::lab::loopback;

/// A TCP server that treats each player with `play`.
pub async fn tcp<F>(play: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(play(socket));
        }
    });
    address
}

/// A TCP server that says back what it hears, and finishes when its player does.
pub async fn echo() -> SocketAddr {
    tcp(|mut socket| async move {
        let (mut reader, mut writer) = socket.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    })
    .await
}

/// A TCP server that accepts and then neither reads nor writes.
pub async fn silent() -> SocketAddr {
    tcp(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await
}

/// A TCP server that sends `length` bytes to whoever comes and then finishes.
pub async fn sender(bytes: Arc<Vec<u8>>) -> SocketAddr {
    tcp(move |mut socket| {
        let bytes = bytes.clone();
        async move {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let _ = socket.read(&mut [0; 1]).await;
        }
    })
    .await
}

/// A UDP server that says back what it hears; returns its address and whom it has heard.
pub async fn udp_echo() -> (SocketAddr, Arc<Mutex<Vec<SocketAddr>>>) {
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    let (address, heard) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let list = heard.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let is_new = !list.lock().unwrap().contains(&from);
            if is_new {
                list.lock().unwrap().push(from);
            }
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    (address, heard)
}

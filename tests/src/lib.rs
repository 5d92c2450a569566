//! What the end-to-end tests share: a relay with agents on loopback, game servers of all tempers, and waiting for things with a deadline.
//!
//! Everything runs in the test's process through the same entry points that the binary uses. Ports are free ones, nothing leaves loopback.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    reason = "a test's helper panics as its report, and its tasks end with the test's runtime"
)]

pub mod bedrock;
pub mod crowd;
pub mod dns;
mod heard;
pub mod java;
mod lab;
pub mod origins;
pub mod path;
#[cfg(unix)]
pub mod survive;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub use heard::Heard;
pub use lab::{Host, Lab, file, free_ports, loopback};

/// Nothing that works takes this long, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `future`, which is `what`, with a deadline.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Looks again and again until `is_so`, which is `what`, with a deadline.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Bytes that differ everywhere, from a seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.extend(((state >> 16) ^ state).to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Whether a server answers somebody who comes to `public`; who is let in stays.
pub async fn comes_in(public: SocketAddr) -> Option<TcpStream> {
    comes_from([127, 0, 0, 1], public).await
}

/// As [`comes_in`], from another address of this machine.
pub async fn comes_from(from: [u8; 4], public: SocketAddr) -> Option<TcpStream> {
    // Whoever is turned away may find that out while connecting or writing.
    let mut player = connect_from(from, public).await.ok()?;
    let _ = player.write_all(b"hello").await;
    let answered = soon("a player is answered or cut off", player.read_exact(&mut [0; 5])).await;
    answered.is_ok().then_some(player)
}

/// A connection to `public` from another address of this machine.
///
/// # Errors
/// When it is refused.
pub async fn connect_from(from: [u8; 4], public: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(public).await
}

//! The first steps of players: connecting, and finding out whether anybody answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::origin;

/// A subject that has not come up by then never will.
pub const START_DEADLINE: Duration = Duration::from_secs(20);

/// Waits until TCP players get through at `tcp` and UDP players at `udp`, where there are any. `patience` is for one try; `look` is asked between tries.
///
/// # Errors
/// What `look` says, or [`Fault::Failed`] when nobody gets through within [`START_DEADLINE`].
pub async fn until_open(
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
    patience: Duration,
    mut look: impl FnMut() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let until = Instant::now() + START_DEADLINE;
    while let Some(tcp) = tcp {
        if in_time(patience, greet(tcp)).await {
            break;
        }
        look()?;
        pause(until).await?;
    }
    while let Some(udp) = udp {
        if in_time(patience, echo(udp)).await {
            break;
        }
        look()?;
        pause(until).await?;
    }
    Ok(())
}

/// Connects a TCP player who has been answered once.
///
/// # Errors
/// [`Fault::Mismatch`] when the answer is wrong, [`Fault::Failed`] when there is none.
pub async fn greet(address: SocketAddr) -> Result<TcpStream, Fault> {
    let mut stream = join(address).await?;
    let doing = "one byte each way";
    stream
        .write_u8(origin::BYTE)
        .await
        .map_err(|error| Fault::failed(doing, error))?;
    match stream.read_u8().await.map_err(|error| Fault::failed(doing, error))? {
        origin::BYTE_ANSWER => Ok(stream),
        other => Err(Fault::Mismatch(format!("byte {other} for an answer"))),
    }
}

/// Connects a TCP player.
///
/// # Errors
/// [`Fault::Failed`] when nobody takes it.
pub async fn join(address: SocketAddr) -> Result<TcpStream, Fault> {
    let connect = TcpStream::connect(address).await;
    let stream = connect.map_err(|error| Fault::failed(&format!("connecting to {address}"), error))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn echo(address: SocketAddr) -> Result<(), Fault> {
    let socket = origin::packet_socket((Ipv4Addr::UNSPECIFIED, 0).into()).await?;
    socket.connect(address).await?;
    socket.send(b"are you there").await?;
    socket.recv(&mut [0; 64]).await?;
    Ok(())
}

async fn in_time<T>(patience: Duration, attempt: impl Future<Output = Result<T, Fault>>) -> bool {
    matches!(tokio::time::timeout(patience, attempt).await, Ok(Ok(_)))
}

async fn pause(until: Instant) -> Result<(), Fault> {
    if Instant::now() > until {
        return Err(Fault::Failed("it does not come up in time".to_owned()));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

//! Talking to a player who does not get in: in the game's own way, to the end, within a deadline. What to say is decided elsewhere.

use std::time::Duration;

use spawnpoint_net::abort;
use spawnpoint_sniff::minecraft::{LEGACY_PAUSE, Refusal, Step, Then};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A list ping or a login takes a few round trips; whoever needs longer does not wait for words.
const DEADLINE: Duration = Duration::from_secs(10);

/// After the words, what the player still sends is read for this long, since closing over unread bytes would wipe the words out.
const LINGER: Duration = Duration::from_secs(1);

/// Whether we know how to speak to the players of `game`.
pub(crate) fn has_words(game: Option<&str>) -> bool {
    game == Some("minecraft")
}

/// Tells the player what `refusal` has to say, as the game would, then closes; `head` is what the player has already said.
pub(crate) async fn tell(mut socket: TcpStream, refusal: Refusal, head: &[u8]) {
    let told = tokio::time::timeout(DEADLINE, converse(&mut socket, refusal, head)).await;
    match told {
        Ok(Ok(())) => {}
        _ => abort(&socket),
    }
}

/// Says `words`, then closes.
pub(crate) async fn say(mut socket: TcpStream, words: &[u8]) {
    let said = async {
        socket.write_all(words).await?;
        part(&mut socket).await
    };
    match tokio::time::timeout(DEADLINE, said).await {
        Ok(Ok(())) => {}
        _ => abort(&socket),
    }
}

/// Says `words` on a socket that others see too.
pub(crate) async fn write(socket: &TcpStream, mut words: &[u8]) -> std::io::Result<()> {
    while !words.is_empty() {
        socket.writable().await?;
        match socket.try_write(words) {
            Ok(written) => words = &words[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn converse(socket: &mut TcpStream, mut refusal: Refusal, head: &[u8]) -> std::io::Result<()> {
    let mut input = [0; 1024];
    let mut step = refusal.on_bytes(head);
    if step.then == Then::ReadBriefly {
        // Whoever has read this much has waited for more.
        step = refusal.on_pause();
    }
    loop {
        let Step { reply, then } = step;
        socket.write_all(&reply).await?;
        step = match then {
            Then::Read => match socket.read(&mut input).await? {
                0 => return Ok(()),
                length => refusal.on_bytes(&input[..length]),
            },
            Then::ReadBriefly => match tokio::time::timeout(LEGACY_PAUSE, socket.read(&mut input)).await {
                Ok(Ok(length)) if length > 0 => refusal.on_bytes(&input[..length]),
                Ok(Err(error)) => return Err(error),
                _ => refusal.on_pause(),
            },
            Then::End(_) => break,
        };
    }
    part(socket).await
}

/// Closes a socket over which the last words have been written.
async fn part(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut input = [0; 1024];
    socket.shutdown().await?;
    let rest = async { while socket.read(&mut input).await.is_ok_and(|length| length > 0) {} };
    // A player who goes on talking has had the words by then.
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}

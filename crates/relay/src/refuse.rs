//! What a player is told who cannot enter, in the words of the game.

use std::time::Duration;

use spawnpoint_core::admission::DenyReason;
use spawnpoint_net::abort;
use spawnpoint_proto::ResetCode;
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

/// Why the origin did not take the player.
pub(crate) const fn words_for(code: ResetCode) -> &'static str {
    match code {
        ResetCode::OriginRefused => "This server is not running right now. Try again later.",
        ResetCode::OriginTimeout | ResetCode::OriginUnreachable => {
            "This server does not answer right now. Try again later."
        }
        ResetCode::TooManySessions => "This server is full.",
        _ => "This server cannot be reached right now. Try again later.",
    }
}

/// Why the relay did not take the player.
pub(crate) const fn words_for_denied(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::PlayerRate => "Too many connections from your address. Wait a moment and try again.",
        DenyReason::PlayersOfAddress => "Too many players from your address.",
        DenyReason::PlayersOfHost | DenyReason::PlayersOfRelay => "This server is full.",
        DenyReason::Draining => "This server's relay is restarting. Try again in a moment.",
        DenyReason::NoAgent => "This server's host is reconnecting. Try again in a moment.",
    }
}

/// Tells the player `words` as the game would, then closes; `head` is what the player has already said.
pub(crate) async fn tell(mut socket: TcpStream, words: &str, head: &[u8]) {
    let told = tokio::time::timeout(DEADLINE, converse(&mut socket, words, head)).await;
    match told {
        Ok(Ok(())) => {}
        _ => abort(&socket),
    }
}

async fn converse(socket: &mut TcpStream, words: &str, head: &[u8]) -> std::io::Result<()> {
    let mut refusal = Refusal::new(words);
    let mut input = [0; 1024];
    let mut step = refusal.on_bytes(head);
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
    socket.shutdown().await?;
    let rest = async { while socket.read(&mut input).await.is_ok_and(|length| length > 0) {} };
    // A player who goes on talking has had the words by then.
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}

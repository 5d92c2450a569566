//! Bytes that can be checked wherever they arrive.
//!
//! One fixed block of noise is repeated without end, and every stream or packet starts somewhere else in it. A byte that is lost, doubled, damaged,
//! out of place or another player's no longer fits its offset, and comparing costs a fraction of what hashing would: the bench should measure the
//! tunnel and not SHA-256.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::fault::Fault;

/// Prime, so that neither packets nor buffers of any usual size fit into it evenly and a shift by one of them shows.
const PERIOD: usize = 1_048_573;

/// The longest piece that can be asked for at once.
pub const MAX_PIECE: usize = 128 * 1024;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(PERIOD + MAX_PIECE);
    noise.resize_with(PERIOD, || {
        // xorshift64*: all that is asked of it is not to repeat.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    });
    noise.extend_from_within(..MAX_PIECE);
    noise
});

/// The `length` bytes at `offset`; at most [`MAX_PIECE`].
pub fn piece(offset: u64, length: usize) -> &'static [u8] {
    let start = (offset % PERIOD as u64) as usize;
    &NOISE[start..start + length]
}

/// Writes from `offset` on until the deadline has passed, then ends the stream; returns how many bytes it wrote.
///
/// # Errors
/// [`Fault::Failed`] when the stream breaks.
pub async fn write_until(stream: &mut (impl AsyncWrite + Unpin), offset: u64, until: Instant) -> Result<u64, Fault> {
    let mut sent = 0;
    while Instant::now() < until {
        stream
            .write_all(piece(offset + sent, MAX_PIECE))
            .await
            .map_err(|error| Fault::failed("sending bulk", error))?;
        sent += MAX_PIECE as u64;
    }
    stream
        .shutdown()
        .await
        .map_err(|error| Fault::failed("ending bulk", error))?;
    Ok(sent)
}

/// Reads to the end of the stream; returns how many bytes there were.
///
/// # Errors
/// [`Fault::Mismatch`] at the first byte that does not belong there, [`Fault::Failed`] when the stream breaks.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin), offset: u64) -> Result<u64, Fault> {
    read_counting(stream, offset, &AtomicU64::new(0)).await
}

/// Reads to the end of the stream, keeping the number of bytes so far in `count`, which it returns.
///
/// # Errors
/// As [`read_to_end`].
pub async fn read_counting(
    stream: &mut (impl AsyncRead + Unpin),
    offset: u64,
    count: &AtomicU64,
) -> Result<u64, Fault> {
    let mut buffer = vec![0; MAX_PIECE];
    let mut received = 0;
    loop {
        let length = stream
            .read(&mut buffer)
            .await
            .map_err(|error| Fault::failed("receiving bulk", error))?;
        if length == 0 {
            return Ok(received);
        }
        if buffer[..length] != *piece(offset + received, length) {
            return Err(Fault::Mismatch(format!("bulk within {length} bytes after {received}")));
        }
        received += length as u64;
        count.store(received, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_swapped_byte_is_noticed() {
        let mut sent = Vec::new();
        let until = Instant::now() + std::time::Duration::from_millis(5);
        let count = write_until(&mut sent, 7, until).await.unwrap();
        assert_eq!(count, sent.len() as u64);
        assert_eq!(read_to_end(&mut sent.as_slice(), 7).await.unwrap(), count);
        sent[100_000] ^= 1;
        assert!(matches!(
            read_to_end(&mut sent.as_slice(), 7).await,
            Err(Fault::Mismatch(_))
        ));
    }
}

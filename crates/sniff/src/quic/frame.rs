//! The frames of an Initial packet, of which only those with pieces of the hello matter.

use super::Violation;
use super::field::Fields;

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_WITH_ECN: u64 = 0x03;
const CRYPTO: u64 = 0x06;
const CONNECTION_CLOSE: u64 = 0x1c;

/// Hands each piece of the hello in `payload`, with its offset, to `on_piece`.
///
/// # Errors
/// [`Violation::BadFrame`] when a frame ends too early, [`Violation::UnexpectedFrame`] for one that may not be here, [`Violation::Closed`], and what
/// `on_piece` returns.
pub(super) fn read(
    payload: &[u8],
    mut on_piece: impl FnMut(u64, &[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut fields = Fields(payload);
    while !fields.0.is_empty() {
        match fields.varint().ok_or(Violation::BadFrame)? {
            PADDING | PING => {}
            kind @ (ACK | ACK_WITH_ECN) => skip_ack(&mut fields, kind == ACK_WITH_ECN).ok_or(Violation::BadFrame)?,
            CRYPTO => {
                let offset = fields.varint().ok_or(Violation::BadFrame)?;
                on_piece(offset, fields.sized().ok_or(Violation::BadFrame)?)?;
            }
            CONNECTION_CLOSE => return Err(Violation::Closed),
            _ => return Err(Violation::UnexpectedFrame),
        }
    }
    Ok(())
}

fn skip_ack(fields: &mut Fields<'_>, with_ecn: bool) -> Option<()> {
    let (_largest, _delay) = (fields.varint()?, fields.varint()?);
    let ranges = fields.varint()?;
    let _first = fields.varint()?;
    // A count that is too high ends at the end of the packet.
    for _ in 0..ranges {
        let (_gap, _size) = (fields.varint()?, fields.varint()?);
    }
    if with_ecn {
        let _counts = [fields.varint()?, fields.varint()?, fields.varint()?];
    }
    Some(())
}

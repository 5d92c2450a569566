//! The datagram from which a lost write of a stream can be had again.
//!
//! ```text
//! 0      1       2                                                    behind the last write
//! +------+-------+----------------------------------------------------+--------------------------------+
//! | 0x40 | count | `count` times: session varint, offset u32, len u16 | parity, as long as the longest |
//! +------+-------+----------------------------------------------------+--------------------------------+
//! varint: seven bits a byte, the lowest first; the upper bit says that another byte follows
//! offset: the lower half of where the write begins in its session's direction; the receiver knows the rest
//! ```
//! The upper half of the first byte is the kind of the datagram, as in [`crate::datagram`]. The parity is the XOR of the writes, each filled up with
//! zeros: who has all of them but one has that one too. A repair of a single write is a plain copy of it. What a [`Draft`] lets in is what
//! [`Repair::decode`] takes, so one end cannot make what the other refuses.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{SessionId, Violation};

/// Writes that one repair covers at most: with more, two of them are lost too often.
pub const MAX_WRITES: usize = 8;

/// The largest write that is covered, in bytes: with its header it fits into a datagram of 1,200 bytes.
pub const MAX_WRITE: usize = 1_100;

/// The kind of the datagram, where [`crate::datagram`] has its own.
const KIND: u8 = 4;

/// The bytes before the first write: kind and count.
const PREFIX: usize = 2;

/// Bytes of the largest varint.
const MAX_VARINT: u32 = u64::BITS.div_ceil(7);

/// One write that a repair covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Covered {
    /// The session that it is part of.
    pub session: SessionId,
    /// The lower 32 bits of where it begins.
    pub offset: u32,
    /// Its bytes, from 1 to [`MAX_WRITE`].
    pub length: u16,
}

/// The writes of a repair, in place: taking one off the wire allocates nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Writes {
    items: [Covered; MAX_WRITES],
    count: usize,
}

impl Default for Writes {
    fn default() -> Self {
        let none = Covered {
            session: SessionId(0),
            offset: 0,
            length: 0,
        };
        Self {
            items: [none; MAX_WRITES],
            count: 0,
        }
    }
}

impl Writes {
    fn as_slice(&self) -> &[Covered] {
        &self.items[..self.count]
    }

    fn push(&mut self, write: Covered) {
        self.items[self.count] = write;
        self.count += 1;
    }
}

/// A repair as it came off the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    writes: Writes,
    parity: Bytes,
}

/// Whether a datagram is a repair, and no business of [`crate::datagram`].
pub fn is_repair(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|bits| bits >> 4 == KIND)
}

impl Repair {
    /// Reads a datagram; the parity stays a slice of it.
    ///
    /// # Errors
    /// [`Violation::MalformedRepair`] for a cut header, no write or more than [`MAX_WRITES`], a write that is empty or beyond [`MAX_WRITE`], and a
    /// parity that is not as long as the longest write.
    pub fn decode(mut datagram: Bytes) -> Result<Self, Violation> {
        const BAD: Violation = Violation::MalformedRepair;
        if datagram.try_get_u8().map_err(|_| BAD)? != KIND << 4 {
            return Err(BAD);
        }
        let count = usize::from(datagram.try_get_u8().map_err(|_| BAD)?);
        if !(1..=MAX_WRITES).contains(&count) {
            return Err(BAD);
        }
        let (mut writes, mut longest) = (Writes::default(), 0);
        for _ in 0..count {
            let write = Covered {
                session: SessionId(get_varint(&mut datagram).ok_or(BAD)?),
                offset: datagram.try_get_u32().map_err(|_| BAD)?,
                length: datagram.try_get_u16().map_err(|_| BAD)?,
            };
            let length = usize::from(write.length);
            if !(1..=MAX_WRITE).contains(&length) {
                return Err(BAD);
            }
            longest = longest.max(length);
            writes.push(write);
        }
        if datagram.len() != longest {
            return Err(BAD);
        }
        Ok(Self {
            writes,
            parity: datagram,
        })
    }

    /// The writes that it covers, at least one.
    pub fn writes(&self) -> &[Covered] {
        self.writes.as_slice()
    }

    /// The XOR of the writes, as long as the longest.
    pub const fn parity(&self) -> &Bytes {
        &self.parity
    }

    /// The same with a parity of its own, to be kept: a slice would keep the whole batch alive that it arrived in.
    pub fn detach(self) -> Self {
        Self {
            parity: Bytes::copy_from_slice(&self.parity),
            ..self
        }
    }
}

/// A repair that is being put together.
#[derive(Debug, Default)]
pub struct Draft {
    writes: Writes,
    parity: Vec<u8>,
}

impl Draft {
    /// Covers one more write, if the datagram stays within `max` bytes; returns whether it is covered.
    ///
    /// A session is covered with one stretch of bytes: its next write is joined to that or refused. The receiver gets a session's bytes in order, so of
    /// two stretches it would miss both when the first is lost.
    pub fn try_add(&mut self, session: SessionId, offset: u64, bytes: &[u8], max: usize) -> bool {
        let known = self.writes.as_slice().iter().position(|write| write.session == session);
        // Of an offset the lower half is enough here too.
        let fresh = Covered {
            session,
            offset: offset as u32,
            length: 0,
        };
        let (at, write) = match known {
            Some(at) => (at, self.writes.items[at]),
            None => (self.writes.count, fresh),
        };
        let start = usize::from(write.length);
        let end = start + bytes.len();
        let follows = write.offset.wrapping_add(write.length.into()) == fresh.offset;
        if bytes.is_empty() || end > MAX_WRITE || at == MAX_WRITES || !follows {
            return false;
        }
        let header = if known.is_none() { encoded_len(&fresh) } else { 0 };
        if self.header_len() + header + self.parity.len().max(end) > max {
            return false;
        }
        if self.parity.len() < end {
            self.parity.resize(end, 0);
        }
        xor(&mut self.parity[start..], bytes);
        if known.is_none() {
            self.writes.push(fresh);
        }
        self.writes.items[at].length = end as u16;
        true
    }

    /// The writes that it covers so far.
    pub fn writes(&self) -> &[Covered] {
        self.writes.as_slice()
    }

    /// Whether it covers nothing yet.
    pub const fn is_empty(&self) -> bool {
        self.writes.count == 0
    }

    /// How many bytes [`Draft::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        self.header_len() + self.parity.len()
    }

    /// Appends the datagram to `out`. An empty draft is no repair: a decoder refuses it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        out.put_u8(KIND << 4);
        out.put_u8(self.writes.count as u8);
        for write in self.writes() {
            put_varint(out, write.session.0);
            out.put_u32(write.offset);
            out.put_u16(write.length);
        }
        out.put_slice(&self.parity);
    }

    /// Covers nothing any more; the memory stays.
    pub fn clear(&mut self) {
        self.writes.count = 0;
        self.parity.clear();
    }

    fn header_len(&self) -> usize {
        PREFIX + self.writes().iter().map(encoded_len).sum::<usize>()
    }
}

/// XORs `bytes` into the front of `parity`; what is longer in either is left as it is.
pub fn xor(parity: &mut [u8], bytes: &[u8]) {
    parity.iter_mut().zip(bytes).for_each(|(into, byte)| *into ^= byte);
}

const fn encoded_len(write: &Covered) -> usize {
    // Zero has one byte too.
    let bits = u64::BITS - (write.session.0 | 1).leading_zeros();
    bits.div_ceil(7) as usize + 4 + 2
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Takes a varint off the front; `None` when it is cut, longer than it need be, or larger than a u64.
fn get_varint(input: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for index in 0..MAX_VARINT {
        let byte = input.try_get_u8().ok()?;
        let bits = u64::from(byte & 0x7f);
        // Of the last byte a u64 has room for one bit.
        if bits << (7 * index) >> (7 * index) != bits || (byte == 0 && index > 0) {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;

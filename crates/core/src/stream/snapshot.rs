//! A session's state as one process hands it to its successor.
//!
//! Its fields are read by other versions of this program: numbers are never used again, new ones are optional.

use std::collections::VecDeque;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::{Ending, Stream};

/// Everything that a [`Stream`] is, as values.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    #[n(0)]
    window: Option<u32>,
    #[n(1)]
    acked: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    replay: Vec<u8>,
    #[n(3)]
    out_ending: Option<u8>,
    #[n(4)]
    is_settled: bool,
    #[n(5)]
    taken: u64,
    #[cbor(n(6), with = "minicbor::bytes")]
    pending: Vec<u8>,
    #[n(7)]
    in_ending: Option<u8>,
}

const FINISHED: u8 = 1;
const RESET: u8 = 2;

impl Stream {
    /// The session as values; whoever takes them goes on where this end is.
    pub fn snapshot(&self) -> Snapshot {
        let (out, into) = (&self.outgoing, &self.incoming);
        Snapshot {
            window: out.window,
            acked: out.acked,
            replay: concat(&out.replay),
            out_ending: out.ending.map(number),
            is_settled: out.is_settled,
            taken: into.taken,
            pending: concat(&into.pending),
            in_ending: into.ending.map(number),
        }
    }

    /// The session that `snapshot` was taken of.
    pub fn restore(snapshot: Snapshot) -> Self {
        let mut stream = Self::new(snapshot.window);
        let (out, into) = (&mut stream.outgoing, &mut stream.incoming);
        // Of no carrier any more.
        (out.acked, out.accepted) = (snapshot.acked, snapshot.acked);
        out.end = snapshot.acked + snapshot.replay.len() as u64;
        out.ending = snapshot.out_ending.map(ending);
        out.is_settled = snapshot.is_settled;
        if !snapshot.replay.is_empty() {
            out.replay.push_back(snapshot.replay.into());
        }
        into.taken = snapshot.taken;
        into.ending = snapshot.in_ending.map(ending);
        if !snapshot.pending.is_empty() {
            into.pending.push_back(Bytes::from(snapshot.pending));
        }
        stream
    }
}

fn concat(pieces: &VecDeque<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

const fn number(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => FINISHED,
        Ending::Reset => RESET,
    }
}

/// An ending of a kind that this version does not know is at least not a tidy one.
const fn ending(number: u8) -> Ending {
    match number {
        FINISHED => Ending::Finished,
        _ => Ending::Reset,
    }
}

//! The pump from the peer, as `session::inward` has it.

use bytes::Bytes;
use spawnpoint_core::stream::Ending;

use super::{End, Phase, RecvHalf, in_pipe};
use crate::sim::seed::Dice;
use crate::sim::stream::carrier::Carriers;
use crate::sim::stream::pipe::Brought;

impl End {
    /// A turn of the pump from the peer.
    pub fn listen(&mut self, carriers: &mut Carriers, dice: &mut Dice) {
        // That the stream was stopped is seen before that it is finished.
        self.heed_stop(carriers);
        if self.phase != Phase::Playing || self.inward_done {
            return self.judge();
        }
        match self.flush() {
            Some(true) => {}
            Some(false) => return self.heed_reset(carriers),
            None => return self.on_local_reset(),
        }
        if !self.heed_ending(carriers) {
            // A read that waited may still bring something of a stale carrier.
            self.recv = self.recv.filter(|half| half.epoch == self.epoch || dice.chance(500));
            self.take(carriers);
        }
        self.judge();
    }

    /// Writes what waits for the socket; returns whether nothing waits any more, and nothing for a socket that is reset.
    fn flush(&mut self) -> Option<bool> {
        while let Some(first) = self.stream.incoming.pending().front() {
            let length = first.len();
            let written = self.socket.try_write(first)?;
            self.stream.incoming.on_written(written);
            if written < length {
                return Some(false);
            }
        }
        Some(true)
    }

    /// A stream that is cut does not wait for the socket.
    fn heed_reset(&mut self, carriers: &mut Carriers) {
        let Some(half) = self.recv.filter(|half| !half.is_done) else {
            return;
        };
        if let Some((pipe, _)) = in_pipe(carriers, half.carrier, self.id, self.side)
            && pipe.is_reset()
        {
            self.cut(carriers);
        }
    }

    /// Passes the end of the direction on, once everything before it was written.
    fn heed_ending(&mut self, carriers: &mut Carriers) -> bool {
        match self.stream.incoming.ending() {
            Some(Ending::Finished) => {
                self.inward_done = true;
                self.socket.got_end = true;
            }
            Some(Ending::Reset) => self.cut(carriers),
            None => return false,
        }
        true
    }

    fn take(&mut self, carriers: &mut Carriers) {
        let Some(half) = self.recv.filter(|half| !half.is_done) else {
            return;
        };
        let Some((pipe, is_closed)) = in_pipe(carriers, half.carrier, self.id, self.side) else {
            self.recv = None;
            return;
        };
        let counts = half.epoch == self.epoch;
        match pipe.read() {
            Brought::Pieces(pieces) if counts => self.take_over(pieces),
            // The peer was told that these were not taken, and says them again.
            Brought::Pieces(_) => {}
            Brought::Nothing if !is_closed => {}
            Brought::End => self.finish_inward(carriers, half, counts),
            Brought::Reset => self.cut(carriers),
            Brought::Nothing => self.recv = None,
        }
    }

    fn take_over(&mut self, pieces: Vec<Bytes>) {
        let mut is_full = false;
        for mut piece in pieces {
            let written = match is_full {
                true => 0,
                // That it is reset shows again when the rest is written.
                false => self.socket.try_write(&piece).unwrap_or(0),
            };
            self.stream.incoming.pass(written);
            if written < piece.len() {
                is_full = true;
                self.stream.incoming.push(piece.split_off(written));
            }
        }
    }

    fn finish_inward(&mut self, carriers: &mut Carriers, half: RecvHalf, counts: bool) {
        self.recv = Some(RecvHalf { is_done: true, ..half });
        if counts {
            let ending = match self.peer_is_reset {
                true => Ending::Reset,
                false => Ending::Finished,
            };
            self.stream.incoming.finish(ending);
            self.news = self.stream.incoming.take_news();
            self.heed_ending(carriers);
        }
    }
}

//! The pump towards the peer, as `session::outward` has it.

use bytes::Bytes;
use spawnpoint_core::stream::Ending;
use spawnpoint_proto::ResetCode;

use super::{End, Phase, SendHalf, out_pipe, stop};
use crate::sim::seed::Dice;
use crate::sim::stream::carrier::Carriers;
use crate::sim::stream::pipe::MAX_PIECES;
use crate::sim::stream::socket::Given;

impl End {
    /// A turn of the pump towards the peer.
    pub fn speak(&mut self, carriers: &mut Carriers, dice: &mut Dice) {
        self.note_accepted();
        if !matches!(self.phase, Phase::Playing | Phase::Settling) {
            return;
        }
        self.explain(carriers);
        self.send = self.send.filter(|half| half.epoch == self.epoch);
        self.heed_stop(carriers);
        let (is_playing, out) = (self.phase == Phase::Playing, &self.stream.outgoing);
        match self.send.filter(|half| !half.is_closed && !half.is_finished) {
            _ if self.phase == Phase::Over => {}
            Some(half) if half.cursor < out.end() => self.send(half, carriers, dice),
            Some(half) if out.ending().is_some() => self.finish(half, carriers),
            _ if is_playing && !self.peer_is_reset && out.has_room() => self.read(dice),
            _ if is_playing && self.socket.is_reset() => self.on_local_reset(),
            _ => {}
        }
        self.judge();
    }

    /// Before the direction is finished, and on each carrier, the peer learns that this end is a reset.
    fn explain(&mut self, carriers: &mut Carriers) {
        if self.phase == Phase::Settling
            && self.stream.outgoing.ending() == Some(Ending::Reset)
            && let Some(half) = self.recv.as_mut().filter(|half| !half.is_done)
        {
            half.is_done = true;
            stop(carriers, half.carrier, self.id, self.side, ResetCode::PeerReset);
        }
    }

    pub(super) fn heed_stop(&mut self, carriers: &mut Carriers) {
        let Some(half) = self.send.as_mut().filter(|half| !half.is_closed) else {
            return;
        };
        let carrier = carriers.get(&half.carrier);
        let Some(code) = carrier.and_then(|carrier| carrier.stopped(self.id, self.side)) else {
            return;
        };
        (half.is_closed, half.is_finished) = (true, true);
        if self.stream.outgoing.is_settled() {
            return;
        }
        match code {
            ResetCode::PeerReset => self.peer_is_reset = true,
            _ => self.cut(carriers),
        }
    }

    fn send(&mut self, mut half: SendHalf, carriers: &mut Carriers, dice: &mut Dice) {
        let mut pieces: [Bytes; MAX_PIECES] = std::array::from_fn(|_| Bytes::new());
        let count = self.stream.outgoing.read(half.cursor, &mut pieces);
        assert!(count > 0, "there is nothing to send before the end");
        let Some(pipe) = out_pipe(carriers, half.carrier, self.id, self.side) else {
            self.send = None;
            return;
        };
        let accepted = pipe.accept(&pieces[..count]);
        half.cursor += accepted;
        self.send = Some(half);
        self.late = Some((half.epoch, half.cursor));
        if accepted == 0 && self.phase == Phase::Playing && self.socket.is_reset() {
            self.on_local_reset();
        } else if dice.chance(800) {
            self.note_accepted();
        }
    }

    pub(super) fn note_accepted(&mut self) {
        // Of a carrier that does not count any more it says nothing: the peer's window may be another one now.
        if let Some((_, cursor)) = self.late.take().filter(|(epoch, _)| *epoch == self.epoch) {
            self.stream.outgoing.on_accepted(cursor);
        }
    }

    fn finish(&mut self, half: SendHalf, carriers: &mut Carriers) {
        self.send = out_pipe(carriers, half.carrier, self.id, self.side).map(|pipe| {
            pipe.finish();
            SendHalf {
                is_finished: true,
                ..half
            }
        });
    }

    fn read(&mut self, dice: &mut Dice) {
        match self.socket.try_read(dice) {
            Given::Bytes(bytes) => self.stream.outgoing.push(bytes),
            Given::End => self.stream.outgoing.finish(Ending::Finished),
            Given::Reset => self.on_local_reset(),
            Given::Nothing => {}
        }
    }

    pub(super) fn on_local_reset(&mut self) {
        if !(self.inward_done && self.stream.outgoing.ending().is_some()) {
            self.stream.outgoing.finish(Ending::Reset);
            self.phase = Phase::Settling;
        }
    }
}

//! What comes a second time, and what of it was missing.
//!
//! A repair is of use when exactly one of its writes is missing. One that lacks more waits a little, since what it lacks may be on its way; one that
//! lacks nothing, or speaks of bytes that were forgotten, is dropped. Everything is bounded: by number, by bytes, and by time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spawnpoint_proto::repair::{Covered, MAX_WRITES, Repair};
use spawnpoint_proto::{SessionId, Time, Violation};

use super::recent::Recent;

/// Repairs that wait at most.
const MAX_WAITING: usize = 16;

/// A repair waits this long: by then the retransmission has come, or is about to.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// So long after a repair of several writes pieces are noted; a peer that sends none costs nothing.
const ATTENTION: Duration = Duration::from_secs(10);

/// A write that was missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mended {
    /// Its session.
    pub session: SessionId,
    /// Where it begins. Its first bytes may be there already, and there may be a gap before it.
    pub offset: u64,
    /// All of it. They may be a slice of a larger block that arrived.
    pub bytes: Bytes,
}

/// What became of repairs, since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// Gave back a write.
    pub mended: u64,
    /// Were not needed: nothing was missing.
    pub needless: u64,
    /// Were useless: what they speak of was there, but is not kept any more.
    pub forgotten: u64,
    /// Were useless: more than one write was missing, and stayed so.
    pub lacking: u64,
    /// Were wrong: what they say does not fit what is here.
    pub wrong: u64,
}

impl Outcomes {
    /// Each number with the word by which metrics know it.
    pub const fn by_name(&self) -> [(&'static str, u64); 5] {
        [
            ("mended", self.mended),
            ("needless", self.needless),
            ("forgotten", self.forgotten),
            ("lacking", self.lacking),
            ("wrong", self.wrong),
        ]
    }
}

/// Repairs of one link and direction, on their way in.
#[derive(Debug, Default)]
pub struct Mender {
    recent: Recent,
    /// Until when pieces are noted.
    attends: Time,
    waiting: VecDeque<(Time, Repair)>,
    /// Something has come since the waiting ones were last looked at.
    has_news: bool,
    outcomes: Outcomes,
}

/// What a repair is good for now.
enum Finding {
    Mends(Mended),
    Waits,
    Needless,
    Forgotten,
    Wrong,
}

impl Mender {
    /// Notes bytes that a session has taken over in order, whether its stream brought them or a repair did.
    ///
    /// This comes before `taken` of the other calls tells of them, or a repair that speaks of them is taken for one that came too late.
    pub fn on_taken(&mut self, now: Time, session: SessionId, offset: u64, bytes: &[u8]) {
        self.has_news |= !self.waiting.is_empty();
        if now < self.attends {
            self.recent.push(now, session, offset, bytes);
        } else {
            self.recent.clear();
        }
    }

    /// Takes a repair, and returns the write that was missing if it gives one back. `taken` tells how far a session is, in order; `None` when there is
    /// no such session (yet).
    ///
    /// # Errors
    /// [`Violation::MalformedRepair`].
    pub fn on_repair(
        &mut self,
        now: Time,
        datagram: Bytes,
        taken: impl Fn(SessionId) -> Option<u64>,
    ) -> Result<Option<Mended>, Violation> {
        let repair = Repair::decode(datagram)?;
        if repair.writes().len() > 1 {
            self.attends = now + ATTENTION;
        }
        let finding = self.examine(&repair, &taken);
        if let Finding::Waits = finding {
            self.wait(now, repair);
        }
        Ok(self.settle(finding))
    }

    /// A write that one of the waiting repairs gives back now, until there is none; to be asked after pieces or writes were taken over.
    pub fn poll_mended(&mut self, now: Time, taken: impl Fn(SessionId) -> Option<u64>) -> Option<Mended> {
        self.give_up(now);
        if !self.has_news {
            return None;
        }
        let mut at = 0;
        while let Some((_, repair)) = self.waiting.get(at) {
            let finding = self.examine(repair, &taken);
            if let Finding::Waits = finding {
                at += 1;
                continue;
            }
            self.waiting.remove(at);
            if let Some(mended) = self.settle(finding) {
                return Some(mended);
            }
        }
        self.has_news = false;
        None
    }

    /// What became of repairs since the last call.
    pub fn take_outcomes(&mut self) -> Outcomes {
        std::mem::take(&mut self.outcomes)
    }

    /// Pieces that are kept, and their bytes.
    #[cfg(test)]
    pub(super) fn recent_len(&self) -> (usize, usize) {
        self.recent.len()
    }

    fn examine(&self, repair: &Repair, taken: impl Fn(SessionId) -> Option<u64>) -> Finding {
        let mut offsets = [0; MAX_WRITES];
        let (mut lacks, mut missing, mut is_forgotten) = (0, None, false);
        for (at, write) in repair.writes().iter().enumerate() {
            let Some(taken) = taken(write.session) else {
                // Its stream may be about to come.
                lacks += 1;
                continue;
            };
            let Some(offset) = widen(write.offset, taken) else {
                return Finding::Wrong;
            };
            offsets[at] = offset;
            if offset.saturating_add(write.length.into()) > taken {
                lacks += 1;
                missing = Some(at);
            } else {
                is_forgotten |= !self.recent.has(write.session, offset, write.length.into());
            }
        }
        match (lacks, missing) {
            (0, _) => Finding::Needless,
            _ if is_forgotten => Finding::Forgotten,
            (1, Some(missing)) => self.mend(repair, &offsets, missing),
            _ => Finding::Waits,
        }
    }

    /// The write number `missing` of a repair, from the parity and all the others.
    fn mend(&self, repair: &Repair, offsets: &[u64; MAX_WRITES], missing: usize) -> Finding {
        let Covered { session, length, .. } = repair.writes()[missing];
        let (offset, length) = (offsets[missing], usize::from(length));
        if repair.writes().len() == 1 {
            let bytes = repair.parity().clone();
            return Finding::Mends(Mended { session, offset, bytes });
        }
        let mut parity = BytesMut::from(&repair.parity()[..]);
        for (at, write) in repair.writes().iter().enumerate().filter(|(at, _)| *at != missing) {
            self.recent
                .xor(write.session, offsets[at], write.length.into(), &mut parity);
        }
        // Beyond its end the write was filled up with zeros.
        if parity[length..].iter().any(|byte| *byte != 0) {
            return Finding::Wrong;
        }
        parity.truncate(length);
        let bytes = parity.freeze();
        Finding::Mends(Mended { session, offset, bytes })
    }

    fn settle(&mut self, finding: Finding) -> Option<Mended> {
        let count = match &finding {
            Finding::Mends(_) => &mut self.outcomes.mended,
            Finding::Needless => &mut self.outcomes.needless,
            Finding::Forgotten => &mut self.outcomes.forgotten,
            Finding::Wrong => &mut self.outcomes.wrong,
            Finding::Waits => return None,
        };
        *count += 1;
        match finding {
            Finding::Mends(mended) => Some(mended),
            _ => None,
        }
    }

    fn wait(&mut self, now: Time, repair: Repair) {
        self.give_up(now);
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
            self.outcomes.lacking += 1;
        }
        self.waiting.push_back((now, repair.detach()));
    }

    /// Gives up the repairs that have waited long enough.
    fn give_up(&mut self, now: Time) {
        while let Some((since, _)) = self.waiting.front()
            && now.since(*since) > MAX_WAIT
        {
            self.waiting.pop_front();
            self.outcomes.lacking += 1;
        }
    }
}

/// The whole offset of which `low` is the lower half, nearest to where the session is; `None` when there is none.
fn widen(low: u32, taken: u64) -> Option<u64> {
    let ahead = low.wrapping_sub(taken as u32) as i32;
    taken.checked_add_signed(ahead.into())
}

#[cfg(test)]
mod tests;

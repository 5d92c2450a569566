//! From one carrier to the next: dialled, greeted, welcomed, each session reopened; any of it may be the last that a carrier does.

use std::collections::BTreeMap;

use spawnpoint_proto::ResetCode;
use spawnpoint_proto::control::Delivered;

use super::carrier::{Carrier, Header, Id, Word};
use super::end::End;
use super::socket::Socket;
use super::{Side, World};
use crate::sim::seed::Dice;

/// Carriers that stale halves may still hold.
const REMEMBERED: u64 = 3;

/// The largest window.
pub const MAX_WINDOW: u32 = 512 * 1024;

/// A receive window, from tiny ones that stop a stream all the time to those that hold all of a session.
pub fn window(dice: &mut Dice) -> u32 {
    *dice.pick(&[700, 4 * 1024, 20_000, 64 * 1024, MAX_WINDOW])
}

impl World {
    /// A new session at the relay, with a stream at once if there is a carrier.
    pub(super) fn begin(&mut self, id: Id, socket: Socket) {
        let relay = &mut self.tables[Side::Relay as usize];
        let mut end = End::new(id, Side::Relay, relay.peers_window, relay.epoch, socket);
        if let Some(number) = relay.carrier {
            self.carriers.get_mut(&number).unwrap().open(id, Header::Open);
            end.offer(number, relay.epoch, 0).unwrap();
        }
        relay.ends.insert(id, end);
    }

    /// One of the things that happen to carriers.
    pub(super) fn change_carriers(&mut self) {
        let side = *self.dice.pick(&Side::BOTH);
        match self.dice.below(10) {
            0..=2 => self.notice(side),
            3 => self.dial(),
            4 if self.dice.chance(self.mortality) => self.kill(),
            5 if self.dice.chance(self.mortality) => self.close(side),
            _ => self.reopen(),
        }
    }

    /// Whatever is there ceases to move, and nobody knows yet.
    fn kill(&mut self) {
        self.carriers.values_mut().for_each(|carrier| carrier.is_alive = false);
    }

    /// A side sees that its carrier is dead, or closed by the other.
    fn notice(&mut self, side: Side) {
        if let Some(number) = self.tables[side as usize].carrier {
            let carrier = &self.carriers[&number];
            if !carrier.is_alive || carrier.is_closed[side.other() as usize] {
                self.close(side);
            }
        }
    }

    /// A side gives its carrier up, rightly or not.
    fn close(&mut self, side: Side) {
        let table = &mut self.tables[side as usize];
        table.reopening.clear();
        if let Some(carrier) = table.carrier.take().and_then(|number| self.carriers.get_mut(&number)) {
            carrier.is_closed[side as usize] = true;
        }
    }

    /// The agent comes on a new connection.
    fn dial(&mut self) {
        let agent = &mut self.tables[Side::Agent as usize];
        if agent.carrier.is_some() {
            return;
        }
        let number = agent.newest.map_or(0, |number| number + 1);
        let standing = agent.freeze();
        (agent.carrier, agent.newest) = (Some(number), Some(number));
        let windows = [self.tables[0].window, self.tables[1].window];
        let mut carrier = Carrier::new(windows, self.is_orderly);
        carrier.words[Side::Agent as usize].push_back(Word::Hello(standing));
        self.carriers.insert(number, carrier);
        let at_relay = self.tables[Side::Relay as usize].carrier;
        self.carriers
            .retain(|held, _| *held + REMEMBERED > number || Some(*held) == at_relay);
    }

    /// A word arrives on some carrier.
    pub(super) fn hear_words(&mut self) {
        let numbers: Vec<u64> = self.carriers.keys().copied().collect();
        for number in numbers {
            for from in Side::BOTH {
                if let Some(word) = self.next_word(number, from) {
                    self.hear(number, from.other(), word);
                }
            }
        }
    }

    fn next_word(&mut self, number: u64, from: Side) -> Option<Word> {
        let carrier = self.carriers.get_mut(&number)?;
        let counts = self.tables[from.other() as usize].carrier == Some(number);
        let is_newer = self.tables[from.other() as usize].newest < Some(number);
        if counts || is_newer {
            carrier.next_word(from)
        } else {
            None
        }
    }

    fn hear(&mut self, number: u64, side: Side, word: Word) {
        match word {
            Word::Hello(standing) => self.welcome(number, &standing),
            Word::Welcome(lost) => self.be_welcome(number, lost),
            Word::Delivered(told) => self.tables[side as usize].on_delivered(told),
        }
    }

    /// The relay takes the agent of a new carrier in.
    fn welcome(&mut self, number: u64, standing: &[Delivered]) {
        let theirs: BTreeMap<Id, u64> = standing.iter().map(|told| (told.session.0, told.offset)).collect();
        self.close(Side::Relay);
        let window = self.carriers[&number].windows[Side::Agent as usize];
        let relay = &mut self.tables[Side::Relay as usize];
        let _ = relay.freeze();
        relay.set_window(window);
        (relay.carrier, relay.newest) = (Some(number), Some(number));
        let lost = theirs.keys().copied().filter(|id| !relay.ends.contains_key(id));
        let lost: Vec<Id> = lost.collect();
        for (id, end) in &mut relay.ends {
            match theirs.get(id) {
                Some(offset) => relay.reopening.push_back((*id, Some(*offset))),
                // Its first stream may never have arrived.
                None if end.stream.is_fresh() => {
                    assert!(end.given_up() == 0, "session {id} begins anew without its beginning");
                    relay.reopening.push_back((*id, None));
                }
                None => end.cut(&mut self.carriers),
            }
        }
        self.resumed += relay.reopening.len() as u64;
        let carrier = self.carriers.get_mut(&number).unwrap();
        carrier.words[Side::Relay as usize].push_back(Word::Welcome(lost));
    }

    fn be_welcome(&mut self, number: u64, lost: Vec<Id>) {
        let window = self.carriers[&number].windows[Side::Relay as usize];
        let agent = &mut self.tables[Side::Agent as usize];
        agent.set_window(window);
        for id in lost {
            if let Some(end) = agent.ends.get_mut(&id) {
                end.cut(&mut self.carriers);
            }
        }
        self.carriers.get_mut(&number).unwrap().is_welcome = true;
    }

    /// The relay opens the stream of the next session that goes on.
    fn reopen(&mut self) {
        let relay = &mut self.tables[Side::Relay as usize];
        let Some(number) = relay.carrier else { return };
        let Some((id, offset)) = relay.reopening.pop_front() else {
            return;
        };
        let carrier = self.carriers.get_mut(&number).unwrap();
        let taken = relay
            .ends
            .get(&id)
            .map_or(self.cases[&id].taken, |end| end.stream.incoming.offset());
        let header = offset.map_or(Header::Open, |from| Header::Resume { from, taken });
        carrier.open(id, header);
        let Some(end) = relay.ends.get_mut(&id) else {
            // It has ended meanwhile.
            return carrier.cut(id, Side::Relay, ResetCode::TunnelClosed);
        };
        if end.offer(number, relay.epoch, offset.unwrap_or(0)).is_err() {
            // The agent had it after all, and told only now how it ended there.
            let is_known = offset.is_none() && self.cases[&id].was_known;
            assert!(
                is_known,
                "session {id} cannot go on at {offset:?} with an honest agent: {end:?}"
            );
            end.cut(&mut self.carriers);
            let carrier = self.carriers.get_mut(&number).unwrap();
            carrier.cut(id, Side::Relay, ResetCode::UnknownSession);
        }
    }

    /// The agent reads the headers of some streams.
    pub(super) fn meet(&mut self) {
        let Some(number) = self.tables[Side::Agent as usize].carrier else {
            return;
        };
        let carrier = &self.carriers[&number];
        if !carrier.is_alive || !carrier.is_welcome {
            return;
        }
        let unmet = carrier.lines.iter().filter(|(_, line)| !line.is_met);
        let unmet: Vec<(Id, Header)> = unmet.map(|(id, line)| (*id, line.header)).collect();
        for (id, header) in unmet {
            if self.dice.chance(300) {
                continue;
            }
            self.carriers
                .get_mut(&number)
                .unwrap()
                .lines
                .get_mut(&id)
                .unwrap()
                .is_met = true;
            match header {
                Header::Open => self.join(number, id),
                Header::Resume { from, taken } => self.go_on(number, id, from, taken),
            }
        }
    }

    /// A session that is new to the agent; its server may be down.
    fn join(&mut self, number: u64, id: Id) {
        self.check_again(id);
        if self.dice.chance(10) {
            self.case(id).was_cut = true;
            let carrier = self.carriers.get_mut(&number).unwrap();
            return carrier.cut(id, Side::Agent, ResetCode::OriginRefused);
        }
        let socket = self.socket(id, Side::Agent);
        let agent = &mut self.tables[Side::Agent as usize];
        let mut end = End::new(id, Side::Agent, agent.peers_window, agent.epoch, socket);
        end.offer(number, agent.epoch, 0).unwrap();
        agent.ends.insert(id, end);
        self.case(id).was_known = true;
    }

    /// A session begins anew at the agent only when it was not there before, or has ended without an answer.
    fn check_again(&mut self, id: Id) {
        assert!(
            !self.tables[Side::Agent as usize].ends.contains_key(&id),
            "session {id} is opened twice"
        );
        let player = self.tables[Side::Relay as usize].ends.get(&id).map(|end| &end.socket);
        let case = self.cases.get_mut(&id).unwrap();
        if case.was_known {
            let mut sockets = case.sockets.iter().flatten().chain(player);
            let is_reset = sockets.any(|socket| socket.is_reset() || socket.got_reset);
            assert!(
                is_reset || case.was_cut,
                "session {id} begins anew, though its server had it: {case:?}"
            );
            (case.was_cut, case.is_again) = (true, true);
        }
    }

    fn go_on(&mut self, number: u64, id: Id, from: u64, taken: u64) {
        let agent = &mut self.tables[Side::Agent as usize];
        let Some(end) = agent.ends.get_mut(&id) else {
            let carrier = self.carriers.get_mut(&number).unwrap();
            return carrier.cut(id, Side::Agent, ResetCode::UnknownSession);
        };
        assert!(
            end.stream.incoming.offset() == from,
            "session {id} goes on elsewhere: {from} {end:?}"
        );
        let offered = end.offer(number, agent.epoch, taken);
        assert!(
            offered.is_ok(),
            "session {id} cannot go on at {taken} with an honest relay: {end:?}"
        );
    }

    /// A side says how far it is, or only which directions have ended.
    pub(super) fn tell(&mut self) {
        for side in Side::BOTH {
            let table = &mut self.tables[side as usize];
            let Some(number) = table.carrier else { continue };
            let carrier = self.carriers.get_mut(&number).unwrap();
            if side == Side::Agent && !carrier.is_welcome {
                continue;
            }
            let mut news = std::mem::take(&mut table.news);
            news.extend(table.take_due_news());
            if self.dice.chance(300) {
                news.extend(table.take_news());
            }
            carrier.words[side as usize].extend(news.into_iter().map(Word::Delivered));
        }
    }

    /// A side is replaced by another process, perhaps with other settings.
    pub(super) fn upgrade(&mut self) {
        let side = *self.dice.pick(&Side::BOTH);
        self.close(side);
        let window = window(&mut self.dice);
        let table = &mut self.tables[side as usize];
        table.window = window;
        table.news.clear();
        table.ends.values_mut().for_each(End::hand_over);
    }

    /// A carrier that lives, with every session on it.
    pub(super) fn restore_the_link(&mut self) {
        Side::BOTH.into_iter().for_each(|side| self.notice(side));
        self.dial();
        while !self.tables[Side::Relay as usize].reopening.is_empty() {
            self.reopen();
        }
    }
}

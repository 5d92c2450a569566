//! A rate that several users share: slowed smoothly, by fair shares, and never one for another.
//!
//! A [`FairRate`] is a number of bytes a second, for the users of a tunnel, of a host, of the relay. It knows by how much what has passed is ahead of it (its debt, in
//! time), and how much each user has had beyond an equal share. Who can be made to wait ([`FairRate::ask`]) waits until the debt is paid, the one who has had the least first; who
//! cannot, because its packets would be too old by then ([`FairRate::may_pass`]), has them dropped when they would have to wait longer than [`AGE`]. In both cases a user
//! who takes less than its share goes on at once, however busy the others are: a download slows itself and not the games beside it.
//!
//! The share is the rate divided by the users of the last moments, or what those who take most get of it, if others leave them more: nothing is wasted.

use std::collections::BTreeSet;
use std::time::Duration;

use spawnpoint_proto::Time;

/// What may pass ahead of the rate before others have to wait.
pub const BURST: Duration = Duration::from_millis(20);

/// A packet that would have to wait longer is dropped.
pub const AGE: Duration = Duration::from_millis(100);

/// How far those who keep to their share may put the rate into debt.
const PATIENCE: Duration = Duration::from_millis(200);

/// Users are counted anew this often.
const WINDOW: Duration = Duration::from_millis(100);

/// The smallest share of a moment: a packet or two must fit into it.
const LEAST: u64 = 3_000;

/// What one user has had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// In bytes, on the scale of what everybody may have had.
    tag: u64,
    /// The window in which the user was counted last.
    window: u64,
}

/// A user who waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    tag: u64,
    number: u64,
}

/// What a user who waits is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It is theirs, and the ticket is void.
    Go,
    /// They are the first, and it is theirs then.
    At(Time),
    /// Somebody else is before them.
    Later,
}

/// A rate and its users.
#[derive(Debug)]
pub struct FairRate {
    /// Bytes a second; `None` is no limit.
    rate: Option<u64>,
    /// When all that has passed is paid for.
    paid: Time,
    /// What everybody may have had by now, in bytes, and what is left of the last division.
    fair: u64,
    rest: u64,
    fair_at: Time,
    window: u64,
    /// Users in the last whole window and in this one.
    users: [u32; 2],
    waiting: BTreeSet<Ticket>,
    next: u64,
}

impl FairRate {
    /// A rate in bytes a second, `None` for no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.map(|rate| rate.max(1)),
            paid: Time::ZERO,
            fair: 0,
            rest: 0,
            fair_at: Time::ZERO,
            window: 1,
            users: [0; 2],
            waiting: BTreeSet::new(),
            next: 0,
        }
    }

    /// Changes the rate. Debts at the old one are forgiven.
    pub fn set_rate(&mut self, now: Time, rate: Option<u64>) {
        self.advance(now);
        self.rate = rate.map(|rate| rate.max(1));
        self.paid = self.paid.min(now);
    }

    /// The rate, in bytes a second.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Bytes that a user should move at once at most, so that the others need not wait long for the next turn.
    pub fn quantum(&self) -> u64 {
        self.rate.map_or(u64::MAX, |rate| within(rate, BURST).max(LEAST / 2))
    }

    /// Counts `bytes` that a user has moved.
    pub fn charge(&mut self, now: Time, share: &mut Share, bytes: u64) {
        let Some(rate) = self.rate else { return };
        self.advance(now);
        if share.window != self.window {
            share.window = self.window;
            self.users[1] += 1;
        }
        // Nobody saves up what they did not use. What others leave moves everybody's share on, so whoever used it is not in arrears for long.
        share.tag = share.tag.max(self.fair) + bytes;
        self.fair = self.fair.max(share.tag.saturating_sub(within(rate, PATIENCE)));
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        self.paid = self.paid.max(now) + Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
    }

    /// Whether a user may move something now; if not, they wait with [`FairRate::queue`].
    pub fn ask(&mut self, now: Time, share: &Share) -> bool {
        if self.rate.is_none() {
            return true;
        }
        self.advance(now);
        let debt = self.paid.since(now);
        let is_free = debt <= BURST && self.waiting.is_empty();
        is_free || (share.tag <= self.fair && debt <= PATIENCE)
    }

    /// Whether a packet may go on at once; it is to be charged if so, and dropped otherwise.
    pub fn may_pass(&mut self, now: Time, share: &Share, bytes: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        self.advance(now);
        let debt = self.paid.since(now);
        let is_free = match self.waiting.is_empty() {
            // Who has had more stops sooner, or whoever happens to come first would have it all.
            true => {
                let most = within(rate, PATIENCE).max(1);
                let ahead = share.tag.saturating_sub(self.fair).min(most);
                debt <= AGE / 2 - (AGE / 2 - BURST).mul_f64(ahead as f64 / most as f64)
            }
            false => debt <= BURST,
        };
        let moment = (within(rate, AGE / 2) / self.users()).max(LEAST);
        is_free || (share.tag.max(self.fair) + bytes <= self.fair + moment && debt <= AGE * 2)
    }

    /// A place in the queue for a user. It is given up with [`FairRate::leave`], unless its turn has come.
    pub fn queue(&mut self, share: &Share) -> Ticket {
        self.next += 1;
        let ticket = Ticket {
            tag: share.tag,
            number: self.next,
        };
        self.waiting.insert(ticket);
        ticket
    }

    /// Whether it is the turn of whoever has `ticket`.
    pub fn turn(&mut self, now: Time, ticket: Ticket) -> Turn {
        if self.rate.is_some() && self.waiting.first().is_some_and(|first| *first != ticket) {
            return Turn::Later;
        }
        let due = self.paid - BURST;
        if self.rate.is_some() && due > now {
            return Turn::At(due);
        }
        self.waiting.remove(&ticket);
        Turn::Go
    }

    /// Gives a place up.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Who is the first to wait.
    pub fn first(&self) -> Option<Ticket> {
        self.waiting.first().copied()
    }

    fn users(&self) -> u64 {
        u64::from(self.users[0].max(self.users[1]).max(1))
    }

    /// Lets time pass.
    fn advance(&mut self, now: Time) {
        let passed = now.since(self.fair_at);
        if let Some(rate) = self.rate {
            // An hour of silence is as good as a second of it.
            let nanos = passed.min(Duration::from_secs(1)).as_nanos();
            let whole = nanos * u128::from(rate) + u128::from(self.rest);
            let each = u128::from(self.users()) * 1_000_000_000;
            self.fair += u64::try_from(whole / each).unwrap_or(u64::MAX / 4);
            self.rest = u64::try_from(whole % each).unwrap_or(0);
        }
        self.fair_at = self.fair_at.max(now);
        let window = (now.since_start().as_nanos() / WINDOW.as_nanos()) as u64 + 1;
        if window > self.window {
            self.users = [if window == self.window + 1 { self.users[1] } else { 0 }, 0];
            self.window = window;
        }
    }
}

/// Bytes of `rate` in `time`.
fn within(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;

//! Who may enter: one gate for all players of a relay.
//!
//! A player belongs to circles, one around the other: the prefix of its address (IPv4 /32, IPv6 /64), the tunnel, the host, the relay. Each bounds how many are in, how many of
//! them no server has answered yet, and how fast new ones come. What the gate answers is a [`Permit`], which gives its places back when it is dropped, or a
//! [`DenyReason`]. The prefix is asked first, so that a flood from one address is refused before it uses up anything of the host that it is for.
//!
//! Saying no costs a few look-ups, allocates nothing and leaves nothing behind. The table of prefixes is bounded; nobody is forgotten to make room in it, so a
//! flood from many addresses cannot wash away what the gate knows of them, and it is the newcomers that feel it. While many are refused who keep to the
//! bounds of their own address, or while the table fills up, the relay is under siege: then players of prefixes from which nobody is known yet also
//! count for their network (IPv4 /24, IPv6 /48), and those for whom the table has no room at all share one entry.
//!
//! The rates are ours, not those of a rate-limiting crate: all circles are asked before any is charged, they are asked under one lock on a passed clock, which the
//! simulation jumps, and what is known of a prefix is one entry with its counts.

mod circle;
mod prefix;
mod reason;
mod siege;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spawnpoint_proto::Time;

use circle::Tally;
pub use circle::{Bounds, Circle};
use prefix::Prefix;
pub use prefix::{network_of, prefix_of};
pub use reason::{DenyReason, Full, Whose};
use siege::Siege;

/// A network counts as this many addresses.
pub const NETWORK: u32 = 4;

/// What the gate allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole relay.
    pub relay: Bounds,
    /// Each prefix.
    pub prefix: Bounds,
    /// Prefixes that the gate tells apart.
    pub prefixes: usize,
    /// With so many refused in a second who keep to the bounds of their own address, the relay is under siege.
    pub siege: u32,
}

/// The gate; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    relay: Tally,
    is_draining: bool,
    /// Players for whom there is memory.
    ceiling: Option<u32>,
    prefixes: HashMap<Prefix, Tally>,
    siege: Siege,
    next_prune: Time,
}

/// A player's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    prefix: Prefix,
    network: Option<Prefix>,
    circle: Arc<Circle>,
    is_settled: AtomicBool,
}

/// Under which entries of the table a player counts.
struct Entries {
    prefix: Prefix,
    network: Option<Prefix>,
}

impl Gate {
    /// An empty gate.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            relay: Tally::default(),
            is_draining: false,
            ceiling: None,
            prefixes: HashMap::new(),
            siege: Siege::default(),
            next_prune: Time::ZERO,
        })))
    }

    /// Changes what the gate allows; players who are in stay in.
    pub fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Lets a player from `ip` in to `circle`, or says why not.
    ///
    /// # Errors
    /// The [`DenyReason`]; nothing is counted against the player then.
    pub fn admit(&self, now: Time, ip: IpAddr, circle: &Arc<Circle>) -> Result<Permit, DenyReason> {
        let mut state = self.state();
        let entries = state.check(now, ip, circle).inspect_err(|reason| {
            if matches!(reason, DenyReason::Full(whose, _) if *whose != Whose::Address) {
                let most = state.limits.siege;
                state.siege.on_refused(now, most);
            }
        })?;
        state.enter(now, &entries);
        circle.enter(now);
        Ok(self.permit(entries, circle, false))
    }

    /// Gives a player a place who was in before, in the process that this one follows; no limit counts.
    pub fn readmit(&self, now: Time, ip: IpAddr, circle: &Arc<Circle>) -> Permit {
        let mut state = self.state();
        let prefix = state.place(now, Prefix::of(ip));
        state.prefixes.entry(prefix).or_default().go_on();
        state.relay.go_on();
        circle.go_on();
        self.permit(Entries { prefix, network: None }, circle, true)
    }

    /// There is memory for so many players and no more, or for as many as the limits say; those who are in stay in.
    pub fn set_ceiling(&self, players: Option<u32>) {
        self.state().ceiling = players;
    }

    /// Lets nobody in any more.
    pub fn drain(&self) {
        self.state().is_draining = true;
    }

    /// Players who are in.
    pub fn active(&self) -> u32 {
        self.state().relay.active
    }

    /// Players who are in and whom no server has answered.
    pub fn half_open(&self) -> u32 {
        self.state().relay.half_open
    }

    /// Prefixes that the gate remembers.
    pub fn prefixes(&self) -> usize {
        self.state().prefixes.len()
    }

    /// Whether somebody from the prefix of `ip` is in whom a server has answered.
    pub fn is_known(&self, ip: IpAddr) -> bool {
        self.state().tally(Prefix::of(ip)).is_known()
    }

    /// Whether that is so of anybody in the network of `ip`, IPv4 /24 or IPv6 /48. Looks at everybody who is in.
    pub fn is_network_known(&self, ip: IpAddr) -> bool {
        self.state().is_network_known(Prefix::of(ip).network())
    }

    /// Whether the relay is under siege.
    pub fn is_besieged(&self, now: Time) -> bool {
        self.state().siege.is_on(now)
    }

    fn permit(&self, entries: Entries, circle: &Arc<Circle>, is_settled: bool) -> Permit {
        Permit {
            gate: self.clone(),
            prefix: entries.prefix,
            network: entries.network,
            circle: circle.clone(),
            is_settled: AtomicBool::new(is_settled),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before the lock is released, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The entries under which a player from `ip` may enter `circle`; nothing is counted.
    fn check(&mut self, now: Time, ip: IpAddr, circle: &Circle) -> Result<Entries, DenyReason> {
        if self.is_draining {
            return Err(DenyReason::Draining);
        }
        if self.ceiling.is_some_and(|most| self.relay.active >= most) {
            return Err(DenyReason::Memory);
        }
        let own = Prefix::of(ip);
        let prefix = self.place(now, own);
        // Who is not let in leaves nothing behind, so a flood at a full host takes no room from the players of others.
        let tally = self.tally(prefix);
        let bounds = self.bounds(prefix);
        let full = |whose| move |full| DenyReason::Full(whose, full);
        tally.check(now, &bounds).map_err(full(Whose::Address))?;
        let network =
            (self.siege.is_on(now) && prefix == own && !tally.is_known()).then(|| self.place(now, own.network()));
        if let Some(network) = network {
            let bounds = self.bounds(network);
            self.tally(network).check(now, &bounds).map_err(full(Whose::Network))?;
        }
        circle.check(now)?;
        self.relay.check(now, &self.limits.relay).map_err(full(Whose::Relay))?;
        Ok(Entries { prefix, network })
    }

    fn enter(&mut self, now: Time, entries: &Entries) {
        for prefix in [Some(entries.prefix), entries.network].into_iter().flatten() {
            let bounds = self.bounds(prefix);
            self.prefixes.entry(prefix).or_default().enter(now, &bounds);
        }
        self.relay.enter(now, &self.limits.relay);
    }

    fn is_network_known(&self, network: Prefix) -> bool {
        let mut all = self.prefixes.iter();
        all.any(|(prefix, tally)| prefix.network() == network && tally.is_known())
    }

    fn tally(&self, prefix: Prefix) -> Tally {
        self.prefixes.get(&prefix).copied().unwrap_or_default()
    }

    fn bounds(&self, prefix: Prefix) -> Bounds {
        match prefix {
            Prefix::V4(_) | Prefix::V6(_) => self.limits.prefix,
            Prefix::Network4(_) | Prefix::Network6(_) | Prefix::Rest => self.limits.prefix.times(NETWORK),
        }
    }

    /// The entry that `prefix` is counted under: its own if there is room.
    fn place(&mut self, now: Time, prefix: Prefix) -> Prefix {
        let room = self.limits.prefixes;
        if self.prefixes.len() < room / 2 || self.prefixes.contains_key(&prefix) {
            return prefix;
        }
        // One sweep a second keeps a flood from paying for its own bookkeeping with our time.
        if now >= self.next_prune {
            self.next_prune = now + Duration::from_secs(1);
            self.prefixes.retain(|_, tally| !tally.is_blank(now));
        }
        if self.prefixes.len() >= room / 2 {
            self.siege.begin(now);
        }
        // A player may take two entries, one for the network.
        if self.prefixes.len() + 2 <= room {
            prefix
        } else {
            Prefix::Rest
        }
    }
}

impl Permit {
    /// A server has answered the player.
    pub fn settle(&self) {
        if self.is_settled.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.gate.state();
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            for prefix in [Some(self.prefix), self.network].into_iter().flatten() {
                state.prefixes.entry(prefix).and_modify(Tally::settle);
            }
            state.relay.settle();
            self.circle.settle();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let is_settled = *self.is_settled.get_mut();
        let mut state = self.gate.state();
        for prefix in [Some(self.prefix), self.network].into_iter().flatten() {
            if let Some(tally) = state.prefixes.get_mut(&prefix) {
                tally.leave(is_settled);
            }
        }
        state.relay.leave(is_settled);
        self.circle.leave(is_settled);
    }
}

#[cfg(test)]
mod tests;

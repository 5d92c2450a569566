//! Where the randomness of a simulation comes from, and how a failure is replayed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Names the seed to replay; only that one is run then.
const VARIABLE: &str = "SPAWNPOINT_SIM_SEED";

/// Seeds that every run tries, so that a change is compared on equal terms.
const FIXED: u64 = 20;

/// Seeds that no run has tried before.
const FRESH: usize = 4;

/// Runs `simulation` with every seed of this run; a panic names the seed and the line that replays it.
pub fn for_every_seed(claim: &str, simulation: impl Fn(&mut Dice)) {
    for seed in seeds() {
        println!("{claim}: seed {seed}");
        let run = catch_unwind(AssertUnwindSafe(|| simulation(&mut Dice::new(seed))));
        if let Err(cause) = run {
            panic!(
                "seed {seed}: {}\nreplay: {VARIABLE}={seed} cargo test -p spawnpoint-tests --test sim {claim}",
                text_of(&*cause)
            );
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var(VARIABLE) {
        Ok(text) => vec![
            text.parse()
                .unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number")),
        ],
        Err(_) => (1..=FIXED)
            .chain((0..FRESH).map(|_| getrandom::u64().unwrap()))
            .collect(),
    }
}

fn text_of(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}

/// A generator whose whole future is its seed.
///
/// Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end`, without `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number from `first` to `last`, with both.
    pub const fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Yes, `per_mille` times out of a thousand.
    pub const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// An index into something of `length` items.
    pub const fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A duration up to `longest`.
    pub const fn duration(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }

    /// A number from 0 to 1.
    pub const fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}

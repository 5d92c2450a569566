//! A long time with accidents from a seed: about one every six seconds, so a hundred in ten minutes.

use std::time::Duration;

use super::accident::Accident;

/// From one accident to the next, on average.
pub const EVERY: Duration = Duration::from_secs(6);

/// Decides what happens; the same seed decides the same.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// The next accident.
    pub fn accident(&mut self) -> Accident {
        match self.below(20) {
            0..5 => Accident::Rebind,
            5..8 => Accident::Readdress,
            8..10 => Accident::Abandon,
            // Mostly a moment, sometimes long; 25 s are played by themselves.
            10..14 => Accident::Dark(Duration::from_millis(200 + self.below(2300))),
            14 => Accident::Unplugged(Duration::from_millis(200 + self.below(2300))),
            15 => Accident::Dark(Duration::from_millis(2500 + self.below(7500))),
            // Rarer than the others, being two of them at once.
            16 if self.below(2) == 0 => Accident::DarkUpgrades,
            16..18 => Accident::RelayUpgrade,
            _ => Accident::AgentUpgrade,
        }
    }

    /// How long it is calm before the next accident is due, when the last took no time.
    pub fn calm(&mut self) -> Duration {
        EVERY / 2 + EVERY.mul_f64(self.below(1000) as f64 / 1000.0)
    }

    const fn below(&mut self, end: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything_and_everything_happens() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            std::iter::repeat_with(|| dice.accident()).take(100).collect::<Vec<_>>()
        };
        assert_eq!(throw(1), throw(1));
        assert_ne!(throw(1), throw(2));
        for wanted in [
            Accident::Rebind,
            Accident::Readdress,
            Accident::Abandon,
            Accident::RelayUpgrade,
            Accident::AgentUpgrade,
        ] {
            assert!(throw(1).contains(&wanted), "{wanted}");
        }
    }
}

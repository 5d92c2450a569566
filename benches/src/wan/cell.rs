//! Settings of the line.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What the line does, the same in both directions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    /// Milliseconds there and back on an empty line.
    pub rtt: f64,
    /// Per cent of packets lost, each way.
    pub loss: f64,
    /// Megabits a second.
    pub rate: f64,
    /// Milliseconds that a packet may wait for its turn; one that would wait longer is dropped.
    pub queue: f64,
}

impl Cell {
    /// The line that most figures are about, without loss.
    pub const LINE: Self = Self {
        rtt: 40.0,
        loss: 0.0,
        rate: 50.0,
        queue: 100.0,
    };

    /// What is measured unless something else is asked for.
    pub fn usual() -> Vec<Self> {
        [0.0, 1.0, 5.0].map(|loss| Self { loss, ..Self::LINE }).to_vec()
    }

    /// All of the matrix.
    pub fn matrix() -> Vec<Self> {
        let mut cells = Vec::new();
        for rate in [50.0, 10.0] {
            for queue in [50.0, 200.0] {
                for rtt in [20.0, 40.0, 80.0, 150.0] {
                    cells.extend([0.0, 1.0, 3.0, 5.0].map(|loss| Self { rtt, loss, rate, queue }));
                }
            }
        }
        cells
    }

    /// Reads `rtt=40,loss=1,rate=50,queue=100`; what is left out is as in [`Cell::LINE`].
    ///
    /// # Errors
    /// A sentence when it is anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cell = Self::LINE;
        for word in text.split(',') {
            let wrong = || format!("a cell is like `rtt=40,loss=1,rate=50,queue=100`, not `{text}`");
            let (key, value) = word.split_once('=').ok_or_else(wrong)?;
            let value = value
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite() && *value >= 0.0);
            let value = value.ok_or_else(wrong)?;
            match key.trim() {
                "rtt" => cell.rtt = value,
                "loss" if value < 100.0 => cell.loss = value,
                "rate" if value > 0.0 => cell.rate = value,
                "queue" => cell.queue = value,
                _ => return Err(wrong()),
            }
        }
        Ok(cell)
    }

    /// How long it takes until what is on the way is no longer.
    pub fn drained(&self) -> Duration {
        Duration::from_secs_f64((self.rtt + self.queue) / 1e3)
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({ "rtt_ms": self.rtt, "loss_percent": self.loss, "rate_mbit": self.rate, "queue_ms": self.queue })
    }

    /// In few words, for labels.
    pub fn short(&self) -> String {
        format!(
            "{} ms, {} %, {} Mbit/s, q {} ms",
            self.rtt, self.loss, self.rate, self.queue
        )
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ms there and back, {} % lost each way, {} Mbit/s, queue of {} ms",
            self.rtt, self.loss, self.rate, self.queue
        )
    }
}

/// How the kernel's TCP in both namespaces reacts to the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tcp {
    /// By lost packets, as most machines do.
    Cubic,
    /// By measured bandwidth.
    Bbr,
}

impl Tcp {
    /// The kernel's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cell_leaves_out_is_as_on_the_line() {
        let cell = Cell::parse("rtt=80,loss=0.5").unwrap();
        assert_eq!(
            cell,
            Cell {
                rtt: 80.0,
                loss: 0.5,
                ..Cell::LINE
            }
        );
        for wrong in ["", "rtt", "rtt=-1", "rate=0", "loss=100", "jitter=1"] {
            assert!(Cell::parse(wrong).is_err(), "{wrong}");
        }
    }
}

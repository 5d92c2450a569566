//! The router's process: takes packets from two TUN devices, delays, limits and loses them, and puts them out at the other.
//!
//! What happens to a packet is decided when it comes (`Way::admit`), with times that are computed and not measured, so that being woken late adds up
//! to nothing. Packets that are on the way lie in one heap, ordered by time and arrival. One thread does everything; when there is something to do it
//! works at most once in half a millisecond, which costs packets up to that of accuracy and saves most of the processor time of waking for each of them.
//!
//! It is steered by lines on standard input, each answered by a line: `set` with [`Terms`] as JSON, `stats` answered with [`Traffic`] as JSON since the
//! last time. It ends with its input, and so with the bench, however that ends.

use std::collections::BinaryHeap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::nanosleep;
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::fault::Fault;

/// The least time between two turns of work.
const QUANTUM: Duration = Duration::from_micros(500);

/// Half of it: packets are put out so much too early or, when the next turn comes too late for that, too late.
const EARLY: u64 = QUANTUM.as_nanos() as u64 / 2;

/// Packets that are later than this count.
const LATE: u64 = 1_000_000;

/// Longer than any packet of an interface whose MTU is 1,500.
const BUFFER: usize = 1_600;

/// Packets of one device before the other has its turn.
const BATCH: usize = 256;

/// What the line is like, the same both ways.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// Nanoseconds from one end to the other.
    pub delay: u64,
    /// Bits a second.
    pub rate: f64,
    /// Nanoseconds that a packet may wait for those before it.
    pub queue: u64,
    /// The share of packets that get lost.
    pub loss: f64,
    /// Which ones.
    pub seed: u64,
}

/// What went over the line; of pairs, the first is from public to home.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets put out.
    pub forwarded: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
    /// Packets lost as they should be.
    pub lost: [u64; 2],
    /// Packets for which the queue was too full.
    pub overflowed: [u64; 2],
    /// Packets put out more than a millisecond after their time.
    pub late: u64,
    /// Times that the router was woken more than a millisecond after its time: what came meanwhile is late without counting as late.
    pub stalls: u64,
    /// The longest of both, in microseconds.
    pub worst: u64,
}

/// One direction.
#[derive(Debug)]
struct Way {
    terms: Terms,
    /// When the last packet of the queue has been sent.
    free_at: u64,
    random: u64,
    lost: u64,
    overflowed: u64,
}

impl Traffic {
    /// Packets that came, whatever became of them.
    pub const fn packets(&self) -> u64 {
        let [out, lost, overflowed] = [self.forwarded, self.lost, self.overflowed];
        out[0] + out[1] + lost[0] + lost[1] + overflowed[0] + overflowed[1]
    }
}

impl Way {
    fn new(terms: Terms, number: u64) -> Self {
        // Never zero, from which xorshift does not get away.
        let mixed = (terms.seed * 2 + number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            terms,
            free_at: 0,
            random: mixed | 1,
            lost: 0,
            overflowed: 0,
        }
    }

    /// When a packet of `length` bytes that comes at `now` is put out; none when it never is.
    fn admit(&mut self, now: u64, length: usize) -> Option<u64> {
        let start = self.free_at.max(now);
        if start - now > self.terms.queue {
            self.overflowed += 1;
            return None;
        }
        self.free_at = start + (length as f64 * 8e9 / self.terms.rate) as u64;
        // One that is lost has had its time on the line.
        if self.roll() < self.terms.loss {
            self.lost += 1;
            return None;
        }
        Some(self.free_at + self.terms.delay)
    }

    /// Uniform in [0, 1): xorshift64*.
    fn roll(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// A packet on the way.
#[derive(PartialEq, Eq)]
struct Due {
    at: u64,
    arrival: u64,
    toward: usize,
    length: usize,
    bytes: Box<[u8]>,
}

impl Ord for Due {
    /// The earliest is the greatest, since a heap gives that first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.arrival).cmp(&(self.at, self.arrival))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Router {
    devices: [SyncDevice; 2],
    /// Towards home, towards public.
    ways: [Way; 2],
    heap: BinaryHeap<Due>,
    arrivals: u64,
    spare: Vec<Box<[u8]>>,
    traffic: Traffic,
    epoch: Instant,
}

/// Makes both devices and routes between them until standard input ends.
///
/// # Errors
/// When a device cannot be made, or ceases to be.
pub fn run(names: [&str; 2]) -> Result<(), Fault> {
    let terms = Terms {
        delay: 0,
        rate: 1e9,
        queue: 100_000_000,
        loss: 0.0,
        seed: 0,
    };
    let mut router = Router {
        devices: [device(names[0])?, device(names[1])?],
        ways: [Way::new(terms, 0), Way::new(terms, 1)],
        heap: BinaryHeap::new(),
        arrivals: 0,
        spare: Vec::new(),
        traffic: Traffic::default(),
        epoch: Instant::now(),
    };
    println!("ready");
    let mut commands = Vec::new();
    loop {
        let is_asked = router.wait()?;
        let is_busy = router.release() | router.take();
        if is_asked && !router.obey(&mut commands)? {
            return Ok(());
        }
        if is_busy {
            router.rest();
        }
    }
}

fn device(name: &str) -> Result<SyncDevice, Fault> {
    let device = DeviceBuilder::new().name(name).build_sync();
    let device = device.map_err(|error| Fault::failed(&format!("making the TUN device {name}"), error))?;
    device.set_nonblocking(true)?;
    Ok(device)
}

impl Router {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Waits for packets, commands, or the time of the next release; whether there is a command.
    fn wait(&mut self) -> Result<bool, Fault> {
        let next = self.heap.peek().map(|due| due.at);
        let timeout = next.map(|at| timespec(at.saturating_sub(self.now())));
        let input = io::stdin();
        let mut watched = [
            PollFd::new(&self.devices[0], PollFlags::IN),
            PollFd::new(&self.devices[1], PollFlags::IN),
            PollFd::new(&input, PollFlags::IN),
        ];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fault::failed("waiting for packets", error)),
        }
        if watched[..2]
            .iter()
            .any(|device| device.revents().contains(PollFlags::ERR))
        {
            return Err(Fault::Failed("a TUN device is gone".to_owned()));
        }
        let is_asked = !watched[2].revents().is_empty();
        if let Some(at) = next {
            self.count_stall(at);
        }
        Ok(is_asked)
    }

    /// Puts out what is due.
    fn release(&mut self) -> bool {
        let (now, mut is_any) = (self.now(), false);
        while self.heap.peek().is_some_and(|due| due.at <= now + EARLY) {
            let Some(due) = self.heap.pop() else { break };
            // An interface that is down, or has no room: the packet is lost as it would be on any other.
            if self.devices[due.toward].send(&due.bytes[..due.length]).is_ok() {
                let way = 1 - due.toward;
                self.traffic.forwarded[way] += 1;
                self.traffic.bytes[way] += due.length as u64;
            }
            let late = now.saturating_sub(due.at);
            self.traffic.late += u64::from(late > LATE);
            self.traffic.worst = self.traffic.worst.max(late / 1000);
            self.spare.push(due.bytes);
            is_any = true;
        }
        is_any
    }

    /// Takes in what has come.
    fn take(&mut self) -> bool {
        let mut is_any = false;
        for from in 0..2 {
            for _ in 0..BATCH {
                let mut bytes = self.spare.pop().unwrap_or_else(|| vec![0; BUFFER].into());
                let Ok(length) = self.devices[from].recv(&mut bytes) else {
                    self.spare.push(bytes);
                    break;
                };
                is_any = true;
                // Device 0 is public's, and way 0 leads home.
                match self.ways[from].admit(self.now(), length) {
                    None => self.spare.push(bytes),
                    Some(at) => {
                        self.arrivals += 1;
                        self.heap.push(Due {
                            at,
                            arrival: self.arrivals,
                            toward: 1 - from,
                            length,
                            bytes,
                        });
                    }
                }
            }
        }
        is_any
    }

    /// Does what standard input says; false at its end.
    fn obey(&mut self, commands: &mut Vec<u8>) -> Result<bool, Fault> {
        let mut buffer = [0; 1024];
        let length = rustix::io::read(io::stdin(), &mut buffer).map_err(io::Error::from)?;
        if length == 0 {
            return Ok(false);
        }
        commands.extend_from_slice(&buffer[..length]);
        while let Some(end) = commands.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = commands.drain(..=end).collect();
            let answer = self.answer(String::from_utf8_lossy(&line).trim());
            writeln!(io::stdout(), "{answer}")?;
        }
        Ok(true)
    }

    fn answer(&mut self, line: &str) -> String {
        match line.split_once(' ') {
            Some(("set", terms)) => match serde_json::from_str(terms) {
                Ok(terms) => {
                    self.ways = [Way::new(terms, 0), Way::new(terms, 1)];
                    "ok".to_owned()
                }
                Err(error) => error.to_string(),
            },
            None if line == "stats" => {
                let mut traffic = std::mem::take(&mut self.traffic);
                for (number, way) in self.ways.iter_mut().enumerate() {
                    traffic.lost[number] = std::mem::take(&mut way.lost);
                    traffic.overflowed[number] = std::mem::take(&mut way.overflowed);
                }
                serde_json::to_string(&traffic).unwrap_or_default()
            }
            _ => format!("`{line}` is not a command"),
        }
    }

    fn rest(&mut self) {
        let until = self.now() + QUANTUM.as_nanos() as u64;
        // Woken early by a signal it merely works a little more.
        let _ = nanosleep(&timespec(QUANTUM.as_nanos() as u64));
        self.count_stall(until);
    }

    fn count_stall(&mut self, meant: u64) {
        let over = self.now().saturating_sub(meant);
        self.traffic.stalls += u64::from(over > LATE);
        self.traffic.worst = self.traffic.worst.max(over / 1000);
    }
}

const fn timespec(nanos: u64) -> Timespec {
    Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn way(loss: f64) -> Way {
        let terms = Terms {
            delay: 20 * MILLI,
            rate: 8e6, // a byte each microsecond
            queue: 3 * MILLI,
            loss,
            seed: 7,
        };
        Way::new(terms, 0)
    }

    #[test]
    fn packets_wait_for_those_before_them_and_then_travel() {
        let mut way = way(0.0);
        assert_eq!(way.admit(0, 1000), Some(21 * MILLI));
        assert_eq!(way.admit(0, 1000), Some(22 * MILLI));
        assert_eq!(way.admit(10 * MILLI, 500), Some(30 * MILLI + MILLI / 2));
    }

    #[test]
    fn the_queue_drops_what_would_wait_too_long() {
        let mut way = way(0.0);
        let admitted = (0..10).filter_map(|_| way.admit(0, 1000)).count();
        assert_eq!((admitted, way.overflowed), (4, 6));
        assert!(way.admit(MILLI, 1000).is_some());
    }

    #[test]
    fn the_share_that_is_lost_is_the_one_asked_for() {
        let mut way = way(0.05);
        for second in 0..100_000_u64 {
            way.admit(second * 1000 * MILLI, 100);
        }
        assert!((4_700..5_300).contains(&way.lost), "{}", way.lost);
    }

    #[test]
    fn the_heap_gives_the_earliest_and_of_equals_the_first() {
        let due = |at, arrival| Due {
            at,
            arrival,
            toward: 0,
            length: 0,
            bytes: Box::default(),
        };
        let mut heap: BinaryHeap<Due> = [due(5, 1), due(3, 3), due(3, 2)].into();
        let order = std::iter::from_fn(|| heap.pop()).map(|due| due.arrival);
        assert_eq!(order.collect::<Vec<_>>(), [2, 3, 1]);
    }
}

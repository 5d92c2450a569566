//! Packets that leave together: those of one size to one recipient in one system call.
//!
//! What a link brings is taken in batches, as far as it is there, and a game that loads a world sends each player several full packets in a row. To send
//! them one by one is most of what UDP costs. A burst keeps the packets of one batch, cut into runs that the kernel takes at once, in the order of each
//! recipient. It sends nothing itself and waits for nothing: whoever fills it empties it before they wait again.

use bytes::Bytes;

/// Datagrams of a connection that are taken at once.
const DATAGRAMS: usize = 64;

/// Packets of one run that the kernel takes.
const MOST: usize = 64;

/// Bytes of one run; the kernel takes a little more.
const MOST_BYTES: usize = 60_000;

/// Packets beyond this may have to be cut up, which the kernel does to single ones only.
const LARGEST: usize = 1_452;

/// Packets for recipients of type `T`.
#[derive(Debug)]
pub struct Burst<T> {
    runs: Vec<Run<T>>,
    /// Packets, each with the run it is of.
    packets: Vec<(usize, Bytes)>,
    /// The packets of one run in a row.
    joined: Vec<u8>,
}

#[derive(Debug)]
struct Run<T> {
    to: T,
    /// Bytes of each packet but the last.
    size: usize,
    count: usize,
    is_closed: bool,
}

/// Packets in a row to one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// All of them, one behind the other.
    pub contents: &'a [u8],
    /// Bytes of each packet but the last, which has at most as many.
    pub size: usize,
    /// How many there are.
    pub count: usize,
}

impl<'a> Packets<'a> {
    /// Each by itself.
    pub fn each(self) -> impl Iterator<Item = &'a [u8]> {
        let Self { contents, size, count } = self;
        // An empty packet is one too.
        (0..count).map(move |index| &contents[index * size..contents.len().min((index + 1) * size)])
    }
}

impl<T> Default for Burst<T> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            packets: Vec::new(),
            joined: Vec::new(),
        }
    }
}

impl<T> Burst<T> {
    /// Adds a packet to a recipient, whom `is_same` knows again.
    pub fn push(&mut self, to: T, packet: Bytes, is_same: impl Fn(&T, &T) -> bool) {
        let size = packet.len();
        // Only the latest run of a recipient may go on, or packets would overtake each other.
        let latest = self.runs.iter().rposition(|run| is_same(&run.to, &to));
        let index = match latest.map(|index| (index, &mut self.runs[index])) {
            Some((index, run)) if run.takes(size) => {
                run.count += 1;
                run.is_closed = size < run.size;
                index
            }
            _ => {
                self.runs.push(Run {
                    to,
                    size,
                    count: 1,
                    is_closed: false,
                });
                self.runs.len() - 1
            }
        };
        self.packets.push((index, packet));
    }

    /// Empties it, handing each run to `send` with its recipient.
    pub fn send(&mut self, mut send: impl FnMut(T, Packets<'_>)) {
        for (index, run) in self.runs.drain(..).enumerate() {
            let mut of_run = self
                .packets
                .iter()
                .filter(|(of, _)| *of == index)
                .map(|(_, packet)| packet);
            let contents = match of_run.next() {
                Some(only) if run.count == 1 => only,
                Some(first) => {
                    self.joined.clear();
                    self.joined.extend_from_slice(first);
                    of_run.for_each(|packet| self.joined.extend_from_slice(packet));
                    &self.joined[..]
                }
                None => continue,
            };
            let packets = Packets {
                contents,
                size: run.size,
                count: run.count,
            };
            send(run.to, packets);
        }
        self.packets.clear();
    }
}

impl<T> Run<T> {
    /// Whether a packet of `size` bytes can follow.
    const fn takes(&self, size: usize) -> bool {
        let is_whole = 0 < size && size <= self.size && self.size <= LARGEST;
        is_whole && !self.is_closed && self.count < MOST && (self.count + 1) * self.size <= MOST_BYTES
    }
}

/// Waits for datagrams of a connection and hands those that are there to `take`, a bounded number. Cancel-safe.
///
/// # Errors
/// When the connection is gone and there are none.
pub async fn receive_datagrams(
    connection: &quinn::Connection,
    mut take: impl FnMut(Bytes),
) -> Result<(), quinn::ConnectionError> {
    take(connection.read_datagram().await?);
    for _ in 1..DATAGRAMS {
        let next = tokio::select! {
            biased; // what is there, and nothing that one would have to wait for
            next = connection.read_datagram() => next,
            () = std::future::ready(()) => return Ok(()),
        };
        match next {
            Ok(datagram) => take(datagram),
            // Whoever asks again learns it.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a burst and empties it; what was sent to whom, run by run.
    fn sent(packets: &[(char, usize)]) -> Vec<(char, Vec<usize>)> {
        let mut burst = Burst::default();
        for (to, size) in packets {
            burst.push(*to, Bytes::from(vec![*to as u8; *size]), char::eq);
        }
        let mut sent = Vec::new();
        burst.send(|to, run| {
            assert!(run.contents.iter().all(|byte| *byte == to as u8));
            sent.push((to, run.each().map(<[u8]>::len).collect()));
        });
        assert!(burst.packets.is_empty() && burst.runs.is_empty());
        sent
    }

    #[test]
    fn packets_of_one_size_to_one_player_leave_together_whoever_else_is_between() {
        let all = sent(&[('a', 200), ('b', 200), ('a', 200), ('b', 200), ('a', 200)]);
        assert_eq!(all, [('a', vec![200; 3]), ('b', vec![200; 2])]);
    }

    #[test]
    fn a_smaller_packet_is_the_last_of_its_run_and_nobody_overtakes_it() {
        let all = sent(&[('a', 1200), ('a', 1200), ('a', 7), ('a', 1200), ('a', 7), ('a', 7)]);
        assert_eq!(all, [('a', vec![1200, 1200, 7]), ('a', vec![1200, 7]), ('a', vec![7])]);
        assert_eq!(sent(&[('a', 7), ('a', 1200)]), [('a', vec![7]), ('a', vec![1200])]);
    }

    #[test]
    fn empty_packets_and_such_as_are_cut_up_leave_alone() {
        assert_eq!(sent(&[('a', 0), ('a', 0)]), [('a', vec![0]), ('a', vec![0])]);
        assert_eq!(
            sent(&[('a', 9000), ('a', 9000)]),
            [('a', vec![9000]), ('a', vec![9000])]
        );
        assert_eq!(
            sent(&[('a', 9), ('a', 0), ('a', 9)]),
            [('a', vec![9]), ('a', vec![0]), ('a', vec![9])]
        );
    }

    #[test]
    fn no_run_is_larger_than_the_kernel_takes() {
        for size in [9, 1452] {
            let all = sent(&[('a', size); 100]);
            let is_taken = |run: &[usize]| run.len() <= MOST && run.iter().sum::<usize>() <= MOST_BYTES;
            assert!(all.len() > 1 && all.iter().all(|(_, run)| is_taken(run)));
            assert_eq!(all.iter().map(|(_, run)| run.len()).sum::<usize>(), 100);
        }
    }
}

//! A TCP conversation, from either side: speak at a pace, check what is heard, end tidily.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::TICK;
use super::hello::{Way, count_wrong, piece};
use super::tape::{Kind, Tape};

/// How often a capped download goes on: often enough to look steady, seldom enough to cost nothing.
const PORTION: Duration = Duration::from_millis(20);

/// How much an uncapped download writes at once.
const FULL_PIECE: usize = 64 * 1024;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ends when told to, and expects the server to finish then and not before.
    Player,
    /// Ends when its player does.
    Server,
}

/// How a side speaks.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Not at all.
    Silent,
    /// A frame of so many bytes a tick.
    Frames(usize),
    /// So many bytes a second.
    Rate(u64),
    /// As fast as it is taken.
    Full,
}

/// What one side of a conversation needs to know.
#[derive(Debug)]
pub struct Talk<'a> {
    /// Where it is noted.
    pub tape: &'a Tape,
    /// Which side this is.
    pub side: Side,
    /// How it speaks.
    pub pace: Pace,
    /// When it speaks first, so that a crowd does not speak all at once.
    pub first: Instant,
    /// Cancelled when players should leave.
    pub leave: &'a CancellationToken,
}

impl Talk<'_> {
    /// Speaks and listens until both have finished, or until the other side breaks off.
    pub async fn run(&self, mut stream: TcpStream) {
        // Fails only on a socket that is already reset, which the first read then tells.
        let _ = stream.set_nodelay(true);
        // This side's own end: it comes with the crowd's, and with the other side's.
        let finish = self.leave.child_token();
        let (reader, writer) = stream.split();
        let (heard, said) = tokio::join!(self.listen(reader, &finish), self.speak(writer, &finish));
        if heard && said {
            self.tape.finished();
        }
    }

    /// Checks everything until the other side finishes; whether that was as it should be.
    async fn listen(&self, mut reader: ReadHalf<'_>, finish: &CancellationToken) -> bool {
        let way = match self.side {
            Side::Player => Way::Down,
            Side::Server => Way::Up,
        };
        let length = match self.tape.kind {
            Kind::Bulk => FULL_PIECE,
            Kind::Tick | Kind::Flow => 4096,
        };
        let (mut buffer, mut offset) = (vec![0; length], 0);
        let is_tidy = loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break self.side == Side::Server || self.leave.is_cancelled(),
                Ok(length) => {
                    let wrong = count_wrong(self.tape.id, way, offset, &buffer[..length]);
                    if wrong > 0 {
                        let what = || format!("{wrong} of {length} bytes at {offset}, {way:?}");
                        self.tape.wrong(wrong, what);
                    }
                    offset += length as u64;
                    self.tape.arrived(length as u64);
                }
                Err(error) => {
                    self.tape.disconnected(&error.to_string());
                    break false;
                }
            }
        };
        if !is_tidy {
            self.tape.disconnected("the stream ended before the player left");
        }
        finish.cancel();
        is_tidy
    }

    /// Speaks at its pace until it is time to finish; whether all of it went out.
    async fn speak(&self, mut writer: WriteHalf<'_>, finish: &CancellationToken) -> bool {
        let result = match self.pace {
            Pace::Silent => {
                finish.cancelled().await;
                Ok(())
            }
            Pace::Frames(length) => self.speak_every(TICK, length, &mut writer, finish).await,
            Pace::Rate(rate) => {
                let length = rate * PORTION.as_millis() as u64 / 1000;
                self.speak_every(PORTION, length as usize, &mut writer, finish).await
            }
            Pace::Full => self.speak_full(&mut writer, finish).await,
        };
        let result = match result {
            Ok(()) => writer.shutdown().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            self.tape.disconnected(&error.to_string());
        }
        result.is_ok()
    }

    async fn speak_every(
        &self,
        period: Duration,
        length: usize,
        writer: &mut WriteHalf<'_>,
        finish: &CancellationToken,
    ) -> std::io::Result<()> {
        let mut ticks = interval_at(self.first, period);
        // A game that was held up goes on with the present.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut offset = 0;
        loop {
            tokio::select! {
                biased; // nothing is said after the end
                () = finish.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            offset = self.write(writer, offset, length).await?;
        }
    }

    async fn speak_full(&self, writer: &mut WriteHalf<'_>, finish: &CancellationToken) -> std::io::Result<()> {
        let mut offset = 0;
        while !finish.is_cancelled() {
            offset = self.write(writer, offset, FULL_PIECE).await?;
        }
        Ok(())
    }

    async fn write(&self, writer: &mut WriteHalf<'_>, offset: u64, length: usize) -> std::io::Result<u64> {
        let way = match self.side {
            Side::Player => Way::Up,
            Side::Server => Way::Down,
        };
        writer.write_all(piece(self.tape.id, way, offset, length)).await?;
        self.tape.sent(length as u64);
        Ok(offset + length as u64)
    }
}

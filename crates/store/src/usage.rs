//! What hosts and their tunnels have used, by day.

use std::fmt;

use spawnpoint_core::grant::UnixTime;
use spawnpoint_proto::{Protocol, TunnelName};
use time::{Date, OffsetDateTime};

use crate::HostId;

/// A day of the calendar, UTC: the days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment.
    pub const fn of(time: UnixTime) -> Self {
        Self((time.0 / 86_400) as u32)
    }

    /// The first day of its month.
    pub fn month(self) -> Self {
        Self(self.0 + 1 - u32::from(self.date().day()))
    }

    fn date(self) -> Date {
        let moment = OffsetDateTime::from_unix_timestamp(i64::from(self.0) * 86_400);
        moment.map_or(Date::MAX, OffsetDateTime::date)
    }
}

impl fmt::Display for Day {
    /// As `2026-11-27`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.date();
        write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
    }
}

/// What a tunnel has used on a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Whose tunnel it is.
    pub host: HostId,
    /// Its name.
    pub tunnel: TunnelName,
    /// What it carries.
    pub protocol: Protocol,
    /// The day.
    pub day: Day,
    /// Players who came.
    pub sessions: u64,
    /// The most players at once.
    pub peak: u32,
    /// Bytes from players.
    pub up: u64,
    /// Bytes to players.
    pub down: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_those_of_the_calendar() {
        let day = Day::of(UnixTime(1_795_770_000));
        assert_eq!(day.to_string(), "2026-11-27");
        assert_eq!(day.month().to_string(), "2026-11-01");
        assert_eq!(Day(0).to_string(), "1970-01-01");
        let leap = Day::of(UnixTime(1_709_164_800));
        assert_eq!(
            (leap.to_string(), leap.month().to_string()),
            ("2024-02-29".into(), "2024-02-01".into())
        );
        assert_eq!(Day(leap.0 + 1).month(), Day(leap.0 + 1));
    }
}

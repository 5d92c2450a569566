//! What the players of a server that is away are shown: words for who would join, an entry for the server list.
//!
//! The entry stays the one that players know, with the server's own picture and the first line of its message, as far as it was ever seen.

use spawnpoint_config::relay::Away;
use spawnpoint_core::access::Barred;
use spawnpoint_core::admission::{DenyReason, Full, Whose};
use spawnpoint_core::grant::UnixTime;
use spawnpoint_net::unix_now;
use spawnpoint_proto::ResetCode;
use spawnpoint_sniff::minecraft::{Listing, Refusal};

/// No game has this protocol number, so the version's label takes the place of the player count.
const NO_PROTOCOL: i32 = -1;

/// Why a server does not answer itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// Its agent was here a moment ago.
    Reconnecting,
    /// It is being started.
    Starting,
    /// It sleeps until somebody joins.
    Asleep,
    /// Its agent is here, and cannot reach it.
    Down,
    /// Its agent is gone, since then as far as it is known.
    Offline(Option<UnixTime>),
    /// There is none of this name.
    Unknown,
}

impl Presence {
    /// What a stream that was cut for `code` before a byte came back says of the server; `None` when it says nothing.
    pub const fn of_reset(code: ResetCode) -> Option<Self> {
        match code {
            ResetCode::OriginRefused | ResetCode::OriginTimeout | ResetCode::OriginUnreachable => Some(Self::Down),
            ResetCode::OriginAsleep => Some(Self::Asleep),
            ResetCode::OriginStarting => Some(Self::Starting),
            _ => None,
        }
    }

    /// The word used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reconnecting => "reconnecting",
            Self::Starting => "starting",
            Self::Asleep => "asleep",
            Self::Down => "down",
            Self::Offline(_) => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// What it is in words.
    pub fn words(self, texts: &Away) -> String {
        match self {
            Self::Reconnecting => texts.reconnecting.clone(),
            Self::Starting => texts.starting.clone(),
            Self::Asleep => texts.asleep.clone(),
            Self::Down => texts.down.clone(),
            Self::Offline(Some(since)) => texts.offline.replace("{ago}", &ago(since, unix_now())),
            Self::Offline(None) => {
                let known = texts.offline.split(", last seen").next().unwrap_or_default();
                known.replace("{ago}", "some time")
            }
            Self::Unknown => texts.unknown.clone(),
        }
    }
}

/// What the host and its server have said for this case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The host's own words for its server being down or offline.
    pub away: Option<String>,
    /// The server's last entry in the server list.
    pub listing: Option<Listing>,
}

impl Known {
    /// The host's own words, when they are for this case.
    pub fn own(&self, presence: Presence) -> Option<&str> {
        let own = self.away.as_deref();
        own.filter(|_| matches!(presence, Presence::Down | Presence::Offline(_)))
    }
}

/// What to say to a player of a server that is away.
pub(crate) fn refusal(texts: &Away, icon: Option<&str>, presence: Presence, known: &Known) -> Refusal {
    let words = presence.words(texts);
    let own = known.own(presence);
    let listing = known.listing.as_ref();
    let title = listing
        .and_then(|listing| listing.motd.lines().next())
        .map(str::trim_end);
    let said = own.unwrap_or(&words);
    let motd = match title.filter(|title| !title.is_empty() && presence != Presence::Unknown) {
        Some(title) => format!("{title}\n{said}"),
        None => said.to_owned(),
    };
    let icon = listing.and_then(|listing| listing.icon.as_deref()).or(icon);
    Refusal::new(&match own {
        Some(own) => format!("{words}\n{own}"),
        None => words,
    })
    .shown_as(Listing {
        version: texts.version.clone(),
        protocol: NO_PROTOCOL,
        max: listing.map_or(0, |listing| listing.max),
        motd,
        icon: icon.map(str::to_owned),
        ..Listing::default()
    })
}

/// Why the relay did not take the player.
pub(crate) const fn words_for_denied(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::Full(Whose::Address | Whose::Network, Full::Players) => "Too many players from your address.",
        DenyReason::Full(Whose::Address | Whose::Network, _) => {
            "Too many connections from your address. Wait a moment and try again."
        }
        DenyReason::Full(_, Full::Players) | DenyReason::Memory => "This server is full.",
        DenyReason::Full(..) => "Too many players are joining right now. Wait a moment and try again.",
        DenyReason::Barred(Barred::Banned) => "You are banned from this server.",
        DenyReason::Barred(_) | DenyReason::Country | DenyReason::Listed => "This server is not open to your address.",
        DenyReason::Quota => "This server has used up its traffic for this month.",
        DenyReason::Draining => "This server's relay is restarting. Try again in a moment.",
        DenyReason::NoAgent => "This server's host is reconnecting. Try again in a moment.",
    }
}

/// How long ago, roughly.
fn ago(since: UnixTime, now: UnixTime) -> String {
    let minutes = now.0.saturating_sub(since.0) / 60;
    let (number, unit) = match minutes {
        0 => return "a moment".to_owned(),
        1..60 => (minutes, "minute"),
        60..1440 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_as_people_tell_it() {
        for (seconds, words) in [
            (0, "a moment"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (7200, "2 hours"),
            (86_400, "1 day"),
            (864_000, "10 days"),
        ] {
            assert_eq!(ago(UnixTime(1_000_000), UnixTime(1_000_000 + seconds)), words);
        }
    }

    #[test]
    fn a_server_never_seen_is_offline_without_a_time() {
        let texts = Away::default();
        assert_eq!(Presence::Offline(None).words(&texts), "This server is offline");
        assert!(Presence::Offline(Some(UnixTime(0))).words(&texts).contains("days ago"));
    }
}

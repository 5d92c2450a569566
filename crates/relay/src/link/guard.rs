//! The guard of one link: it sees to it that a host who may not be here any more is out at once, whatever the link task is busy with, and that nobody is surprised by an end that
//! can be foreseen.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::grant::UnixTime;
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::CloseCode;
use spawnpoint_store::Host;

use super::{Command, Link};
use crate::context::Context;

/// How long a directory that could not be read is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// With so many seconds left it is told that an invite ends, once for each: a week, a day, an hour, five minutes.
const WARNINGS: [u64; 4] = [300, 3_600, 24 * 3_600, 7 * 24 * 3_600];

/// What ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The host's grant.
    Grant,
    /// The token that its agent has, which was replaced.
    OldToken,
}

/// Ends the link when its host may not be here any more, whatever the link task is doing.
pub(super) async fn guard(link: Arc<Link>, context: Arc<Context>, mut host: Host) {
    let mut changes = context.hosts.changes();
    changes.mark_changed();
    let mut retry = false;
    let mut told = None;
    loop {
        let (end, now) = (end_of(&link, &host), unix_now());
        if let Some((ending, end)) = end {
            let due = warning(end.0.saturating_sub(now.0));
            if due.is_some() && told != due.map(|due| (end, due)) {
                told = due.map(|due| (end, due));
                warn(&link, &context, ending, end.0.saturating_sub(now.0));
            }
        }
        let left = end.map(|(_, end)| next_look(end.0.saturating_sub(now.0)));
        let expiry = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = expiry => {}
            () = tokio::time::sleep(RETRY_PAUSE), if retry => {}
        }
        let now = match context.hosts.host(host.id).await {
            Ok(now) => now,
            Err(error) => {
                tracing::error!(error = %describe(&error), "the directory could not be read, trying again");
                retry = true;
                continue;
            }
        };
        retry = false;
        match now.filter(|now| is_welcome(&link, now, unix_now())) {
            Some(now) => host = now,
            None => return link.close(CloseCode::Revoked),
        }
    }
}

/// Whether the agent may stay: its host is here, and still has the token that it has shown.
fn is_welcome(link: &Link, host: &Host, now: UnixTime) -> bool {
    let has_token = match link.agent() {
        Some((_, shown)) => host.tokens(now).any(|(token, _)| token == shown),
        None => true,
    };
    has_token && host.is_welcome(now)
}

/// What ends first by itself, and when.
fn end_of(link: &Link, host: &Host) -> Option<(Ending, UnixTime)> {
    let grant = host.grant.expires.map(|end| (Ending::Grant, end));
    let shown = link.agent().map(|(_, shown)| shown);
    let old = host.old_token.filter(|(token, _)| Some(*token) == shown);
    let old = old.map(|(_, until)| (Ending::OldToken, until));
    grant.into_iter().chain(old).min_by_key(|(_, end)| *end)
}

/// The warning that is due with so many seconds left.
fn warning(left: u64) -> Option<u64> {
    WARNINGS.into_iter().find(|warning| left <= *warning)
}

/// How long there is nothing to do: to the next warning, or to the end.
fn next_look(left: u64) -> Duration {
    let next = WARNINGS.into_iter().rev().find(|warning| *warning < left).unwrap_or(0);
    Duration::from_secs((left - next.min(left)).max(1))
}

fn warn(link: &Link, context: &Context, ending: Ending, left_s: u64) {
    let left = spoken(left_s);
    let (reason, text) = match ending {
        Ending::Grant => (
            "grant",
            format!("this host's invite ends in {left}: ask the relay's operator for more time"),
        ),
        Ending::OldToken => (
            "old_token",
            format!("this invite was replaced by another and ends in {left}: start the agent with the new one"),
        ),
    };
    tracing::warn!(host = link.host_name, link = %link.id, left_s, reason, "an invite ends soon");
    context.events.emit(Event::Expiring {
        host: link.host_name.clone(),
        reason,
        left_s,
    });
    link.command(Command::Notice(text));
}

fn spoken(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} seconds"),
        120..7_200 => format!("{} minutes", secs / 60),
        7_200..172_800 => format!("{} hours", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_given_once_and_none_is_missed() {
        let (mut left, mut given) = (30 * 24 * 3_600, Vec::new());
        while left > 0 {
            if let Some(due) = warning(left)
                && given.last() != Some(&due)
            {
                given.push(due);
            }
            left = left.saturating_sub(next_look(left).as_secs());
        }
        given.reverse();
        assert_eq!(given, WARNINGS);
        assert_eq!(next_look(0), Duration::from_secs(1));
    }
}

//! Offences of players and agents, and the bans that they bring.
//!
//! Whoever sees an offence says so and goes on; the ban is written to the directory by a task of its own, so that it outlives a restart and is seen by whoever looks.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_core::offences::{Offence, Offences, Sentence};
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, describe};
use spawnpoint_store::{Ban, BannedBy};
use tokio::sync::mpsc;

use crate::access;
use crate::context::Context;

/// Bans that may wait to be written; what comes when it is full offends again.
const WAITING: usize = 256;

/// The book, and where its sentences go.
#[derive(Debug)]
pub(crate) struct Book {
    offences: Mutex<Offences>,
    sentences: mpsc::Sender<Ban>,
}

impl Book {
    /// An empty book, and the bans that it brings.
    pub fn new() -> (Self, mpsc::Receiver<Ban>) {
        let (sentences, bans) = mpsc::channel(WAITING);
        let book = Self {
            offences: Mutex::default(),
            sentences,
        };
        (book, bans)
    }
}

impl Context {
    /// Somebody at `ip`, which is their own address, has offended. Immune addresses, those of agents that were welcomed and those from where somebody plays are not banned for it.
    pub fn offend(&self, ip: IpAddr, offence: Offence) {
        let Some(sentences) = self.config().guard.bans else {
            return;
        };
        let now = self.clock.now();
        if self.access().is_immune(ip) || self.door.is_known(now, ip) || self.players.is_known(ip) {
            return;
        }
        let mut offences = self.book.offences.lock().unwrap_or_else(PoisonError::into_inner);
        let is_innocent = |network: IpNet| {
            self.players.is_network_known(ip)
                || self.door.is_anybody_known(now, network)
                || self.access().is_anybody_immune(network)
        };
        let Some(Sentence { prefix, lasts }) = offences.note(now, ip, offence, sentences, is_innocent) else {
            return;
        };
        drop(offences);
        let created = unix_now();
        // A full queue is a directory that does not keep up.
        let _ = self.book.sentences.try_send(Ban {
            host: None,
            prefix,
            until: Some(UnixTime(created.0 + lasts.as_secs().max(1))),
            created,
            by: BannedBy::Relay,
            reason: offence.as_str().to_owned(),
        });
    }
}

/// Writes bans to the directory, as long as it is polled.
pub(crate) async fn write(context: Arc<Context>, mut bans: mpsc::Receiver<Ban>) {
    while let Some(ban) = bans.recv().await {
        let lasts_s = ban.until.map(|until| until.0.saturating_sub(ban.created.0));
        let event = Event::Banned {
            host: None,
            prefix: ban.prefix.to_string(),
            by: ban.by.as_str(),
            reason: ban.reason.clone(),
            lasts_s,
        };
        if let Err(error) = context.hosts.ban(ban.clone()).await {
            tracing::error!(prefix = %ban.prefix, error = %describe(&error), "a ban could not be written");
            continue;
        }
        tracing::warn!(prefix = %ban.prefix, reason = ban.reason, lasts_s, "banned for repeated offences");
        context.events.emit(event);
        access::refresh(&context).await;
    }
}

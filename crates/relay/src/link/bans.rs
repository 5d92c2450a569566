//! What a host does about its bans from home: they are set here, at the relay, for the players of its own tunnels.

use std::sync::PoisonError;

use spawnpoint_core::access::parse_prefix;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::{BanEntry, BanReply, BanRequest, MAX_BANS, MAX_REASON};
use spawnpoint_proto::{cut, plain};
use spawnpoint_store::{Ban, BannedBy, StoreError};

use super::LinkTask;
use crate::access;

impl LinkTask {
    /// Does what the host asks for.
    pub(super) async fn on_ban(&self, request: BanRequest) -> BanReply {
        let id = request.id;
        match self.change_bans(request).await {
            Ok((bans, total)) => BanReply {
                id,
                refused: None,
                bans,
                total: Some(total),
            },
            Err(refused) => BanReply {
                id,
                refused: Some(refused),
                bans: Vec::new(),
                total: None,
            },
        }
    }

    fn may_change_bans(&self) -> bool {
        let mut pace = self.link.bans.lock().unwrap_or_else(PoisonError::into_inner);
        pace.allows(self.context.clock.now())
    }

    async fn change_bans(&self, request: BanRequest) -> Result<(Vec<BanEntry>, u32), String> {
        let hosts = &self.context.hosts;
        let failed = |error: StoreError| match error {
            StoreError::TooManyBans => error.to_string(),
            error => {
                tracing::error!(error = %describe(&error), "a host's ban could not be read or written");
                "the relay could not read or write its directory, try again later".to_owned()
            }
        };
        let Some(prefix) = request.prefix else {
            let (bans, now) = (hosts.bans().await.map_err(failed)?, unix_now());
            let own = bans
                .into_iter()
                .filter(|ban| ban.host == Some(self.host.id) && ban.is_on(now));
            let entries: Vec<BanEntry> = own
                .map(|ban| BanEntry {
                    prefix: ban.prefix.to_string(),
                    left_s: ban.until.map(|until| until.0.saturating_sub(now.0)),
                    reason: cut(&ban.reason, MAX_REASON).to_owned(),
                })
                .collect();
            let total = entries.len() as u32;
            return Ok((entries.into_iter().take(MAX_BANS).collect(), total));
        };
        let prefix = parse_prefix(&prefix)?;
        // Each change is written to the disk and read by everybody.
        if !self.may_change_bans() {
            return Err("the bans of this host change too fast, try again in a moment".to_owned());
        }
        if request.lift == Some(true) {
            return match hosts.lift(Some(self.host.id), prefix).await.map_err(failed)? {
                true => {
                    access::refresh(&self.context).await;
                    tracing::info!(host = self.link.host_name, %prefix, "ban lifted");
                    self.context.events.emit(Event::Unbanned {
                        host: Some(self.link.host_name.clone()),
                        prefix: prefix.to_string(),
                    });
                    Ok((Vec::new(), 0))
                }
                false => Err(format!("{prefix} is not banned by this host")),
            };
        }
        let created = unix_now();
        let lasts_s = request.lasts_s.map(u64::from);
        let ban = Ban {
            host: Some(self.host.id),
            prefix,
            until: lasts_s.map(|lasts| UnixTime(created.0 + lasts.max(1))),
            created,
            by: BannedBy::Host,
            reason: plain(&request.reason.unwrap_or_default()),
        };
        let event = Event::Banned {
            host: Some(self.link.host_name.clone()),
            prefix: prefix.to_string(),
            by: ban.by.as_str(),
            reason: ban.reason.clone(),
            lasts_s,
        };
        hosts.ban(ban).await.map_err(failed)?;
        tracing::info!(host = self.link.host_name, %prefix, lasts_s, "banned");
        self.context.events.emit(event);
        access::refresh(&self.context).await;
        Ok((Vec::new(), 0))
    }
}

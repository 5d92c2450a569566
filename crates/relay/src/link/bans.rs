//! What a host does about its bans from home: they are set here, at the relay, for the players of its own tunnels.

use spawnpoint_core::access::parse_prefix;
use spawnpoint_core::grant::UnixTime;
use spawnpoint_net::unix_now;
use spawnpoint_ops::{Event, describe};
use spawnpoint_proto::control::{BanEntry, BanReply, BanRequest, MAX_BANS};
use spawnpoint_proto::plain;
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
                    reason: ban.reason,
                })
                .collect();
            let total = entries.len() as u32;
            return Ok((entries.into_iter().take(MAX_BANS).collect(), total));
        };
        let prefix = parse_prefix(&prefix)?;
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
        tracing::info!(host = self.link.host_name, %prefix, lasts_s, reason = ban.reason, "banned");
        self.context.events.emit(Event::Banned {
            host: Some(self.link.host_name.clone()),
            prefix: prefix.to_string(),
            by: ban.by.as_str(),
            reason: ban.reason.clone(),
            lasts_s,
        });
        hosts.ban(ban).await.map_err(failed)?;
        access::refresh(&self.context).await;
        Ok((Vec::new(), 0))
    }
}

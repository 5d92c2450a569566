//! The relay's audit log: which events go there, what other processes have left for it, and refusals told together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spawnpoint_config::audit::{self, AuditLog};
use spawnpoint_ops::{Audit, AuditError, AuditSettings, Collector, Event, Events, Way, describe};

use crate::context::Context;

/// Refusals are told together for this long.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Opens the audit log of a relay whose data is in `data_dir`, and has every event written down there before it goes where `events` leads.
pub(crate) fn open(config: &AuditLog, data_dir: &Path, events: Events) -> Result<(Audit, Events), AuditError> {
    let syslog = config.syslog.clone().map(|syslog| Collector {
        way: match syslog.way {
            audit::Way::Udp => Way::Udp,
            audit::Way::Tcp => Way::Tcp,
            audit::Way::Tls => Way::Tls,
        },
        host: syslog.host,
        port: syslog.port,
        authority: config.syslog_ca.clone(),
    });
    let audit = match config.enabled {
        false => Audit::default(),
        true => Audit::open(&AuditSettings {
            file: Some(config.file.clone().unwrap_or_else(|| data_dir.join("audit.jsonl"))),
            max_size: config.max_size.into(),
            keep: config.keep,
            addresses: config.addresses,
            sessions: config.sessions,
            syslog,
            journald: config.journald,
        })?,
    };
    let written = audit.clone();
    let events = Events::new(move |event| {
        written.record(&event);
        events.emit(event);
    });
    Ok((audit, events))
}

/// Takes over what other processes have left, and tells refusals, as long as it is polled.
pub(crate) async fn keep(context: Arc<Context>) {
    let mut changes = context.hosts.changes();
    changes.mark_changed();
    let mut tell = tokio::time::interval(TELL_EVERY);
    tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Ok(()) = changes.changed() => take_notes(&context).await,
            _ = tell.tick() => tell_refusals(&context),
        }
    }
}

async fn take_notes(context: &Context) {
    match context.hosts.take_notes().await {
        Ok(notes) => notes
            .iter()
            .for_each(|(time, note)| context.audit.record_note(time.0, note)),
        Err(error) => tracing::error!(error = %describe(&error), "what was left for the audit log could not be read"),
    }
}

fn tell_refusals(context: &Context) {
    for (reason, count) in context.metrics.take_denials() {
        context.events.emit(Event::LimitHit {
            reason,
            count,
            seconds: TELL_EVERY.as_secs(),
        });
    }
    context.metrics.set_audit_lost(context.audit.lost());
}

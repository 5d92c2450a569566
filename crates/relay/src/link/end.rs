//! How a link ends, and what is to be done then: everybody is told why, and nothing of it is left.

use std::sync::Arc;
use std::time::Duration;

use spawnpoint_core::route::Return;
use spawnpoint_net::{ControlError, SessionEnd, unix_now, var};
use spawnpoint_proto::{CloseCode, Violation};

use super::{Arrival, LinkTask};
use crate::list;
use crate::tunnel::Tunnel;

/// Players' tasks end this soon after their sessions.
const SESSIONS_DEADLINE: Duration = Duration::from_secs(1);

/// How a carrier, or with it the link, ended.
#[derive(Debug)]
pub(super) enum End {
    /// The connection is gone.
    Lost(quinn::ConnectionError),
    /// The agent has come on a newer connection.
    Superseded(Box<Arrival>),
    /// We end it.
    Close(CloseCode),
    /// The agent broke the protocol.
    Violation(Violation),
    /// No new carrier came in time.
    Expired,
}

impl LinkTask {
    /// Ends the link for good; `connection` was its last.
    pub(super) async fn finish(mut self, end: End, connection: Option<&quinn::Connection>) {
        let (link, context) = (self.link.clone(), self.context.clone());
        // Nobody arrives here any more.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            drop(command);
        }
        self.count();
        self.touch().await;
        let is_welcome = match context.hosts.host(self.host.id).await {
            Ok(host) => host.is_some_and(|host| host.is_welcome(unix_now())),
            Err(_) => true,
        };
        let (reason, code, back) = match &end {
            End::Lost(_) if let Some(code) = link.closing.get() => (code.as_str(), None, back_after(*code)),
            End::Lost(error) if said_goodbye(error) => (lost_reason(error), None, Return::Perhaps),
            End::Lost(error) => (lost_reason(error), None, Return::Soon),
            End::Close(code) => (code.as_str(), Some(*code), back_after(*code)),
            End::Violation(violation) => {
                context.metrics.violation(violation.as_str());
                (violation.as_str(), Some(CloseCode::Violation), Return::Soon)
            }
            End::Expired => ("expired", None, Return::Perhaps),
            End::Superseded(_) => ("superseded", Some(CloseCode::Superseded), Return::Soon),
        };
        if let (Some(code), Some(connection)) = (code, connection) {
            connection.close(var(code.number()), reason.as_bytes());
        }
        let is_expired = matches!(end, End::Expired);
        link.sessions.end_all(match is_expired {
            true => SessionEnd::Expired,
            false => SessionEnd::LinkLost,
        });
        // So that each reports its own end; what closes the tunnel below ends whoever is left.
        let _ = tokio::time::timeout(SESSIONS_DEADLINE, link.sessions.emptied()).await;
        let tunnels: Vec<Arc<Tunnel>> = link.tunnels().values().cloned().collect();
        for tunnel in &tunnels {
            if let Some(unnoted) = tunnel.list.as_ref().and_then(|list| list.gone(unix_now())) {
                list::note(&context, link.host, &tunnel.labels, unnoted).await;
            }
        }
        tunnels
            .into_iter()
            .map(|tunnel| tunnel.id)
            .for_each(|id| self.end_tunnel(id, if is_expired { "expired" } else { "link_lost" }));
        if matches!(end, End::Close(CloseCode::TakenOver)) {
            self.registry.bury(link.id).await;
        }
        // A host with a new invite comes back with that.
        let back = match back {
            Return::Never if is_welcome => Return::Perhaps,
            back => back,
        };
        self.registry.detach(link.id, back).await;
        if !self.registry.is_linked(link.host).await {
            context.metrics.forget_link(&link.host_name);
        }
        if !is_expired {
            self.down(reason);
        }
        self.scope.close(Duration::from_secs(5)).await;
    }
}

impl From<ControlError> for End {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Violation(violation) => Self::Violation(violation),
            ControlError::Lost(error) => Self::Lost(error),
            ControlError::Cut => Self::Violation(Violation::ControlEnded),
        }
    }
}

/// Whether an agent comes back whose link was closed for `code`.
const fn back_after(code: CloseCode) -> Return {
    match code {
        CloseCode::Timeout | CloseCode::Internal | CloseCode::Busy => Return::Soon,
        CloseCode::Revoked => Return::Never,
        _ => Return::Perhaps,
    }
}

pub(super) fn said_goodbye(error: &quinn::ConnectionError) -> bool {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner()) == CloseCode::Shutdown
        }
        _ => false,
    }
}

pub(super) fn lost_reason(error: &quinn::ConnectionError) -> &'static str {
    use quinn::ConnectionError as Error;
    match error {
        Error::ApplicationClosed(close) => CloseCode::from_number(close.error_code.into_inner()).as_str(),
        Error::TimedOut => "timed_out",
        Error::Reset => "reset",
        Error::LocallyClosed => "closed_here",
        _ => "transport_error",
    }
}

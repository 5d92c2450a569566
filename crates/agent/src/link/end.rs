//! How a carrier ends, and with it perhaps the link.

use spawnpoint_net::ControlError;
use spawnpoint_ops::describe;
use spawnpoint_proto::{CloseCode, RejectCode, plain};

use crate::connect::GiveUp;

/// How a carrier ended, and with it perhaps the link.
pub(crate) enum LinkEnd {
    /// We were asked to leave.
    Left,
    /// There is no point in trying again.
    GaveUp(GiveUp),
    /// It was lost; trying again is right.
    Lost {
        /// Why, in words.
        reason: String,
        /// What is known of the relay.
        relay: RelayState,
    },
}

/// What a lost connection says about the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RelayState {
    /// It is there, or its successor is: the sessions go on as soon as it is reached.
    Here,
    /// It fell silent, or it is on another path; it has the sessions if it comes back in time.
    Silent,
    /// It was stopped, and the sessions with it.
    Stopped,
    /// It is there and does not want this connection.
    Unwilling,
}

impl LinkEnd {
    /// Lost for a reason that a relay which is there has given.
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
            relay: RelayState::Unwilling,
        }
    }

    /// Lost since nothing comes from the relay any more.
    pub(super) fn silent(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
            relay: RelayState::Silent,
        }
    }
}

impl From<ControlError> for LinkEnd {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Lost(error) => closed(&error),
            error => Self::lost(describe(&error)),
        }
    }
}

/// What the loss of a connection means.
pub(super) fn closed(error: &quinn::ConnectionError) -> LinkEnd {
    let lost = |reason: &str, relay| LinkEnd::Lost {
        reason: reason.to_owned(),
        relay,
    };
    let quinn::ConnectionError::ApplicationClosed(close) = error else {
        return match error {
            quinn::ConnectionError::TimedOut => LinkEnd::silent("the relay does not answer any more"),
            quinn::ConnectionError::Reset => lost("the relay does not know this connection any more", RelayState::Here),
            other => LinkEnd::lost(other.to_string()),
        };
    };
    match CloseCode::from_number(close.error_code.into_inner()) {
        CloseCode::Shutdown => lost("the relay was stopped", RelayState::Stopped),
        CloseCode::Timeout => lost("the relay has not heard this agent for too long", RelayState::Here),
        CloseCode::Upgrade => lost("the relay makes way for its successor", RelayState::Here),
        CloseCode::TakenOver => LinkEnd::GaveUp(GiveUp::TakenOver),
        CloseCode::Revoked => LinkEnd::GaveUp(GiveUp::Rejected {
            code: RejectCode::Revoked,
            text: "the relay's operator has revoked or replaced the invite, or it has expired; ask for a new one"
                .to_owned(),
        }),
        CloseCode::Violation => LinkEnd::lost(format!(
            "the relay does not understand this agent ({}): if it is older than the agent, it is to be updated first",
            plain(&String::from_utf8_lossy(&close.reason))
        )),
        code => LinkEnd::lost(format!("the relay closed the link ({code})")),
    }
}

//! The handshake as types: a side can only do what is its turn to do.
//!
//! ```text
//! agent  Introduced --(Welcome)--> Accepted            relay  Awaiting --(Hello)--> Offered --accept()--> Welcome on the wire
//!            `-------(Reject)----> Rejected                       `--(anything else)--> Violation   `--reject()--> Reject on the wire
//! ```
//! Each step consumes the one before. Nothing here knows tokens, hosts or tunnels.

use crate::control::{Hello, Message, Reject, Welcome};
use crate::frame::Frame;
use crate::{RejectCode, TunnelName, VERSIONS, Violation};

/// The agent's side after its hello was sent.
#[derive(Debug)]
pub struct Introduced {
    versions: Vec<u16>,
    asked: Vec<TunnelName>,
}

/// What the relay answered to a hello.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The agent is in.
    Welcome(Box<Welcome>),
    /// The agent is not.
    Rejected(Reject),
}

impl Introduced {
    /// The first step of an agent: the frame to send, and the state to wait in.
    pub fn new(hello: Hello) -> (Frame, Self) {
        let state = Self {
            versions: hello.versions.clone(),
            asked: hello.tunnels.iter().map(|tunnel| tunnel.name.clone()).collect(),
        };
        (Message::Hello(hello).to_frame(), state)
    }

    /// Takes the relay's first frame.
    ///
    /// # Errors
    /// [`Violation::UnexpectedMessage`] for anything but an answer to the hello, a version that was not offered, or an answer to other tunnels.
    pub fn on_frame(self, frame: &Frame) -> Result<Answer, Violation> {
        match Message::from_frame(frame)? {
            Message::Welcome(welcome) if self.is_answered_by(&welcome) => Ok(Answer::Welcome(Box::new(welcome))),
            Message::Reject(reject) => Ok(Answer::Rejected(reject)),
            _ => Err(Violation::UnexpectedMessage),
        }
    }

    fn is_answered_by(&self, welcome: &Welcome) -> bool {
        let version = welcome.version;
        VERSIONS.contains(&version)
            && self.versions.contains(&version)
            && self.asked.iter().eq(welcome.tunnels.iter().map(|tunnel| &tunnel.name))
    }
}

/// The relay's side before the hello.
#[derive(Debug, Default)]
pub struct Awaiting(());

/// The relay's side after the hello: it must accept or reject.
#[derive(Debug)]
#[must_use]
pub struct Offered {
    hello: Hello,
    version: Option<u16>,
}

impl Awaiting {
    /// Takes the agent's first frame.
    ///
    /// # Errors
    /// [`Violation::UnexpectedMessage`] for anything but a hello, and the violations of decoding one.
    pub fn on_frame(self, frame: &Frame) -> Result<Offered, Violation> {
        match Message::from_frame(frame)? {
            Message::Hello(hello) => {
                let version = VERSIONS
                    .iter()
                    .copied()
                    .find(|version| hello.versions.contains(version));
                Ok(Offered { hello, version })
            }
            _ => Err(Violation::UnexpectedMessage),
        }
    }
}

impl Offered {
    /// What the agent said.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The version to speak.
    ///
    /// # Errors
    /// The [`Reject`] to answer with when there is no common one.
    pub fn version(&self) -> Result<u16, Reject> {
        self.version.ok_or_else(|| Reject {
            code: RejectCode::Version,
            text: format!(
                "this relay speaks protocol versions {VERSIONS:?}, the agent offers {:?}: update the older of the two",
                self.hello.versions
            ),
        })
    }

    /// Lets the agent in: the frame to send, and the hello to act on.
    pub fn accept(self, welcome: Welcome) -> (Frame, Hello) {
        (Message::Welcome(welcome).to_frame(), self.hello)
    }

    /// Does not let the agent in: the frame to send.
    pub fn reject(self, reject: Reject) -> Frame {
        Message::Reject(reject).to_frame()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::GoAway;
    use crate::{AgentId, LinkId, Token};

    fn hello(versions: &[u16]) -> Hello {
        Hello {
            versions: versions.to_vec(),
            token: Some(Token::new([1; 32])),
            proof: None,
            agent: AgentId([0; 16]),
            software: String::new(),
            tunnels: Vec::new(),
            resume: None,
            window: None,
            repairs: None,
            downlink: None,
        }
    }

    fn welcome(version: u16) -> Welcome {
        Welcome {
            version,
            link: LinkId([2; 16]),
            ticket: None,
            resume_window_ms: 0,
            tunnels: Vec::new(),
            window: None,
            repairs: None,
            lost: None,
            software: String::new(),
            host: "desk".into(),
        }
    }

    #[test]
    fn both_sides_meet_at_the_best_common_version() {
        let (frame, agent) = Introduced::new(hello(&[9, 1]));
        let offered = Awaiting::default().on_frame(&frame).unwrap();
        let version = offered.version().unwrap();
        let (frame, _) = offered.accept(welcome(version));
        let Answer::Welcome(welcome) = agent.on_frame(&frame).unwrap() else {
            panic!("not welcome")
        };
        assert_eq!(welcome.version, 1);
    }

    #[test]
    fn an_agent_of_another_version_is_told_both_sides_versions() {
        let (frame, agent) = Introduced::new(hello(&[9]));
        let offered = Awaiting::default().on_frame(&frame).unwrap();
        let reject = offered.version().unwrap_err();
        let Answer::Rejected(seen) = agent.on_frame(&offered.reject(reject)).unwrap() else {
            panic!("not rejected")
        };
        assert_eq!(seen.code, RejectCode::Version);
        assert!(seen.text.contains("[1]") && seen.text.contains("[9]"), "{}", seen.text);
    }

    #[test]
    fn another_message_than_the_hello_is_out_of_order() {
        let frame = Message::GoAway(GoAway { deadline_ms: 1 }).to_frame();
        assert_eq!(
            Awaiting::default().on_frame(&frame).unwrap_err(),
            Violation::UnexpectedMessage
        );
        let (_, agent) = Introduced::new(hello(&[1]));
        assert_eq!(agent.on_frame(&frame).unwrap_err(), Violation::UnexpectedMessage);
    }

    #[test]
    fn a_welcome_in_a_version_that_only_we_know_was_not_offered() {
        let (_, agent) = Introduced::new(hello(&[9]));
        let frame = Message::Welcome(welcome(1)).to_frame();
        assert_eq!(agent.on_frame(&frame).unwrap_err(), Violation::UnexpectedMessage);
    }

    #[test]
    fn a_welcome_in_a_version_not_offered_is_out_of_order() {
        let (_, agent) = Introduced::new(hello(&[1]));
        let frame = Message::Welcome(welcome(7)).to_frame();
        assert_eq!(agent.on_frame(&frame).unwrap_err(), Violation::UnexpectedMessage);
    }
}

//! The handshake as types: a side can only do what is its turn to do.
//!
//! ```text
//! agent  Introduced --(Welcome)--> Accepted            relay  Awaiting --(Hello)--> Offered --accept()--> Welcome on the wire
//!            `-------(Reject)----> Rejected                       `--(anything else)--> Violation   `--reject()--> Reject on the wire
//! ```
//! Each step consumes the one before; what follows a hello completes it. A hello comes from a peer who is not known yet and is small: tunnels and sessions that do not fit follow it in messages of
//! their own, which the relay reads once it knows the agent. Nothing here knows tokens, hosts or tunnels.

use minicbor::Encode;

use crate::control::{Hello, MAX_RESUMED, MAX_TUNNELS, Message, Reject, Welcome};
use crate::frame::{Frame, MAX_HELLO};
use crate::{RejectCode, TunnelName, VERSIONS, Violation};

/// The agent's side after its hello was sent.
#[derive(Debug)]
pub struct Introduced {
    versions: Vec<u16>,
    asked: Vec<TunnelName>,
    /// How many of them are in the hello itself.
    first: usize,
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
    /// The first step of an agent: the messages to send, a hello and what does not fit into it, and the state to wait in.
    pub fn new(hello: Hello) -> (Vec<Message>, Self) {
        let mut state = Self {
            versions: hello.versions.clone(),
            asked: hello.tunnels.iter().map(|tunnel| tunnel.name.clone()).collect(),
            first: 0,
        };
        let messages = split(hello);
        if let Some(Message::Hello(hello)) = messages.first() {
            state.first = hello.tunnels.len();
        }
        (messages, state)
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
        let answers = |asked: &[TunnelName]| asked.iter().eq(welcome.tunnels.iter().map(|tunnel| &tunnel.name));
        // A relay that knows of nothing that follows a hello answers that one by one.
        VERSIONS.contains(&version)
            && self.versions.contains(&version)
            && (answers(&self.asked) || answers(&self.asked[..self.first]))
    }
}

/// The hello as it fits into [`MAX_HELLO`] bytes, and the messages that complete it.
fn split(mut hello: Hello) -> Vec<Message> {
    let mut tunnels = std::mem::take(&mut hello.tunnels);
    let mut sessions = hello
        .resume
        .as_mut()
        .map(|resume| std::mem::take(&mut resume.sessions))
        .unwrap_or_default();
    // As long as they can be, while it is reckoned what else fits.
    hello.more = Some(u32::MAX);
    if let Some(resume) = &mut hello.resume {
        resume.more = Some(u32::MAX);
    }
    let bare = Message::Hello(hello.clone()).to_frame().length();
    let mut room = MAX_HELLO.saturating_sub(bare + LIST_LENGTHS);
    let more_tunnels = tunnels.split_off(fitting(&tunnels, &mut room));
    let more_sessions = sessions.split_off(fitting(&sessions, &mut room));
    (hello.tunnels, hello.more) = (tunnels, Some(more_tunnels.len() as u32));
    if let Some(resume) = &mut hello.resume {
        (resume.sessions, resume.more) = (sessions, Some(more_sessions.len() as u32));
    }
    let more_tunnels = more_tunnels.into_iter().map(Message::TunnelAdd);
    let more_sessions = more_sessions.into_iter().map(Message::Delivered);
    std::iter::once(Message::Hello(hello))
        .chain(more_tunnels)
        .chain(more_sessions)
        .collect()
}

/// The most bytes that may follow a hello: sixteen thousand prefixes of limits, or every session that a link can have.
pub const MAX_FURTHER: usize = 2 * 1024 * 1024;

/// Bytes by which two lists that are not empty have longer lengths than two that are.
const LIST_LENGTHS: usize = 8;

/// How many of `items` fit into `room`, of which they take their part.
fn fitting<T: Encode<()>>(items: &[T], room: &mut usize) -> usize {
    let fits = |item: &&T| {
        let left = minicbor::to_vec(item)
            .ok()
            .and_then(|bytes| room.checked_sub(bytes.len()));
        *room = left.unwrap_or(*room);
        left.is_some()
    };
    items.iter().take_while(fits).count()
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
    /// Tunnels and sessions that are still to follow.
    to_come: (usize, usize),
    /// Bytes that have followed.
    further: usize,
}

impl Awaiting {
    /// Takes the agent's first frame.
    ///
    /// # Errors
    /// [`Violation::UnexpectedMessage`] for anything but a hello, [`Violation::TooManyItems`] for one with more tunnels or sessions to follow than a link can
    /// have, and the violations of decoding one.
    pub fn on_frame(self, frame: &Frame) -> Result<Offered, Violation> {
        match Message::from_frame(frame)? {
            Message::Hello(hello) => {
                let version = VERSIONS
                    .iter()
                    .copied()
                    .find(|version| hello.versions.contains(version));
                let more = |count: Option<u32>| count.unwrap_or(0) as usize;
                let to_come = (
                    more(hello.more),
                    more(hello.resume.as_ref().and_then(|resume| resume.more)),
                );
                if to_come.0 + hello.tunnels.len() > MAX_TUNNELS || to_come.1 > MAX_RESUMED {
                    return Err(Violation::TooManyItems);
                }
                Ok(Offered {
                    hello,
                    version,
                    to_come,
                    further: 0,
                })
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

    /// Whether nothing of the hello is still to follow.
    pub const fn is_complete(&self) -> bool {
        matches!(self.to_come, (0, 0))
    }

    /// Takes the next frame of what follows the hello.
    ///
    /// # Errors
    /// [`Violation::UnexpectedMessage`] for anything but the next tunnel or session, [`Violation::TooManyItems`] beyond [`MAX_FURTHER`] bytes, and the violations
    /// of decoding it.
    pub fn on_frame(&mut self, frame: &Frame) -> Result<(), Violation> {
        self.further += frame.length();
        if self.further > MAX_FURTHER {
            return Err(Violation::TooManyItems);
        }
        match (Message::from_frame(frame)?, &mut self.to_come, &mut self.hello.resume) {
            (Message::TunnelAdd(request), (tunnels @ 1.., _), _) => {
                *tunnels -= 1;
                self.hello.tunnels.push(request);
            }
            (Message::Delivered(delivered), (0, sessions @ 1..), Some(resume)) => {
                *sessions -= 1;
                resume.sessions.push(delivered);
            }
            _ => return Err(Violation::UnexpectedMessage),
        }
        Ok(())
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
    use crate::control::{Delivered, GoAway, ResumeLink, TunnelLimits, TunnelReply, TunnelRequest};
    use crate::{AgentId, LinkId, Protocol, SessionId, Ticket, Token};

    /// A tunnel with so many bytes of words.
    fn request(name: &str, words: usize) -> TunnelRequest {
        TunnelRequest {
            away: Some("w".repeat(words)),
            ..TunnelRequest::new(name.parse().unwrap(), Protocol::Tcp)
        }
    }

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
            more: None,
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
        let (said, agent) = Introduced::new(hello(&[9, 1]));
        let offered = Awaiting::default().on_frame(&said[0].to_frame()).unwrap();
        let version = offered.version().unwrap();
        let (frame, _) = offered.accept(welcome(version));
        let Answer::Welcome(welcome) = agent.on_frame(&frame).unwrap() else {
            panic!("not welcome")
        };
        assert_eq!(welcome.version, 1);
    }

    #[test]
    fn an_agent_of_another_version_is_told_both_sides_versions() {
        let (said, agent) = Introduced::new(hello(&[9]));
        let offered = Awaiting::default().on_frame(&said[0].to_frame()).unwrap();
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
    fn a_hello_that_does_not_fit_is_completed_by_what_follows_it() {
        let tunnels = (0..MAX_TUNNELS).map(|number| request(&format!("tunnel-{number}"), 300));
        let sessions = (0..5_000).map(|number| Delivered {
            session: SessionId(u64::MAX - number),
            offset: number,
        });
        for (tunnel_count, session_count) in [(0, 0), (1, 0), (3, 5_000), (MAX_TUNNELS, 0), (MAX_TUNNELS, 5_000)] {
            let tunnels: Vec<_> = tunnels.clone().take(tunnel_count).collect();
            let sessions: Vec<_> = sessions.clone().take(session_count).collect();
            let mut whole = hello(&[1]);
            whole.tunnels.clone_from(&tunnels);
            whole.resume = Some(ResumeLink {
                link: LinkId([3; 16]),
                ticket: Ticket::new([4; 32]),
                sessions: sessions.clone(),
                more: None,
            });
            let (said, agent) = Introduced::new(whole);
            let first = said[0].to_frame();
            assert!(first.length() <= MAX_HELLO, "{} bytes", first.length());
            let mut offered = Awaiting::default().on_frame(&first).unwrap();
            for message in &said[1..] {
                assert!(!offered.is_complete());
                offered.on_frame(&message.to_frame()).unwrap();
            }
            assert!(offered.is_complete());
            assert_eq!(offered.hello().tunnels, tunnels);
            assert_eq!(offered.hello().resume.as_ref().unwrap().sessions, sessions);
            let refused = |tunnel: &TunnelRequest| TunnelReply {
                name: tunnel.name.clone(),
                opened: None,
                refused: None,
            };
            let mut welcome = welcome(1);
            welcome.tunnels = tunnels.iter().map(refused).collect();
            let (frame, _) = offered.accept(welcome);
            assert!(matches!(agent.on_frame(&frame), Ok(Answer::Welcome(_))));
        }
    }

    #[test]
    fn what_follows_a_hello_is_what_it_announced_and_no_more_than_a_link_has() {
        let announce = |tunnels, sessions| {
            let mut hello = hello(&[1]);
            hello.more = Some(tunnels);
            hello.resume = Some(ResumeLink {
                link: LinkId([3; 16]),
                ticket: Ticket::new([4; 32]),
                sessions: Vec::new(),
                more: Some(sessions),
            });
            Awaiting::default().on_frame(&Message::Hello(hello).to_frame())
        };
        let many = MAX_TUNNELS as u32 + 1;
        assert_eq!(announce(many, 0).unwrap_err(), Violation::TooManyItems);
        assert_eq!(announce(u32::MAX, u32::MAX).unwrap_err(), Violation::TooManyItems);
        assert_eq!(
            announce(0, MAX_RESUMED as u32 + 1).unwrap_err(),
            Violation::TooManyItems
        );
        let tunnel = Message::TunnelAdd(request("game", 1)).to_frame();
        let session = Message::Delivered(Delivered {
            session: SessionId(1),
            offset: 0,
        });
        let session = session.to_frame();
        let mut offered = announce(1, 1).unwrap();
        assert_eq!(offered.on_frame(&session), Err(Violation::UnexpectedMessage));
        offered.on_frame(&tunnel).unwrap();
        assert_eq!(offered.on_frame(&tunnel), Err(Violation::UnexpectedMessage));
        offered.on_frame(&session).unwrap();
        assert!(offered.is_complete());
        assert_eq!(offered.on_frame(&session), Err(Violation::UnexpectedMessage));
    }

    #[test]
    fn what_follows_a_hello_is_bounded_in_bytes_too() {
        let mut first = hello(&[1]);
        first.more = Some(MAX_TUNNELS as u32);
        let mut offered = Awaiting::default().on_frame(&Message::Hello(first).to_frame()).unwrap();
        let mut large = request("game", 0);
        large.limits = Some(TunnelLimits {
            allow: Some(vec!["1".repeat(45); 250]),
            ..TunnelLimits::default()
        });
        let frame = Message::TunnelAdd(large).to_frame();
        let fit = MAX_FURTHER / frame.length();
        assert!(fit < MAX_TUNNELS, "or this shows nothing");
        for _ in 0..fit {
            offered.on_frame(&frame).unwrap();
        }
        assert_eq!(offered.on_frame(&frame), Err(Violation::TooManyItems));
    }

    #[test]
    fn a_relay_that_knows_of_nothing_that_follows_answers_the_tunnels_of_the_hello() {
        let mut whole = hello(&[1]);
        whole.tunnels = (0..50)
            .map(|number| request(&format!("tunnel-{number}"), 300))
            .collect();
        let (said, agent) = Introduced::new(whole);
        let Message::Hello(first) = &said[0] else {
            panic!("no hello")
        };
        assert!(first.tunnels.len() < 50);
        let mut welcome = welcome(1);
        let refused = |tunnel: &TunnelRequest| TunnelReply {
            name: tunnel.name.clone(),
            opened: None,
            refused: None,
        };
        welcome.tunnels = first.tunnels.iter().map(refused).collect();
        let frame = Message::Welcome(welcome).to_frame();
        assert!(matches!(agent.on_frame(&frame), Ok(Answer::Welcome(_))));
    }

    #[test]
    fn a_welcome_in_a_version_not_offered_is_out_of_order() {
        let (_, agent) = Introduced::new(hello(&[1]));
        let frame = Message::Welcome(welcome(7)).to_frame();
        assert_eq!(agent.on_frame(&frame).unwrap_err(), Violation::UnexpectedMessage);
    }
}

//! The messages of the control stream.
//!
//! The agent opens one bidirectional stream and says [`Hello`]; the relay answers [`Welcome`] or [`Reject`]; after that both sides speak when they
//! have something to say. Bodies are CBOR maps with numbered fields: numbers are never reused, unknown ones are skipped, new ones are optional. A
//! kind that a build does not know is answered with [`Message::Unsupported`] and otherwise ignored.
//!
//! Sessions outlive a connection, so the link has an id and a [`Ticket`], sessions have ids, and both sides say how many bytes of a session they
//! have [`Delivered`]: lazily while a connection carries them, all at once when the next one takes over.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::frame::{Frame, MAX_FRAME};
use crate::{
    AgentId, LinkId, Protocol, RefusalCode, RejectCode, ResetCode, SessionId, Ticket, Token, TokenProof, TunnelId,
    TunnelName, Violation,
};

/// The most tunnels that one message may name; a link has as many lanes.
pub const MAX_TUNNELS: usize = 255;

/// The most versions that a hello may offer.
pub const MAX_VERSIONS: usize = 16;

/// The longest name of a game.
pub const MAX_GAME: usize = 32;

/// The most ports that one tunnel may need beside its own.
pub const MAX_NEEDS: usize = 64;

/// The most host names that one tunnel may want.
pub const MAX_NAMES: usize = 16;

/// The most prefixes that one tunnel may allow, and that it may deny.
pub const MAX_PREFIXES: usize = 256;

/// The longest host name or pattern of one, in bytes.
pub const MAX_NAME: usize = 255;

/// The longest text for a server that is away, in bytes.
pub const MAX_AWAY: usize = 512;

/// The longest address that players type, in bytes, so that a welcome with every tunnel open still fits into a frame.
pub const MAX_ADDRESS: usize = 160;

/// The longest sentence in a refusal, so that a welcome with every tunnel refused still fits into a frame.
pub const MAX_TEXT: usize = 180;

/// The most sessions that one message may name.
pub const MAX_SESSIONS: usize = 2048;

/// The largest window that a peer may claim; its other end keeps as much for each session.
pub const MAX_WINDOW: u32 = 16 << 20;

/// The most lost sessions that a welcome names, so that it fits into a frame beside every tunnel.
pub const MAX_LOST: usize = 512;

/// The most sessions that a link may have when it is taken up again.
pub const MAX_RESUMED: usize = 65_536;

/// The agent introduces itself.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Versions of the protocol that the agent speaks, best first.
    #[n(0)]
    pub versions: Vec<u16>,
    /// The host's token, from agents that know no `proof`.
    #[n(1)]
    pub token: Option<Token>,
    /// This agent process.
    #[n(2)]
    pub agent: AgentId,
    /// The agent's software and its version, for the relay's log.
    #[n(3)]
    pub software: String,
    /// The tunnels that the agent wants open, as far as they fit into [`MAX_HELLO`](crate::frame::MAX_HELLO) bytes.
    #[n(4)]
    pub tunnels: Vec<TunnelRequest>,
    /// The link to take up again, if the agent had one.
    #[n(5)]
    pub resume: Option<ResumeLink>,
    /// Bytes of one session that may be on their way to the agent, who has not taken them yet; absent when it cannot take up a session again.
    #[n(6)]
    pub window: Option<u32>,
    /// Whether the agent takes repairs of lost packets, and wants them.
    #[n(7)]
    pub repairs: Option<bool>,
    /// What the agent's line takes from the relay, in bytes a second, if its owner said.
    #[n(8)]
    pub downlink: Option<u64>,
    /// That the agent has the host's token, for this connection alone.
    #[n(9)]
    pub proof: Option<TokenProof>,
    /// How many [`TunnelAdd`](Message::TunnelAdd) messages with further tunnels follow the hello at once.
    #[n(10)]
    pub more: Option<u32>,
}

/// Which link an agent wants to go on with.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ResumeLink {
    /// The link.
    #[n(0)]
    pub link: LinkId,
    /// The ticket of the welcome that made it.
    #[n(1)]
    pub ticket: Ticket,
    /// Where the sessions of the link stand at the agent, as far as they fit into the hello.
    #[n(2)]
    pub sessions: Vec<Delivered>,
    /// How many [`Delivered`] messages with further sessions follow the hello and its further tunnels at once.
    #[n(3)]
    pub more: Option<u32>,
}

/// One tunnel that the agent wants open.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TunnelRequest {
    /// Its name within the host.
    #[n(0)]
    pub name: TunnelName,
    /// What it carries.
    #[n(1)]
    pub protocol: Protocol,
    /// The public port that it must have.
    #[n(2)]
    pub public_port: Option<u16>,
    /// The public port that it would like when it is free.
    #[n(3)]
    pub preferred_port: Option<u16>,
    /// The game behind it, by which the relay chooses the words of a refusal.
    #[n(4)]
    pub game: Option<String>,
    /// Whether each packet is to be sent a second time a moment later.
    #[n(5)]
    pub redundancy: Option<bool>,
    /// What its players' first bytes are written in, as the word of a [`Dialect`](crate::Dialect): it is reached by name on a shared port, too.
    #[n(6)]
    pub speaks: Option<String>,
    /// Host names by which it wants to be reached on shared ports, `*.NAME` for all under one; at most [`MAX_NAMES`].
    #[n(7)]
    pub names: Option<Vec<String>>,
    /// What the server list shows while the server is away, at most [`MAX_AWAY`] bytes.
    #[n(8)]
    pub away: Option<String>,
    /// The tunnel by whose public port its own must lie.
    #[n(9)]
    pub beside: Option<Beside>,
    /// The ports that must be free beside its own, for tunnels that follow; at most [`MAX_NEEDS`].
    #[n(10)]
    pub needs: Option<Vec<Need>>,
    /// Who may come, how many, and how fast, within what the grant says.
    #[n(11)]
    pub limits: Option<TunnelLimits>,
}

/// What a host itself says of the players of one of its tunnels.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TunnelLimits {
    /// Prefixes from which alone they may come; at most [`MAX_PREFIXES`].
    #[n(0)]
    pub allow: Option<Vec<String>>,
    /// Prefixes from which they may not come; at most [`MAX_PREFIXES`].
    #[n(1)]
    pub deny: Option<Vec<String>>,
    /// How many at once.
    #[n(2)]
    pub players: Option<u32>,
    /// Bytes a second from all of them together.
    #[n(3)]
    pub up: Option<u64>,
    /// Bytes a second to all of them together.
    #[n(4)]
    pub down: Option<u64>,
}

impl TunnelLimits {
    fn is_bounded(&self) -> bool {
        let fits = |list: &Option<Vec<String>>| {
            let list = list.as_deref().unwrap_or_default();
            list.len() <= MAX_PREFIXES && list.iter().all(|prefix| prefix.len() <= MAX_PREFIX)
        };
        fits(&self.allow) && fits(&self.deny)
    }
}

/// Where a public port lies that is reckoned from another.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Beside {
    /// The tunnel with the other port, opened before.
    #[n(0)]
    pub tunnel: TunnelName,
    /// What is added to that port.
    #[n(1)]
    pub offset: i32,
}

/// A port that a following tunnel will ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Need {
    /// Its protocol.
    #[n(0)]
    pub protocol: Protocol,
    /// What is added to the port of the tunnel that needs it.
    #[n(1)]
    pub offset: i32,
}

impl TunnelRequest {
    /// A request for a tunnel that wants nothing else.
    pub const fn new(name: TunnelName, protocol: Protocol) -> Self {
        Self {
            name,
            protocol,
            public_port: None,
            preferred_port: None,
            game: None,
            redundancy: None,
            speaks: None,
            names: None,
            away: None,
            beside: None,
            needs: None,
            limits: None,
        }
    }

    /// Whether every text of it is as short as it must be.
    fn is_bounded(&self) -> bool {
        let fits = |text: &Option<String>, most| text.as_ref().is_none_or(|text| text.len() <= most);
        let names = self.names.as_deref().unwrap_or_default();
        fits(&self.game, MAX_GAME)
            && fits(&self.speaks, MAX_GAME)
            && fits(&self.away, MAX_AWAY)
            && names.len() <= MAX_NAMES
            && names.iter().all(|name| name.len() <= MAX_NAME)
            && self.needs.as_ref().is_none_or(|needs| needs.len() <= MAX_NEEDS)
            && self.limits.as_ref().is_none_or(TunnelLimits::is_bounded)
    }
}

/// The relay lets the agent in.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// The version of the protocol to speak from here on.
    #[n(0)]
    pub version: u16,
    /// The link.
    #[n(1)]
    pub link: LinkId,
    /// What to show to take this link up again; absent when the relay does not keep links.
    #[n(2)]
    pub ticket: Option<Ticket>,
    /// How long the relay keeps the sessions of a link without a connection, in milliseconds.
    #[n(3)]
    pub resume_window_ms: u32,
    /// What became of each tunnel asked for, in the order of the hello.
    #[n(4)]
    pub tunnels: Vec<TunnelReply>,
    // Number 5 told which sessions go on; a stream of its own tells that of each.
    /// The relay's software and its version, for the agent's log.
    #[n(6)]
    pub software: String,
    /// The name under which the relay knows the host.
    #[n(7)]
    pub host: String,
    /// Bytes of one session that may be on their way to the relay, who has not taken them yet; absent when it cannot take up a session again.
    #[n(8)]
    pub window: Option<u32>,
    /// The sessions of the hello that the relay does not have any more. One beyond [`MAX_LOST`] ends when no stream came for it within the agent's window.
    #[n(9)]
    pub lost: Option<Vec<SessionId>>,
    /// Whether the relay takes repairs of lost packets, and wants them.
    #[n(10)]
    pub repairs: Option<bool>,
}

/// What became of a tunnel that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TunnelReply {
    /// The tunnel's name as asked for.
    #[n(0)]
    pub name: TunnelName,
    /// The tunnel, when it is open.
    #[n(1)]
    pub opened: Option<OpenedTunnel>,
    /// Why it is not, when it is not.
    #[n(2)]
    pub refused: Option<Refusal>,
}

/// An open tunnel.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OpenedTunnel {
    /// Its id in streams and datagrams.
    #[n(0)]
    pub id: TunnelId,
    /// The host name or address that players use.
    #[n(1)]
    pub public_host: String,
    /// The port that players use.
    #[n(2)]
    pub public_port: u16,
    /// After how long without a packet a UDP flow ends, in milliseconds.
    #[n(3)]
    pub idle_ms: u32,
    /// The best that players can type, a name without a port where the game finds that out; absent when it is `public_host` with `public_port`.
    #[n(4)]
    pub address: Option<String>,
    /// Whether its players are limited as the agent asked.
    #[n(5)]
    pub limited: Option<bool>,
}

/// Why a tunnel is not open.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Refusal {
    /// The reason.
    #[n(0)]
    pub code: RefusalCode,
    /// The reason in words, with the remedy.
    #[n(1)]
    pub text: String,
}

impl Refusal {
    /// A refusal whose `text` is cut to [`MAX_TEXT`] bytes.
    pub fn new(code: RefusalCode, text: &str) -> Self {
        let text = if text.len() <= MAX_TEXT {
            text.to_owned()
        } else {
            format!("{}...", &text[..text.floor_char_boundary(MAX_TEXT - 3)])
        };
        Self { code, text }
    }
}

/// The relay does not let the agent in.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Reject {
    /// The reason.
    #[n(0)]
    pub code: RejectCode,
    /// The reason in words, with the remedy.
    #[n(1)]
    pub text: String,
}

/// How much of a session the sender of this message has taken over from its peer, and will not need again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Delivered {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// Bytes from the start of the session; the end of the direction, if that was taken over too, counts as one more.
    #[n(1)]
    pub offset: u64,
}

/// The relay asks the agent to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct GoAway {
    /// After how long the relay closes what is left, in milliseconds.
    #[n(0)]
    pub deadline_ms: u32,
}

/// Words for the person at the other end.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Notice {
    /// One sentence.
    #[n(0)]
    pub text: String,
}

/// A tunnel by its name.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct TunnelRemove {
    /// The tunnel's name.
    #[n(0)]
    pub name: TunnelName,
}

/// Whether the game server of a tunnel that carries packets answers; a stream tells that by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct OriginState {
    /// The tunnel.
    #[n(0)]
    pub tunnel: TunnelId,
    /// Why it does not, as a stream to it would end; absent when it does as far as is known, which is so for a tunnel of which nothing was said.
    #[n(1)]
    pub silence: Option<ResetCode>,
}

/// What a host wants to do about its bans, which are for the players of its own tunnels.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct BanRequest {
    /// What the answer will name.
    #[n(0)]
    pub id: u32,
    /// The prefix; when absent, all bans of the host are asked for.
    #[n(1)]
    pub prefix: Option<String>,
    /// Whether the prefix's ban is to be lifted rather than set.
    #[n(2)]
    pub lift: Option<bool>,
    /// For how many seconds it is set; until it is lifted when absent.
    #[n(3)]
    pub lasts_s: Option<u32>,
    /// Why, in words.
    #[n(4)]
    pub reason: Option<String>,
}

/// What became of a [`BanRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct BanReply {
    /// The request's.
    #[n(0)]
    pub id: u32,
    /// Why it was not done, in words.
    #[n(1)]
    pub refused: Option<String>,
    /// The host's bans, as far as they fit, when they were asked for.
    #[n(2)]
    pub bans: Vec<BanEntry>,
    /// How many there are in all.
    #[n(3)]
    pub total: Option<u32>,
}

/// One ban.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct BanEntry {
    /// The prefix.
    #[n(0)]
    pub prefix: String,
    /// How many seconds are left; until it is lifted when absent.
    #[n(1)]
    pub left_s: Option<u64>,
    /// Why, in words.
    #[n(2)]
    pub reason: String,
}

/// Bans in one answer.
pub const MAX_BANS: usize = 200;

/// The longest words for a ban.
pub const MAX_REASON: usize = 120;

/// The longest text of a prefix.
const MAX_PREFIX: usize = 50;

impl BanRequest {
    /// The number of the message on the wire.
    pub const KIND: u16 = 12;

    fn is_bounded(&self) -> bool {
        let longest = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        longest(&self.prefix) <= MAX_PREFIX && longest(&self.reason) <= MAX_REASON
    }
}

/// The answer to a kind that the sender of this message does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Unsupported {
    /// The kind that was not understood.
    #[n(0)]
    pub kind: u16,
}

/// Are you there? The acknowledgement of the packet is answer enough.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Ping {}

macro_rules! messages {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $kind:literal;)+) => {
        /// One control message.
        #[derive(Clone, Debug)]
        pub enum Message {
            $($(#[$doc])* $variant($body),)+
            /// A kind that this build does not know: answer with `Unsupported` and go on.
            Unknown(u16),
        }

        impl Message {
            /// The number of this message on the wire.
            pub const fn kind(&self) -> u16 {
                match self {
                    $(Self::$variant(_) => $kind,)+
                    Self::Unknown(kind) => *kind,
                }
            }

            /// The message as a frame.
            pub fn to_frame(&self) -> Frame {
                let body = match self {
                    $(Self::$variant(body) => minicbor::to_vec(body).expect("writing to a Vec cannot fail"),)+
                    Self::Unknown(_) => Vec::new(),
                };
                Frame { kind: self.kind(), body: body.into() }
            }

            fn decode(kind: u16, body: &[u8]) -> Result<Self, minicbor::decode::Error> {
                Ok(match kind {
                    $($kind => Self::$variant(minicbor::decode(body)?),)+
                    unknown => Self::Unknown(unknown),
                })
            }
        }
    };
}

messages! {
    /// Agent: who I am and what I want open.
    Hello(Hello) = 1;
    /// Relay: you are in.
    Welcome(Welcome) = 2;
    /// Relay: you are not.
    Reject(Reject) = 3;
    /// Agent: open this tunnel too.
    TunnelAdd(TunnelRequest) = 4;
    /// Agent: close this tunnel.
    TunnelRemove(TunnelRemove) = 5;
    /// Relay: what became of a tunnel; also when an open one is taken away.
    TunnelReply(TunnelReply) = 6;
    /// Both: how far a session has been delivered here.
    Delivered(Delivered) = 7;
    /// Relay: I am going down.
    GoAway(GoAway) = 8;
    /// Relay: words for the host.
    Notice(Notice) = 9;
    /// Both: I do not know this kind.
    Unsupported(Unsupported) = 10;
    /// Agent: whether a game server answers.
    OriginState(OriginState) = 11;
    /// Agent: set, lift or list a ban.
    BanRequest(BanRequest) = 12;
    /// Relay: what became of that.
    BanReply(BanReply) = 13;
    /// Both: are you there?
    Ping(Ping) = 14;
}

impl Message {
    /// Reads the message in `frame`.
    ///
    /// # Errors
    /// [`Violation::MalformedMessage`] when the body is not what the kind says, [`Violation::TooManyItems`] when a list is too long.
    pub fn from_frame(frame: &Frame) -> Result<Self, Violation> {
        let message = Self::decode(frame.kind, &frame.body).map_err(|_| Violation::MalformedMessage)?;
        let (tunnels, sessions) = match &message {
            Self::Hello(hello) => (
                hello.tunnels.len(),
                hello.resume.as_ref().map_or(0, |resume| resume.sessions.len()),
            ),
            Self::Welcome(welcome) => (welcome.tunnels.len(), welcome.lost.as_ref().map_or(0, Vec::len)),
            _ => (0, 0),
        };
        let window = match &message {
            Self::Hello(hello) => hello.window,
            Self::Welcome(welcome) => welcome.window,
            _ => None,
        };
        if window.is_some_and(|window| window > MAX_WINDOW) {
            return Err(Violation::MalformedMessage);
        }
        let versions = if let Self::Hello(hello) = &message {
            hello.versions.len()
        } else {
            0
        };
        if tunnels > MAX_TUNNELS || sessions > MAX_SESSIONS || versions > MAX_VERSIONS {
            return Err(Violation::TooManyItems);
        }
        let requests = match &message {
            Self::Hello(hello) => hello.tunnels.as_slice(),
            Self::TunnelAdd(request) => std::slice::from_ref(request),
            _ => &[],
        };
        let is_bounded = match &message {
            Self::BanRequest(request) => request.is_bounded(),
            Self::BanReply(reply) => reply.bans.len() <= MAX_BANS,
            _ => true,
        };
        if !is_bounded || !requests.iter().all(TunnelRequest::is_bounded) {
            return Err(Violation::MalformedMessage);
        }
        Ok(message)
    }

    /// Reads a message from its encoded form, for tests and tools that hold whole frames.
    ///
    /// # Errors
    /// As [`Message::from_frame`], and the violations of [`Frame::decode`]; a cut frame is [`Violation::RuntFrame`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Violation> {
        let frame = Frame::decode(&mut bytes.into(), MAX_FRAME)?.ok_or(Violation::RuntFrame)?;
        Self::from_frame(&frame)
    }
}

#[cfg(test)]
mod tests;

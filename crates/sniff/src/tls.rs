//! The ClientHello at the front of a TLS connection: which server a client asks for.
//!
//! The hello travels in the clear, so a relay can route by the name in it and pass every byte on untouched; certificates and keys stay with the origin.
//! It may be spread over several records, which are joined here, so that bytes are bounded and a stranger is refused at the first wrong one. The message
//! itself is read by rustls' `Acceptor`: servers on the open internet trust that parser, it works on bytes alone, and without a crypto provider it reaches
//! neither a clock nor a random source. With an encrypted hello (ECH) the name is the outer one, the only one a relay can see.
//!
//! What it does not read is refused by name: clients of TLS 1.1 and before, which list no signature schemes. [`crate::quic`] hands in the same message
//! from its own frames.
//!
//! Source: RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3, for the name and the alert.

mod violation;

use bytes::Bytes;
use rustls::server::Acceptor;
use rustls::{Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::Progress;

pub use violation::Violation;

/// Bytes of a ClientHello, with the four of its header: one full record. Post-quantum key shares and a session ticket make 2 to 4 kB.
pub const MAX_HELLO: usize = 16 * 1024;

/// Records that one ClientHello may be spread over. Clients use one or two; those that hide the name from filters on their way use some ten.
pub const MAX_RECORDS: usize = 64;

/// The type of a record that holds handshake messages.
const HANDSHAKE: u8 = 22;

/// The major version of every SSL and TLS record since SSL 3.
const MAJOR: u8 = 3;

/// The highest minor version that a record may carry; TLS 1.3 sends that of TLS 1.2 or before.
const MAX_MINOR: u8 = 4;

/// Bytes before a record's content: type, version, length.
const RECORD_HEADER: usize = 5;

/// Bytes of a record's content.
const MAX_RECORD: usize = 16 * 1024;

/// Bytes before a handshake message's content: type, length.
const MESSAGE_HEADER: usize = 4;

/// The type of a ClientHello.
const CLIENT_HELLO: u8 = 1;

/// A fatal alert, in a record: unrecognized_name (112).
const UNRECOGNIZED_NAME: [u8; 7] = [21, MAJOR, 3, 0, 2, 2, 112];

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name of the server, in ASCII lower case and without the dot of an absolute name; `None` when the client names none, or an address.
    pub server_name: Option<String>,
    /// The protocols the client offers inside (ALPN), its favourite first.
    pub alpn: Vec<Vec<u8>>,
}

impl Hello {
    /// Reads a ClientHello at the front of `buf`, up to the end of the record that it ends in.
    ///
    /// # Errors
    /// The first [`Violation`] found; another protocol is told by its first byte that differs.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        gather(buf)?.and_then(|message| Self::from_message(&message))
    }

    /// Reads the ClientHello that fills `message`, its header included.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub(crate) fn from_message(message: &[u8]) -> Result<Self, Violation> {
        if message.len() > MAX_HELLO {
            return Err(Violation::HelloTooLarge);
        }
        let mut record = Vec::with_capacity(RECORD_HEADER + message.len());
        record.extend_from_slice(&[HANDSHAKE, MAJOR, 1]);
        record.extend_from_slice(&(message.len() as u16).to_be_bytes());
        record.extend_from_slice(message);

        let mut acceptor = Acceptor::default();
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            match acceptor.read_tls(&mut rest) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Violation::BadHello),
            }
        }
        let accepted = match acceptor.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return Err(Violation::BadHello),
            Err((error, _)) => return Err(offence(&error)),
        };
        let hello = accepted.client_hello();
        Ok(Self {
            server_name: hello.server_name().map(|name| {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.to_ascii_lowercase()
            }),
            alpn: hello
                .alpn()
                .map(|names| names.map(<[u8]>::to_vec).collect())
                .unwrap_or_default(),
        })
    }
}

/// Whether `buf` may be the beginning of a ClientHello: true until a byte says no, so of no bytes too.
#[must_use]
pub fn looks_like(buf: &[u8]) -> bool {
    is_record(buf) && buf.get(RECORD_HEADER).is_none_or(|&kind| kind == CLIENT_HELLO)
}

/// What to send a client that asks for a name nobody has, before closing: browsers show it as such.
#[must_use]
pub fn unrecognized_name() -> Bytes {
    Bytes::from_static(&UNRECOGNIZED_NAME)
}

/// How long the ClientHello is that begins with `front`, its header included; `None` until that is there.
pub(crate) fn message_size(front: &[u8]) -> Result<Option<usize>, Violation> {
    if front.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(Violation::NotClientHello);
    }
    let Some(&[_, high, middle, low]) = front.first_chunk() else {
        return Ok(None);
    };
    let size = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    if size > MAX_HELLO {
        return Err(Violation::HelloTooLarge);
    }
    Ok(Some(size))
}

/// Joins the message that the records at the front of `buf` carry, once it is there as a whole: bytes that come one by one cost a walk over the records
/// each, and no copy.
fn gather(buf: &[u8]) -> Result<Progress<Vec<u8>>, Violation> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let (mut have, mut consumed) = (0, 0);
    while parts.len() < MAX_RECORDS {
        let Some(record) = Record::open(&buf[consumed..])? else {
            return Ok(Progress::NeedMore);
        };
        have += record.content.len();
        consumed += RECORD_HEADER + record.content.len();
        parts.push(record.content);
        let front: Vec<u8> = parts.iter().copied().flatten().take(MESSAGE_HEADER).copied().collect();
        match message_size(&front)? {
            Some(size) if have > size => return Err(Violation::TrailingBytes),
            Some(size) if have == size && record.is_whole => {
                let value = parts.concat();
                return Ok(Progress::Done { value, consumed });
            }
            _ if !record.is_whole => return Ok(Progress::NeedMore),
            _ => {}
        }
    }
    Err(Violation::TooManyRecords)
}

/// One record of a handshake, as far as it is there.
struct Record<'a> {
    content: &'a [u8],
    is_whole: bool,
}

impl<'a> Record<'a> {
    /// Opens the record at the front of `buf`; `None` until its header is there.
    fn open(buf: &'a [u8]) -> Result<Option<Self>, Violation> {
        if !is_record(buf) {
            return Err(Violation::NotTls);
        }
        let Some((&[_, _, _, high, low], rest)) = buf.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        let size = usize::from(u16::from_be_bytes([high, low]));
        match size {
            0 => Err(Violation::EmptyRecord),
            1..=MAX_RECORD => Ok(Some(Self {
                content: &rest[..size.min(rest.len())],
                is_whole: size <= rest.len(),
            })),
            _ => Err(Violation::RecordTooLarge),
        }
    }
}

/// Whether `buf` may be the beginning of a record with handshake messages.
fn is_record(buf: &[u8]) -> bool {
    let known = &buf[..buf.len().min(3)];
    match *known {
        [HANDSHAKE, MAJOR, minor] => minor <= MAX_MINOR,
        _ => [HANDSHAKE, MAJOR].starts_with(known),
    }
}

/// What rustls' refusal of a ClientHello comes to.
fn offence(error: &Error) -> Violation {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidServerName)
        | Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => Violation::BadServerName,
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => Violation::TooOld,
        _ => Violation::BadHello,
    }
}

#[cfg(test)]
pub(crate) mod tests;

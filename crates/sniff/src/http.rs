//! The head of an HTTP/1 request: which host a browser asks for, and the page it gets when there is none.
//!
//! A relay reads as much as it takes to route and passes every byte on untouched, so of the head only the host is kept. The request is taken apart by
//! `httparse`, which other Rust servers trust with it; what a host may look like is decided here, strictly, since names of tunnels are compared with it.
//! HTTP/2 in the clear begins with a head of its own (`PRI * HTTP/2.0`) and is refused as a version that is not read.
//!
//! Each call reads the head anew, 16 KiB at most: microseconds, no more than the packet cost that brought the next byte.
//!
//! Source: RFC 9112, sections 2 to 5; RFC 9110, section 7.2.

use std::net::Ipv6Addr;

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Error as ParseError, Request, Status};
use thiserror::Error;

use crate::Progress;

/// Bytes of a head, with the blank line that ends it: what most servers take. Cookies are the bulk of it.
pub const MAX_HEAD: usize = 16 * 1024;

/// Headers of a request; browsers send some twenty.
pub const MAX_HEADERS: usize = 100;

/// Bytes of a host name, as in the DNS.
const MAX_HOST: usize = 255;

/// Digits of a port.
const MAX_PORT: usize = 5;

/// An offence against the protocol; [`Violation::as_str`] is its name in logs, metric labels and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// The bytes are not the head of a request.
    #[error("the bytes are not the head of an HTTP request")]
    BadHead,
    /// The version is neither 1.0 nor 1.1.
    #[error("the HTTP version is not one that is read here")]
    BadVersion,
    /// The head is longer than [`MAX_HEAD`].
    #[error("the head of the request is too long")]
    HeadTooLong,
    /// The request has more than [`MAX_HEADERS`].
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// The host is named more than once, so that another server might read another of them.
    #[error("the request has more than one Host header")]
    DuplicateHost,
    /// The host is neither a name nor an address, with or without a port.
    #[error("the host of the request is malformed")]
    BadHost,
}

impl Violation {
    /// The name of this offence, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadHead => "bad_head",
            Self::BadVersion => "bad_version",
            Self::HeadTooLong => "head_too_long",
            Self::TooManyHeaders => "too_many_headers",
            Self::DuplicateHost => "duplicate_host",
            Self::BadHost => "bad_host",
        }
    }
}

/// What a request asks for, as far as routing needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The host, in lower case and without port, brackets and the dot of an absolute name. That in the request's target wins over the Host header, as it
    /// does at every server. `None` when there is none, as HTTP/1.0 allows.
    pub host: Option<String>,
}

impl Head {
    /// Reads a head at the front of `buf`; what follows it is the request's body, or another request.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn decode(buf: &[u8]) -> Result<Progress<Self>, Violation> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut request = Request::new(&mut headers);
        let Status::Complete(consumed) = request.parse(&buf[..buf.len().min(MAX_HEAD)]).map_err(offence)? else {
            return if buf.len() < MAX_HEAD {
                Ok(Progress::NeedMore)
            } else {
                Err(Violation::HeadTooLong)
            };
        };
        let value = Self { host: host(&request)? };
        Ok(Progress::Done { value, consumed })
    }
}

/// A whole response that shows `words`, in plain text that no cache keeps, after which the connection is to be closed. Of `reason`, the short words after
/// the status, control characters are left out.
#[must_use]
pub fn reply(status: u16, reason: &str, words: &str) -> Bytes {
    let reason: String = reason.chars().filter(|char| !char.is_control()).collect();
    let size = words.len();
    format!(
        "HTTP/1.1 {status:03} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {size}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{words}"
    )
    .into()
}

/// What httparse's refusal of a head comes to.
fn offence(error: ParseError) -> Violation {
    match error {
        ParseError::Version => Violation::BadVersion,
        ParseError::TooManyHeaders => Violation::TooManyHeaders,
        _ => Violation::BadHead,
    }
}

/// The host of a request.
fn host(request: &Request<'_, '_>) -> Result<Option<String>, Violation> {
    let mut named = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let header = named.next();
    if named.next().is_some() {
        return Err(Violation::DuplicateHost);
    }
    match (request.path.and_then(authority), header) {
        (Some(target), _) => clean(target)?.map(Some).ok_or(Violation::BadHost),
        (None, Some(header)) => clean(std::str::from_utf8(header.value).map_err(|_| Violation::BadHost)?),
        (None, None) => Ok(None),
    }
}

/// The host and port in a target of the form `http://host:port/path`; `None` in one that is only a path, as requests have that go to no proxy.
fn authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return None;
    }
    rest.split(['/', '?', '#']).next()
}

/// Takes port, brackets and final dot off `host`, and checks what is left; an empty one is none.
fn clean(host: &str) -> Result<Option<String>, Violation> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(Violation::BadHost)?;
            address.parse::<Ipv6Addr>().map_err(|_| Violation::BadHost)?;
            (address, port)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let name = name.strip_suffix('.').unwrap_or(name);
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            {
                return Err(Violation::BadHost);
            }
            (name, port)
        }
    };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= MAX_PORT && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    if !is_port || name.len() > MAX_HOST || (name.is_empty() && !port.is_empty()) {
        return Err(Violation::BadHost);
    }
    Ok((!name.is_empty()).then(|| name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;

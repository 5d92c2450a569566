//! Bedrock's list entry, as the string in its pong.
//!
//! `MCPE;message;protocol;version;online;max;server;level;mode;mode number;port v4;port v6;` where each version of the game added fields at the end and a
//! backslash keeps a semicolon in its field.

use std::fmt::{self, Display};

use super::Violation;

/// Bytes of a text that are sent; the list shows one line of it. Escaped at their worst, all fields together stay below [`super::MAX_ID`].
const MAX_TEXT: usize = 100;

/// Fields that are kept; the game knows twelve, and some servers send more.
const MAX_FIELDS: usize = 16;

/// An entry of Bedrock's server list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// `MCPE`, or `MCEE` for the Education Edition.
    pub edition: String,
    /// The message of the day, the first line of the entry.
    pub motd: String,
    /// The server's protocol number.
    pub protocol: i32,
    /// The name of the server's version.
    pub version: String,
    /// Players that are on.
    pub online: u32,
    /// Players that fit.
    pub max: u32,
    /// The server's random id, in decimal.
    pub server: String,
    /// The level's name, the second line of the entry.
    pub level: String,
    /// The game mode's name.
    pub mode: String,
    /// The port on IPv4, where the server tells it. Players connect to it, so a relay must say its own here.
    pub port_v4: Option<u16>,
    /// The port on IPv6, where the server tells it.
    pub port_v6: Option<u16>,
}

impl Listing {
    /// Reads the string of a pong.
    ///
    /// # Errors
    /// [`Violation::BadListing`] when one of the first six fields is missing or not a number where one must be.
    pub fn parse(id: &str) -> Result<Self, Violation> {
        let fields = split(id);
        let text = |at: usize| fields.get(at).cloned();
        let need = |at: usize| text(at).ok_or(Violation::BadListing);
        let count = |at: usize| -> Result<u32, Violation> {
            let number: i64 = need(at)?.trim().parse().map_err(|_| Violation::BadListing)?;
            // A server without a limit says -1.
            Ok(number.try_into().unwrap_or(0))
        };
        Ok(Self {
            edition: need(0)?,
            motd: need(1)?,
            protocol: need(2)?.trim().parse().map_err(|_| Violation::BadListing)?,
            version: need(3)?,
            online: count(4)?,
            max: count(5)?,
            server: text(6).unwrap_or_default(),
            level: text(7).unwrap_or_default(),
            mode: text(8).unwrap_or_default(),
            port_v4: text(10).and_then(|port| port.trim().parse().ok()),
            port_v6: text(11).and_then(|port| port.trim().parse().ok()),
        })
    }
}

impl Display for Listing {
    /// The string of a pong, its texts clipped to what a list shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (edition, motd, version) = (Text(&self.edition), Text(&self.motd), Text(&self.version));
        let (server, level, mode) = (Text(&self.server), Text(&self.level), Text(&self.mode));
        let (protocol, online, max) = (self.protocol, self.online, self.max);
        // The mode's number only restricts consoles; 1 is what servers send.
        write!(
            f,
            "{edition};{motd};{protocol};{version};{online};{max};{server};{level};{mode};1;"
        )?;
        match (self.port_v4, self.port_v6) {
            (None, None) => Ok(()),
            (v4, v6) => write!(f, "{};{};", Port(v4), Port(v6)),
        }
    }
}

/// A text field, clipped and escaped.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&(at, char): &(usize, char)| at + char.len_utf8() <= MAX_TEXT;
        for (_, char) in self.0.char_indices().take_while(fits) {
            match char {
                ';' | '\\' => write!(f, "\\{char}")?,
                _ => write!(f, "{char}")?,
            }
        }
        Ok(())
    }
}

/// A port field, empty when there is none.
struct Port(Option<u16>);

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |port| write!(f, "{port}"))
    }
}

/// The first [`MAX_FIELDS`] fields of `id`, unescaped; the semicolon at its end opens no further one.
fn split(id: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = id.chars();
    while let Some(char) = chars.next() {
        match char {
            ';' if fields.len() == MAX_FIELDS => return fields,
            ';' => fields.push(std::mem::take(&mut field)),
            '\\' => field.extend(chars.next()),
            _ => field.push(char),
        }
    }
    if !field.is_empty() && fields.len() < MAX_FIELDS {
        fields.push(field);
    }
    fields
}

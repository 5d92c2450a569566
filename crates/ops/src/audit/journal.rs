//! journald: one datagram a line, in its native form.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use super::{Destination, Line};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// journald as it is reached.
#[derive(Default)]
pub(super) struct Journal(Option<UnixDatagram>);

impl Destination for Journal {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let socket = match &self.0 {
            Some(socket) => socket,
            None => self.0.insert(UnixDatagram::unbound()?),
        };
        socket.send_to(&fields(line)?, SOCKET).map(drop)
    }
}

/// The line as fields; a value may have line breaks, so its length goes before it.
fn fields(line: &Line) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(line.json.len() + 128);
    let priority = if line.is_warning { 4 } else { 6 };
    write!(
        out,
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER=spawnpoint\nSPAWNPOINT_EVENT={}\n",
        line.name
    )?;
    out.extend_from_slice(b"MESSAGE\n");
    out.extend_from_slice(&(line.json.len() as u64).to_le_bytes());
    out.extend_from_slice(line.json.as_bytes());
    out.push(b'\n');
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_one_datagram_of_fields() {
        let line = Line {
            name: "banned".to_owned(),
            json: "{}".to_owned(),
            time: time::OffsetDateTime::UNIX_EPOCH,
            is_warning: true,
        };
        let wanted =
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=spawnpoint\nSPAWNPOINT_EVENT=banned\nMESSAGE\n\x02\0\0\0\0\0\0\0{}\n";
        assert_eq!(fields(&line).unwrap(), wanted);
    }
}

//! Free ports for subjects that cannot choose their own.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below 32,768, where Linux takes ports for outgoing connections: nobody gets a port between our look and the subject's bind by accident.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that is free for TCP and for UDP; it is not given out again soon.
///
/// # Errors
/// When there is none.
pub fn free() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    if NEXT.load(Ordering::Relaxed) == 0 {
        // Two benches at once should not look at the same ports.
        let start = getrandom::u32().map_err(io::Error::other)? % u32::from(RANGE.end - RANGE.start);
        NEXT.store(RANGE.start + start as u16, Ordering::Relaxed);
    }
    for _ in RANGE {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= RANGE.end {
            NEXT.store(RANGE.start, Ordering::Relaxed);
            continue;
        }
        let address = (Ipv4Addr::LOCALHOST, port);
        // Both at once, or the second look would find the first one's socket.
        if let (Ok(_tcp), Ok(_udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port"))
}

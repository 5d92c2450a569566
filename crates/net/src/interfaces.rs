//! Notices that this machine reaches the world from another address: Wi-Fi exchanged for mobile, a VPN gone up, a lease renewed elsewhere.
//!
//! What matters is which address the kernel would send from, and only that: a connected UDP socket tells it, and sends nothing. The list of all local
//! addresses would tell of every container that starts. An address that went and came back counts as a change, since the network behind it may be another.
//! Linux says over netlink when it is worth asking again; what it says is not read. Elsewhere, and where a sandbox forbids netlink, the question is asked
//! every two seconds. What to do about a change is the caller's business.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

/// A change of network comes as a burst of notices; it is over when none came for this long.
const QUIET: Duration = Duration::from_millis(50);

/// A burst that does not end is looked at anyway.
const LONGEST: Duration = Duration::from_millis(250);

/// How often the addresses are asked for where nothing tells of a change: two system calls each.
const PERIOD: Duration = Duration::from_secs(2);

/// Addresses for documentation, which belong to nobody: the way to them is the way to everybody.
const ANYBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The addresses this machine would send from, one for each target; none where it has no way there.
type Sources = Vec<Option<IpAddr>>;

/// Tells when this machine's addresses towards the world have changed.
pub struct AddressWatch {
    notices: Notices,
    ask: Box<dyn FnMut() -> Sources + Send>,
    known: Sources,
    moved: bool,
    burst: Option<Burst>,
}

#[derive(Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl AddressWatch {
    /// Watches the addresses that this machine would send from to anybody on the internet, starting with those of now.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub fn new() -> Self {
        Self::towards(ANYBODY.to_vec())
    }

    /// Watches the addresses that this machine would send from to each of `targets`: for a relay that is reached over a way of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub fn towards(targets: Vec<IpAddr>) -> Self {
        // First the notices, so that a change between the two is not missed.
        let notices = Notices::open();
        Self::with(notices, move || targets.iter().copied().map(source_towards).collect())
    }

    fn with(notices: Notices, mut ask: impl FnMut() -> Sources + Send + 'static) -> Self {
        Self {
            notices,
            known: ask(),
            ask: Box::new(ask),
            moved: false,
            burst: None,
        }
    }

    /// The addresses as last seen: none where there was no way to a target.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.known.iter().copied().flatten()
    }

    /// Waits until an address has changed, appeared or gone, and things have been quiet for 50 ms, or restless for 250 ms. Cancel-safe: a change that was
    /// noticed is told by the next call.
    pub async fn changed(&mut self) {
        loop {
            let settled = self.burst.map(|burst| (burst.last + QUIET).min(burst.first + LONGEST));
            tokio::select! {
                biased; // a stream of notices must not put the answer off
                () = at(settled) => {
                    self.burst = None;
                    self.look();
                    if std::mem::take(&mut self.moved) {
                        return;
                    }
                }
                () = self.notices.next() => self.note(Instant::now()),
            }
        }
    }

    fn note(&mut self, now: Instant) {
        if let Some(burst) = &mut self.burst {
            burst.last = now;
            return;
        }
        self.burst = Some(Burst { first: now, last: now });
        // Now too, since the address may be back when the burst is over.
        self.look();
    }

    fn look(&mut self) {
        let sources = (self.ask)();
        if sources != self.known {
            self.known = sources;
            self.moved = true;
        }
    }
}

impl Default for AddressWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AddressWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressWatch")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// The address that the kernel would send from to `target`. Nothing is sent.
pub fn source_towards(target: IpAddr) -> Option<IpAddr> {
    // The port of the discard service; any but 0 would do.
    let route = route_to(SocketAddr::new(target, 9));
    Some(route.ok()?.local_addr().ok()?.ip())
}

/// A socket for which the kernel has chosen the way to `target`. Connecting it sends nothing.
pub(crate) fn route_to(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    Ok(socket)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What says that it is worth asking again.
enum Notices {
    #[cfg(target_os = "linux")]
    Netlink(netlink::Notices),
    Clock(Interval),
}

impl Notices {
    fn open() -> Self {
        #[cfg(target_os = "linux")]
        match netlink::Notices::open() {
            Ok(notices) => return Self::Netlink(notices),
            Err(error) => tracing::debug!(%error, "no netlink: asking for this machine's addresses now and then"),
        }
        Self::every(PERIOD)
    }

    fn every(period: Duration) -> Self {
        let mut interval = tokio::time::interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Clock(interval)
    }

    /// Waits for the next notice. Cancel-safe.
    async fn next(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Netlink(notices) => {
                if let Err(error) = notices.next().await {
                    tracing::debug!(%error, "netlink failed: asking for this machine's addresses now and then");
                    *self = Self::every(PERIOD);
                }
            }
            Self::Clock(interval) => {
                interval.tick().await;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod netlink {
    //! The kernel's notices of addresses, routes and routing rules, as events without content.

    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
    use tokio::io::unix::AsyncFd;

    /// The groups of `linux/rtnetlink.h`: `RTMGRP_{IPV4,IPV6}_{IFADDR,ROUTE,RULE}`.
    const GROUPS: u32 = 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18;

    /// Notices taken at a time, so that a router with a full table does not keep the thread.
    const MOST: usize = 64;

    pub(super) struct Notices(AsyncFd<OwnedFd>);

    impl Notices {
        #[expect(
            deprecated,
            reason = "the successor of `AsyncFd::new` is unsafe to call, because of types whose descriptor may change; an `OwnedFd`'s does not"
        )]
        pub(super) fn open() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // No protocol number is NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(AsyncFd::new(socket)?))
        }

        /// Waits for notices and takes those that are there. Cancel-safe.
        pub(super) async fn next(&self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                let mut taken = 0;
                while taken < MOST {
                    // One byte: the rest of a notice is cut off, unread.
                    match recv(&self.0, &mut [0; 1], RecvFlags::empty()) {
                        // The kernel had more to say than there was room for, and we know enough.
                        Ok(_) | Err(Errno::NOBUFS) => taken += 1,
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => {
                            ready.clear_ready();
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                if taken > 0 {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Two network namespaces with the line between them.
//!
//! Names carry this process's id, all addresses live inside, and dropping it kills whatever runs inside and removes every trace. What an earlier bench
//! left, because it was killed itself, goes when the next one starts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::cell::Tcp;
use super::line::Line;
use crate::binaries::on_path;
use crate::fault::Fault;
use crate::namespace::{self, ip, run};
use crate::place::{Place, Spot};

/// What all names start with; the id of the process follows.
const PREFIX: &str = "wan-";

const SIDES: [&str; 2] = ["public", "home"];
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 91, 0, 1), Ipv4Addr::new(10, 91, 0, 2)];

/// The TUN device of each side.
const DEVICES: [&str; 2] = ["to-home", "to-public"];

/// Packets that wait for the router to look. It looks much sooner; what is dropped should be dropped by the line's own queue.
const DEVICE_QUEUE: &str = "10000";

/// A running net.
#[derive(Debug)]
pub struct Net {
    namespaces: Namespaces,
    /// The router between them.
    pub line: Line,
}

impl Net {
    /// Builds it.
    ///
    /// # Errors
    /// When this is not root, or `ip` is missing, or the kernel does not play along.
    pub fn build() -> Result<Self, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::Failed("network namespaces need root".to_owned()));
        }
        if on_path("ip").is_none() {
            let text = "network namespaces need `ip`: apt-get install iproute2";
            return Err(Fault::Failed(text.to_owned()));
        }
        if !Path::new("/dev/net/tun").exists() {
            let text = "the line needs /dev/net/tun, which this kernel or container does not have";
            return Err(Fault::Failed(text.to_owned()));
        }
        namespace::sweep(PREFIX);
        let namespaces = Namespaces::add()?;
        let line = Line::start(&namespaces.enter(0), DEVICES)?;
        let [public, home] = [0, 1].map(|side| namespaces.name(side));
        ip(&["-n", &public, "link", "set", DEVICES[1], "netns", &home])?;
        for (side, namespace) in [&public, &home].into_iter().enumerate() {
            let (device, [own, other]) = (DEVICES[side], [ADDRESSES[side], ADDRESSES[1 - side]]);
            // Nobody here speaks IPv6, so nothing of the kernel's own should either.
            ip(&["-n", namespace, "link", "set", device, "addrgenmode", "none"])?;
            let (own, other) = (own.to_string(), other.to_string());
            ip(&["-n", namespace, "addr", "add", &own, "peer", &other, "dev", device])?;
            ip(&[
                "-n",
                namespace,
                "link",
                "set",
                device,
                "mtu",
                "1500",
                "txqueuelen",
                DEVICE_QUEUE,
                "up",
            ])?;
        }
        Ok(Self { namespaces, line })
    }

    /// The words and addresses of both sides.
    pub fn place(&self) -> Place {
        let [public, home] = [0, 1].map(|side| Spot {
            address: IpAddr::V4(ADDRESSES[side]),
            enter: self.namespaces.enter(side),
        });
        Place { public, home }
    }

    /// How TCP connections over the line that begin from now on react to it, on both sides.
    ///
    /// Said by route, since `tcp_congestion_control` of a namespace takes only what the machine's administrator allows everybody.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn set_tcp(&self, tcp: Tcp) -> Result<(), Fault> {
        for side in 0..2 {
            let [own, other] = [ADDRESSES[side], ADDRESSES[1 - side]].map(|address| address.to_string());
            let (name, device) = (self.namespaces.name(side), DEVICES[side]);
            let way = ["-n", &name, "route", "replace", &other, "dev", device, "src", &own];
            ip(&[&way[..], &["congctl", tcp.as_str()]].concat())?;
        }
        Ok(())
    }
}

/// The namespaces alone, so that a half-built net is removed, too.
#[derive(Debug)]
struct Namespaces {
    id: u32,
}

impl Namespaces {
    fn add() -> Result<Self, Fault> {
        let namespaces = Self { id: std::process::id() };
        for side in 0..2 {
            let name = namespaces.name(side);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            // What TCP learnt about the line in one run must not help or hinder it in the next.
            let key = "/proc/sys/net/ipv4/tcp_no_metrics_save";
            run(&["ip", "netns", "exec", &name, "tee", key], "1")?;
        }
        Ok(namespaces)
    }

    fn name(&self, side: usize) -> String {
        format!("{PREFIX}{}-{}", self.id, SIDES[side])
    }

    fn enter(&self, side: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(side)].map(str::to_owned).to_vec()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        (0..2).for_each(|side| namespace::remove(&self.name(side)));
    }
}

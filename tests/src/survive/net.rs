//! A home behind a router, in network namespaces: players and relay in public, agent and game server at home.
//!
//! ```text
//! public: 10.90.0.1  --wan--  router: 10.90.N.10, NAT, 192.168.90.1  --lan--  home: 192.168.90.N
//! ```
//!
//! Names carry this process's id, all addresses live inside, and dropping it kills whatever runs inside and removes every trace. What an earlier show
//! left, because it was killed itself, goes when the next one starts.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use spawnpoint_benches::binaries::on_path;
use spawnpoint_benches::namespace;

use super::fault::Fault;

/// Where players reach the relay.
pub const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 90, 0, 1));

/// The router's address at home.
const GATEWAY: &str = "192.168.90.1";

/// What all names start with; the id of the process follows.
const PREFIX: &str = "survive-";

/// What must be installed: the program and its Debian package.
const TOOLS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("conntrack", "conntrack")];

/// The NAT's ports, another range after each rebinding.
const PORTS: [(u16, u16); 4] = [(20_000, 27_999), (28_000, 35_999), (36_000, 43_999), (44_000, 51_999)];

/// A side of the net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Relay and players.
    Public,
    /// Agent and game server.
    Home,
}

/// A running net.
#[derive(Debug)]
pub struct Net {
    id: u32,
    is_dark: bool,
    generation: usize,
    /// The router's address is `10.90.N.10`.
    router: u8,
    /// The agent's is `192.168.90.N`.
    home: u8,
    /// Former addresses of the router that lead nowhere.
    dead: Vec<u8>,
}

impl Net {
    /// Builds it.
    ///
    /// # Errors
    /// When this is not root, or a tool is missing, or the kernel does not play along.
    pub fn build() -> Result<Self, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Err(Fault("network namespaces need root".to_owned()));
        }
        let missing = TOOLS.into_iter().filter(|(tool, _)| on_path(tool).is_none());
        let packages: Vec<&str> = missing.map(|(_, package)| package).collect();
        if !packages.is_empty() {
            let packages = packages.join(" ");
            return Err(Fault(format!("network namespaces need: apt-get install {packages}")));
        }
        namespace::sweep(PREFIX);
        let net = Self {
            id: std::process::id(),
            is_dark: false,
            generation: 0,
            router: 0,
            home: 2,
            dead: Vec::new(),
        };
        let [public, router, home] = ["public", "router", "home"].map(|name| net.name(name));
        for name in [&public, &router, &home] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            // An address that goes must not take its neighbours with it.
            write_sysctl(name, "net/ipv4/conf/all/promote_secondaries", "1")?;
        }
        write_sysctl(&router, "net/ipv4/ip_forward", "1")?;
        for (outer, link) in [(&public, "wan"), (&home, "lan")] {
            ip(&[
                "-n", &router, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", outer,
            ])?;
            ip(&["-n", &router, "link", "set", link, "up"])?;
            ip(&["-n", outer, "link", "set", "eth0", "up"])?;
        }
        ip(&["-n", &public, "addr", "add", &format!("{RELAY}/16"), "dev", "eth0"])?;
        ip(&["-n", &router, "addr", "add", &format!("{}/16", wan(0)), "dev", "wan"])?;
        ip(&["-n", &router, "addr", "add", &format!("{GATEWAY}/24"), "dev", "lan"])?;
        ip(&["-n", &home, "addr", "add", "192.168.90.2/24", "dev", "eth0"])?;
        ip(&["-n", &home, "route", "add", "default", "via", GATEWAY])?;
        net.apply()?;
        Ok(net)
    }

    /// The words that run a program on a side.
    pub fn prefix(&self, side: Side) -> [String; 4] {
        let name = match side {
            Side::Public => self.name("public"),
            Side::Home => self.name("home"),
        };
        ["ip".to_owned(), "netns".to_owned(), "exec".to_owned(), name]
    }

    /// The router loses everything in both directions, or nothing any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_dark(&mut self, is_dark: bool) -> Result<(), Fault> {
        self.is_dark = is_dark;
        self.apply()
    }

    /// The NAT forgets its mappings and gives out other ports.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rebind(&mut self) -> Result<(), Fault> {
        self.generation += 1;
        self.apply()?;
        self.forget_mappings()
    }

    /// The router moves to another public address and home to another private one; what was open can go on from there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn readdress(&mut self) -> Result<(), Fault> {
        self.move_router()?;
        let (home, old) = (self.name("home"), self.home);
        self.home = if old >= 250 { 2 } else { old + 1 };
        let [new, old] = [self.home, old].map(|number| format!("192.168.90.{number}/24"));
        ip(&["-n", &home, "addr", "add", &new, "dev", "eth0"])?;
        ip(&["-n", &home, "addr", "del", &old, "dev", "eth0"])?;
        ip(&["-n", &home, "route", "replace", "default", "via", GATEWAY])
    }

    /// The router moves to another public address, and what was open keeps the old one, which leads nowhere: only a new socket gets through.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn abandon(&mut self) -> Result<(), Fault> {
        self.dead.push(self.router);
        self.move_router()
    }

    /// Home's cable is out, or in again. Unlike in the dark, the agent's machine knows that it has no way.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_unplugged(&self, is_unplugged: bool) -> Result<(), Fault> {
        let home = self.name("home");
        if is_unplugged {
            return ip(&["-n", &home, "link", "set", "eth0", "down"]);
        }
        ip(&["-n", &home, "link", "set", "eth0", "up"])?;
        ip(&["-n", &home, "route", "replace", "default", "via", GATEWAY])
    }

    fn move_router(&mut self) -> Result<(), Fault> {
        let (router, old) = (self.name("router"), self.router);
        self.router = (old + 1) % 250;
        self.dead.retain(|number| *number != self.router);
        ip(&[
            "-n",
            &router,
            "addr",
            "add",
            &format!("{}/16", wan(self.router)),
            "dev",
            "wan",
        ])?;
        self.apply()?;
        ip(&["-n", &router, "addr", "del", &format!("{}/16", wan(old)), "dev", "wan"])
    }

    fn forget_mappings(&self) -> Result<(), Fault> {
        run(&["ip", "netns", "exec", &self.name("router"), "conntrack", "-F"], "").map(drop)
    }

    /// Replaces all rules at once; what is open keeps its mapping.
    fn apply(&self) -> Result<(), Fault> {
        let (first, last) = PORTS[self.generation % PORTS.len()];
        let address = wan(self.router);
        let dark = if self.is_dark { "drop" } else { "accept" };
        let mut dead = String::new();
        for number in &self.dead {
            let _ = writeln!(dead, "    ip saddr {0} drop\n    ip daddr {0} drop", wan(*number));
        }
        let rules = format!(
            "table ip survive
delete table ip survive
table ip survive {{
  chain before {{
    type filter hook prerouting priority raw
{dead}  }}
  chain input {{
    type filter hook input priority filter
    iifname wan ct state new drop
  }}
  chain forward {{
    type filter hook forward priority filter
    {dark}
  }}
  chain nat {{
    type nat hook postrouting priority srcnat
    oifname wan meta l4proto {{ tcp, udp }} snat to {address}:{first}-{last}
  }}
  chain after {{
    type filter hook postrouting priority 300
{dead}  }}
}}
"
        );
        let router = self.name("router");
        run(&["ip", "netns", "exec", &router, "nft", "-f", "-"], &rules).map(drop)
    }

    fn name(&self, part: &str) -> String {
        format!("{PREFIX}{}-{part}", self.id)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for part in ["public", "router", "home"] {
            namespace::remove(&self.name(part));
        }
    }
}

fn wan(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, number, 10)
}

fn ip(words: &[&str]) -> Result<(), Fault> {
    Ok(namespace::ip(words)?)
}

fn write_sysctl(namespace: &str, key: &str, value: &str) -> Result<(), Fault> {
    let file = format!("/proc/sys/{key}");
    run(&["ip", "netns", "exec", namespace, "tee", &file], value).map(drop)
}

fn run(words: &[&str], input: &str) -> Result<String, Fault> {
    Ok(namespace::run(words, input)?)
}

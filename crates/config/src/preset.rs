//! The games and services that need no more than a word: one table, one entry each.
//!
//! An entry says which ports the server has, which of them players expect beside each other, in what dialect players ask for a name, how the server gets
//! to know who its players are, and how to see that it works. To add one, add an entry; nothing else knows them one by one. The first port is the one
//! that a `[[tunnel]]`, or a word on the command line, names; the others follow it.

use spawnpoint_proto::{Dialect, Protocol};

use crate::tunnel::RealIp;

/// A game or service with its ports.
#[derive(Debug)]
pub struct Preset {
    /// What people write: lower-case letters, digits and `-`.
    pub word: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Its ports, the first one first.
    pub ports: &'static [PresetPort],
    /// How the server gets to know its players' addresses unless told otherwise.
    pub real_ip: RealIp,
    /// How to see that it works, and what the server needs for it.
    pub test: &'static str,
    /// Whether it is a game, and so what a host most likely wants to expose.
    pub is_game: bool,
}

/// One port of a server.
#[derive(Debug)]
pub struct PresetPort {
    /// What it carries.
    pub protocol: Protocol,
    /// Its number, unless the server is told otherwise.
    pub port: u16,
    /// How many in a row from there on.
    pub count: u16,
    /// What is put behind the tunnel's name for it; empty for the first.
    pub suffix: &'static str,
    /// Which public port it needs.
    pub place: Place,
    /// What its players' first bytes are written in.
    pub dialect: Option<Dialect>,
    /// The game, as a relay knows it that answers for a server that is away.
    pub game: Option<&'static str>,
}

/// Which public port a further port needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// As far from the first port's public port as it is from the first port: clients reckon so.
    Beside,
    /// Its own number, which clients do not ask for; any other if they can be told.
    Own,
}

/// What relays call Minecraft: Java Edition.
pub const JAVA: &str = "minecraft";

/// What relays call Minecraft: Bedrock Edition, and whatever else speaks RakNet.
pub const BEDROCK: &str = "bedrock";

const fn tcp(port: u16) -> PresetPort {
    PresetPort {
        protocol: Protocol::Tcp,
        port,
        count: 1,
        suffix: "",
        place: Place::Own,
        dialect: None,
        game: None,
    }
}

const fn udp(port: u16) -> PresetPort {
    PresetPort {
        protocol: Protocol::Udp,
        ..tcp(port)
    }
}

impl PresetPort {
    const fn speaking(self, dialect: Dialect) -> Self {
        Self {
            dialect: Some(dialect),
            ..self
        }
    }

    const fn of(self, game: &'static str) -> Self {
        Self {
            game: Some(game),
            ..self
        }
    }

    const fn beside(self, suffix: &'static str) -> Self {
        Self {
            suffix,
            place: Place::Beside,
            ..self
        }
    }

    const fn own(self, suffix: &'static str) -> Self {
        Self {
            suffix,
            place: Place::Own,
            ..self
        }
    }

    const fn to(self, last: u16) -> Self {
        Self {
            count: last - self.port + 1,
            ..self
        }
    }
}

/// Every preset, as they are listed.
pub static PRESETS: &[Preset] = &[
    Preset {
        word: "minecraft",
        title: "Minecraft: Java Edition",
        ports: &[tcp(25565).speaking(Dialect::Minecraft).of(JAVA)],
        real_ip: RealIp::Loopback,
        test: "add the address to the game's server list; Paper and Velocity also take real_ip = \"proxy-v2\" (proxy-protocol: true)",
        is_game: true,
    },
    Preset {
        word: "minecraft-voice",
        title: "Minecraft: Java Edition with Simple Voice Chat",
        ports: &[
            tcp(25565).speaking(Dialect::Minecraft).of(JAVA),
            udp(24454).own("voice"),
        ],
        real_ip: RealIp::Loopback,
        test: "join: the voice icon is not crossed out; if the public voice port is not 24454, set voice_host to the printed address",
        is_game: true,
    },
    Preset {
        word: "bedrock",
        title: "Minecraft: Bedrock Edition over RakNet",
        ports: &[udp(19132).of(BEDROCK)],
        real_ip: RealIp::Loopback,
        test: "add the address under Servers; servers since 1.26.51 speak NetherNet and do not answer here",
        is_game: true,
    },
    Preset {
        word: "geyser",
        title: "Geyser: Bedrock players on a Java server, on one name",
        ports: &[
            tcp(25565).speaking(Dialect::Minecraft).of(JAVA),
            udp(19132).own("bedrock").of(BEDROCK),
        ],
        real_ip: RealIp::Loopback,
        test: "join once from each edition; Geyser also takes real_ip = \"proxy-v2\" (enable-proxy-protocol: true)",
        is_game: true,
    },
    Preset {
        word: "hytale",
        title: "Hytale (QUIC)",
        ports: &[udp(5520).speaking(Dialect::Quic)],
        real_ip: RealIp::Loopback,
        test: "join by the printed name",
        is_game: true,
    },
    Preset {
        word: "luanti",
        title: "Luanti (Minetest)",
        ports: &[udp(30000)],
        real_ip: RealIp::Loopback,
        test: "join by address and port; `/status` shows you",
        is_game: true,
    },
    Preset {
        word: "terraria",
        title: "Terraria",
        ports: &[tcp(7777)],
        real_ip: RealIp::Loopback,
        test: "Multiplayer, Join via IP",
        is_game: true,
    },
    Preset {
        word: "valheim",
        title: "Valheim (without crossplay)",
        ports: &[udp(2456), udp(2457).beside("query")],
        real_ip: RealIp::Loopback,
        test: "Join IP with the printed port; Steam's server view asks the port above it",
        is_game: true,
    },
    Preset {
        word: "palworld",
        title: "Palworld",
        ports: &[udp(8211), udp(27015).own("query")],
        real_ip: RealIp::Loopback,
        test: "join by address and port",
        is_game: true,
    },
    Preset {
        word: "factorio",
        title: "Factorio",
        ports: &[udp(34197)],
        real_ip: RealIp::Loopback,
        test: "Multiplayer, Connect to address",
        is_game: true,
    },
    Preset {
        word: "satisfactory",
        title: "Satisfactory",
        ports: &[udp(7777), tcp(7777).beside("api"), tcp(8888).own("messages")],
        real_ip: RealIp::Loopback,
        test: "Server Manager, add the address; a public messages port other than 8888 needs -ExternalReliablePort=PORT",
        is_game: true,
    },
    Preset {
        word: "vintage-story",
        title: "Vintage Story",
        ports: &[tcp(42420), udp(42420).beside("udp")],
        real_ip: RealIp::Loopback,
        test: "Multiplayer, add the address",
        is_game: true,
    },
    Preset {
        word: "project-zomboid",
        title: "Project Zomboid",
        ports: &[udp(16261), udp(16262).beside("direct")],
        real_ip: RealIp::Loopback,
        test: "Join, Favorites, add the address",
        is_game: true,
    },
    Preset {
        word: "7-days-to-die",
        title: "7 Days to Die",
        ports: &[udp(26900), tcp(26900).beside("tcp"), udp(26901).to(26903).beside("net")],
        real_ip: RealIp::Loopback,
        test: "Join a game, Connect to IP",
        is_game: true,
    },
    Preset {
        word: "rust",
        title: "Rust",
        ports: &[udp(28015), udp(28016).beside("query")],
        real_ip: RealIp::Loopback,
        test: "F1, `client.connect ADDRESS`; start the server with server.queryport one above server.port",
        is_game: true,
    },
    Preset {
        word: "source",
        title: "Counter-Strike 2 and other Source games",
        ports: &[udp(27015), tcp(27015).beside("rcon")],
        real_ip: RealIp::Loopback,
        test: "console, `connect ADDRESS`; the server must not think it is on a LAN (sv_lan 0)",
        is_game: true,
    },
    Preset {
        word: "ddnet",
        title: "Teeworlds and DDNet",
        ports: &[udp(8303)],
        real_ip: RealIp::Loopback,
        test: "join by address; more than four players show that each has an address of their own",
        is_game: true,
    },
    Preset {
        word: "openttd",
        title: "OpenTTD",
        ports: &[tcp(3979), udp(3979).beside("query")],
        real_ip: RealIp::Loopback,
        test: "Multiplayer, Add server",
        is_game: true,
    },
    Preset {
        word: "supertuxkart",
        title: "SuperTuxKart",
        ports: &[udp(2759)],
        real_ip: RealIp::Loopback,
        test: "Online, Enter server address",
        is_game: true,
    },
    Preset {
        word: "wesnoth",
        title: "The Battle for Wesnoth",
        ports: &[tcp(15000)],
        real_ip: RealIp::Loopback,
        test: "Multiplayer, Connect to Server",
        is_game: true,
    },
    Preset {
        word: "mumble",
        title: "Mumble",
        ports: &[tcp(64738), udp(64738).beside("voice")],
        real_ip: RealIp::Loopback,
        test: "Server, Information: the voice channel says UDP, not TCP",
        is_game: false,
    },
    Preset {
        word: "https",
        title: "A web site with its own certificate",
        ports: &[tcp(443).speaking(Dialect::Tls)],
        real_ip: RealIp::Loopback,
        test: "open the printed name; nginx also takes real_ip = \"proxy-v2\" (listen ... proxy_protocol)",
        is_game: false,
    },
    Preset {
        word: "http",
        title: "A web site without encryption",
        ports: &[tcp(80).speaking(Dialect::Http)],
        real_ip: RealIp::Loopback,
        test: "open the printed name; nginx also takes real_ip = \"proxy-v2\" (listen ... proxy_protocol)",
        is_game: false,
    },
    Preset {
        word: "http3",
        title: "A web site over HTTP/3, beside https",
        ports: &[udp(443).speaking(Dialect::Quic)],
        real_ip: RealIp::Loopback,
        test: "open the printed name; the browser's network view says h3",
        is_game: false,
    },
    Preset {
        word: "mail",
        title: "A mail server: SMTP with STARTTLS, submission",
        ports: &[tcp(25), tcp(465).own("submissions"), tcp(587).own("submission")],
        // A mail server that takes everybody for its own machine sends anybody's mail.
        real_ip: RealIp::ProxyV2,
        test: "Postfix needs smtpd_upstream_proxy_protocol = haproxy on these ports; the Received line of a mail shows the true sender",
        is_game: false,
    },
];

impl Preset {
    /// The preset that people call `word`.
    pub fn find(word: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.word == word)
    }

    /// The port that a tunnel names.
    pub const fn first(&self) -> &PresetPort {
        &self.ports[0]
    }
}

impl PartialEq for Preset {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

impl Eq for Preset {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use spawnpoint_proto::control::MAX_GAME;

    use super::*;

    #[test]
    fn every_preset_is_one_that_a_tunnel_can_be_made_of() {
        let mut words = HashSet::new();
        for preset in PRESETS {
            assert!(
                words.insert(preset.word) && preset.word.len() <= MAX_GAME,
                "{}",
                preset.word
            );
            assert!(
                preset.word.parse::<Protocol>().is_err(),
                "{} is a protocol",
                preset.word
            );
            assert!(!preset.test.is_empty() && !preset.title.is_empty(), "{}", preset.word);
            let mut suffixes = HashSet::new();
            for (at, port) in preset.ports.iter().enumerate() {
                assert_eq!(port.suffix.is_empty(), at == 0, "{}", preset.word);
                assert!(suffixes.insert(port.suffix) && port.count >= 1, "{}", preset.word);
                assert!(port.dialect.is_none_or(|dialect| dialect.protocol() == port.protocol));
                assert!(at == 0 || preset.first().count == 1, "{}", preset.word);
            }
        }
        assert!(PRESETS.len() >= 20);
    }
}

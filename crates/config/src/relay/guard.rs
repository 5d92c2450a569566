//! `[guard]` and `[dnsbl]`: from where players may come.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use spawnpoint_core::access::{Lists, parse_prefix};
use spawnpoint_core::dnsbl::Zone;
use spawnpoint_core::offences::Sentences;

use crate::document::Document;

/// Automatic bans, unless said otherwise.
const SENTENCES: Sentences = Sentences {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(24 * 3_600),
};

const SECOND: Duration = Duration::from_secs(1);

/// The most lists that are asked.
const MAX_ZONES: usize = 8;

/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// `[guard]`: from where players may come to any tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    /// Only from here and from `allow_file`, if there is either; not from `deny`.
    pub lists: Lists,
    /// A file with more to allow, a prefix a line.
    pub allow_file: Option<PathBuf>,
    /// A file with more to deny, a prefix a line.
    pub deny_file: Option<PathBuf>,
    /// Prefixes that are never banned automatically, nor turned away for their country.
    pub immune: Vec<IpNet>,
    /// Which country an address is in, in MaxMind's format.
    pub country_db: Option<PathBuf>,
    /// Only from these countries; from all when empty.
    pub allow_countries: Vec<Country>,
    /// Not from these countries.
    pub deny_countries: Vec<Country>,
    /// For how long whoever offends again and again is banned; `None` when nobody is.
    pub bans: Option<Sentences>,
}

/// A country, by its two letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Country([u8; 2]);

impl Country {
    /// Its two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::str::FromStr for Country {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Ok(Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
            }
            _ => Err(format!("`{text}` is no country's two letters")),
        }
    }
}

/// `[dnsbl]`: lists that are asked through DNS about the address of each new player.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dnsbl {
    /// The lists; nobody is asked when there are none.
    pub lists: Vec<Zone>,
    /// The name server that is asked; the machine's own when absent.
    pub server: Option<SocketAddr>,
    /// How long a player waits for the answers at most, and comes in without them.
    pub deadline: Duration,
    /// How long an answer is kept.
    pub keep: Duration,
}

impl Default for Dnsbl {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            server: None,
            deadline: Duration::from_millis(500),
            keep: Duration::from_secs(3_600),
        }
    }
}

impl Dnsbl {
    pub(super) fn read(document: &mut Document<'_>) -> Self {
        let default = Self::default();
        let mut dnsbl = document.section("dnsbl");
        let rule = "names of lists, each perhaps with the numbers of the answers that count, such as [\"bl.example.org\", \"zen.example.org=2,4-9\"]";
        let lists: Vec<Zone> = dnsbl.list("lists", rule, str::parse).unwrap_or_default();
        if lists.len() > MAX_ZONES {
            let text = format!("`dnsbl.lists` names {} lists and may name {MAX_ZONES}", lists.len());
            dnsbl.mistake("lists", &text);
        }
        let rule = "the address of a name server, such as \"127.0.0.1\" or \"[2001:db8::53]:5353\"";
        let server = dnsbl.text("server", None, rule, |text| {
            let alone = text.trim().parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
            alone.or_else(|_| text.trim().parse()).map_err(|_| String::new())
        });
        let millis = Duration::from_millis;
        Self {
            lists,
            server,
            deadline: dnsbl.duration("deadline", default.deadline, millis(50)..=millis(5_000)),
            keep: dnsbl.duration("keep", default.keep, SECOND * 60..=SECOND * 24 * 3_600),
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            lists: Lists::default(),
            allow_file: None,
            deny_file: None,
            immune: Vec::new(),
            country_db: None,
            allow_countries: Vec::new(),
            deny_countries: Vec::new(),
            bans: Some(SENTENCES),
        }
    }
}

impl Guard {
    pub(super) fn read(document: &mut Document<'_>) -> Self {
        const PREFIXES: &str = "prefixes such as [\"203.0.113.0/24\", \"2001:db8::/32\"]";
        const COUNTRIES: &str = "countries by their two letters, such as [\"DE\", \"AT\"]";
        let mut guard = document.section("guard");
        let mut prefixes = |key: &str| guard.list(key, PREFIXES, parse_prefix).unwrap_or_default();
        let lists = Lists {
            allow: prefixes("allow"),
            deny: prefixes("deny"),
        };
        let immune = prefixes("immune");
        let (allow_file, deny_file, country_db) = (
            guard.path("allow_file"),
            guard.path("deny_file"),
            guard.path("country_db"),
        );
        let mut countries = |key: &str| guard.list(key, COUNTRIES, str::parse).unwrap_or_default();
        let (allow_countries, deny_countries) = (countries("allow_countries"), countries("deny_countries"));
        for key in ["allow_countries", "deny_countries"] {
            if guard.has(key) && country_db.is_none() {
                let text = format!("`guard.{key}` needs `guard.country_db`, a file that says where addresses are");
                guard.mistake(key, &text);
            }
        }
        let is_on = guard.flag("automatic_bans", true);
        let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
        let sentences = Sentences {
            first: guard.duration("first_ban", SENTENCES.first, SECOND..=days(1)),
            longest: guard.duration("longest_ban", SENTENCES.longest, SECOND..=days(30)),
        };
        Self {
            lists,
            allow_file,
            deny_file,
            immune,
            country_db,
            allow_countries,
            deny_countries,
            bans: is_on.then_some(sentences),
        }
    }
}

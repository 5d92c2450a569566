//! What the show was asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scenario::Scenario;

/// What `--help` prints.
pub const HELP: &str = "\
cargo run --release -p spawnpoint-tests --bin survive [-- FLAGS]

Real relay and agent under a crowd of 100 players at 20 Hz, 4 downloads and 20 UDP flows, and what must not disturb it.
Exits with 1 when a scenario fails, 2 when it cannot be played.

--quick               short forms, without the long blackouts; the soak only if it is named
--only NAME,...       these scenarios: NAMES
--soak SECONDS        how long the soak lasts (600)
--seed N              decides what happens in the soak (by the clock)
--namespaces WHICH    yes: a real NAT in network namespaces (root, iproute2, nftables, conntrack); no: on loopback; auto: as it can (auto)
--bulk-rate BYTES     bytes a second for each download, 0 for as fast as it goes (2000000)
--binary FILE         the program under test (target/release/spawnpoint)
--keep DIR            keep what all processes wrote in DIR";

/// Whether to use network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Where possible.
    Auto,
    /// Or fail.
    Yes,
    /// Not.
    No,
}

/// The show to play.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Print [`HELP`] and do nothing.
    pub help: bool,
    /// Short forms.
    pub is_quick: bool,
    /// Which scenarios, in order.
    pub scenarios: Vec<Scenario>,
    /// How long the soak lasts.
    pub soak: Duration,
    /// What decides in the soak.
    pub seed: u64,
    /// Where.
    pub namespaces: Namespaces,
    /// Bytes a second of each download.
    pub bulk_rate: u64,
    /// The program under test.
    pub binary: PathBuf,
    /// Where logs stay.
    pub keep: Option<PathBuf>,
}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// A sentence about the first word that makes no sense.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words.flat_map(|word| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => vec![flag.to_owned(), value.to_owned()],
            _ => vec![word],
        });
        let mut only = None;
        let mut arguments = Self {
            help: false,
            is_quick: false,
            scenarios: Vec::new(),
            soak: Duration::from_secs(600),
            seed: spawnpoint_net::unix_now().0,
            namespaces: Namespaces::Auto,
            bulk_rate: 2_000_000,
            binary: default_binary(),
            keep: None,
        };
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "--help" | "-h" => arguments.help = true,
                "--quick" => arguments.is_quick = true,
                _ => {
                    let value = words
                        .next()
                        .ok_or_else(|| format!("{flag} is unknown or lacks its value"))?;
                    let number = || {
                        value
                            .parse::<u64>()
                            .map_err(|_| format!("{flag} {value}: not a number"))
                    };
                    match flag.as_str() {
                        "--only" => only = Some(parse_names(&value)?),
                        "--soak" => arguments.soak = Duration::from_secs(number()?),
                        "--seed" => arguments.seed = number()?,
                        "--bulk-rate" => arguments.bulk_rate = number()?,
                        "--binary" => arguments.binary = value.into(),
                        "--keep" => arguments.keep = Some(value.into()),
                        "--namespaces" => arguments.namespaces = parse_namespaces(&value)?,
                        _ => return Err(format!("{flag} is unknown")),
                    }
                }
            }
        }
        let usual = Scenario::ALL.into_iter();
        let usual = usual.filter(|scenario| !arguments.is_quick || scenario.is_quick());
        arguments.scenarios = only.unwrap_or_else(|| usual.collect());
        Ok(arguments)
    }

    /// What `--help` prints.
    pub fn help() -> String {
        HELP.replace("NAMES", &Scenario::ALL.map(Scenario::as_str).join(", "))
    }
}

fn parse_names(text: &str) -> Result<Vec<Scenario>, String> {
    let find = |name: &str| {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.as_str() == name);
        let names = Scenario::ALL.map(Scenario::as_str).join(", ");
        found.ok_or_else(|| format!("there is no scenario `{name}`: there are {names}"))
    };
    text.split(',').map(find).collect()
}

fn parse_namespaces(text: &str) -> Result<Namespaces, String> {
    match text {
        "auto" => Ok(Namespaces::Auto),
        "yes" => Ok(Namespaces::Yes),
        "no" => Ok(Namespaces::No),
        _ => Err(format!("--namespaces {text}: auto, yes or no")),
    }
}

/// The release build in the target directory that this very program is in.
fn default_binary() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    // TARGET/release/survive
    let target = program.parent().and_then(Path::parent);
    let target = target.unwrap_or_else(|| Path::new("target"));
    target.join("release").join("spawnpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, String> {
        Arguments::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_quick_show_leaves_the_long_scenarios_out_unless_they_are_named() {
        assert!(!parse("--quick").unwrap().scenarios.contains(&Scenario::Soak));
        assert!(parse("").unwrap().scenarios.contains(&Scenario::Soak));
        let named = parse("--quick --only=soak,dark-25 --soak 20").unwrap();
        assert_eq!(named.scenarios, [Scenario::Soak, Scenario::Dark25]);
        assert_eq!(named.soak, Duration::from_secs(20));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(parse("--only nothing").unwrap_err().contains("dark-25"));
        assert!(parse("--soak x").unwrap_err().contains("not a number"));
        assert!(parse("--what 1").unwrap_err().contains("unknown"));
    }
}

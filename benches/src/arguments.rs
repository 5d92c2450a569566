//! What the bench was asked for.

use crate::load::{Load, Pace};
use crate::subject::Subject;

/// What `--help` prints.
pub const HELP: &str = "\
cargo bench -p spawnpoint-benches --bench loopback [-- FLAGS]

The Spawnpoint tunnel on loopback, beside no tunnel and, when they are on PATH, rathole (0.5.0; plain, by Noise, and by TLS with a certificate of the
openssl command), nginx (UDP only, with its stream module), bore (0.6.0, only if asked for) and bare quinn, which is in this program. SPAWNPOINT_BIN
names the program to measure; otherwise it is the one beside this bench, built when it is not there. Writes bench-loopback.json to cargo's target
directory, and ends with what was promised and what was measured.

--quick           one short round of each load instead of three
--rounds N        rounds over all subjects
--load NAMES      only loads whose name begins so; with commas or repeated
--only NAMES      only these subjects of direct, spawnpoint, forgetful, rathole, rathole-noise, rathole-tls, bore, nginx, quinn; likewise
--forgetful       also ours with links.resume_window = \"0 s\": what it costs that sessions outlive their connection
--markdown        also prints tables for a README";

/// The bench to run.
#[derive(Debug)]
pub struct Arguments {
    /// Loads to run, in order.
    pub loads: Vec<Load>,
    /// Who may take part, in the order of a round; who is not installed does not.
    pub subjects: Vec<Subject>,
    /// How long each load lasts.
    pub pace: Pace,
    /// Whether it is the short one.
    pub is_quick: bool,
    /// Print tables for a README, too.
    pub markdown: bool,
    /// Print [`HELP`] and do nothing.
    pub help: bool,
}

/// Flags as they come.
#[derive(Default)]
struct Raw {
    loads: Vec<String>,
    only: Vec<Subject>,
    rounds: Option<u32>,
    is_quick: bool,
    with_forgetful: bool,
    markdown: bool,
    help: bool,
}

impl Arguments {
    /// Reads the words after the program's name. What cargo adds for every harness (`--bench`) is passed over; a bare word selects loads, as it selects
    /// benches elsewhere.
    ///
    /// # Errors
    /// A sentence when a flag is unknown, lacks its value or has a wrong one.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = split(words);
        let mut raw = Raw::default();
        while let Some(word) = words.next() {
            raw.take(word, &mut words)?;
        }
        Ok(raw.validate())
    }
}

/// Words in which `--flag=value` is two.
pub(crate) fn split(words: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    words.flat_map(|word| match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => vec![flag.to_owned(), value.to_owned()],
        _ => vec![word],
    })
}

impl Raw {
    fn take(&mut self, word: String, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut value = || rest.next().ok_or_else(|| format!("{word} needs a value: see --help"));
        match word.as_str() {
            "--bench" => {}
            "--help" | "-h" => self.help = true,
            "--quick" => self.is_quick = true,
            "--forgetful" => self.with_forgetful = true,
            "--markdown" => self.markdown = true,
            "--load" => {
                for name in value()?.split(',') {
                    if !Load::ALL.iter().any(|load| load.name.starts_with(name)) || name.is_empty() {
                        let names = Load::ALL.map(|load| load.name).join(", ");
                        return Err(format!("there is no load `{name}`: loads are {names}"));
                    }
                    self.loads.push(name.to_owned());
                }
            }
            "--only" => {
                for name in value()?.split(',') {
                    let subject = Subject::LOOPBACK.into_iter().find(|known| known.as_str() == name);
                    self.only.push(subject.ok_or_else(|| {
                        let names = Subject::LOOPBACK.map(Subject::as_str).join(", ");
                        format!("there is no subject `{name}`: subjects are {names}")
                    })?);
                }
            }
            "--rounds" => {
                let number = value()?.parse().ok().filter(|number| *number > 0);
                self.rounds = Some(number.ok_or("--rounds needs a number, 1 or more")?);
            }
            flag if flag.starts_with('-') => return Err(format!("there is no flag {flag}: see --help")),
            _ => self.loads.push(word),
        }
        Ok(())
    }

    fn validate(self) -> Arguments {
        let is_wanted =
            |load: &Load| self.loads.is_empty() || self.loads.iter().any(|name| load.name.starts_with(name));
        let takes_part = |subject: &Subject| {
            let is_asked_for = self.with_forgetful && *subject == Subject::Forgetful;
            let chosen = if self.only.is_empty() {
                &Subject::TARGETED[..]
            } else {
                &self.only
            };
            is_asked_for || chosen.contains(subject)
        };
        let pace = if self.is_quick { Pace::QUICK } else { Pace::FULL };
        Arguments {
            loads: Load::ALL.into_iter().filter(is_wanted).collect(),
            subjects: Subject::LOOPBACK.into_iter().filter(takes_part).collect(),
            pace: Pace {
                rounds: self.rounds.unwrap_or(pace.rounds),
                ..pace
            },
            is_quick: self.is_quick,
            markdown: self.markdown,
            help: self.help,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    fn loads(line: &str) -> Vec<&'static str> {
        parse(line).unwrap().loads.iter().map(|load| load.name).collect()
    }

    #[test]
    fn loads_are_chosen_by_how_they_begin() {
        assert_eq!(loads("--bench").len(), Load::ALL.len());
        assert_eq!(loads("--load memory --bench"), ["memory"]);
        assert_eq!(loads("--load=small"), ["small-alone", "small-beside-bulk"]);
        assert_eq!(loads("--load memory,connects"), ["connects", "memory"]);
        assert!(loads("frame_codec").is_empty());
    }

    #[test]
    fn subjects_are_those_of_the_targets_unless_others_are_named() {
        assert_eq!(parse("").unwrap().subjects, Subject::TARGETED);
        let line = "--only nginx,spawnpoint --only bore --forgetful";
        let subjects = [Subject::Spawnpoint, Subject::Forgetful, Subject::Bore, Subject::Nginx];
        assert_eq!(parse(line).unwrap().subjects, subjects);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for wrong in [
            "--load frame_codec",
            "--only pigeon",
            "--only frp",
            "--rounds 0",
            "--rounds",
            "--quik",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

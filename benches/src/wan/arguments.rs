//! What the bench was asked for.

use std::time::Duration;

use super::cell::{Cell, Tcp};
use super::contender::Contender;
use super::load::Load;
use crate::arguments::split;
use crate::subject::Subject;

/// What `--help` prints.
pub const HELP: &str = "\
cargo bench -p spawnpoint-benches --bench wan [-- FLAGS]        as root

The Spawnpoint tunnel over an impaired line between two network namespaces, beside no tunnel and, when they are on PATH, rathole, bore, wstunnel and
frp (frps and frpc). SPAWNPOINT_BIN names the program to measure; otherwise it is the one beside this bench, built when it is not there.
Writes bench-wan.json and bench-wan.svg to cargo's target directory. Ctrl-C ends it with what it has so far.

The line, unless --cell or --matrix is given: 40 ms there and back, 50 Mbit/s, a queue of 100 ms, and 0, 1 and 5 % lost each way.
--cell rtt=40,loss=1,rate=50,queue=100    that line (ms, % each way, Mbit/s, ms); may be repeated; what is left out is as above, without loss
--matrix          rtt 20, 40, 80, 150 x loss 0, 1, 3, 5 x rate 50, 10 x queue 50, 200: one short round of tcp-bulk, unless flags say otherwise
--tcp NAME        cubic (as most machines use), bbr or both: congestion control of the kernel's TCP on both sides

--load NAMES      of tcp, tcp-bulk, udp, udp-bulk, and neighbour (tcp-bulk while another download goes straight over the line, by the kernel's TCP);
                  with commas or repeated
--only NAMES      only these subjects, variants of ours too; with commas or repeated
--rounds N        rounds over all subjects: 3, of the matrix 1
--seconds S       what is measured in each round: 8, of the matrix 4
--warm-up S       what goes before it: 2
--quick           one round of 3 seconds

--congestion NAME       also ours with links.congestion = \"NAME\" on both sides; may be repeated
--variant NAME:LINES    also ours with these lines, separated by commas, in [links] of both files: --variant wide:stream_window=\"1 MiB\"
--links LINE            a line for [links] of both files of ours, variants included; may be repeated

--markdown        also prints tables for a README";

/// The bench to run.
#[derive(Debug)]
pub struct Arguments {
    /// What the line is set to, in order.
    pub cells: Vec<Cell>,
    /// What the kernel's TCP is set to, for each of them.
    pub tcp: Vec<Tcp>,
    /// Loads, in order.
    pub loads: Vec<Load>,
    /// Who may take part, in the order of a round; who is not installed does not.
    pub contenders: Vec<Contender>,
    /// Rounds over all of them.
    pub rounds: u32,
    /// What does not count at the beginning of each round.
    pub warm_up: Duration,
    /// What does.
    pub measure: Duration,
    /// Print tables for a README, too.
    pub markdown: bool,
    /// Print [`HELP`] and do nothing.
    pub help: bool,
    /// The bench was started with a filter that means others.
    pub is_unwanted: bool,
}

/// Flags as they come.
#[derive(Default)]
struct Raw {
    cells: Vec<Cell>,
    is_matrix: bool,
    tcp: Vec<Tcp>,
    loads: Vec<Load>,
    only: Vec<String>,
    rounds: Option<u32>,
    seconds: Option<f64>,
    warm_up: Option<f64>,
    is_quick: bool,
    /// A name and its lines.
    variants: Vec<(String, Vec<String>)>,
    links: Vec<String>,
    markdown: bool,
    help: bool,
    filters: Vec<String>,
}

impl Arguments {
    /// Reads the words after the program's name. What cargo adds for every harness (`--bench`) is passed over; a bare word selects benches by their
    /// name, as it does elsewhere.
    ///
    /// # Errors
    /// A sentence when a flag is unknown, lacks its value or has a wrong one.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = split(words);
        let mut raw = Raw::default();
        while let Some(word) = words.next() {
            raw.take(&word, &mut words)?;
        }
        raw.validate()
    }
}

impl Raw {
    fn take(&mut self, word: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut value = || rest.next().ok_or_else(|| format!("{word} needs a value: see --help"));
        match word {
            "--bench" => {}
            "--help" | "-h" => self.help = true,
            "--matrix" => self.is_matrix = true,
            "--quick" => self.is_quick = true,
            "--markdown" => self.markdown = true,
            "--cell" => self.cells.push(Cell::parse(&value()?)?),
            "--tcp" => self.tcp = tcp(&value()?)?,
            "--load" => {
                for name in value()?.split(',') {
                    let load = Load::named(name);
                    self.loads.push(load.ok_or_else(|| {
                        let names = Load::ALL.map(Load::as_str).join(", ");
                        format!("there is no load `{name}`: loads are {names}")
                    })?);
                }
            }
            "--only" => self.only.extend(value()?.split(',').map(str::to_owned)),
            "--rounds" => {
                let number = value()?.parse().ok().filter(|number| *number > 0);
                self.rounds = Some(number.ok_or("--rounds needs a number, 1 or more")?);
            }
            "--seconds" => self.seconds = Some(seconds(word, &value()?, 1.0)?),
            "--warm-up" => self.warm_up = Some(seconds(word, &value()?, 0.0)?),
            "--congestion" => {
                let name = value()?;
                let line = format!("congestion = \"{name}\"");
                self.variants.push((name, vec![line]));
            }
            "--variant" => {
                let text = value()?;
                let (name, lines) = text.split_once(':').ok_or("--variant needs NAME:KEY=VALUE,...")?;
                let lines = lines.split(',').map(str::to_owned).collect();
                self.variants.push((name.to_owned(), lines));
            }
            "--links" => self.links.push(value()?),
            flag if flag.starts_with('-') => return Err(format!("there is no flag {flag}: see --help")),
            filter => self.filters.push(filter.to_owned()),
        }
        Ok(())
    }

    fn validate(self) -> Result<Arguments, String> {
        let mut contenders: Vec<Contender> = [Subject::Direct, Subject::Spawnpoint]
            .map(|subject| Contender::plain(subject, &self.links))
            .to_vec();
        let variants = self.variants.into_iter();
        contenders.extend(variants.map(|(name, lines)| Contender::variant(&name, &self.links, lines)));
        contenders.extend(Subject::PEERS.map(|peer| Contender::plain(peer, &[])));
        if let Some(name) = self
            .only
            .iter()
            .find(|name| contenders.iter().all(|known| known.name != **name))
        {
            let names: Vec<String> = contenders.into_iter().map(|known| known.name).collect();
            return Err(format!(
                "there is no subject `{name}`: subjects are {}",
                names.join(", ")
            ));
        }
        contenders.retain(|known| self.only.is_empty() || self.only.contains(&known.name));
        let mut cells = self.cells;
        if self.is_matrix {
            cells.extend(Cell::matrix());
        }
        let (rounds, measure, loads) = match (self.is_quick, self.is_matrix) {
            (true, true) => (1, 3.0, vec![Load::TcpBulk]),
            (true, false) => (1, 3.0, Load::USUAL.to_vec()),
            (false, true) => (1, 4.0, vec![Load::TcpBulk]),
            (false, false) => (3, 8.0, Load::USUAL.to_vec()),
        };
        Ok(Arguments {
            cells: if cells.is_empty() { Cell::usual() } else { cells },
            tcp: if self.tcp.is_empty() {
                vec![Tcp::Cubic]
            } else {
                self.tcp
            },
            loads: if self.loads.is_empty() { loads } else { self.loads },
            contenders,
            rounds: self.rounds.unwrap_or(rounds),
            warm_up: Duration::from_secs_f64(self.warm_up.unwrap_or(2.0)),
            measure: Duration::from_secs_f64(self.seconds.unwrap_or(measure)),
            markdown: self.markdown,
            help: self.help,
            is_unwanted: !self.filters.is_empty() && !self.filters.iter().any(|filter| "wan".contains(filter.as_str())),
        })
    }
}

fn tcp(name: &str) -> Result<Vec<Tcp>, String> {
    match name {
        "cubic" => Ok(vec![Tcp::Cubic]),
        "bbr" => Ok(vec![Tcp::Bbr]),
        "both" => Ok(vec![Tcp::Cubic, Tcp::Bbr]),
        _ => Err(format!("--tcp is cubic, bbr or both, not `{name}`")),
    }
}

fn seconds(flag: &str, text: &str, least: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=600.0).contains(number));
    number.ok_or_else(|| format!("{flag} needs seconds, {least} to 600, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_flags_it_is_the_line_with_everybody() {
        let arguments = parse("--bench").unwrap();
        assert_eq!(arguments.cells, Cell::usual());
        assert_eq!((arguments.loads.len(), arguments.rounds), (4, 3));
        assert_eq!(arguments.contenders.len(), 2 + Subject::PEERS.len());
    }

    #[test]
    fn variants_of_ours_take_part_beside_it() {
        let line = "--congestion bbr --variant wide:a=1,b=2 --links c=3 --only spawnpoint-wide,spawnpoint-bbr,direct";
        let contenders = parse(line).unwrap().contenders;
        let names: Vec<&str> = contenders.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, ["direct", "spawnpoint-bbr", "spawnpoint-wide"]);
        assert_eq!(contenders[1].links, ["c=3", "congestion = \"bbr\""]);
        assert_eq!(contenders[2].links, ["c=3", "a=1", "b=2"]);
    }

    #[test]
    fn the_whole_matrix_is_64_cells() {
        let arguments = parse("--matrix --tcp=both").unwrap();
        assert_eq!(
            (arguments.cells.len(), arguments.rounds, arguments.tcp.len()),
            (64, 1, 2)
        );
    }

    #[test]
    fn what_is_meant_for_other_benches_does_not_run_this_one() {
        assert!(parse("frame_codec").unwrap().is_unwanted);
        assert!(!parse("wan").unwrap().is_unwanted);
        for wrong in [
            "--roundz 3",
            "--rounds 0",
            "--load pigeon",
            "--only pigeon",
            "--seconds",
            "--tcp reno",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

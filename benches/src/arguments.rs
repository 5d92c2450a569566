//! What the bench was asked for.

use crate::load::{Load, Pace};

/// What `--help` prints.
pub const HELP: &str = "\
cargo bench -p spawnpoint-benches --bench tunnel [-- FLAGS]

The Spawnpoint tunnel beside direct loopback and, when they are on PATH, rathole (0.5.0) and bore (0.6.0).
SPAWNPOINT_BIN names the program to measure; otherwise it is the one beside this bench, built when it is not there.

--quick        one short round of each load instead of three
--rounds N     rounds over all subjects
--load NAME    only loads whose name begins so; may be repeated
--forgetful    also ours with links.resume_window = \"0 s\": what it costs that sessions outlive their connection";

/// The bench to run.
#[derive(Debug)]
pub struct Arguments {
    /// Loads to run, in order.
    pub loads: Vec<Load>,
    /// How long each lasts.
    pub pace: Pace,
    /// Whether it is the short one.
    pub is_quick: bool,
    /// Whether ours is measured with resumption off, too.
    pub with_forgetful: bool,
    /// Print [`HELP`] and do nothing.
    pub help: bool,
}

impl Arguments {
    /// Reads the words after the program's name. What cargo adds for other harnesses, such as `--bench`, is passed over; a bare word selects loads, as
    /// it selects benches elsewhere.
    ///
    /// # Errors
    /// A sentence when a flag of ours lacks its value or names no load.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words.flat_map(|word| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => vec![flag.to_owned(), value.to_owned()],
            _ => vec![word],
        });
        let (mut wanted, mut is_quick, mut rounds, mut help) = (Vec::new(), false, None, false);
        let mut with_forgetful = false;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => is_quick = true,
                "--forgetful" => with_forgetful = true,
                "--help" | "-h" => help = true,
                "--load" => {
                    let name = words.next().unwrap_or_default();
                    if !Load::ALL.iter().any(|load| load.name.starts_with(&name)) || name.is_empty() {
                        let names = Load::ALL.map(|load| load.name).join(", ");
                        return Err(format!("there is no load `{name}`: loads are {names}"));
                    }
                    wanted.push(name);
                }
                "--rounds" => {
                    let number = words.next().unwrap_or_default();
                    let number = number.parse().ok().filter(|number| *number > 0);
                    rounds = Some(number.ok_or("--rounds needs a number, 1 or more")?);
                }
                flag if flag.starts_with('-') => {}
                filter => wanted.push(filter.to_owned()),
            }
        }
        let is_wanted = |load: &Load| wanted.is_empty() || wanted.iter().any(|name| load.name.starts_with(name));
        let pace = if is_quick { Pace::QUICK } else { Pace::FULL };
        Ok(Self {
            loads: Load::ALL.into_iter().filter(is_wanted).collect(),
            pace: Pace {
                rounds: rounds.unwrap_or(pace.rounds),
                ..pace
            },
            is_quick,
            with_forgetful,
            help,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let arguments = Arguments::parse(words.iter().map(|word| (*word).to_owned()))?;
        Ok(arguments.loads.iter().map(|load| load.name).collect())
    }

    #[test]
    fn loads_are_chosen_by_how_they_begin() {
        assert_eq!(names(&["--bench"]).unwrap().len(), Load::ALL.len());
        assert_eq!(names(&["--load", "memory", "--bench"]).unwrap(), ["memory"]);
        assert_eq!(names(&["--load=small"]).unwrap(), ["small-alone", "small-beside-bulk"]);
        assert!(names(&["frame_codec"]).unwrap().is_empty());
        assert!(names(&["--load", "frame_codec"]).is_err());
    }
}

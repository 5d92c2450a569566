//! What is wrong with a configuration file, said so that the reader can mend it without looking anything up.

use std::fmt;
use std::io;
use std::path::PathBuf;

use spawnpoint_proto::InviteError;

/// Why a configuration could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// Keys or values are wrong; all of them are named, in the order of the file.
    #[error("{}", list(path, mistakes))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one mistake.
        mistakes: Vec<Mistake>,
    },
    /// The file that should hold the invite cannot be read.
    #[error("failed to read the invite from {}", path.display())]
    ReadInvite {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file that should hold the invite holds something else.
    #[error("{} holds no good invite", path.display())]
    Invite {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        #[source]
        source: InviteError,
    },
}

/// One thing that is wrong in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn list(path: &std::path::Path, mistakes: &[Mistake]) -> String {
    let path = path.display();
    match mistakes {
        [only] => format!("{path}:{}: {only}", only.line),
        many => {
            let lines = many
                .iter()
                .map(|mistake| format!("\n  {path}:{}: {mistake}", mistake.line));
            format!("{path} has {} mistakes:{}", many.len(), lines.collect::<String>())
        }
    }
}

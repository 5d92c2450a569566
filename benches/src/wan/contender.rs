//! Who takes part: a subject, and for ours what its configuration files say.

use crate::subject::Subject;

/// A subject with a name and, if it is ours, lines for its configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contender {
    /// What it is called in the report.
    pub name: String,
    /// What it is.
    pub subject: Subject,
    /// Lines for `[links]` of `relay.toml` and `agent.toml`.
    pub links: Vec<String>,
}

impl Contender {
    /// A subject as it comes.
    pub fn plain(subject: Subject, links: &[String]) -> Self {
        Self {
            name: subject.as_str().to_owned(),
            subject,
            links: match subject {
                Subject::Spawnpoint => links.to_vec(),
                _ => Vec::new(),
            },
        }
    }

    /// Ours with more `lines`, called `spawnpoint-NAME`.
    pub fn variant(name: &str, links: &[String], lines: Vec<String>) -> Self {
        Self {
            name: format!("{}-{name}", Subject::Spawnpoint.as_str()),
            subject: Subject::Spawnpoint,
            links: links.iter().cloned().chain(lines).collect(),
        }
    }

    /// Whether it is ours, in whatever variant.
    pub fn is_ours(&self) -> bool {
        self.subject == Subject::Spawnpoint
    }
}

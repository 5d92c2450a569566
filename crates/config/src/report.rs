//! What a reading has found in its file: the keys that exist, the mistakes so far, and what was probably meant by a key that does not exist.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use crate::Mistake;

/// What has been learnt about the file so far.
pub(crate) struct Report<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    pub(crate) known: BTreeSet<String>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Report<'_> {
    /// Notes a mistake at a line.
    pub(crate) fn add(&mut self, line: usize, text: String) {
        self.mistakes.push(Mistake { line, text });
    }

    /// The line, from 1, of a place in the text.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }

    /// The value as the file has it, cut to a readable length.
    pub(crate) fn excerpt(&self, span: Range<usize>) -> String {
        const LONGEST: usize = 60;
        let line = self
            .text
            .get(span)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let cut: String = line.chars().take(LONGEST).collect();
        if cut.len() < line.len() {
            format!("{cut}...")
        } else {
            cut
        }
    }

    /// Whether any key of this section was asked for.
    pub(crate) fn is_section(&self, name: &str) -> bool {
        self.known.iter().any(|known| split(known).0 == name)
    }

    /// Notes a mistake unless the key was asked for.
    pub(crate) fn check_known(&mut self, section: &str, key: &str, span: Range<usize>) {
        let full = join(section, key);
        if self.known.contains(&full) {
            return;
        }
        let text = match self.meant(section, key) {
            Some(meant) => format!("unknown key `{full}`: did you mean {meant}?"),
            None => format!("unknown key `{full}`: {}", self.inventory(section)),
        };
        self.add(self.line(span.start), text);
    }

    /// The key or section that was probably meant: one near by if its name is near, else one elsewhere, else a section.
    fn meant(&self, section: &str, key: &str) -> Option<String> {
        let known = || self.known.iter().map(|known| split(known));
        let here = nearest(key, known().filter(|known| known.0 == section).map(|known| known.1));
        if let Some(name) = here {
            return Some(format!("`{}`", join(section, name)));
        }
        let elsewhere = nearest(key, known().map(|known| known.1));
        if let Some((section, name)) = elsewhere.and_then(|name| known().find(|known| known.1 == name)) {
            return Some(match section {
                "" => format!("`{name}`, above all sections"),
                _ => format!("`{name}` in section [{section}]"),
            });
        }
        let sections = known()
            .map(|known| known.0)
            .filter(|name| section.is_empty() && !name.is_empty());
        nearest(key, sections).map(|name| format!("the section [{name}]"))
    }

    fn inventory(&self, section: &str) -> String {
        let keys = |wanted: &str| {
            let all = self
                .known
                .iter()
                .map(|known| split(known))
                .filter(|known| known.0 == wanted);
            all.map(|known| known.1).collect::<Vec<_>>().join(", ")
        };
        if !section.is_empty() {
            return format!("[{section}] has {}", keys(section));
        }
        let sections: BTreeSet<_> = self
            .known
            .iter()
            .map(|known| split(known).0)
            .filter(|name| !name.is_empty())
            .collect();
        let sections: Vec<_> = sections.into_iter().map(|name| format!("[{name}]")).collect();
        format!("there are {} and the sections {}", keys(""), sections.join(", "))
    }
}

/// The one of `known` that `given` was probably meant to be.
pub(crate) fn nearest<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let given = plain(given);
    let scored = known.map(|name| (strsim::damerau_levenshtein(&given, &plain(name)), name));
    // A third of the letters may be wrong: enough for a slip of the finger, too little to turn one word into another.
    scored
        .filter(|(distance, _)| *distance <= given.chars().count() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The full name of a key.
pub(crate) fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

fn split(full: &str) -> (&str, &str) {
    full.split_once('.').unwrap_or(("", full))
}

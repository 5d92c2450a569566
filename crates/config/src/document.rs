//! A TOML file whose values are taken out one by one, and which knows in the end what nobody asked for.
//!
//! Whoever reads a key says with it what is allowed there. A value that breaks the rule becomes a mistake and the default takes its place, so the
//! reading goes on and the next mistake is found too. [`Document::finish`] adds every key that was never asked for, and the list of those that were
//! is at the same time the list of keys that exist.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::ConfigError;
use crate::report::{Report, join, nearest};
use crate::unit;

type Table<'a> = DeTable<'a>;
type Value<'a> = DeValue<'a>;

/// A file whose keys are being read.
pub(crate) struct Document<'a> {
    table: Table<'a>,
    report: Report<'a>,
}

/// The keys of one `[section]`, of one `[[element]]`, or those above all of them.
pub(crate) struct Section<'d, 'a> {
    /// Empty for the keys above all sections.
    name: &'static str,
    table: Option<&'d Table<'a>>,
    line: usize,
    report: &'d mut Report<'a>,
}

/// Reads the text of a configuration file.
pub(crate) fn load(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

impl<'a> Document<'a> {
    /// Parses `text`, which came from `path`.
    pub(crate) fn parse(text: &'a str, path: &'a Path) -> Result<Self, ConfigError> {
        let report = Report {
            path,
            text,
            known: BTreeSet::new(),
            mistakes: Vec::new(),
        };
        match Table::parse(text) {
            Ok(table) => Ok(Self {
                table: table.into_inner(),
                report,
            }),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start).min(text.len());
                let before = text.get(..at).unwrap_or_default();
                let column = before.chars().rev().take_while(|&char| char != '\n').count() + 1;
                let message = error.message().trim().replace('\n', "; ");
                Err(ConfigError::Syntax {
                    path: path.to_owned(),
                    line: report.line(at),
                    column,
                    message,
                })
            }
        }
    }

    /// The keys above all sections.
    pub(crate) fn top(&mut self) -> Section<'_, 'a> {
        Section {
            name: "",
            table: Some(&self.table),
            line: 1,
            report: &mut self.report,
        }
    }

    /// The keys of `[name]`; all absent when there is no such section.
    pub(crate) fn section(&mut self, name: &'static str) -> Section<'_, 'a> {
        let found = self.table.get(name);
        let line = found.map_or(1, |value| self.report.line(value.span().start));
        let table = found.and_then(|value| value.get_ref().as_table());
        if found.is_some() && table.is_none() {
            self.report.add(
                line,
                format!("`{name}` is a section: write `[{name}]` on a line of its own and its keys below"),
            );
        }
        Section {
            name,
            table,
            line,
            report: &mut self.report,
        }
    }

    /// Reads every `[[name]]` with `read`, in the order of the file.
    pub(crate) fn elements<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(Section<'_, 'a>) -> Option<T>,
    ) -> Vec<T> {
        // Once without any, so that its keys are known even if the file has none.
        let mut unused = Report {
            known: BTreeSet::new(),
            mistakes: Vec::new(),
            ..self.report
        };
        read(Section {
            name,
            table: None,
            line: 1,
            report: &mut unused,
        });
        self.report.known.append(&mut unused.known);
        let Some(found) = self.table.get(name) else {
            return Vec::new();
        };
        let Some(array) = found.get_ref().as_array() else {
            let line = self.report.line(found.span().start);
            self.report.add(
                line,
                format!("`{name}` is a list of sections: write `[[{name}]]` on a line of its own for each"),
            );
            return Vec::new();
        };
        let mut elements = Vec::new();
        for element in array {
            let line = self.report.line(element.span().start);
            match element.get_ref().as_table() {
                Some(table) => elements.extend(read(Section {
                    name,
                    table: Some(table),
                    line,
                    report: &mut self.report,
                })),
                None => self.report.add(
                    line,
                    format!("`{name}` is a list of sections: write `[[{name}]]` for each"),
                ),
            }
        }
        elements
    }

    /// Returns `value` if the file has no mistake, else all of them.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, ConfigError> {
        self.find_unknown();
        let Report { path, mut mistakes, .. } = self.report;
        if mistakes.is_empty() {
            return Ok(value);
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(ConfigError::Invalid {
            path: path.to_owned(),
            mistakes,
        })
    }

    /// Every key that was asked for, with its section.
    #[cfg(test)]
    pub(crate) fn known(&self) -> &BTreeSet<String> {
        &self.report.known
    }

    fn find_unknown(&mut self) {
        let report = &mut self.report;
        for (key, value) in &self.table {
            let name: &str = key.get_ref();
            if !report.is_section(name) {
                report.check_known("", name, key.span());
                continue;
            }
            let inner: Vec<&Table<'_>> = match value.get_ref() {
                Value::Table(table) => vec![table],
                Value::Array(array) => array
                    .iter()
                    .filter_map(|element| element.get_ref().as_table())
                    .collect(),
                _ => Vec::new(),
            };
            for (key, _) in inner.into_iter().flatten() {
                report.check_known(name, key.get_ref(), key.span());
            }
        }
    }
}

impl<'d, 'a> Section<'d, 'a> {
    /// A time between two bounds.
    pub(crate) fn duration(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = (unit::show_duration(*range.start()), unit::show_duration(*range.end()));
        let shown = format!("{:?}", unit::show_duration(default));
        let rule = format!("a time from {low} to {high}, as text with its unit (ms, s, min, h)");
        self.text(key, Some(&shown), &rule, |text| {
            within(unit::parse_duration(text), &range)
        })
        .unwrap_or(default)
    }

    /// A number of bytes between two bounds.
    pub(crate) fn size(&mut self, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let (low, high) = (
            unit::show_size((*range.start()).into()),
            unit::show_size((*range.end()).into()),
        );
        let shown = format!("{:?}", unit::show_size(default.into()));
        let rule = format!("a size from {low} to {high}, as text with its unit (B, KiB, MiB)");
        let parse = |text: &str| {
            within(
                unit::parse_size(text).map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
                &range,
            )
        };
        self.text(key, Some(&shown), &rule, parse).unwrap_or(default)
    }

    /// How many in a second, between two bounds.
    pub(crate) fn rate(&mut self, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let (low, high) = (unit::show_rate(*range.start()), unit::show_rate(*range.end()));
        let shown = format!("{:?}", unit::show_rate(default));
        let rule = format!("how many in a second, from \"{low}\" to \"{high}\"");
        self.text(key, Some(&shown), &rule, |text| within(unit::parse_rate(text), &range))
            .unwrap_or(default)
    }

    /// How many in a second, between two bounds, or "off".
    pub(crate) fn optional_rate(&mut self, key: &str, default: Option<u32>, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (unit::show_rate(*range.start()), unit::show_rate(*range.end()));
        let shown = default.map_or_else(|| "\"off\"".to_owned(), |rate| format!("{:?}", unit::show_rate(rate)));
        let rule = format!("how many in a second, from \"{low}\" to \"{high}\", or \"off\"");
        let read = self.text(key, Some(&shown), &rule, |text| match text.trim() {
            "off" => Ok(None),
            text => within(unit::parse_rate(text), &range).map(Some),
        });
        read.unwrap_or(default)
    }

    /// A number of bytes that is large, or nothing.
    pub(crate) fn amount(&mut self, key: &str) -> Option<u64> {
        let range = 1 << 20..=u64::MAX / 2;
        self.text(
            key,
            None,
            "a size from \"1 MiB\", as text with its unit (MiB, GiB, TiB)",
            |text| within(unit::parse_size(text), &range),
        )
    }

    /// A speed in bytes a second between two bounds.
    pub(crate) fn speed_or(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (unit::show_speed(*range.start()), unit::show_speed(*range.end()));
        let rule = format!("a speed from \"{low}\" to \"{high}\"");
        let shown = format!("{:?}", unit::show_speed(default));
        self.text(key, Some(&shown), &rule, |text| within(unit::parse_speed(text), &range))
            .unwrap_or(default)
    }

    /// A line's speed in bytes a second between two bounds, or nothing.
    pub(crate) fn speed(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (unit::show_speed(*range.start()), unit::show_speed(*range.end()));
        let rule = format!("a speed from \"{low}\" to \"{high}\"");
        self.text(key, None, &rule, |text| within(unit::parse_speed(text), &range))
    }

    /// A whole number between two bounds.
    pub(crate) fn count(&mut self, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.number(key, Some(&default.to_string()), &rule, range)
            .unwrap_or(default)
    }

    /// A whole number between two bounds, or nothing.
    pub(crate) fn optional_count(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.number(key, None, &rule, range)
    }

    /// A port that can be asked for.
    pub(crate) fn port(&mut self, key: &str) -> Option<u16> {
        self.number(key, None, "a port from 1 to 65535", 1..=u16::MAX)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> bool {
        let parse = |value: &Value<'_>| value.as_bool().ok_or_else(String::new);
        self.read(key, Some(&default.to_string()), "true or false", parse)
            .unwrap_or(default)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, default: T, all: &[T], as_str: fn(T) -> &'static str) -> T {
        let shown = format!("{:?}", as_str(default));
        self.optional_word(key, Some(&shown), all, as_str).unwrap_or(default)
    }

    /// One of a few words, or nothing.
    pub(crate) fn optional_word<T: Copy>(
        &mut self,
        key: &str,
        default: Option<&str>,
        all: &[T],
        as_str: fn(T) -> &'static str,
    ) -> Option<T> {
        let words: Vec<_> = all.iter().map(|&one| as_str(one)).collect();
        let rule = format!(
            "one of {}",
            words
                .iter()
                .map(|word| format!("{word:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        self.text(key, default, &rule, |text| {
            let meant = || {
                nearest(text, words.iter().copied())
                    .map(|word| format!("did you mean {word:?}?"))
                    .unwrap_or_default()
            };
            all.iter().copied().find(|&one| as_str(one) == text).ok_or_else(meant)
        })
    }

    /// A path; one that is not absolute starts at the directory of the configuration file.
    pub(crate) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let base = self.report.path.parent().unwrap_or(Path::new(""));
        let parse = |text: &str| {
            if text.is_empty() {
                Err("it is empty".to_owned())
            } else {
                Ok(base.join(text))
            }
        };
        self.text(key, None, "a path", parse)
    }

    /// Text that `parse` understands; its error says why not, or is empty when `rule` says it all.
    pub(crate) fn text<T>(
        &mut self,
        key: &str,
        default: Option<&str>,
        rule: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, default, rule, |value| {
            value
                .as_str()
                .ok_or_else(|| wrong_type("text in quotes", value))
                .and_then(parse)
        })
    }

    /// A list of texts that `parse` understands.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        rule: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.read(key, None, rule, |value| {
            let values = value
                .as_array()
                .ok_or_else(|| wrong_type("a list in brackets", value))?;
            let text = |value: &Spanned<Value<'_>>| {
                let value = value.get_ref();
                let text = value.as_str().ok_or_else(|| wrong_type("texts in quotes", value))?;
                parse(text)
            };
            values.iter().map(text).collect()
        })
    }

    /// Text that must not appear in a message.
    pub(crate) fn secret<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.take(key)?;
        let text = value
            .get_ref()
            .as_str()
            .ok_or_else(|| wrong_type("text in quotes", value.get_ref()));
        text.and_then(parse)
            .map_err(|why| self.mistake(key, &format!("`{}`: {why}", self.full(key))))
            .ok()
    }

    /// Any value that `parse` understands; its error says why not, or is empty when `rule` says it all.
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        default: Option<&str>,
        rule: &str,
        parse: impl FnOnce(&Value<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let why = match parse(value.get_ref()) {
            Ok(value) => return Some(value),
            Err(why) if why.is_empty() => why,
            Err(why) => format!("{why}; "),
        };
        let given = self.report.excerpt(value.span());
        let default = default
            .map(|default| format!(" (default {default})"))
            .unwrap_or_default();
        self.mistake(
            key,
            &format!(
                "`{} = {given}` will not do: {why}allowed is {rule}{default}",
                self.full(key)
            ),
        );
        None
    }

    /// Whether the file has the key, with whatever value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Reports `text` at the line of `key`, or of the section when the key is absent.
    pub(crate) fn mistake(&mut self, key: &str, text: &str) {
        let at = self
            .table
            .and_then(|table| table.get(key))
            .map(|value| self.report.line(value.span().start));
        self.report.add(at.unwrap_or(self.line), text.to_owned());
    }

    fn number<T>(&mut self, key: &str, default: Option<&str>, rule: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd,
    {
        self.read(key, default, rule, |value| {
            let number = value
                .as_integer()
                .ok_or_else(|| wrong_type("a number without quotes", value))?;
            let number = i128::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(|number| T::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or_else(String::new)
        })
    }

    fn take(&mut self, key: &str) -> Option<&'d Spanned<Value<'a>>> {
        self.report.known.insert(self.full(key));
        self.table.and_then(|table| table.get(key))
    }

    fn full(&self, key: &str) -> String {
        join(self.name, key)
    }
}

fn within<T: PartialOrd>(value: Result<T, unit::UnitError>, range: &RangeInclusive<T>) -> Result<T, String> {
    value.map_err(|error| error.to_string()).and_then(|value| {
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(String::new())
        }
    })
}

fn wrong_type(wanted: &str, value: &Value<'_>) -> String {
    format!(
        "it takes {wanted}, not {}",
        match value {
            Value::String(_) => "text",
            Value::Integer(_) => "a bare number",
            Value::Float(_) => "a decimal number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a section",
        }
    )
}

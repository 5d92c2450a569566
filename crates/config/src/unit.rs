//! Quantities as people write them: `30 s`, `250 ms`, `512 KiB`, `10/s`.
//!
//! The space before the unit is optional, the unit is not: a bare number is the classic way to be wrong by a factor of a thousand.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("min", 60_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const SPEEDS: &[(&str, u64)] = &[("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];

/// Why a text is not a quantity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnitError {
    /// It does not start with a number.
    #[error("it does not start with a number")]
    Number,
    /// The number has no unit.
    #[error("the unit is missing")]
    NoUnit,
    /// The unit is another one.
    #[error("the unit `{given}` is none of {known}")]
    Unit {
        /// What stands after the number.
        given: String,
        /// The units there are.
        known: String,
    },
    /// The number is larger than can be counted.
    #[error("the number is too large")]
    TooLarge,
}

/// Reads a time: `250 ms`, `30s`, `1.5 min`, `2 h`, `7 d`.
///
/// # Errors
/// [`UnitError`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

/// Writes a time in the largest unit that divides it, as [`parse_duration`] reads it; what is below a millisecond is lost.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &[DURATIONS[5], DURATIONS[3], DURATIONS[1], DURATIONS[0]])
}

/// Reads a number of bytes: `65536 B`, `512 KiB`, `1MiB`.
///
/// # Errors
/// [`UnitError`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    quantity(text, SIZES)
}

/// Writes a number of bytes in the largest unit that divides it, as [`parse_size`] reads it.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &[SIZES[4], SIZES[3], SIZES[2], SIZES[1], SIZES[0]])
}

/// Reads a line's speed as providers write it, as bytes a second: `10 Mbit/s`, `500 kbit/s`.
///
/// # Errors
/// [`UnitError`].
pub fn parse_speed(text: &str) -> Result<u64, UnitError> {
    Ok(quantity(text, SPEEDS)? / 8)
}

/// Writes a speed in bits, as [`parse_speed`] reads it.
pub fn show_speed(bytes_per_second: u64) -> String {
    show(bytes_per_second * 8, &[SPEEDS[2], SPEEDS[1], SPEEDS[0]])
}

/// Reads how many in a second: `10/s`.
///
/// # Errors
/// [`UnitError`].
pub fn parse_rate(text: &str) -> Result<u32, UnitError> {
    u32::try_from(quantity(text, &[("/s", 1)])?).map_err(|_| UnitError::TooLarge)
}

/// Writes how many in a second, as [`parse_rate`] reads it.
pub fn show_rate(per_second: u32) -> String {
    format!("{per_second}/s")
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let text = text.trim();
    let end = text
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.contains('.') {
        return Err(UnitError::Number);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let Some(&(_, factor)) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        let known = units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(UnitError::Unit {
            given: unit.chars().take(16).collect(),
            known,
        });
    };
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    // Digits beyond the ninth are below anything that is counted here.
    let part = &part[..part.len().min(9)];
    let fraction = part.parse::<u64>().map_err(|_| UnitError::Number)? as u128 * u128::from(factor)
        / 10u128.pow(part.len() as u32);
    whole
        .checked_mul(factor)
        .and_then(|value| value.checked_add(fraction as u64))
        .ok_or(UnitError::TooLarge)
}

fn show(value: u64, largest_first: &[(&str, u64)]) -> String {
    let fits = |&&(_, factor): &&(&str, u64)| value >= factor && value.is_multiple_of(factor);
    match largest_first.iter().find(fits) {
        Some((unit, factor)) => format!("{} {unit}", value / factor),
        None => format!("{value} {}", largest_first[largest_first.len() - 1].0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_the_space() {
        let millis = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!(
            [
                millis("250 ms"),
                millis("30s"),
                millis(" 2 min "),
                millis("1.5 s"),
                millis("1 H")
            ],
            [250, 30_000, 120_000, 1_500, 3_600_000]
        );
    }

    #[test]
    fn sizes_and_rates_are_read() {
        assert_eq!(parse_size("512 KiB"), Ok(512 << 10));
        assert_eq!(parse_size("1.5MiB"), Ok(3 << 19));
        assert_eq!(parse_rate("10 /s"), Ok(10));
        assert_eq!(parse_rate("10/s"), Ok(10));
    }

    #[test]
    fn what_is_wrong_with_a_quantity_is_named() {
        assert_eq!(parse_duration("fast"), Err(UnitError::Number));
        assert_eq!(parse_duration("-1 s"), Err(UnitError::Number));
        assert_eq!(parse_duration("1.2.3 s"), Err(UnitError::Number));
        assert_eq!(parse_duration("30"), Err(UnitError::NoUnit));
        assert_eq!(parse_duration("99999999999999999999 s"), Err(UnitError::TooLarge));
        assert_eq!(parse_duration("99999999999999999 h"), Err(UnitError::TooLarge));
        assert_eq!(
            parse_size("1 KB").unwrap_err().to_string(),
            "the unit `KB` is none of B, KiB, MiB, GiB, TiB"
        );
        assert_eq!(parse_rate("5000000000/s"), Err(UnitError::TooLarge));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 250, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1_000, 65_536, 512 << 10, 16 << 20] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90 s");
        assert_eq!(show_size(512 << 10), "512 KiB");
    }
}

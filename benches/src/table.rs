//! The report as people read it.

use std::fmt::Write as _;

use crate::report::Report;
use crate::subject::Subject;
use crate::targets::{self, Verdict};

/// The narrowest column of a subject.
const NARROW: usize = 10;

/// Medians of all subjects, ours as a multiple of direct and of the best peer, and what that means for what was promised.
pub fn render(report: &Report) -> String {
    let mut text = format!("\n{}\n\n", report.about.join("\n"));
    let columns = report.present();
    let width = |subject: Subject| subject.as_str().len().max(NARROW);
    // Writing to a string cannot fail.
    let _ = write!(text, "{:<18} {:<20}", "load", "median of");
    for subject in &columns {
        let _ = write!(text, " {:>width$}", subject.as_str(), width = width(*subject));
    }
    text.push_str("   to direct   to best peer\n");
    let mut load = "";
    for row in &report.rows {
        let name = if row.load == load { "" } else { row.load };
        load = row.load;
        let _ = write!(text, "{name:<18} {:<20}", row.figure);
        for subject in &columns {
            let median = row.median(*subject).map_or_else(|| "-".to_owned(), number);
            let _ = write!(text, " {median:>width$}", width = width(*subject));
        }
        let multiple = |other| row.better.ratio(row.ratio(other));
        let (direct, peer) = (multiple(row.median(Subject::Direct)), multiple(row.best_peer()));
        text.push_str(format!("  {direct:>10}   {peer:>12}").trim_end());
        text.push('\n');
    }
    text.push_str("\n+ ours is better, ! ours is worse (by more than a tenth)\n");
    text.push_str(&promised(&targets::verdicts(report)));
    for failure in &report.failures {
        let _ = writeln!(text, "FAILED  {failure}");
    }
    text
}

/// The target, what was measured of it, and the verdict.
fn promised(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    if verdicts.is_empty() {
        return text;
    }
    let _ = writeln!(text, "\n{:<62} {:>9}   ours / other", "target", "measured");
    for verdict in verdicts {
        let Verdict {
            target,
            measured,
            figures: (ours, other),
            ..
        } = verdict;
        let figures = other.map_or(String::new(), |other| format!("{} / {}", number(*ours), number(other)));
        let (measured, word) = (number(*measured), verdict.as_str());
        let _ = writeln!(text, "{target:<62} {measured:>9}   {figures:<19} {word}");
    }
    let met = verdicts.iter().filter(|verdict| verdict.is_met).count();
    let _ = writeln!(text, "{met} of {} met", verdicts.len());
    text
}

/// Three digits, or all that stand before the point.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

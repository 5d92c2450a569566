//! The report as people read it.

use std::fmt::Write as _;

use crate::figure::Better;
use crate::report::{Report, Row};
use crate::subject::Subject;

/// Medians of all subjects, and ours as a multiple of direct and of the better peer.
pub fn render(report: &Report) -> String {
    let mut text = format!("\n{}\n\n", report.about.join("\n"));
    let _ = write!(text, "{:<18} {:<20}", "load", "median of");
    for subject in Subject::ALL {
        let _ = write!(text, " {:>10}", subject.as_str());
    }
    text.push_str("   to direct   to best peer\n");
    let mut load = "";
    for row in &report.rows {
        let name = if row.load == load { "" } else { row.load };
        load = row.load;
        // Writing to a string cannot fail.
        let _ = write!(text, "{name:<18} {:<20}", row.figure);
        for subject in Subject::ALL {
            let _ = write!(
                text,
                " {:>10}",
                row.median(subject).map_or_else(|| "-".to_owned(), number)
            );
        }
        let direct = multiple(row, row.median(Subject::Direct));
        let _ = writeln!(text, "  {direct:>10}   {:>12}", multiple(row, row.best_peer()));
    }
    text.push_str("\n+ ours is better, ! ours is worse (by a tenth or more)\n");
    for failure in &report.failures {
        let _ = writeln!(text, "FAILED  {failure}");
    }
    text
}

/// Three digits, or all that stand before the point.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn multiple(row: &Row, other: Option<f64>) -> String {
    let Some(ratio) = row.ratio(other) else {
        return "-  ".to_owned();
    };
    let is_more = match row.better {
        Better::Higher => ratio,
        Better::Lower => 1.0 / ratio,
    };
    let sign = match is_more {
        1.1.. => '+',
        ..0.9 => '!',
        _ => ' ',
    };
    format!("x{ratio:.2} {sign}")
}

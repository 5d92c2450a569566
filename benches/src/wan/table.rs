//! The report as people read it.

use std::fmt::Write as _;

use super::report::Report;
use crate::figure::Better;

/// A block for each setting of the line, with a line for each load and subject.
pub fn render(report: &Report) -> String {
    let mut text = format!("\n{}\n{}\n", report.about.join("\n"), report.punctuality());
    for setting in report.settings() {
        let (cell, tcp) = setting;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{cell}; TCP by {}\n{:<9} {:<20} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9} {:>7} {:>7}   {:>13} {:>14}\n",
            tcp.as_str(),
            "load",
            "subject",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms",
            "MB/s",
            "neighbour",
            "lost %",
            "late %",
            "p99 to peer",
            "MB/s to peer",
        );
        for load in report.loads() {
            let mut name = load.as_str();
            for contender in report.present() {
                let Some(row) = report.row(setting, load, contender) else {
                    continue;
                };
                let median = row.median;
                let (p99, bulk) = match contender.is_ours() {
                    true => report.ratios(setting, load, contender),
                    false => (None, None),
                };
                let optional = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
                let line = format!(
                    "{name:<9} {:<20} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>8} {:>9} {:>7} {:>7.2}   {:>13} {:>14}",
                    contender.name,
                    median.p50,
                    median.p90,
                    median.p99,
                    median.max,
                    optional(median.bulk),
                    optional(median.neighbour),
                    optional(median.loss),
                    row.late(),
                    Better::Lower.ratio(p99),
                    Better::Higher.ratio(bulk),
                );
                text.push_str(line.trim_end());
                text.push('\n');
                name = "";
            }
        }
    }
    text.push_str(
        "\nneighbour: MB/s of a download that goes straight over the same line\n\
         late: packets that the router put out more than 1 ms after their time\n\
         to peer: ours as a multiple of the best peer's; + ours is better, ! ours is worse (by more than a tenth)\n",
    );
    for failure in &report.failures {
        let _ = writeln!(text, "FAILED  {failure}");
    }
    text
}

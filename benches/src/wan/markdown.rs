//! The report as tables for a README; `crate::markdown` is the other bench's.

use std::fmt::Write as _;

use super::measured::Measured;
use super::report::Report;
use crate::figure::Better;
use crate::markdown::{head, row};

/// A table for each load: a row for each setting of the line, a column for each subject.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let present = report.present();
    for load in report.loads() {
        let columns: Vec<_> = present
            .iter()
            .filter(|contender| {
                report
                    .rows
                    .iter()
                    .any(|row| row.key.load == load && row.key.contender == contender.name)
            })
            .collect();
        let names = columns.iter().map(|contender| contender.name.as_str());
        let bulk = if load.is_beside_bulk() {
            " / MB/s of the download"
        } else {
            ""
        };
        let neighbour = if load.has_neighbour() {
            " / MB/s of the neighbour"
        } else {
            ""
        };
        let loss = if load.has_packets() { " / lost %" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n`{}`: p50 / p99 / max ms{bulk}{neighbour}{loss}\n",
            load.as_str()
        );
        text.push_str(&head(["line", "TCP"].into_iter().chain(names).chain(["ratio of p99"])));
        for setting in report.settings() {
            let mut cells = vec![setting.0.short(), setting.1.as_str().to_owned()];
            for contender in &columns {
                let median = report.median(setting, load, contender);
                cells.push(median.map_or_else(|| "-".to_owned(), |median| figures(&median)));
            }
            let ours = columns.iter().find(|contender| contender.is_ours());
            let p99 = ours.and_then(|ours| report.ratios(setting, load, ours).0);
            cells.push(Better::Lower.ratio(p99).trim_end().to_owned());
            text.push_str(&row(cells));
        }
    }
    text
}

fn figures(median: &Measured) -> String {
    let mut text = format!("{:.0} / {:.0} / {:.0}", median.p50, median.p99, median.max);
    for value in [median.bulk, median.neighbour, median.loss].into_iter().flatten() {
        let _ = write!(text, " / {value:.2}");
    }
    text
}

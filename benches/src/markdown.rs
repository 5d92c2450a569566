//! The report as tables for a README, and how such a table is written.

use crate::report::Report;
use crate::table::number;
use crate::targets;

/// A table of medians, with a row for each figure and a column for each subject, and one of what was promised.
pub fn render(report: &Report) -> String {
    let columns = report.present();
    let names = columns.iter().map(|subject| subject.as_str());
    let mut text = String::from("\n");
    text.push_str(&head(
        ["load", "median of"].into_iter().chain(names).chain(["to best peer"]),
    ));
    for figure in &report.rows {
        let mut cells = vec![figure.load.to_owned(), figure.figure.to_owned()];
        for subject in &columns {
            let median = figure.median(*subject);
            cells.push(median.map_or_else(|| "-".to_owned(), number));
        }
        let multiple = figure.better.ratio(figure.ratio(figure.best_peer()));
        cells.push(multiple.trim_end().to_owned());
        text.push_str(&row(cells));
    }
    let verdicts = targets::verdicts(report);
    if !verdicts.is_empty() {
        text.push('\n');
        text.push_str(&head(["target", "measured", ""]));
    }
    for verdict in verdicts {
        let (measured, word) = (number(verdict.measured), verdict.as_str().to_owned());
        text.push_str(&row([verdict.target, measured, word]));
    }
    text
}

/// The first two lines of a table.
pub fn head<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let rule = "---|".repeat(names.len());
    format!("{}|{rule}\n", row(names))
}

/// A line of a table.
pub fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_as_many_rules_as_columns() {
        assert_eq!(head(["a", "b"]), "| a | b |\n|---|---|\n");
        assert_eq!(row(["1".to_owned(), "2".to_owned()]), "| 1 | 2 |\n");
    }
}

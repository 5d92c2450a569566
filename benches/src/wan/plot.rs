//! The report as a picture: a panel for each load and for each download, a row for each setting of the line, a mark for each subject.
//!
//! Rows rather than bars, so that the whole matrix fits; round trips on a logarithmic axis, since between the fastest and the slowest lie decades.

use std::fmt::Write as _;

use super::contender::Contender;
use super::load::Load;
use super::measured::Measured;
use super::report::Report;
use crate::subject::Subject;

const LABELS: f64 = 250.0;
const PANEL: f64 = 220.0;
const GAP: f64 = 36.0;
const ROW: f64 = 22.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 40.0;

/// Okabe and Ito's colours, which those who see few can tell apart, too; ours is the most conspicuous.
const OURS: [&str; 4] = ["#d55e00", "#e69f00", "#cc79a7", "#8c2d04"];
const DIRECT: &str = "#000000";

/// One figure of one load.
struct Panel {
    title: String,
    load: Load,
    figure: fn(&Measured) -> Option<f64>,
    axis: Axis,
}

/// Where values lie between left (0) and right (1).
struct Axis {
    least: f64,
    most: f64,
    is_logarithmic: bool,
}

impl Axis {
    /// Has room for `values`: from a power of ten to a power of ten, or from nothing to a round number.
    fn of(values: &[f64], is_logarithmic: bool) -> Self {
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        if !is_logarithmic {
            let step = 10_f64.powf(most.log10().floor());
            return Self {
                least: 0.0,
                most: (most / step).ceil() * step,
                is_logarithmic,
            };
        }
        let least = values.iter().copied().filter(|value| *value > 0.0).fold(most, f64::min);
        let least = 10_f64.powf(least.log10().floor());
        Self {
            least,
            most: 10_f64.powf(most.log10().ceil()).max(least * 10.0),
            is_logarithmic,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(self.least) / self.least).ln() / (self.most / self.least).ln(),
            false => value / self.most,
        };
        share.clamp(0.0, 1.0)
    }

    /// Values to draw a line at, and whether to write them there.
    fn ticks(&self) -> Vec<(f64, bool)> {
        if !self.is_logarithmic {
            return (0..=4)
                .map(|quarter| (self.most * f64::from(quarter) / 4.0, true))
                .collect();
        }
        let mut ticks = Vec::new();
        let mut decade = self.least;
        while decade < self.most * 0.99 {
            ticks.extend((1..10).map(|digit| (decade * f64::from(digit), digit == 1)));
            decade *= 10.0;
        }
        ticks.push((self.most, true));
        ticks
    }
}

/// The picture, as SVG.
pub fn render(report: &Report) -> String {
    let (panels, rows) = (panels(report), report.settings().len() as f64);
    let width = LABELS + panels.len() as f64 * (PANEL + GAP);
    let height = TOP + rows * ROW + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(
        &mut svg,
        (12.0, 24.0),
        "font-size=\"15\" font-weight=\"bold\"",
        "Twenty players at 20 Hz over an impaired line",
    );
    let about = "each line: round trip, loss each way, rate, queue; marks are medians over rounds";
    text(&mut svg, (12.0, 42.0), "fill=\"#555\"", about);
    legend(&mut svg, report);
    labels(&mut svg, report);
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut svg, report, panel, LABELS + number as f64 * (PANEL + GAP));
    }
    svg.push_str("</svg>\n");
    svg
}

fn panels(report: &Report) -> Vec<Panel> {
    let loads = report.loads();
    let latency = loads.iter().map(|load| {
        (
            format!("{}: p99, ms", load.as_str()),
            *load,
            (|median| Some(median.p99)) as fn(&Measured) -> _,
            true,
        )
    });
    let bulk = loads.iter().filter(|load| load.is_beside_bulk()).map(|load| {
        (
            format!("{}: download, MB/s", load.as_str()),
            *load,
            (|median| median.bulk) as fn(&Measured) -> _,
            false,
        )
    });
    let panels = latency.chain(bulk).map(|(title, load, figure, is_logarithmic)| {
        let medians = report
            .rows
            .iter()
            .filter(|row| row.key.load == load)
            .map(|row| &row.median);
        let values: Vec<f64> = medians.filter_map(figure).collect();
        Panel {
            title,
            load,
            figure,
            axis: Axis::of(&values, is_logarithmic),
        }
    });
    panels.collect()
}

fn legend(svg: &mut String, report: &Report) {
    let mut x = 12.0;
    for contender in report.present() {
        mark(svg, (x + 5.0, 60.0), contender, report);
        text(svg, (x + 14.0, 64.0), "", &contender.name);
        x += 34.0 + 6.4 * contender.name.len() as f64;
    }
}

fn labels(svg: &mut String, report: &Report) {
    for (number, (cell, tcp)) in report.settings().into_iter().enumerate() {
        let y = TOP + (number as f64 + 0.5) * ROW + 4.0;
        text(svg, (12.0, y), "", &format!("{}, {}", cell.short(), tcp.as_str()));
    }
}

fn draw(svg: &mut String, report: &Report, panel: &Panel, left: f64) {
    let settings = report.settings();
    let bottom = TOP + settings.len() as f64 * ROW;
    let across = |value: f64| left + panel.axis.place(value) * PANEL;
    text(svg, (left, TOP - 10.0), "font-weight=\"bold\"", &panel.title);
    for number in (0..settings.len()).step_by(2) {
        let y = TOP + number as f64 * ROW;
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{y}\" width=\"{PANEL}\" height=\"{ROW}\" fill=\"#f5f5f5\"/>"
        );
    }
    for (value, is_labelled) in panel.axis.ticks() {
        let (x, colour) = (across(value), if is_labelled { "#bbb" } else { "#e6e6e6" });
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{colour}\"/>");
        if is_labelled {
            let place = (x, bottom + 14.0);
            text(
                svg,
                place,
                "text-anchor=\"middle\" fill=\"#555\"",
                &format!("{}", (value * 100.0).round() / 100.0),
            );
        }
    }
    for (number, setting) in settings.into_iter().enumerate() {
        let y = TOP + (number as f64 + 0.5) * ROW;
        // The last is drawn on top.
        for contender in report.present().into_iter().rev() {
            let value = report
                .median(setting, panel.load, contender)
                .as_ref()
                .and_then(panel.figure);
            if let Some(value) = value {
                mark(svg, (across(value), y), contender, report);
            }
        }
    }
}

/// No tunnel is a bar, ours are filled, peers are hollow.
fn mark(svg: &mut String, (x, y): (f64, f64), contender: &Contender, report: &Report) {
    let colour = colour(contender, report);
    let _ = match contender.subject {
        Subject::Direct => writeln!(
            svg,
            "<path d=\"M{x:.1} {}v14\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            y - 7.0
        ),
        _ if contender.is_ours() => {
            writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.9\"/>"
            )
        }
        _ => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"4\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        ),
    };
}

fn colour(contender: &Contender, report: &Report) -> &'static str {
    match contender.subject {
        Subject::Direct => DIRECT,
        Subject::Rathole => "#0072b2",
        Subject::Bore => "#009e73",
        Subject::Wstunnel => "#56b4e9",
        Subject::Frp => "#999999",
        // On loopback only.
        Subject::RatholeNoise | Subject::RatholeTls | Subject::Nginx | Subject::Quinn => "#000000",
        Subject::Spawnpoint | Subject::Forgetful => {
            let ours: Vec<&Contender> = report.contenders.iter().filter(|known| known.is_ours()).collect();
            let number = ours.iter().position(|known| *known == contender).unwrap_or_default();
            OURS[number % OURS.len()]
        }
    }
}

/// Names of variants come from the command line, so what means something to XML is left out.
fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, text: &str) {
    let text = text.replace(['<', '>', '&'], "?");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_room_for_its_values_and_starts_at_something_round() {
        let axis = Axis::of(&[43.0, 870.0], true);
        assert_eq!((axis.least.round(), axis.most.round()), (10.0, 1000.0));
        assert!(axis.place(43.0) < axis.place(100.0) && axis.place(100.0) < 0.51);
        let axis = Axis::of(&[5.7, 1.0], false);
        assert_eq!((axis.least, axis.most), (0.0, 6.0));
        assert!(Axis::of(&[], true).place(1.0).is_finite());
    }
}

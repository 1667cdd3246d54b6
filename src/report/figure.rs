//! What all figures have in common: curves, colors, layout.
//!
//! Colors of text and lines are such that they can be read on white and on black.

use plotly::common::{Anchor, DashType, Fill, Font, Line, LineShape, Marker, Mode, Orientation};
use plotly::configuration::DisplayModeBar;
use plotly::layout::{Annotation, Axis, Legend, Margin};
use plotly::{Configuration, Layout, Scatter};

/// One line of a panel.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Points,
    pub(super) color: &'static str,
    pub(super) style: Style,
}

/// Places of a curve, from left to right.
pub(super) type Points = Vec<(f64, f64)>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Line,
    Dotted,
    Steps,
    Points,
}

// === impl Curve ===

impl Curve {
    pub(super) fn trace(&self, y_axis: &str, in_legend: bool) -> Box<Scatter<f64, f64>> {
        let (x, y) = self.points.iter().map(|(x, y)| (round(*x), round(*y))).unzip();
        let trace = Scatter::new(x, y).name(&self.name).y_axis(y_axis).show_legend(in_legend);
        let line = Line::new().color(self.color).width(1.6);
        match self.style {
            Style::Points => trace
                .mode(Mode::Markers)
                .marker(Marker::new().color(self.color).size(4).opacity(0.55)),
            Style::Line => trace.mode(Mode::Lines).line(line),
            Style::Dotted => trace.mode(Mode::Lines).line(line.dash(DashType::Dot)),
            Style::Steps => {
                trace.mode(Mode::Lines).line(line.shape(LineShape::Hvh)).fill(Fill::ToZeroY)
            }
        }
    }
}

/// A panel's title, above its left end.
pub(super) fn title(text: &str, y: f64) -> Annotation {
    Annotation::new()
        .text(format!("<b>{text}</b>"))
        .show_arrow(false)
        .x_ref("paper")
        .x(0.0)
        .x_anchor(Anchor::Left)
        .y_ref("paper")
        .y(y)
        .y_anchor(Anchor::Bottom)
}

pub(super) fn layout() -> Layout {
    Layout::new()
        .auto_size(true)
        .paper_background_color(CLEAR)
        .plot_background_color(CLEAR)
        .font(Font::new().family(FONT).size(12).color(TEXT))
        .margin(Margin::new().left(64).right(16).top(8).bottom(40))
        .show_legend(true)
        .legend(
            Legend::new()
                .orientation(Orientation::Horizontal)
                .y(1.0)
                .y_anchor(Anchor::Bottom)
                .x(0.0),
        )
}

pub(super) fn axis() -> Axis {
    Axis::new().grid_color(GRID).zero_line_color(GRID).line_color(GRID).auto_margin(true)
}

pub(super) fn configuration() -> Configuration {
    Configuration::new()
        .responsive(true)
        .display_logo(false)
        .display_mode_bar(DisplayModeBar::False)
}

pub(super) fn y_name(place: usize) -> String {
    if place == 0 { "y".to_owned() } else { format!("y{}", place + 1) }
}

/// The crate has a method for each axis.
pub(super) fn with_y_axis(layout: Layout, place: usize, axis: Axis) -> Layout {
    match place {
        0 => layout.y_axis(axis),
        1 => layout.y_axis2(axis),
        2 => layout.y_axis3(axis),
        3 => layout.y_axis4(axis),
        4 => layout.y_axis5(axis),
        5 => layout.y_axis6(axis),
        6 => layout.y_axis7(axis),
        _ => layout.y_axis8(axis),
    }
}

/// Six digits: the page need not carry sixteen.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(5.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const CLEAR: &str = "rgba(0,0,0,0)";
const TEXT: &str = "#7a828c";
const GRID: &str = "rgba(128,134,144,0.22)";
pub(super) const BLUE: &str = "#3b82f6";
pub(super) const AMBER: &str = "#e08a1e";
pub(super) const RED: &str = "#e5484d";
pub(super) const GREEN: &str = "#2a9d6f";
pub(super) const GRAY: &str = "#8b929c";
/// For what there may be several of.
pub(super) const PALETTE: [&str; 8] =
    [AMBER, BLUE, GREEN, "#9b5de5", RED, "#00a6b8", "#b0742f", GRAY];

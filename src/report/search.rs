//! The page of a search: what was found, every step, and each objective against the load.

use std::fmt::Write as _;

use plotly::Plot;
use plotly::common::Title;
use plotly::layout::{HoverMode, RangeMode};

use crate::results::manifest::Verdict;
use crate::results::search::{SearchRecord, SearchStep};
use crate::results::slo::{Limit, Slo};

use super::chart::Chart;
use super::figure::{
    BLUE, Curve, GREEN, Points, RED, Style, axis, configuration, layout, title, with_y_axis, y_name,
};
use super::html;
use super::table::{Table, none};
use super::units::{count, ns, percent, three};

/// One of several panels above the same axis of loads.
struct Panel {
    title: String,
    curves: Vec<Curve>,
}

/// Returns the page of a search.
#[must_use]
pub fn page(search: &SearchRecord) -> String {
    let mut body = format!(
        "<h1>Search for the highest {}</h1>\n<p class=\"verdict {}\">{}</p>\n<ul>\n",
        html::escape(&search.of),
        if search.end == "found" { "good" } else { "bad" },
        html::escape(&search.words)
    );
    for rule in &search.rules {
        // Writing to a String can't fail.
        let _ = writeln!(body, "<li>{}</li>", html::escape(rule));
    }
    body += "</ul>\n";
    if let Some(chart) = curve(search) {
        body += &html::figure(&chart);
    }
    body += &html::table(&steps(search));
    html::document(&format!("Search for the highest {}", search.of), &body)
}

/// Returns the table of the steps, in the order of the loads.
#[must_use]
pub fn steps(search: &SearchRecord) -> Table {
    let mut head = vec![unit(search).to_owned(), "step".to_owned()];
    head.extend(search.objectives.iter().cloned());
    head.extend(["good", "sent", "verdict", "finding", "folder"].map(str::to_owned));
    Table {
        title: "Steps",
        note:
            "In the order of the loads; a step that is INVALID says nothing, and was tried again."
                .to_owned(),
        head,
        rows: ordered(search).into_iter().map(|step| row(search, step)).collect(),
    }
}

fn row(search: &SearchRecord, step: &SearchStep) -> Vec<String> {
    let mut row = vec![three(step.load), step.step.to_string()];
    row.extend(search.objectives.iter().map(|objective| {
        let judged = step.slo.objectives.iter().find(|judged| judged.objective == *objective);
        judged.map_or_else(none, |judged| match (judged.value_ns, judged.value_share) {
            (Some(value), _) => ns(value),
            (None, Some(share)) => format!("{} %", three(share * 100.0)),
            (None, None) => none(),
        })
    }));
    row.push(step.slo.goodput.as_ref().map_or_else(none, |good| percent(good.good, good.requests)));
    let early = if step.slo.lost.is_some() { " (ended early)" } else { "" };
    row.extend([
        count(step.sent),
        step.verdict.as_str().to_owned(),
        format!("{}{early}", step.finding),
        step.folder.clone(),
    ]);
    row
}

/// Draws each objective and goodput against the load; none without two steps that say something.
fn curve(search: &SearchRecord) -> Option<Chart> {
    let steps: Vec<&SearchStep> =
        ordered(search).into_iter().filter(|step| step.verdict != Verdict::Invalid).collect();
    if steps.len() < 2 {
        return None;
    }
    let mut panels: Vec<Panel> =
        search.objectives.iter().filter_map(|objective| panel(objective, &steps)).collect();
    panels.push(good(&steps, "Good requests, %", |good| Some(good.share? * 100.0)));
    panels.push(good(&steps, "Good requests/s", |good| good.per_s));
    panels.retain(|panel| panel.curves.iter().any(|curve| !curve.points.is_empty()));
    panels.truncate(MOST_PANELS);
    let height = panels.len() * PANEL_HEIGHT + 90;
    let mut plot = Plot::new();
    let mut figure = layout().hover_mode(HoverMode::XUnified);
    let (mut titles, all) = (Vec::new(), to_f64(panels.len()));
    for (place, panel) in panels.iter().enumerate() {
        let top = 1.0 - to_f64(place) / all;
        let domain = [(top - 1.0 / all).max(0.0), top - TITLE_SHARE / all];
        titles.push(title(&panel.title, domain[1]));
        let y = axis().domain(&domain).range_mode(RangeMode::ToZero).n_ticks(4);
        figure = with_y_axis(figure, place, y);
        for curve in &panel.curves {
            plot.add_trace(curve.trace(&y_name(place), false));
        }
    }
    let x = axis()
        .anchor(y_name(panels.len().checked_sub(1)?))
        .range_mode(RangeMode::ToZero)
        .title(Title::with_text(unit(search)));
    plot.set_layout(figure.x_axis(x).annotations(titles));
    plot.set_configuration(configuration());
    Some(Chart {
        title: "",
        note: "Each point is a step; the dotted line is the bound.".to_owned(),
        height,
        html: plot.to_inline_html(Some("search")),
    })
}

/// Draws what was measured for an objective, and its bound.
fn panel(objective: &str, steps: &[&SearchStep]) -> Option<Panel> {
    let (bound, scale, unit) = match objective.parse().ok()? {
        Slo::Each { .. } => return None,
        Slo::All { limit: Limit { at, .. }, .. } => (signed(at) / 1e6, 1e-6, "ms"),
        Slo::Errors { limit } | Slo::Goodput { limit } => (limit.at * 100.0, 100.0, "%"),
    };
    let value = |step: &SearchStep| {
        let judged = step.slo.objectives.iter().find(|judged| judged.objective == objective)?;
        let value = judged.value_ns.map(signed).or(judged.value_share)?;
        Some((step.load, value * scale))
    };
    let points: Points = steps.iter().filter_map(|step| value(step)).collect();
    let bound = points
        .first()
        .zip(points.last())
        .map_or_else(Vec::new, |(first, last)| vec![(first.0, bound), (last.0, bound)]);
    let curve =
        |name: &str, points, color, style| Curve { name: name.to_owned(), points, color, style };
    Some(Panel {
        title: format!("{}, {unit}", html::escape(objective)),
        curves: vec![
            curve("measured", points.clone(), BLUE, Style::Line),
            curve("measured", points, BLUE, Style::Points),
            curve("bound", bound, RED, Style::Dotted),
        ],
    })
}

fn good(
    steps: &[&SearchStep],
    title: &str,
    value: impl Fn(&crate::results::slo::Goodput) -> Option<f64>,
) -> Panel {
    let points: Points = steps
        .iter()
        .filter_map(|step| Some((step.load, value(step.slo.goodput.as_ref()?)?)))
        .collect();
    let curve = |points, style| Curve { name: "good".to_owned(), points, color: GREEN, style };
    Panel {
        title: title.to_owned(),
        curves: vec![curve(points.clone(), Style::Line), curve(points, Style::Points)],
    }
}

fn ordered(search: &SearchRecord) -> Vec<&SearchStep> {
    let mut steps: Vec<&SearchStep> = search.steps.iter().collect();
    steps.sort_by(|a, b| a.load.total_cmp(&b.load).then(a.step.cmp(&b.step)));
    steps
}

fn unit(search: &SearchRecord) -> &'static str {
    if search.of == "concurrency" { "requests in flight" } else { "requests/s" }
}

#[expect(clippy::cast_precision_loss, reason = "axes")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "axes")]
fn signed(ns: i64) -> f64 {
    ns as f64
}

/// The charting crate has so many y axes.
const MOST_PANELS: usize = 8;
const PANEL_HEIGHT: usize = 170;
/// Share of a panel that its title takes.
const TITLE_SHARE: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::slo::{Goodput, Judged, Judgement};

    fn step(number: u32, load: f64, ms: i64) -> SearchStep {
        let judged = Judged {
            objective: "e2e:p95<150ms".to_owned(),
            met: ms < 150,
            rows: 80,
            value_ns: Some(ms * 1_000_000),
            ..Judged::default()
        };
        let goodput = Goodput { requests: 80, good: 78, share: Some(0.975), ..Goodput::default() };
        SearchStep {
            step: number,
            load,
            folder: format!("step-{number:02}-rate-{load}"),
            finding: if ms < 150 { "kept" } else { "missed" }.to_owned(),
            verdict: Verdict::Valid,
            sent: 80,
            slo: Judgement { objectives: vec![judged], goodput: Some(goodput), lost: None },
            ..SearchStep::default()
        }
    }

    #[test]
    fn a_page_has_the_result_the_rules_the_steps_and_the_curve() {
        let search = SearchRecord {
            of: "rate".to_owned(),
            end: "found".to_owned(),
            words: "37.5 <requests> a second".to_owned(),
            objectives: vec!["e2e:p95<150ms".to_owned()],
            rules: vec!["A step ends early.".to_owned()],
            steps: vec![step(1, 30.0, 101), step(2, 60.0, 700), step(3, 45.0, 300)],
            ..SearchRecord::default()
        };
        let page = page(&search);
        for words in
            ["37.5 &lt;requests&gt;", "<li>A step ends early.", "id=\"search\"", "step-03-rate-45"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("<requests>"));
        let loads: Vec<String> = steps(&search).rows.iter().map(|row| row[0].clone()).collect();
        assert_eq!(loads, ["30.0", "45.0", "60.0"]);
        assert!(curve(&SearchRecord { steps: vec![step(1, 1.0, 9)], ..search }).is_none());
    }
}

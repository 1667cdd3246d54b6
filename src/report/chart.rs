//! Charts: figures of the plotly crate, drawn by the library that it brings, which is put into the page.

use plotly::Plot;
use plotly::common::Title;
use plotly::layout::{AxisType, HoverMode, RangeMode};

use super::figure::{
    AMBER, BLUE, Curve, GRAY, GREEN, PALETTE, Points, RED, Style, axis, configuration, layout,
    title, with_y_axis, y_name,
};
use super::machines::{GpuLines, HostBin};
use super::series::{Level, Series};
use super::stats::{Distribution, PerMille};
use super::summary::{Summary, Traffic};

/// A figure and how tall it is.
#[derive(Debug)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// What has to be known to read it.
    pub note: String,
    /// Height in CSS pixels.
    pub height: usize,
    /// Its HTML: a `div` and a script that draws into it.
    pub html: String,
}

/// One of several panels above the same time axis.
struct Panel {
    title: &'static str,
    curves: Vec<Curve>,
}

/// Returns the script that draws all figures, in its element: the one thing they share.
pub(super) fn library() -> String {
    // The crate's text goes on with a library for formulas, which no figure here has.
    let all = Plot::offline_js_sources();
    let end = all.find(SCRIPT_END).map_or(all.len(), |at| at + SCRIPT_END.len());
    all[..end].to_owned()
}

/// Returns the histograms of a run, replayed and recorded in one.
pub(super) fn histograms(summary: &Summary) -> Vec<Chart> {
    let plots = &summary.plots;
    let figures = [
        ("Time to first token", "ttft", &plots.ttft, Some(&plots.recorded_ttft)),
        ("Between frames with content", "gap", &plots.gap, None),
        ("Time per output token", "tpot", &plots.tpot, None),
        ("End to end", "e2e", &plots.e2e, Some(&plots.recorded_e2e)),
    ];
    // Traffic as it was recorded has no due times.
    let name = if plots.lateness.count() > 0 { "replayed" } else { "measured" };
    figures
        .into_iter()
        .filter(|(_, _, replayed, _)| replayed.count() > 1)
        .map(|(title, id, replayed, recorded)| {
            let recorded = recorded.filter(|recorded| recorded.count() > 1);
            let named = recorded
                .map(|recorded| ("recorded".to_owned(), recorded))
                .into_iter()
                .chain([(name.to_owned(), replayed)])
                .collect::<Vec<_>>();
            histogram(title, id, &named)
        })
        .collect()
}

/// Draws the distributions `named` over each other, as shares of their rows.
pub(super) fn histogram(title: &'static str, id: &str, named: &[(String, &Distribution)]) -> Chart {
    let (edges, scale) = edges(named.iter().map(|(_, of)| *of));
    let mut plot = Plot::new();
    for (place, (name, of)) in named.iter().enumerate() {
        let bins = of.histogram(&edges);
        let points = bins.iter().enumerate().map(|(bin, rows)| {
            let middle = f64::midpoint(edges[bin], edges[bin + 1]);
            (middle / 1e6, to_f64(*rows) * 100.0 / to_f64(of.count()))
        });
        let color = if named.len() == 1 { BLUE } else { PALETTE[place % PALETTE.len()] };
        let curve =
            Curve { name: name.clone(), points: points.collect(), color, style: Style::Steps };
        plot.add_trace(curve.trace("y", true));
    }
    let x = axis().type_(scale).title(Title::with_text("ms")).show_grid(false);
    let y = axis().tick_suffix(" %").range_mode(RangeMode::ToZero);
    plot.set_layout(layout().x_axis(x).y_axis(y).hover_mode(HoverMode::XUnified));
    plot.set_configuration(configuration());
    let beyond: u64 =
        named.iter().map(|(_, of)| of.count() - of.histogram(&edges).iter().sum::<u64>()).sum();
    Chart {
        title,
        note: match beyond {
            0 => String::new(),
            1 => "One value lies beyond the axis.".to_owned(),
            _ => format!("{beyond} values lie beyond the axis."),
        },
        height: 260,
        html: plot.to_inline_html(Some(id)),
    }
}

/// Draws everything that changes with time in panels above one time axis; none when there is nothing.
pub(super) fn over_time(summary: &Summary) -> Option<Chart> {
    let mut panels: Vec<Panel> = traffic(summary)
        .into_iter()
        .chain(machines(summary))
        .filter(|panel| panel.curves.iter().any(|curve| !curve.points.is_empty()))
        .collect();
    panels.truncate(MOST_PANELS);
    if panels.is_empty() {
        return None;
    }
    let height = panels.len() * PANEL_HEIGHT + 90;
    let mut plot = Plot::new();
    let mut figure = layout().hover_mode(HoverMode::XUnified);
    let mut titles = Vec::new();
    let count = to_f64(panels.len() as u64);
    for (place, panel) in panels.iter().enumerate() {
        // The first panel is on top. Panels share the x axis, which stands below the last.
        let top = 1.0 - to_f64(place as u64) / count;
        let domain = [(top - 1.0 / count).max(0.0), top - TITLE_SHARE / count];
        titles.push(title(panel.title, domain[1]));
        let y = axis().domain(&domain).range_mode(RangeMode::ToZero).n_ticks(4);
        figure = with_y_axis(figure, place, y);
        for curve in &panel.curves {
            // A panel's title says what its only curve is.
            plot.add_trace(curve.trace(&y_name(place), panel.curves.len() > 1));
        }
    }
    let last = y_name(panels.len() - 1);
    let x = axis().anchor(&last).title(Title::with_text("seconds since the run's start"));
    plot.set_layout(figure.x_axis(x).annotations(titles));
    plot.set_configuration(configuration());
    Some(Chart {
        title: "Over time",
        note: format!(
            "Rates in bins of {} s. Drag to zoom all panels; double click to see all again.",
            summary.plots.traffic.coarser(RATE_BINS).width_s()
        ),
        height,
        html: plot.to_inline_html(Some("time")),
    })
}

fn traffic(summary: &Summary) -> Vec<Panel> {
    let plots = &summary.plots;
    let bins = plots.traffic.coarser(RATE_BINS);
    let width = bins.width_s();
    let line = |name: &str, color, style, value: &dyn Fn(&Traffic) -> f64| {
        let points: Vec<_> = bins.points().map(|(at, bin)| (at, value(bin))).collect();
        let nothing = points.iter().all(|(_, value)| *value == 0.0);
        let points = if nothing { Vec::new() } else { points };
        Curve { name: name.to_owned(), points, color, style }
    };
    let scatter = |name: &str, color, points: &[(f64, f64)]| Curve {
        name: name.to_owned(),
        points: points.to_vec(),
        color,
        style: Style::Points,
    };
    let width_ns = width * 1e9;
    let mut in_flight = vec![line("in flight", BLUE, Style::Line, &|bin| bin.busy_ns / width_ns)];
    in_flight.extend(server(summary, &RUNNING, 1.0, AMBER, Style::Line));
    in_flight.extend(server(summary, &WAITING, 1.0, RED, Style::Dotted));
    vec![
        Panel {
            title: "Requests/s",
            curves: vec![
                line("sent", GRAY, Style::Dotted, &|bin| to_f64(bin.sent) / width),
                line("complete", BLUE, Style::Line, &|bin| to_f64(bin.good) / width),
                line("not good", RED, Style::Line, &|bin| to_f64(bin.bad) / width),
            ],
        },
        Panel {
            title: "Output tokens/s",
            curves: vec![line("output tokens", GREEN, Style::Line, &|bin| {
                bin.output_tokens / width
            })],
        },
        Panel { title: "Requests in flight", curves: in_flight },
        Panel {
            title: "Time to first token, ms",
            curves: vec![scatter("time to first token", BLUE, plots.ttft_points.points())],
        },
        Panel {
            title: "Lateness, ms",
            curves: vec![scatter("lateness", GRAY, plots.lateness_points.points())],
        },
    ]
}

fn machines(summary: &Summary) -> Vec<Panel> {
    let plots = &summary.plots;
    let gpu = |what: &str, style, of: &dyn Fn(&GpuLines) -> &Series<Level>| {
        let colors = PALETTE.iter().skip(1).cycle();
        plots
            .gpus
            .iter()
            .zip(colors)
            .map(|((index, lines), color)| Curve {
                name: format!("GPU {index} {what}"),
                points: means(of(lines), 1.0),
                color,
                style,
            })
            .filter(|curve| !curve.points.is_empty())
            .collect::<Vec<_>>()
    };
    let host = |name: &str, color, level: &dyn Fn(&HostBin) -> &Level| {
        let points = plots.host.points().filter_map(|(at, bin)| Some((at, level(bin).mean()?)));
        Curve { name: name.to_owned(), points: points.collect(), color, style: Style::Line }
    };
    let mut busy = gpu("busy", Style::Line, &|lines| &lines.utilization_pct);
    busy.extend(gpu("memory", Style::Dotted, &|lines| &lines.memory_pct));
    busy.extend(server(summary, &["DCGM_FI_DEV_GPU_UTIL"], 1.0, AMBER, Style::Line));
    busy.extend(server(summary, &CACHE, 100.0, GREEN, Style::Dotted));
    vec![
        Panel { title: "GPU and cache, %", curves: busy },
        Panel { title: "GPU power, W", curves: gpu("power", Style::Line, &|lines| &lines.power_w) },
        Panel {
            title: "CPU of the machine that ran reenact, %",
            curves: vec![
                host("all CPUs", GRAY, &|bin| &bin.cpu_pct),
                host("this process (100 % is one CPU)", BLUE, &|bin| &bin.process_cpu_pct),
            ],
        },
    ]
}

/// The first of the server's metrics `names` that is in the run: a curve for each target and set of labels.
fn server(
    summary: &Summary,
    names: &[&str],
    factor: f64,
    color: &'static str,
    style: Style,
) -> Vec<Curve> {
    let all = &summary.plots.server;
    let of = |name: &str| all.iter().filter(|((found, _), _)| found == name).collect::<Vec<_>>();
    let Some(found) = names.iter().map(|name| of(name)).find(|found| !found.is_empty()) else {
        return Vec::new();
    };
    let one = found.len() == 1;
    found
        .into_iter()
        .map(|((name, of), series)| Curve {
            name: if one { name.clone() } else { format!("{name} {of}") },
            points: means(series, factor),
            color,
            style,
        })
        .collect()
}

fn means(series: &Series<Level>, factor: f64) -> Points {
    series.points().filter_map(|(at, level)| Some((at, level.mean()? * factor))).collect()
}

/// Returns at most 48 bins from about the 5th percentile to just above the 99th of all, and whether their widths grow.
fn edges<'of>(all: impl Iterator<Item = &'of Distribution>) -> (Vec<f64>, AxisType) {
    let (mut low, mut high, mut rows) = (f64::INFINITY, 0.0_f64, u64::MAX);
    for of in all {
        let mut of = of.clone();
        rows = rows.min(of.count());
        let spread = of.spread();
        let top = of.quantile(PerMille(990)).or(spread.max).unwrap_or(0);
        // A few tiny values must neither stretch the axis nor make it logarithmic.
        let bottom = of.quantile(PerMille(50)).or(spread.min).unwrap_or(0);
        low = low.min(signed(bottom));
        high = high.max(signed(top).mul_add(1.1, 1.0).min(signed(spread.max.unwrap_or(0)) + 1.0));
    }
    let low = low.min(high - 1.0).max(0.0);
    // About three times the cube root: fewer rows are not shown finer than they are.
    let bins =
        (1..=MOST_BINS).find(|bins| bins.pow(3) >= rows.saturating_mul(27)).unwrap_or(MOST_BINS);
    let steps = 0..=bins;
    if low >= 1.0 && high / low > 100.0 {
        let ratio = (high / low).ln();
        let edge = |step: u64| low * (ratio * to_f64(step) / to_f64(bins)).exp();
        return (steps.map(edge).collect(), AxisType::Log);
    }
    let low = if low < high / 2.0 { 0.0 } else { low - (high - low) * 0.15 };
    let edge = |step: u64| low + (high - low) * to_f64(step) / to_f64(bins);
    (steps.map(edge).collect(), AxisType::Linear)
}

#[expect(clippy::cast_precision_loss, reason = "axes")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "axes")]
fn signed(ns: i64) -> f64 {
    ns as f64
}

const SCRIPT_END: &str = "</script>";
/// Most bins of a histogram.
const MOST_BINS: u64 = 48;
/// Most points of a line of rates: more are noise.
const RATE_BINS: usize = 60;
/// The crate has so many y axes.
const MOST_PANELS: usize = 8;
const PANEL_HEIGHT: usize = 160;
/// Share of a panel that its title takes.
const TITLE_SHARE: f64 = 0.2;
const RUNNING: [&str; 4] = [
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "tgi_batch_current_size",
];
const CACHE: [&str; 3] =
    ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"];
const WAITING: [&str; 4] = [
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
    "tgi_queue_size",
];

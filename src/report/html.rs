//! A report as one HTML page that needs nothing else: styles, figures and the library that draws them are inside.

use std::fmt::Write as _;

use crate::results::manifest::Verdict;

use super::chart::{self, Chart};
use super::summary::Summary;
use super::table::{NONE, Table};
use super::tables;
use super::units::{count, ns, percent, seconds, three};
use super::warnings::Warning;

/// Returns the page of a run: `report.html`.
#[must_use]
pub fn page(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    let mut body = head(summary);
    body += &doubts(&summary.warnings);
    body += &cards(summary);
    let histograms = chart::histograms(summary);
    if !histograms.is_empty() {
        body += "<h2>Distributions</h2>\n<p class=\"note\">Shares of the rows that each is taken over; the table below \
                 says how many.</p>\n<div class=\"two\">\n";
        body.extend(histograms.iter().map(figure));
        body += "</div>\n";
    }
    let tables = tables::all(summary);
    let (first, rest) = tables.split_at(usize::from(summary.counts.rows > 0).min(tables.len()));
    body.extend(first.iter().map(table));
    if let Some(time) = chart::over_time(summary) {
        let _ =
            write!(body, "<h2>{}</h2>\n<p class=\"note\">{}</p>\n", time.title, escape(&time.note));
        body += &figure(&Chart { title: "", note: String::new(), ..time });
    }
    body.extend(rest.iter().map(table));
    document(&format!("Run {}", manifest.run), &body)
}

/// Returns a whole document with `body` in it.
#[must_use]
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; \
         style-src 'unsafe-inline'; img-src data: blob:\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n{}\n</head>\n<body>\n<main>\n{body}\
         <footer>Made by reenact {} from the run folder alone.</footer>\n</main>\n</body>\n</html>\n",
        escape(title),
        chart::library(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Returns a table with its title and note.
#[must_use]
pub fn table(table: &Table) -> String {
    let words = if table.head.len() == 2 { " class=\"words\"" } else { "" };
    let mut html = format!("<section>\n<h2>{}</h2>\n", escape(table.title));
    if !table.note.is_empty() {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&table.note));
    }
    let _ = writeln!(html, "<div class=\"wide\"><table{words}>");
    let class = |column| if table.is_words(column) { " class=\"w\"" } else { "" };
    if table.has_head() {
        html += "<thead><tr>";
        for (column, name) in table.head.iter().enumerate() {
            let _ = write!(html, "<th{}>{}</th>", class(column), escape(name));
        }
        html += "</tr></thead>\n";
    }
    html += "<tbody>\n";
    for row in &table.rows {
        html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(column), escape(cell));
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n</section>\n";
    html
}

/// Returns a figure with its title and note.
#[must_use]
pub fn figure(chart: &Chart) -> String {
    let title =
        if chart.title.is_empty() { String::new() } else { format!("<h3>{}</h3>", chart.title) };
    let note = if chart.note.is_empty() {
        String::new()
    } else {
        format!("<figcaption>{}</figcaption>", escape(&chart.note))
    };
    format!(
        "<figure>{title}<div style=\"height:{}px\">{}</div>{note}</figure>\n",
        chart.height, chart.html
    )
}

/// Makes text safe inside an element or a quoted attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Makes what stands between backticks code.
fn code(html: &str) -> String {
    let parts = html.split('`').enumerate();
    parts
        .map(
            |(place, part)| {
                if place % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }
            },
        )
        .collect()
}

fn head(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    let verdict = tables::verdict(summary);
    let class = match summary.verdict {
        Verdict::Invalid => "bad",
        Verdict::Doubtful => "fair",
        Verdict::Valid => "good",
    };
    let targets: Vec<&str> = manifest.targets.iter().map(|target| target.url.as_str()).collect();
    let facts = [
        ("started", manifest.started.clone()),
        ("lasted", seconds(manifest.duration_s)),
        ("trace", manifest.trace.path.clone()),
        ("targets", targets.join(", ")),
    ];
    let mut html = format!(
        "<p class=\"verdict {class}\">{}</p>\n<h1>Run {}</h1>\n<p class=\"facts\">",
        escape(&verdict),
        escape(&manifest.run)
    );
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(html, "<span>{name} <b>{}</b></span> ", escape(value));
    }
    html += "</p>\n";
    html
}

fn doubts(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let mut html = String::from("<ul class=\"doubts\">\n");
    for warning in warnings {
        let weight = warning.weight().as_str();
        let _ = writeln!(
            html,
            "<li class=\"{weight}\"><b>{weight}</b> {}</li>",
            code(&escape(&warning.to_string()))
        );
    }
    html += "</ul>\n";
    html
}

/// The numbers that are asked for first.
fn cards(summary: &Summary) -> String {
    let (counts, rates, latency) = (&summary.counts, &summary.rates, &summary.latencies);
    if counts.rows == 0 {
        return String::new();
    }
    let some = |value: Option<i64>| value.map_or_else(|| NONE.to_owned(), ns);
    let rate = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), three);
    let tail = |spread: &super::stats::Spread| match (spread.p99, spread.max) {
        (Some(p99), _) => format!("p99 {}", ns(p99)),
        (None, Some(max)) => format!("max {}", ns(max)),
        (None, None) => String::new(),
    };
    let recorded = |spread: &super::stats::Spread| {
        spread.p50.map_or_else(String::new, |p50| format!(" · recorded {}", ns(p50)))
    };
    let typical = |spread: &super::stats::Spread| some(spread.p50.or(spread.max));
    let all = [
        ("requests", count(counts.rows), format!("{} good", percent(counts.good, counts.rows))),
        (
            "requests/s",
            rate(rates.requests_per_s),
            format!("{} in flight", rate(rates.concurrency_mean)),
        ),
        (
            "output tokens/s",
            rate(rates.output_tokens_per_s),
            format!("{} in all", count(counts.output_tokens)),
        ),
        (
            "first token, p50",
            typical(&latency.ttft),
            format!("{}{}", tail(&latency.ttft), recorded(&latency.recorded_ttft)),
        ),
        ("frame gap, p50", typical(&latency.gap), tail(&latency.gap)),
        (
            "end to end, p50",
            typical(&latency.e2e),
            format!("{}{}", tail(&latency.e2e), recorded(&latency.recorded_e2e)),
        ),
        ("lateness, p50", typical(&latency.lateness), tail(&latency.lateness)),
    ];
    let mut html = String::from("<div class=\"cards\">\n");
    for (name, value, below) in all {
        let _ = writeln!(
            html,
            "<div><span>{name}</span><b>{}</b><small>{}</small></div>",
            escape(&value),
            escape(&below)
        );
    }
    html += "</div>\n";
    html
}

/// The page's style, for light and dark.
const STYLE: &str = include_str!("report.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        assert_eq!(code("say `a` or `b`."), "say <code>a</code> or <code>b</code>.");
    }

    #[test]
    fn the_library_is_one_script() {
        let library = chart::library();
        assert!(library.starts_with("<script") && library.ends_with("</script>"));
        assert_eq!(library.matches("</script>").count(), 1);
        assert!(library.contains("Plotly") && !library.contains("MathJax ="));
    }
}

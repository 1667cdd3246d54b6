//! A report for the terminal, and as Markdown.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, TableComponent};

use super::objectives::OBJECTIVES;
use super::summary::Summary;
use super::table::Table;
use super::tables::{STAGES, all, verdict};

/// Writes the short report for a terminal: verdict, doubts, latency, throughput, errors.
#[must_use]
pub fn terminal(summary: &Summary, width: Option<u16>) -> String {
    let mut text = vec![verdict(summary), "\n".to_owned()];
    for warning in &summary.warnings {
        text.push(format!("\n{}: {warning}\n", warning.weight().as_str()));
    }
    let tables = if summary.counts.rows > 0 {
        all(summary).into_iter().filter(|table| TERMINAL.contains(&table.title)).collect()
    } else {
        all(summary)
    };
    for table in tables {
        text.push(format!("\n{}\n{}\n", table.title, grid(&table, width)));
    }
    text.concat()
}

/// Writes the whole report as Markdown: `summary.md`.
#[must_use]
pub fn markdown(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    let mut text =
        vec![format!("**{}**\n\n# Run {}\n\n", escape(&verdict(summary)), escape(&manifest.run))];
    if !summary.warnings.is_empty() {
        text.push("## Doubts\n\n".to_owned());
        for warning in &summary.warnings {
            let weight = warning.weight().as_str();
            text.push(format!("- {weight}: {}\n", escape(&warning.to_string())));
        }
        text.push("\n".to_owned());
    }
    for table in all(summary) {
        text.push(markdown_table(&table));
    }
    text.concat()
}

/// Writes one table as Markdown, its title and note before it.
#[must_use]
pub fn markdown_table(table: &Table) -> String {
    let mut text = vec![format!("## {}\n\n", table.title)];
    if !table.note.is_empty() {
        text.push(format!("{}\n\n", escape(&table.note)));
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    text.push(line(&table.head));
    let rule = |column: usize| if table.is_words(column) { " --- |" } else { " ---: |" };
    let rules: String = (0..table.head.len()).map(rule).collect();
    text.push(format!("|{rules}\n"));
    for row in &table.rows {
        text.push(line(row));
    }
    text.push("\n".to_owned());
    text.concat()
}

/// Draws a table for a terminal of `width` columns; as wide as it needs without one.
#[must_use]
pub fn grid(table: &Table, width: Option<u16>) -> String {
    let mut grid = comfy_table::Table::new();
    grid.load_preset(NOTHING);
    grid.set_style(TableComponent::HeaderLines, '─');
    grid.set_style(TableComponent::MiddleHeaderIntersections, '─');
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    if table.has_head() {
        grid.set_header(&table.head);
    }
    for row in &table.rows {
        grid.add_row(row);
    }
    for (place, column) in grid.column_iter_mut().enumerate() {
        if !table.is_words(place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid.to_string()
}

/// What Markdown would take for markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '<' | '[' | '\\' => escaped.extend(['\\', c]),
            '\n' | '\r' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Tables that the terminal shows; the files have all.
const TERMINAL: [&str; 9] = [
    "Latency",
    "Throughput",
    STAGES,
    "Outcomes",
    OBJECTIVES,
    "Errors",
    "Right answers",
    "First differences",
    "GPUs",
];

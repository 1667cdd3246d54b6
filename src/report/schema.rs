//! The schema of the run folder, as `reenact report --schema` prints it.

use crate::results::manifest::SCHEMA_VERSION;
use crate::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use crate::results::table::Row;

/// Returns all tables with their columns, types and documentation, as Markdown.
#[must_use]
pub fn markdown() -> String {
    [
        format!(
            "Schema {SCHEMA_VERSION} of a run folder. Times `.._ns` are nanoseconds since the run's start, `.._at` UTC. A \
             value that is not known is NULL, never zero.\n"
        ),
        table::<Measurement>(),
        table::<FrameRow>(),
        table::<GpuSample>(),
        table::<HostSample>(),
        table::<ServerMetric>(),
    ]
    .concat()
}

fn table<R: Row>() -> String {
    let mut text = vec![format!(
        "\n## {}.parquet\n\n{}\n\n| column | type | meaning |\n| --- | --- | --- |\n",
        R::TABLE,
        R::DOC
    )];
    text.extend(R::COLUMNS.iter().map(|column| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("| {} | {}{null} | {} |\n", column.name, column.kind.sql(), column.doc)
    }));
    text.concat()
}

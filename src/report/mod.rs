//! Reports: what a run folder says, for people. They depend on the folder alone.
//!
//! `gather` reads the folder once, row by row, into a [`summary::Summary`] whose size does not depend on the run's. From
//! that, `tables` makes the tables that [`text`] and [`html`] write, `chart` the figures, and `doubts` every reason to
//! mistrust the numbers. [`compare`] puts runs beside each other, and [`noise`] says which differences mean nothing.
//!
//! Reading order: [`summary`], [`stats`], [`warnings`], then the rest.

mod answers;
mod chart;
pub mod compare;
mod counting;
mod doubts;
mod figure;
mod gather;
pub mod html;
mod machines;
mod mirror;
pub mod noise;
mod objectives;
pub mod schema;
pub mod search;
mod series;
mod setup;
pub mod stats;
pub mod summary;
mod table;
mod tables;
pub mod text;
pub mod units;
pub mod warnings;
mod write;

pub use gather::{gather, rows};
pub use table::Table;
pub use tables::verdict;
pub use write::{HTML, MARKDOWN, ReportError, write};

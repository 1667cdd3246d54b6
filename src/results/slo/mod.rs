//! Service level objectives: what a run is to keep, and goodput, the share of its requests that keep it one by one.
//!
//! | text | what it asks |
//! |---|---|
//! | `ttft:p99<500ms` | the 99th percentile of time to first token is below 500 ms |
//! | `e2e:mean<=2s`, `e2e:max<10s` | the same of a mean, of the largest |
//! | `ttft<500ms` | nothing of the run, but a bound that each request has to keep to count as good |
//! | `errors<1%` | fewer than one request in a hundred fails or is answered with an error |
//! | `goodput>95%` | more than 95 % of the requests keep every bound |
//!
//! Metrics are columns of the row: `ttft`, `ttft_due`, `tpot` and `itl` (the mean gap of a response) of streamed requests,
//! `e2e` and `e2e_due` of all. Percentiles, means and the largest are taken over the requests that were complete and without
//! error and have the metric, percentiles exactly: the value of rank ceil(q n) of n, counted from 1 (nearest rank).
//!
//! The requests that count: all rows but those of the warm-up, those that were cancelled (as recorded, or by an interrupt),
//! and errors that were recorded with the same status (the right answer to what was asked). A request is good when it was
//! complete, without error, and below the bound of each metric that it has; with several bounds on one metric the loosest
//! holds. That is goodput as DistServe defines it and vLLM's benchmark counts it, but requests that failed stay in the
//! denominator of the share.

mod judgement;
mod meter;
mod objective;
mod text;

pub use judgement::{Goodput, Judged, Judgement};
pub use meter::Meter;
pub use objective::{Limit, Metric, Slo, Slos, Statistic};

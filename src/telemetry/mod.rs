//! Telemetry: what the GPUs, the machine and the server said while requests ran, on the requests' own clock.
//!
//! [`start`] looks for what there is to sample and gives each source a thread of its own, so that a slow one holds up no
//! other: one for each GPU (`nvml.rs`, `amdgpu.rs`), one for the machine and this process (`host.rs`), one for each metrics
//! page (`prometheus.rs`). Readings are due at whole multiples of the period since the clock's origin; one that is late
//! does not move the next, and one that is missed is counted. Readings go to the sink, which must not wait.
//!
//! A source that is not there is a sentence in [`Running::notes`], never an error.

mod amdgpu;
mod host;
mod nvml;
mod prometheus;
mod sampler;

pub use host::machine;
pub use prometheus::{Metric, parse};
pub use sampler::{Options, Running, start};

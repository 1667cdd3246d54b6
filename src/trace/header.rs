//! What stands at the start of every segment.

use crate::clock::Anchor;
use crate::trace::mark::PolicyMark;

/// What stands at the start of every segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random, the same in all segments of a trace.
    pub trace: [u8; 16],
    /// Number of the segment, from 0.
    pub segment: u32,
    /// The wall clock at the trace's time zero.
    pub anchor: Anchor,
    /// The unit of frame stamps, in nanoseconds.
    pub tick_ns: u32,
    /// Program and version that wrote it.
    pub tool: String,
    /// The address that was listened on.
    pub listen: String,
    /// Base URLs of the upstreams, without credentials.
    pub upstreams: Vec<String>,
    /// Names of the header fields and query parameters whose values were replaced.
    pub redacted: Vec<String>,
    /// The share of exchanges that sampling kept, in parts per million: each one kept stands for 1,000,000 / this many.
    pub sampled_ppm: u32,
    /// The policy that decided what is in it, if there was one beside the names above.
    pub policy: Option<PolicyMark>,
}

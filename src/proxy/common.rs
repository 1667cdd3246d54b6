//! What all exchanges of a proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::proxy::metrics::Metrics;
use crate::proxy::queue::Feed;
use crate::trace::redact::Redactor;

/// Where exchanges are recorded and counted.
pub struct Common {
    /// The recorder.
    pub feed: Feed,
    /// The counts.
    pub metrics: Metrics,
    redactor: ArcSwap<Redactor>,
    stopping: AtomicBool,
}

// === impl Common ===

impl Common {
    /// Begins with nothing counted.
    #[must_use]
    pub fn new(feed: Feed, redactor: Redactor) -> Self {
        Self {
            feed,
            metrics: Metrics::default(),
            redactor: ArcSwap::from_pointee(redactor),
            stopping: AtomicBool::new(false),
        }
    }

    /// Returns the clock of the trace.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.feed.clock()
    }

    /// Returns what replaces credentials in an exchange that begins now.
    #[must_use]
    pub fn redactor(&self) -> Arc<Redactor> {
        self.redactor.load_full()
    }

    /// Has credentials replaced by `redactor` in exchanges that begin from now on.
    pub fn set_redactor(&self, redactor: Redactor) {
        self.redactor.store(Arc::new(redactor));
    }

    /// Says that it is the proxy that drops exchanges from now on, since it stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

//! From the open listeners to the last connection: what happens while a recording runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::server::{self, ServerOptions};
use crate::http::side::SideListener;
use crate::proxy::{Admin, Feed, Phase, Proxy};

use super::reload::Reload;
use super::words::{say, tell, watch};
use super::{admin, supervisor};

/// What serves.
pub(super) struct Serving<'a> {
    pub(super) listener: TcpListener,
    /// Where those who look after the process are answered.
    pub(super) side: Option<SideListener>,
    pub(super) options: ServerOptions,
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) admin: Admin,
    pub(super) reload: Reload<'a>,
    /// The number of signals to end.
    pub(super) signals: watch::Receiver<u8>,
    pub(super) drain: Duration,
}

// === impl Serving ===

impl Serving<'_> {
    /// Serves until told to stop, and to the end of what is then under way.
    pub(super) async fn run(self, feed: Feed) {
        let Self { listener, side, options, proxy, admin, reload, signals, drain } = self;
        let admin = Arc::new(admin);
        // Ends with this function.
        let mut beside = JoinSet::new();
        if let Some(side) = side {
            beside.spawn(admin::serve(side, Arc::clone(&admin)));
        }
        beside.spawn(tell(feed.clone()));
        beside.spawn(watch(feed));
        tokio::select! {
            () = serve(listener, options, proxy, signals, drain, &admin) => {}
            () = reload.at_hangup() => {}
        }
    }
}

/// Serves until told to stop.
async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    proxy: &Arc<Proxy>,
    mut signals: watch::Receiver<u8>,
    drain: Duration,
    admin: &Admin,
) {
    admin.enter(Phase::Ready);
    supervisor::tell("READY=1");
    let making = Arc::clone(proxy);
    let mut again = signals.clone();
    let shutdown = async {
        // The sender lives as long as the runtime.
        let _signal = signals.wait_for(|count| *count >= 1).await;
        admin.enter(Phase::Draining);
        supervisor::tell("STOPPING=1");
    };
    let give_up = async {
        say("finishing what is under way; a second signal ends at once");
        let _signal = tokio::time::timeout(drain, again.wait_for(|count| *count >= 2)).await;
        proxy.break_off();
    };
    let make = move |accepted| making.service(accepted);
    let drained = server::run_until(listener, options, make, shutdown, give_up).await;
    if drained.dropped > 0 {
        say(&format!("{} connections were not done and have been closed", drained.dropped));
    }
    let patience = if drained.dropped > 0 { Duration::ZERO } else { drain };
    let _in_time = tokio::time::timeout(patience, proxy.tunnels_closed()).await;
    proxy.break_off();
}

/// Counts Ctrl-C and SIGTERM from now on; the end of `duration` counts as the first. Must be called within a runtime.
///
/// # Errors
/// The signals can't be waited for.
pub(super) fn signals(duration: Option<Duration>) -> anyhow::Result<watch::Receiver<u8>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C can't be waited for")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be waited for")?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let over = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
        let mut over = std::pin::pin!(over);
        let mut is_over = duration.is_none();
        loop {
            tokio::select! {
                () = &mut over, if !is_over => is_over = true,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            count.send_modify(|count| *count = u8::saturating_add(*count, 1));
        }
    });
    Ok(counted)
}

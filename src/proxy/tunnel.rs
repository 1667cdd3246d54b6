//! What two sides say to each other after an upgrade: copied both ways as it comes, and recorded as frames: of a
//! WebSocket one for each of its frames, stamped when its last byte was read and when that was written; of anything else
//! one for each read.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::clock::{Clock, Nanos};
use crate::http::drain::Piece;
use crate::proxy::exchange::Ledger;
use crate::proxy::side_tap::SideTap;
use crate::proxy::websocket::Cutter;
use crate::trace::record::{Fault, FaultKind, FaultSide, Side};

/// What is spoken in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    WebSocket,
    Other,
}

/// Records one direction.
struct Watch {
    tap: SideTap,
    cutter: Option<Cutter>,
    clock: Clock,
    /// When what was read last was read, and written.
    last: (Nanos, Nanos),
}

/// Why one direction broke: the side that it comes from, or the one that it goes to.
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// How much is read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Copies until both sides have ended, or one has failed.
pub(super) async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    protocol: Protocol,
    ledger: Arc<Ledger>,
    clock: Clock,
) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            let text = format!("the upgrade did not come about: {error}");
            ledger.fault(Fault { side: FaultSide::Client, kind: FaultKind::Disconnected, text });
            return;
        }
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let up = Watch::new(Arc::clone(&ledger), Side::Request, protocol, clock);
    let down = Watch::new(ledger, Side::Response, protocol, clock);
    // The first failure ends both: what is dropped with it was cancelled, and closes its sockets.
    let _failed =
        tokio::try_join!(copy(from_client, to_upstream, up), copy(from_upstream, to_client, down),);
}

/// Copies one direction to its end.
async fn copy(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    mut watch: Watch,
) -> Result<(), ()> {
    let copied = copy_watched(&mut from, &mut to, &mut watch).await;
    let is_fine = copied.is_ok();
    watch.finish(copied.err());
    if is_fine { Ok(()) } else { Err(()) }
}

async fn copy_watched(
    from: &mut ReadHalf<TokioIo<Upgraded>>,
    to: &mut WriteHalf<TokioIo<Upgraded>>,
    watch: &mut Watch,
) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        if from.read_buf(&mut buffer).await.map_err(Broken::From)? == 0 {
            return to.shutdown().await.map_err(Broken::To);
        }
        let at = watch.clock.now();
        let data = buffer.split().freeze();
        to.write_all(&data).await.map_err(Broken::To)?;
        to.flush().await.map_err(Broken::To)?;
        watch.passed(data, at);
    }
}

// === impl Watch ===

impl Watch {
    fn new(ledger: Arc<Ledger>, side: Side, protocol: Protocol, clock: Clock) -> Self {
        let cutter = (protocol == Protocol::WebSocket).then(|| Cutter::new(side));
        let now = clock.now();
        Self { tap: SideTap::new(ledger, side), cutter, clock, last: (now, now) }
    }

    /// Records what was read at `at` and has been written.
    fn passed(&mut self, data: Bytes, at: Nanos) {
        let accepted = self.clock.now();
        self.last = (at, accepted);
        match &mut self.cutter {
            Some(cutter) => {
                cutter.push(data, |piece| self.tap.pass_part(Piece::Shared(&piece), at, accepted));
            }
            None => self.tap.pass_part(Piece::Shared(&data), at, accepted),
        }
    }

    /// Records the end, and what had come of a frame by then.
    fn finish(mut self, broken: Option<Broken>) {
        self.pass_rest();
        let side = self.tap.side();
        let fault = broken.map(|broken| {
            let (is_clients, error) = match broken {
                Broken::From(error) => (side == Side::Request, error),
                Broken::To(error) => (side == Side::Response, error),
            };
            let (side, kind) = if is_clients {
                (FaultSide::Client, FaultKind::Disconnected)
            } else {
                (FaultSide::Server, FaultKind::Closed)
            };
            Fault { side, kind, text: format!("the tunnel broke: {error}") }
        });
        self.tap.finish(fault, self.clock.now());
    }

    fn pass_rest(&mut self) {
        if let Some(rest) = self.cutter.as_mut().and_then(Cutter::finish) {
            let (at, accepted) = self.last;
            self.tap.pass_part(Piece::Shared(&rest), at, accepted);
        }
    }
}

impl Drop for Watch {
    /// The other direction broke: what had come of a frame is recorded all the same.
    fn drop(&mut self) {
        self.pass_rest();
    }
}

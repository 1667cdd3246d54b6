//! What two sides say to each other after an upgrade: copied both ways as it comes, and recorded as frames.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::clock::Clock;
use crate::proxy::exchange::{Kept, Ledger, SideTap};
use crate::trace::record::{Fault, FaultKind, FaultSide, Side};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Copies until both sides have ended, or one has failed.
pub(super) async fn run(client: OnUpgrade, upstream: OnUpgrade, ledger: Arc<Ledger>, clock: Clock) {
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
    let up = SideTap::new(Arc::clone(&ledger), Side::Request);
    let down = SideTap::new(ledger, Side::Response);
    // The first failure ends both: what is dropped with it was cancelled, and closes its sockets.
    let _failed = tokio::try_join!(
        copy(from_client, to_upstream, up, clock),
        copy(from_upstream, to_client, down, clock),
    );
}

async fn copy(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    mut tap: SideTap,
    clock: Clock,
) -> io::Result<()> {
    let copied = copy_watched(&mut from, &mut to, &mut tap, clock).await;
    let fault = copied.as_ref().err().map(|error| Fault {
        side: FaultSide::Client,
        kind: FaultKind::Disconnected,
        text: format!("the tunnel broke: {error}"),
    });
    tap.finish(fault, clock.now());
    copied
}

async fn copy_watched(
    from: &mut ReadHalf<TokioIo<Upgraded>>,
    to: &mut WriteHalf<TokioIo<Upgraded>>,
    tap: &mut SideTap,
    clock: Clock,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        let at = clock.now();
        let data = buffer.split().freeze();
        to.write_all(&data).await?;
        to.flush().await?;
        tap.pass(Kept::Large(data), at, clock.now());
    }
}

//! A request body on its way to the upstream, for which it is not waited for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::trace::record::{Fault, FaultKind, FaultSide};

pin_project! {
    /// A body that fails when it is asked for more and nothing comes for too long.
    pub(super) struct Upload<B> {
        #[pin]
        inner: B,
        limit: Duration,
        // Runs while something is waited for.
        waiting: Option<Pin<Box<Sleep>>>,
    }
}

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client's connection or stream.
    #[error("{0}")]
    Broken(#[source] hyper::Error),
    /// The client sent nothing.
    #[error("the client sent nothing of its request body for {} ms", .0.as_millis())]
    Stalled(Duration),
}

// === impl Upload ===

impl<B> Upload<B> {
    pub(super) fn new(inner: B, limit: Duration) -> Self {
        Self { inner, limit, waiting: None }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error>> Body for Upload<B> {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.project();
        if let Poll::Ready(polled) = this.inner.poll_frame(cx) {
            *this.waiting = None;
            return Poll::Ready(polled.map(|frame| frame.map_err(UploadError::Broken)));
        }
        let limit = *this.limit;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(UploadError::Stalled(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl UploadError ===

impl UploadError {
    /// Says it in the trace's words: whatever breaks a request body is the client.
    pub(super) fn fault(&self) -> Fault {
        let (kind, text) = match self {
            Self::Broken(error) => {
                (FaultKind::Disconnected, format!("the client broke off its request: {error}"))
            }
            Self::Stalled(_) => (FaultKind::Timeout, self.to_string()),
        };
        Fault { side: FaultSide::Client, kind, text }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_frame_gives_a_body_more_time_and_silence_ends_it() {
        let clock = crate::clock::Clock::start();
        let (sender, mut receiver) = mpsc::channel(1);
        let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut upload = Upload::new(StreamBody::new(frames), Duration::from_secs(3));
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                sender.send(Ok(Frame::data(Bytes::from("x")))).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        for _ in 0..5 {
            upload.frame().await.unwrap().unwrap();
        }
        let error = upload.frame().await.unwrap().unwrap_err();
        assert_eq!(error.fault().kind, FaultKind::Timeout);
        assert_eq!(clock.now().0, 13_000_000_000);
    }
}

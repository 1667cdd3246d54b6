//! Bodies at the client's two ends: a request's, boxed and watched, and a response's, which drives its connection.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use crate::clock::Nanos;
use crate::http::chunks::{Chunks, Step};
use crate::http::drain::{self, Drain, Drained, Handed};
use crate::http::error::{classify, describe};
use crate::http::pool::{Lease, Pooled};
use crate::http::wakes;
use crate::trace::record::FaultKind;

/// A response body.
///
/// Over HTTP/1.1 reading it drives the connection: several frames that are ready leave in one go, and no second task is
/// woken. At its end the connection goes back to the pool. Dropping it before closes the connection (HTTP/1.1) or resets
/// the stream (HTTP/2) at once.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Reads the body while it is plain chunks.
    chunks: Option<Box<Chunks>>,
    /// When the bytes of the last frame, or of the head, came in.
    read_at: Option<Nanos>,
}

/// Why a response body ended early.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct BodyError {
    /// What kind of fault.
    pub kind: FaultKind,
    /// The error with its causes, for people.
    pub text: String,
}

/// A request body of any type. Says when hyper is done with it.
pub(super) struct RequestBody {
    inner: Option<UnsyncBoxBody<Bytes, BoxError>>,
    done: Done,
}

/// Whether a request's body has been handed over in full, or given up.
#[derive(Clone, Debug)]
pub(super) struct Done(Option<Arc<AtomicBool>>);

/// Longest frame of which a copy is kept rather than a reference, by whoever keeps it: half of the buffer that hyper reads into.
/// By reference it would keep the whole buffer alive, and the connection could not use that again.
pub const COPY_UP_TO: usize = 4 << 10;

/// Any error that can cross a thread.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

// === impl ResponseBody ===

impl ResponseBody {
    /// Takes a body and the connection that its reader has to drive; none for one that drives itself.
    pub(super) fn new(incoming: Incoming, lease: Option<Lease>, is_chunked: bool) -> Self {
        let is_chunked = is_chunked && !incoming.is_end_stream();
        let chunks = lease.as_ref().and_then(|lease| lease.part(is_chunked)).map(Box::new);
        let mut body = Self { incoming, lease, chunks, read_at: None };
        body.mark();
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// Returns when the bytes of the last frame that was handed out, or of the head before the first, were read from the
    /// connection: not when somebody had parsed them. None over HTTP/2, whose frames are read for all exchanges by a task
    /// of the connection's, and where reads are not stamped.
    #[must_use]
    pub fn read_at(&self) -> Option<Nanos> {
        self.read_at
    }

    fn mark(&mut self) {
        if let Some(lease) = &mut self.lease {
            self.read_at = lease.connection().read.at();
        }
    }

    /// Takes what came of a body of chunks; returns it, unless hyper goes on.
    fn take_step(&mut self, step: Step) -> Option<Result<Frame<Bytes>, BodyError>> {
        match step {
            Step::Data(data) => {
                self.mark();
                Some(Ok(Frame::data(data)))
            }
            Step::Malformed => {
                (self.chunks, self.lease) = (None, None);
                Some(Err(BodyError::malformed_chunk()))
            }
            Step::Back => {
                if let Some(chunks) = self.chunks.take() {
                    chunks.give_back();
                }
                None
            }
        }
    }

    /// Gives the connection back, if it is in a state to serve another request; closes it otherwise.
    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }

    /// Polls the connection, then the body.
    ///
    /// The body is polled with a waker that does nothing: only the connection can fill it, and that is polled here,
    /// with the real one.
    fn poll_driven(
        incoming: &mut Incoming,
        connection: &mut Pooled,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Its outcome is told by the body: an error there, or the end.
        let _ended = connection.poll_drive(cx);
        let mut quiet = Context::from_waker(Waker::noop());
        let (polled, held) = wakes::hold(|| Pin::new(incoming).poll_frame(&mut quiet));
        // Who took a frame comes back for the next, and drives the connection then.
        if polled.is_pending() {
            held.pass_on();
        }
        polled
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(chunks) = &mut this.chunks {
            let step = ready!(chunks.poll_step(cx));
            if let Some(frame) = this.take_step(step) {
                return Poll::Ready(Some(frame));
            }
        }
        let polled = match &mut this.lease {
            Some(lease) => Self::poll_driven(&mut this.incoming, lease.connection(), cx),
            None => Pin::new(&mut this.incoming).poll_frame(cx),
        };
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                this.mark();
                // A reader that knows the length, or got trailers, may not ask again after the last frame.
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.lease = None;
                Poll::Ready(Some(Err(BodyError::from(&error))))
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drain for ResponseBody {
    fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Handed<'_>) -> bool,
    ) -> Drained<BodyError> {
        let this = self.get_mut();
        if let Some(chunks) = &mut this.chunks {
            let polled = chunks.poll_drain(cx, &mut sink);
            this.mark();
            match polled {
                Poll::Pending => return Drained::Empty,
                Poll::Ready(None) => return Drained::Full,
                Poll::Ready(Some(step)) => {
                    if let Some(last) = this.take_step(step) {
                        return Drained::Last(Some(last));
                    }
                }
            }
        }
        drain::poll_frames(Pin::new(this), cx, sink)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

// === impl BodyError ===

impl BodyError {
    fn malformed_chunk() -> Self {
        let text = "a chunk has more bytes than it says".to_owned();
        Self { kind: FaultKind::Protocol, text }
    }
}

impl From<&hyper::Error> for BodyError {
    fn from(error: &hyper::Error) -> Self {
        // hyper says "error from user's body" for none of ours here: what broke is the peer's.
        let kind = match classify(error) {
            FaultKind::Other | FaultKind::Disconnected => FaultKind::Closed,
            kind => kind,
        };
        Self { kind, text: describe(error) }
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// Boxes a body; an empty one costs nothing.
    pub(super) fn new<B>(body: B) -> (Self, Done)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return (Self { inner: None, done: Done(None) }, Done(None));
        }
        let done = Done(Some(Arc::default()));
        let inner = Some(body.map_err(Into::into).boxed_unsync());
        (Self { inner, done: done.clone() }, done)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(done) = &self.done.0 {
            done.store(true, Ordering::Release);
        }
    }
}

// === impl Done ===

impl Done {
    /// Returns whether nothing more of the body will be sent.
    pub(super) fn get(&self) -> bool {
        self.0.as_ref().is_none_or(|done| done.load(Ordering::Acquire))
    }
}

//! Bodies that hand over at once what they have, without a frame for each piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::trace::record::Parts;

/// A body that can be drained.
pub trait Drain: Body<Data = Bytes> {
    /// Hands over what [`Body::poll_frame`] would, for as long as there is more and `sink` has room; its answer says
    /// whether it has.
    fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sink: impl FnMut(Handed<'_>) -> bool,
    ) -> Drained<Self::Error>;
}

/// What a drain hands over at a time.
#[derive(Clone, Copy, Debug)]
pub enum Handed<'a> {
    /// A frame.
    Frame(Piece<'a>),
    /// At least one small frame, read together: the data of whole chunks, whose lines lie between (RFC 9112, section 7.1). So the
    /// bytes that they are parts of may be sent on as they are.
    Chunks(Parts<'a>),
}

/// The bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// A part of a buffer that is about to be used again.
    Lent(&'a [u8]),
    /// Bytes that can be kept by reference.
    Shared(&'a Bytes),
}

/// Why a drain stopped.
#[derive(Debug)]
pub enum Drained<E> {
    /// Nothing more is there: the task is woken when there is.
    Empty,
    /// The sink is full.
    Full,
    /// Something else than data came: the end, trailers, an error.
    Last(Option<Result<Frame<Bytes>, E>>),
}

/// Drains any body, by its frames.
pub fn poll_frames<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
    mut sink: impl FnMut(Handed<'_>) -> bool,
) -> Drained<B::Error> {
    loop {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => return Drained::Empty,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if sink(Handed::Frame(Piece::Shared(&data))) => {}
                Ok(_) => return Drained::Full,
                Err(other) => return Drained::Last(Some(Ok(other))),
            },
            Poll::Ready(last) => return Drained::Last(last),
        }
    }
}

// === impl Piece ===

impl Piece<'_> {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// Returns bytes that can be kept: a copy where they are lent.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Shared(bytes) => Bytes::clone(bytes),
        }
    }
}

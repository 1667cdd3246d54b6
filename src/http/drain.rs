//! Bodies that hand over at once what they have, without a frame for each piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

/// A body that can be drained.
pub trait Drain: Body<Data = Bytes> {
    /// Hands data over as [`Body::poll_frame`] would, frame by frame, for as long as there is more and `sink` has room; its
    /// answer says whether it has.
    fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sink: impl FnMut(Piece<'_>) -> bool,
    ) -> Drained<Self::Error>;
}

/// The bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// A part of a buffer that is about to be used again. If a piece came before it in the same drain, the two were read together.
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
    mut sink: impl FnMut(Piece<'_>) -> bool,
) -> Drained<B::Error> {
    loop {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => return Drained::Empty,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if sink(Piece::Shared(&data)) => {}
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

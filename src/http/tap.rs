//! Watching a body: every frame once, in order, and exactly one end.
//!
//! [`TapBody`] passes frames, size hint and end of stream through untouched. Its [`Tap`] hears of each frame when it is
//! read (first stamp) and when the reader asks for the next one, that is, had accepted it (second stamp). One end is
//! told: [`Ending::Ended`] as soon as it is known (a body that is over from the start ends in the constructor, one of
//! known length with its last byte, one with trailers with these), [`Ending::Error`], or [`Ending::Cancelled`] when the body is dropped before.
//!
//! A body that is [drained](Drain) hands over all frames that are there: accepted as they were taken, but for one after
//! which there was no more room.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::clock::{Clock, Nanos};
use crate::http::drain::{Drain, Drained, Handed, Piece};
use crate::trace::record::Parts;

/// What watches a body. No call may block: they are made while the body is polled.
pub trait Tap<E> {
    /// A frame's bytes, until it is known to be accepted: a reference, or a copy.
    type Kept;

    /// Takes hold of a frame's bytes as soon as they are read. The frame before was accepted.
    fn keep(&mut self, data: Piece<'_>) -> Self::Kept;

    /// A data frame: read at `at`, accepted at `accepted`, never before `at`.
    fn frame(&mut self, data: Self::Kept, at: Nanos, accepted: Nanos);

    /// A data frame that was accepted as soon as it was read, at `at`.
    fn passed(&mut self, data: Piece<'_>, at: Nanos) {
        let kept = self.keep(data);
        self.frame(kept, at, at);
    }

    /// As [`Tap::passed`], for frames that were read together.
    fn passed_together(&mut self, parts: Parts<'_>, at: Nanos) {
        parts.iter().for_each(|data| self.passed(Piece::Lent(data), at));
    }

    /// The trailers, read at `at`.
    fn trailers(&mut self, trailers: &HeaderMap, at: Nanos);

    /// The end, once and last.
    fn end(&mut self, ending: Ending<'_, E>, at: Nanos);
}

/// How a watched body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a, E> {
    /// All of it was read.
    Ended,
    /// Reading failed.
    Error(&'a E),
    /// It was dropped before its end.
    Cancelled,
}

pin_project! {
    /// A body that is watched.
    pub struct TapBody<B, T>
    where
        B: Body,
        T: Tap<B::Error>,
    {
        #[pin]
        inner: B,
        watch: Watch<T, B::Error>,
    }
}

/// The tap and what it has not yet heard. A type of its own for its `Drop`.
struct Watch<T: Tap<E>, E> {
    /// None once the end was told.
    tap: Option<T>,
    clock: Clock,
    /// The frame handed over last, until it is known to be accepted.
    pending: Option<(T::Kept, Nanos)>,
    error: std::marker::PhantomData<fn(E)>,
}

// === impl TapBody ===

impl<B, T> TapBody<B, T>
where
    B: Body<Data = Bytes>,
    T: Tap<B::Error>,
{
    /// Watches `inner`. A body that is over already ends here.
    pub fn new(inner: B, tap: T, clock: Clock) -> Self {
        let mut watch =
            Watch { tap: Some(tap), clock, pending: None, error: std::marker::PhantomData };
        if inner.is_end_stream() {
            watch.end(Ending::Ended, clock.now());
        }
        Self { inner, watch }
    }
}

impl<B, T> Body for TapBody<B, T>
where
    B: Body<Data = Bytes>,
    T: Tap<B::Error>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(cx);
        if polled.is_pending() && this.watch.pending.is_none() {
            return Poll::Pending;
        }
        // One look at the clock for both: what is asked for now was read now, and what came before is accepted.
        let now = this.watch.clock.now();
        this.watch.accept(now);
        let polled = ready!(polled);
        match &polled {
            Some(Ok(frame)) => this.watch.frame(frame, this.inner.is_end_stream(), now),
            Some(Err(error)) => this.watch.end(Ending::Error(error), now),
            None => this.watch.end(Ending::Ended, now),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B, T> Drain for TapBody<B, T>
where
    B: Drain,
    T: Tap<B::Error>,
{
    fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Handed<'_>) -> bool,
    ) -> Drained<B::Error> {
        let this = self.project();
        let watch = this.watch;
        if watch.pending.is_some() {
            watch.accept(watch.clock.now());
        }
        let drained = this.inner.poll_drain(cx, |handed| {
            let at = watch.clock.now();
            let has_room = sink(handed);
            watch.handed(handed, has_room, at);
            has_room
        });
        if let Drained::Last(last) = &drained {
            let at = watch.clock.now();
            match last {
                Some(Ok(frame)) => watch.frame(frame, false, at),
                Some(Err(error)) => watch.end(Ending::Error(error), at),
                None => watch.end(Ending::Ended, at),
            }
        }
        drained
    }
}

// === impl Watch ===

impl<T: Tap<E>, E> Watch<T, E> {
    /// Tells of the frame before: whoever asks for more has accepted it.
    fn accept(&mut self, now: Nanos) {
        if let (Some((data, at)), Some(tap)) = (self.pending.take(), &mut self.tap) {
            tap.frame(data, at, now);
        }
    }

    fn frame(&mut self, frame: &Frame<Bytes>, last: bool, at: Nanos) {
        let Some(tap) = &mut self.tap else { return };
        match (frame.data_ref(), frame.trailers_ref()) {
            // The reader knows that nothing follows, and may not ask again.
            (Some(data), _) if last => tap.passed(Piece::Shared(data), at),
            (Some(data), _) => self.pending = Some((tap.keep(Piece::Shared(data)), at)),
            (None, Some(trailers)) => tap.trailers(trailers, at),
            (None, None) => {}
        }
        if last || frame.is_trailers() {
            self.end(Ending::Ended, at);
        }
    }

    /// What a sink has taken; when that is full, the last frame is known to be accepted when more is asked for.
    fn handed(&mut self, handed: Handed<'_>, has_room: bool, at: Nanos) {
        let Some(tap) = &mut self.tap else { return };
        let last = match handed {
            Handed::Frame(piece) if has_room => return tap.passed(piece, at),
            Handed::Chunks(parts) if has_room => return tap.passed_together(parts, at),
            Handed::Frame(piece) => piece,
            Handed::Chunks(parts) => {
                let Some((before, last)) = parts.split_last() else { return };
                tap.passed_together(before, at);
                Piece::Lent(last)
            }
        };
        self.pending = Some((tap.keep(last), at));
    }

    fn end(&mut self, ending: Ending<'_, E>, at: Nanos) {
        let Some(mut tap) = self.tap.take() else { return };
        if let Some((data, read)) = self.pending.take() {
            tap.frame(data, read, at);
        }
        tap.end(ending, at);
    }
}

impl<T: Tap<E>, E> Drop for Watch<T, E> {
    fn drop(&mut self) {
        if self.tap.is_some() {
            self.end(Ending::Cancelled, self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use proptest::prelude::*;

    use super::*;
    use crate::trace::record::Span;

    /// Writes down what it hears, stamps in milliseconds.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Notes {
        fn add(&self, note: String) {
            self.0.lock().unwrap().push(note);
        }
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    fn ms(at: Nanos) -> u64 {
        at.0 / 1_000_000
    }

    impl<E: std::fmt::Debug> Tap<E> for Notes {
        type Kept = Bytes;

        fn keep(&mut self, data: Piece<'_>) -> Bytes {
            data.to_bytes()
        }
        fn frame(&mut self, data: Bytes, at: Nanos, accepted: Nanos) {
            self.add(format!("{} {}-{}", data.len(), ms(at), ms(accepted)));
        }
        fn trailers(&mut self, trailers: &HeaderMap, at: Nanos) {
            self.add(format!("trailers {} {}", trailers.len(), ms(at)));
        }
        fn end(&mut self, ending: Ending<'_, E>, at: Nanos) {
            self.add(format!("{ending:?} {}", ms(at)));
        }
    }

    type Frames = Vec<Result<Frame<Bytes>, String>>;

    fn body(frames: Frames) -> impl Body<Data = Bytes, Error = String> + Unpin {
        StreamBody::new(futures_util::stream::iter(frames))
    }

    fn data(len: usize) -> Result<Frame<Bytes>, String> {
        Ok(Frame::data(Bytes::from(vec![b'x'; len])))
    }

    #[tokio::test(start_paused = true)]
    async fn each_frame_is_told_with_the_time_it_was_read_and_the_time_it_was_accepted() {
        let notes = Notes::default();
        let frames = vec![data(3), data(4), Ok(Frame::trailers(HeaderMap::new()))];
        let mut body = TapBody::new(body(frames), notes.clone(), Clock::start());
        for _ in 0..4 {
            let _frame = body.frame().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(notes.take(), ["3 0-10", "4 10-20", "trailers 0 20", "Ended 20"]);
        drop(body);
        assert!(notes.take().is_empty(), "one end only");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_dropped_was_cancelled() {
        let notes = Notes::default();
        let mut body = TapBody::new(body(vec![data(3), data(4)]), notes.clone(), Clock::start());
        let _frame = body.frame().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(body);
        assert_eq!(notes.take(), ["3 0-5", "Cancelled 5"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_the_end() {
        let notes = Notes::default();
        let mut body =
            TapBody::new(body(vec![data(3), Err("broken".into())]), notes.clone(), Clock::start());
        while let Some(Ok(_)) = body.frame().await {}
        assert_eq!(notes.take(), ["3 0-0", "Error(\"broken\") 0"]);
        drop(body);
        assert!(notes.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_over_ends_in_the_constructor() {
        let notes = Notes::default();
        let body = TapBody::new(Empty::<Bytes>::new(), notes.clone(), Clock::start());
        assert_eq!(notes.take(), ["Ended 0"]);
        drop(body);
        assert!(notes.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_known_length_ends_with_its_last_byte_and_keeps_its_hint() {
        let notes = Notes::default();
        let mut body = TapBody::new(Full::new(Bytes::from("four")), notes.clone(), Clock::start());
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(!body.is_end_stream());
        let _frame = body.frame().await;
        assert!(body.is_end_stream());
        assert_eq!(notes.take(), ["4 0-0", "Ended 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_frame_is_accepted_at_once_unless_it_was_the_last_that_had_room() {
        let notes = Notes::default();
        let frames = vec![data(3), data(4), data(5), data(6), Err("broken".into())];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut body = TapBody::new(ByFrames(body), notes.clone(), Clock::start());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut taken = 0;
        let drained = Pin::new(&mut body).poll_drain(&mut cx, |handed| {
            let Handed::Frame(piece) = handed else { panic!("frame by frame") };
            taken += piece.bytes().len();
            taken < 12
        });
        assert!(matches!(drained, Drained::Full));
        assert_eq!((taken, notes.take()), (12, vec!["3 0-0".to_owned(), "4 0-0".to_owned()]));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let drained = Pin::new(&mut body).poll_drain(&mut cx, |_piece| true);
        assert!(matches!(drained, Drained::Last(Some(Err(_)))));
        assert_eq!(notes.take(), ["5 0-10", "6 10-10", "Error(\"broken\") 10"]);
        drop(body);
        assert!(notes.take().is_empty(), "one end only");
    }

    #[tokio::test(start_paused = true)]
    async fn of_frames_that_are_drained_together_the_last_is_accepted_when_more_is_asked_for() {
        for (has_room, at_once, later) in [
            (true, &["3 0-0", "2 0-0", "5 0-0", "Ended 0"][..], &[][..]),
            (false, &["3 0-0", "2 0-0"], &["5 0-10", "Ended 10"]),
        ] {
            let notes = Notes::default();
            let mut body = TapBody::new(AtOnce(Some("one, three")), notes.clone(), Clock::start());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _drained = Pin::new(&mut body).poll_drain(&mut cx, |_handed| has_room);
            assert_eq!(notes.take(), at_once);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let _ended = Pin::new(&mut body).poll_drain(&mut cx, |_handed| true);
            assert_eq!(notes.take(), later);
        }
    }

    /// A body that hands over all of its text at once: three letters, two, and the rest.
    struct AtOnce(Option<&'static str>);

    impl Body for AtOnce {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    impl Drain for AtOnce {
        fn poll_drain(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            mut sink: impl FnMut(Handed<'_>) -> bool,
        ) -> Drained<Infallible> {
            let Some(text) = self.0.take() else { return Drained::Last(None) };
            let spans = [(0, 3), (3, 2), (5, text.len() - 5)];
            let spans = spans.map(|(start, len)| Span { start, len });
            match sink(Handed::Chunks(Parts::new(text.as_bytes(), &spans))) {
                true => Drained::Last(None),
                false => Drained::Full,
            }
        }
    }

    /// A drain may go on over several reads.
    #[test]
    fn a_drained_frame_is_not_told_to_be_older_than_its_read() {
        let (notes, clock) = (Notes::default(), Clock::start());
        let body = StreamBody::new(futures_util::stream::iter(vec![data(3), data(4)]));
        let mut body = TapBody::new(ByFrames(body), notes.clone(), clock);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let late = Nanos(50_000_000);
        let _ended = Pin::new(&mut body).poll_drain(&mut cx, |_piece| {
            while clock.now() < late {
                std::hint::spin_loop();
            }
            true
        });
        let told = notes.take();
        let read: u64 = told[1].split([' ', '-']).nth(1).unwrap().parse().unwrap();
        assert!(read >= 50, "{told:?}");
    }

    /// A body that is drained frame by frame.
    struct ByFrames<B>(B);

    impl<B: Body<Data = Bytes> + Unpin> Body for ByFrames<B> {
        type Data = Bytes;
        type Error = B::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
    }

    impl<B: Body<Data = Bytes> + Unpin> Drain for ByFrames<B> {
        fn poll_drain(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            sink: impl FnMut(Handed<'_>) -> bool,
        ) -> Drained<B::Error> {
            crate::http::drain::poll_frames(self, cx, sink)
        }
    }

    proptest! {
        #[test]
        fn whatever_the_body_every_frame_is_told_once_in_order_with_one_end(
            lengths in prop::collection::vec(0_usize..50, 0..20),
            polls in 0_usize..25,
            fails in any::<bool>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let notes = Notes::default();
                let mut frames: Frames = lengths.iter().map(|len| data(*len)).collect();
                if fails {
                    frames.push(Err("broken".into()));
                }
                let mut body = TapBody::new(body(frames), notes.clone(), Clock::start());
                let mut passed = Vec::new();
                let mut over = false;
                for _ in 0..polls {
                    match body.frame().await {
                        Some(Ok(frame)) => passed.push(frame.into_data().unwrap().len()),
                        _ => { over = true; break }
                    }
                }
                drop(body);
                let told = notes.take();
                let (end, frames) = told.split_last().unwrap();
                let expected: Vec<_> = passed.iter().map(|len| format!("{len} 0-0")).collect();
                assert_eq!(frames, expected);
                let expected = match (over, fails) {
                    (false, _) => "Cancelled 0",
                    (true, true) => "Error(\"broken\") 0",
                    (true, false) => "Ended 0",
                };
                assert_eq!(end, expected);
            });
        }
    }

    /// The error type takes no part in what is stored.
    #[test]
    fn a_tap_of_an_uninhabited_error_compiles() {
        let body = TapBody::new(Full::<Bytes>::default(), Notes::default(), Clock::start());
        fn is_infallible<B: Body<Error = Infallible>>(_: &B) {}
        is_infallible(&body);
    }
}

//! Chunked responses are read beside hyper as hyper would read them: the same bytes, trailers, errors, and what becomes of
//! the connection. `CHUNKED` is what only hyper looks for, so that it reads such a body itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use proptest::prelude::*;
use reenact::clock::Clock;
use reenact::http::drain::{Drain as _, Drained, Handed};
use reenact::http::{BodyError, Client, ClientOptions, ResponseBody};
use reenact::trace::record::FaultKind;

use crate::support::Upstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// What became of a body, and of its connection.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    fault: Option<FaultKind>,
    /// Connections after one more request.
    connections: u64,
}

/// How a body is read.
#[derive(Clone, Copy, Debug)]
enum How {
    Frames,
    /// Into something that is full after each third time.
    Drained,
}

type Last = Option<Result<http_body::Frame<Bytes>, BodyError>>;

/// Reads a body up to what is no data.
async fn last_of(body: &mut ResponseBody, how: How, data: &mut Vec<u8>) -> Last {
    let mut times = 0;
    loop {
        let frame = match how {
            How::Frames => body.frame().await,
            How::Drained => poll_fn(|cx| poll_drain(body, cx, data, &mut times)).await,
        };
        match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(read))) => data.extend_from_slice(&read),
            Some(Ok(Err(other))) => return Some(Ok(other)),
            Some(Err(error)) => return Some(Err(error)),
            None => return None,
        }
    }
}

fn poll_drain(
    body: &mut ResponseBody,
    cx: &mut Context<'_>,
    data: &mut Vec<u8>,
    times: &mut u32,
) -> Poll<Last> {
    loop {
        let drained = Pin::new(&mut *body).poll_drain(cx, |handed| {
            match handed {
                Handed::Frame(piece) => data.extend_from_slice(piece.bytes()),
                Handed::Chunks(parts) => {
                    assert!(parts.bytes().ends_with(b"\r\n"), "with their lines");
                    parts.iter().for_each(|part| data.extend_from_slice(part));
                }
            }
            *times += 1;
            !times.is_multiple_of(3)
        });
        match drained {
            Drained::Empty => return Poll::Pending,
            Drained::Full => {}
            Drained::Last(last) => return Poll::Ready(last),
        }
    }
}

/// Reads a response that comes in `pieces`, which follow each other on the wire, and whose connection then stays open or not.
async fn read(coding: &str, how: How, pieces: &[&[u8]], is_kept: bool) -> Read {
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
    let pieces: Vec<_> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        if peer.number == 1 {
            peer.send(&head);
            // Whoever is done with it may have closed it.
            let _read = pieces.iter().all(|piece| peer.try_send(piece));
        } else {
            peer.send(OK);
        }
        while is_kept && peer.try_until("\r\n\r\n").is_some() {
            peer.send(OK);
        }
    });
    let client =
        Client::new(upstream.url().parse().unwrap(), ClientOptions::default(), Clock::start());
    let get = || Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let mut body = client.send(get()).await.unwrap().into_body();
    let mut read = Read { data: Vec::new(), trailers: Vec::new(), fault: None, connections: 0 };
    while let Some(last) = last_of(&mut body, how, &mut read.data).await {
        match last {
            Ok(frame) => {
                let trailers = frame.into_trailers().unwrap();
                let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap().to_owned())
                };
                read.trailers = trailers.iter().map(text).collect();
            }
            Err(error) => {
                assert!(!error.text.is_empty());
                read.fault = Some(error.kind);
                break;
            }
        }
    }
    drop(body);
    let again = client.send(get()).await.unwrap();
    assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "hi");
    read.connections = upstream.accepted();
    read
}

/// Checks that a body is read alike in all ways; returns what was read.
async fn check(pieces: &[&[u8]], is_kept: bool) -> Read {
    let hypers = read("CHUNKED", How::Frames, pieces, is_kept).await;
    for how in [How::Frames, How::Drained] {
        let ours = read("chunked", how, pieces, is_kept).await;
        let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
        assert_eq!(ours, hypers, "{how:?} {text:?}");
    }
    hypers
}

#[tokio::test]
async fn a_chunked_body_is_what_it_is_to_hyper() {
    for body in [
        "2\r\nhi\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "1\r\nh\r\n1\r\ni\r\n0\r\nx-sum: 7\r\n\r\n",
        "1;a=b\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        "1\r\nh\r\n1;a=\"b\"\r\ni\r\n1\r\n!\r\n0\r\n\r\n",
        "0002\r\nhi\r\n000\r\n\r\n",
        "000000002\r\nhi\r\n0\r\n\r\n",
        "2 \r\nhi\r\n0\r\n\r\n",
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
    ] {
        let read = check(&[body.as_bytes()], true).await;
        assert_eq!((read.fault, read.connections), (None, 1), "{body:?}");
        let pieces: Vec<_> = body.as_bytes().chunks(1).collect();
        assert_eq!(check(&pieces, true).await, read, "byte by byte");
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_none_fails_as_it_does_with_hyper() {
    for body in [
        "",
        "2",
        "2\r\n",
        "2\r\nh",
        "2\r\nhi",
        "2\r\nhi\r",
        "2\r\nhi\r\n",
        "2\r\nhi\r\n0",
        "2\r\nhi\r\n0\r\n",
        "2\r\nhi\r\n0\r\nx: 1\r\n",
        "2\r\nhi!\r\n0\r\n\r\n",
        "2\r\nhi\n0\r\n\r\n",
        "2\r\nhi\rx0\r\n\r\n",
        "2\r\nhi\r\nx\r\n",
        "-1\r\nhi\r\n",
        "\r\n2\r\nhi\r\n",
        "2\nhi\r\n0\r\n\r\n",
        "10000000000000000\r\nhi",
        "ffffffffffffffff1\r\nhi",
        "fffffffff\r\nhi",
    ] {
        let read = check(&[body.as_bytes()], false).await;
        assert!(read.fault.is_some() && read.connections == 2, "{body:?}: {read:?}");
    }
}

#[tokio::test]
async fn what_follows_a_chunked_body_is_nobodys() {
    let excess = format!("2\r\nhi\r\n0\r\n\r\n{OK}");
    assert_eq!(check(&[excess.as_bytes()], true).await.connections, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn chunks_of_any_size_in_any_pieces_are_read_whole(
        sizes in prop::collection::vec(prop_oneof![1_usize..300, 1_usize..70_000], 1..20),
        piece in prop_oneof![1_usize..50, 1_000_usize..100_000],
        how in prop_oneof![Just(How::Frames), Just(How::Drained)],
    ) {
        let mut wire = Vec::new();
        let mut whole = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let chunk: Vec<u8> = (b'a'..=b'z').cycle().skip(number).take(*size).collect();
            wire.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            wire.extend_from_slice(&chunk);
            wire.extend_from_slice(b"\r\n");
            whole.extend_from_slice(&chunk);
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        // Few pieces of a few bytes each, or a test would send for minutes.
        let piece = piece.max(wire.len() / 2_000);
        let pieces: Vec<_> = wire.chunks(piece).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(read("chunked", how, &pieces, true));
        prop_assert!(read.data == whole, "{} of {} bytes", read.data.len(), whole.len());
        prop_assert_eq!((read.fault, read.connections), (None, 1));
    }
}

//! Streams that have begun are written to the client beside hyper: what it gets, and what it may do, is the same as before.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use reenact::trace::record::{Outcome, Side};

use crate::support::{Peer, Recording, Upstream};

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

/// An upstream that says what it is told to, bit by bit; it answers with [`CHUNKED`], and so does each of its connections.
struct Told {
    upstream: Upstream,
    say: Sender<String>,
    gone: Receiver<()>,
}

impl Told {
    fn start() -> Self {
        let (say, says) = channel::<String>();
        let (left, gone) = channel();
        let says = Mutex::new(says);
        let upstream = Upstream::start(move |mut peer| {
            let says = says.lock().unwrap();
            while peer.try_until("\r\n\r\n").is_some() {
                peer.send(CHUNKED);
                for text in says.iter().take_while(|text| !text.is_empty()) {
                    peer.send(text);
                }
            }
            left.send(()).unwrap();
        });
        Self { upstream, say, gone }
    }

    /// Starts one behind a recording proxy, with a client whose `request` is being answered.
    fn begun(request: &str) -> (Self, Recording, Peer) {
        let told = Self::start();
        let recording = Recording::of(told.upstream.url());
        let mut peer = recording.connect();
        peer.send(request);
        peer.head();
        (told, recording, peer)
    }

    /// Has the upstream say a bit, and waits until the client has it just so.
    #[track_caller]
    fn passes(&self, peer: &mut Peer, text: &str) {
        self.say.send(text.to_owned()).unwrap();
        assert_eq!(String::from_utf8_lossy(&peer.exactly(text.len())), text);
    }

    /// The upstream's response is over: it listens for the next request, or for the end.
    fn is_silent(&self) {
        self.say.send(String::new()).unwrap();
    }
}

#[test]
fn a_stream_passes_chunk_by_chunk_to_its_trailers_and_its_connection_goes_on() {
    let (told, recording, mut peer) = Told::begun(GET);
    for round in 0..3 {
        if round > 0 {
            peer.send(GET);
            peer.head();
        }
        told.passes(&mut peer, "3\r\none\r\n");
        for _ in 0..3 {
            told.passes(&mut peer, "3\r\ntwo\r\n");
            told.passes(&mut peer, "1\r\na\r\n2\r\nbc\r\n10\r\n0123456789abcdef\r\n");
        }
        told.passes(&mut peer, "3\r\nend\r\n0\r\nx-sum: 7\r\n\r\n");
        told.is_silent();
    }
    assert_eq!(told.upstream.accepted(), 1);
    let exchanges = recording.finish().exchanges();
    assert_eq!(exchanges.len(), 3);
    for exchange in exchanges {
        let sizes: Vec<_> = exchange.response_frames.iter().map(|it| it.data.len()).collect();
        assert_eq!(sizes, [3, 3, 1, 2, 16, 3, 1, 2, 16, 3, 1, 2, 16, 3], "the cuts are the wire's");
        assert_eq!(exchange.response_trailers.unwrap().headers["x-sum"], "7");
        assert_eq!(exchange.end.unwrap().outcome, Outcome::Complete);
    }
}

#[test]
fn a_request_that_comes_during_a_stream_is_served_after_it() {
    let (told, recording, mut peer) = Told::begun(GET);
    told.passes(&mut peer, "3\r\none\r\n");
    told.passes(&mut peer, "3\r\ntwo\r\n");
    peer.send(GET);
    told.passes(&mut peer, "3\r\nend\r\n0\r\n\r\n");
    told.is_silent();
    peer.head();
    told.passes(&mut peer, "5\r\nagain\r\n0\r\n\r\n");
    told.is_silent();
    assert_eq!(recording.finish().exchanges().len(), 2);
}

#[test]
fn a_client_that_leaves_a_stream_that_is_under_way_is_noticed_at_once() {
    let (told, recording, mut peer) = Told::begun(GET);
    for _ in 0..3 {
        told.passes(&mut peer, "3\r\none\r\n");
    }
    told.is_silent();
    peer.close();
    told.gone.recv_timeout(PATIENCE).expect("the upstream sees its client leave");
    let exchange = recording.finish().only();
    assert_eq!(exchange.response_body(), "oneoneone");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_stream_that_is_under_way_and_breaks_off_arrives_as_far_as_it_came() {
    let (told, recording, mut peer) = Told::begun(GET);
    for _ in 0..3 {
        told.passes(&mut peer, "3\r\none\r\n");
    }
    told.say.send("3\r\ntwo\r\nno chunk".to_owned()).unwrap();
    assert_eq!(String::from_utf8_lossy(&peer.rest()), "3\r\ntwo\r\n", "no end is feigned");
    told.is_silent();
    let exchange = recording.finish().only();
    assert_eq!(exchange.response_body(), "oneoneonetwo");
    assert_eq!(exchange.end.unwrap().outcome, Outcome::Failed);
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let (told, recording, mut peer) = Told::begun("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    for text in ["one", "two", "three"] {
        told.say.send(format!("{:x}\r\n{text}\r\n", text.len())).unwrap();
        assert_eq!(peer.exactly(text.len()), text.as_bytes());
    }
    told.say.send("0\r\n\r\n".to_owned()).unwrap();
    assert!(peer.rest().is_empty());
    told.is_silent();
    assert_eq!(recording.finish().only().end.unwrap().outcome, Outcome::Complete);
}

/// More than any socket holds, so that each side waits for the other again and again.
#[test]
fn a_long_stream_of_large_chunks_arrives_whole_and_so_it_is_recorded() {
    const CHUNK: usize = 30_000;
    const CHUNKS: usize = 1_000;
    let upstream = Upstream::start(|mut peer| {
        peer.head();
        peer.send(CHUNKED);
        for number in 0..CHUNKS {
            let byte = [b'a' + u8::try_from(number % 26).unwrap()];
            peer.send(format!("{CHUNK:x}\r\n"));
            peer.send(byte.repeat(CHUNK));
            peer.send("\r\n");
        }
        peer.send("0\r\n\r\n");
        peer.rest();
    });
    let recording = Recording::of(upstream.url());
    let mut peer = recording.connect();
    peer.send(GET);
    peer.head();
    let body = peer.chunks();
    assert_eq!(body.len(), CHUNK * CHUNKS);
    let is_in_place = |(at, byte): (usize, &u8)| usize::from(byte - b'a') == at / CHUNK % 26;
    assert!(body.iter().enumerate().all(is_in_place), "in its order");
    let exchange = recording.finish().only();
    let recorded: usize = exchange.response_frames.iter().map(|frame| frame.data.len()).sum();
    assert_eq!(recorded, body.len());
    assert!(exchange.response_frames.iter().all(|frame| frame.side == Side::Response));
}

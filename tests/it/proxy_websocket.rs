//! A WebSocket through the proxy: its bytes pass as they come, and each of its frames is a frame of the record.

use reenact::clock::Nanos;
use reenact::trace::Exchange;
use reenact::trace::record::Outcome;

use crate::support::{Peer, Recording, Upstream};

const ASKING: &str =
    "GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A server's frame.
fn from_server(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// A client's frame, masked.
fn from_client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = from_server(first, payload);
    bytes[1] |= 0x80;
    let head = bytes.len() - payload.len();
    let mask = [7, 1, 9, 3];
    bytes.splice(head..head, mask);
    for (byte, mask) in bytes[head + 4..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    bytes
}

/// Opens a tunnel: the client's end, the upstream's, and the recording.
fn open() -> (Peer, Peer, Recording) {
    let (handed, hands) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut peer| {
        peer.head();
        peer.send(SWITCHING);
        handed.send(peer).unwrap();
    });
    let recording = Recording::of(upstream.url());
    let mut client = recording.connect();
    client.send(ASKING);
    assert_eq!(client.head(), SWITCHING);
    (client, hands.recv().unwrap(), recording)
}

/// Returns the sizes of the recorded frames: what the client sent, and the upstream.
fn sizes(exchange: &Exchange) -> [Vec<usize>; 2] {
    [&exchange.request_frames, &exchange.response_frames]
        .map(|frames| frames.iter().map(|frame| frame.data.len()).collect())
}

#[test]
fn each_message_is_a_frame_of_the_record() {
    let (mut client, mut server, recording) = open();
    // Several in one write; a long one; fragments with a ping in between; the close.
    let asked = [
        from_client(0x81, br#"{"type":"response.create"}"#),
        from_client(0x81, &[b'a'; 300]),
        from_client(0x82, &vec![0; 70_000]),
    ];
    client.send(asked.concat());
    assert_eq!(server.exactly(asked.concat().len()), asked.concat());
    let answered = [
        from_server(0x01, b"one "),
        from_server(0x89, b"ping"),
        from_server(0x80, b"message"),
        from_server(0xc1, &vec![b'z'; 66_000]),
        from_server(0x88, &[3, 232]),
    ];
    server.send(answered.concat());
    assert_eq!(client.exactly(answered.concat().len()), answered.concat());
    server.close();
    client.close();
    let exchange = recording.finish().only();
    assert_eq!(exchange.response.as_ref().unwrap().status, 101);
    let [request, response] = sizes(&exchange);
    assert_eq!(request, asked.each_ref().map(Vec::len));
    assert_eq!(response, answered.each_ref().map(Vec::len));
    assert_eq!(exchange.request_body(), asked.concat());
    assert_eq!(exchange.response_body(), answered.concat());
}

#[test]
fn a_frame_in_pieces_passes_at_once_and_is_recorded_as_one() {
    let (mut client, mut server, recording) = open();
    let frame = from_server(0x81, &[b'x'; 1000]);
    // Cut within the header, within the payload, before the last byte.
    let mut sent = 0;
    for end in [1, 3, 4, 500, 1003, 1004] {
        server.send(&frame[sent..end]);
        // Nothing is held back.
        assert_eq!(client.exactly(end - sent), &frame[sent..end]);
        sent = end;
    }
    server.send(from_server(0x81, b"next"));
    client.exactly(6);
    server.close();
    client.close();
    let exchange = recording.finish().only();
    assert_eq!(sizes(&exchange)[1], [1004, 6]);
    let [whole, next] = &exchange.response_frames[..] else { panic!() };
    assert!(Nanos::ZERO < whole.at && whole.at <= whole.accepted);
    assert!(whole.accepted <= next.at, "stamped when it was whole, before the next one");
}

#[test]
fn what_is_no_websocket_passes_and_is_recorded_as_it_came() {
    let (mut client, mut server, recording) = open();
    server.send("SSH-2.0-x\r\n");
    assert_eq!(client.exactly(11), b"SSH-2.0-x\r\n");
    server.send([0xff; 40]);
    assert_eq!(client.exactly(40), [0xff; 40]);
    // A client that does not mask, and a frame that never ends.
    client.send(from_server(0x81, b"bare"));
    server.exactly(6);
    server.close();
    client.close();
    let exchange = recording.finish().only();
    assert_eq!(sizes(&exchange), [vec![6], vec![11, 40]]);
}

#[test]
fn what_had_come_of_a_frame_when_the_tunnel_broke_is_recorded() {
    let (mut client, mut server, recording) = open();
    let frame = from_server(0x81, &[b'x'; 1000]);
    server.send(&frame[..700]);
    client.exactly(700);
    server.close();
    client.rest();
    client.close();
    let exchange = recording.finish().only();
    assert_eq!(exchange.response_body(), &frame[..700]);
    assert_eq!(
        exchange.end.unwrap().outcome,
        Outcome::Complete,
        "it ended, if not by the protocol"
    );
}

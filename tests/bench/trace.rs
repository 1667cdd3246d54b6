//! How fast a trace is written and read: streamed chat in small frames, and image requests.
//!
//! `cargo bench --bench trace`. Throughput counts body bytes as they passed.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use reenact::clock::{Anchor, Nanos};
use reenact::trace::record::{
    End, Event, ExchangeId, Frame, Header, Outcome, Passed, RequestHead, Side, Version,
};
use reenact::trace::{FLUSH_EVERY, Trace, Writer, WriterOptions};

fn header() -> Header {
    Header {
        trace: [1; 16],
        segment: 0,
        anchor: Anchor(0),
        tick_ns: 1_000,
        tool: "bench".to_owned(),
        listen: String::new(),
        upstreams: Vec::new(),
        redacted: Vec::new(),
        sampled_ppm: 1_000_000,
        policy: None,
    }
}

fn head(id: u64, at: u64) -> Event {
    Event::Request(Box::new(RequestHead {
        exchange: ExchangeId(id),
        at: Nanos(at),
        connection: 1,
        version: Version::Http11,
        method: Method::POST,
        target: "/v1/chat/completions".to_owned(),
        authority: None,
        headers: HeaderMap::new(),
        upstream: 0,
    }))
}

fn frame(id: u64, side: Side, at: u64, data: impl Into<Bytes>) -> Event {
    let data = data.into();
    Event::Frame(Frame {
        exchange: ExchangeId(id),
        side,
        at: Nanos(at),
        accepted: Nanos(at + 50_000),
        data,
    })
}

fn end(id: u64, at: u64) -> Event {
    Event::End(Box::new(End {
        exchange: ExchangeId(id),
        at: Nanos(at),
        outcome: Outcome::Complete,
        fault: None,
        request: Passed::default(),
        response: Passed::default(),
    }))
}

fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// 64 streams of SSE events with a word each.
fn chat() -> Vec<Event> {
    let words: Vec<&str> = "the of and to in that is was for it with as his on be at by had not but from have are which \
        her they all you were this we there would been their one has will an more when who no if out so said what"
        .split_whitespace()
        .collect();
    let mut state = 1;
    let mut events: Vec<Event> = (1..=64).map(|id| head(id, id * 1_000)).collect();
    for n in 0..4_000_u64 {
        for id in 1..=64 {
            let word = words[usize::try_from(noise(&mut state)).unwrap_or(0) % words.len()];
            let at = n * 1_000_000 + noise(&mut state) % 1_000_000;
            let data = format!(
                "data: {{\"id\":\"chatcmpl-{id:032x}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
                 \"model\":\"llama\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" {word}\"}},\
                 \"finish_reason\":null}}]}}\n\n"
            );
            events.push(frame(id, Side::Response, at, data));
        }
    }
    events.extend((1..=64).map(|id| end(id, 4_100_000_000)));
    events
}

/// 100 requests with one of four images of 260 kB in base64.
fn images() -> Vec<Event> {
    let mut state = 2;
    let images: Vec<String> = (0..4)
        .map(|_| {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let pick =
                |_| char::from(alphabet[usize::try_from(noise(&mut state)).unwrap_or(0) % 64]);
            (0..260_000).map(pick).collect()
        })
        .collect();
    let mut events = Vec::new();
    for id in 1..=100_u64 {
        let at = id * 10_000_000;
        let image = &images[usize::try_from(id).unwrap_or(0) % 4];
        let body = Bytes::from(format!("{{\"prompt\":\"{id}\",\"images\":[\"{image}\"]}}"));
        events.push(head(id, at));
        for from in (0..body.len()).step_by(65_536) {
            let part = body.slice(from..body.len().min(from + 65_536));
            events.push(frame(id, Side::Request, at + 1_000, part));
        }
        events.push(end(id, at + 9_000_000));
    }
    events
}

fn body_bytes(events: &[Event]) -> u64 {
    let len = |event: &Event| match event {
        Event::Frame(frame) => frame.data.len() as u64,
        _ => 0,
    };
    events.iter().map(len).sum()
}

fn write(path: &Path, events: Vec<Event>) -> u64 {
    let mut writer = Writer::create(path, header(), WriterOptions::default()).expect("create");
    let mut flush = Nanos::ZERO + FLUSH_EVERY;
    for event in events {
        if event.at() >= flush {
            writer.flush(flush).expect("flush");
            flush += FLUSH_EVERY;
        }
        writer.append(event).expect("append");
    }
    writer.finish().expect("finish").bytes
}

fn bench(criterion: &mut Criterion) {
    for (name, events) in [("chat", chat()), ("images", images())] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(body_bytes(&events)));
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        let dir = tempfile::tempdir().expect("a folder");
        let mut count = 0;
        group.bench_function("write", |bencher| {
            bencher.iter_batched(
                || {
                    count += 1;
                    (dir.path().join(format!("{count}.trace")), events.clone())
                },
                |(path, events)| write(&path, events),
                BatchSize::PerIteration,
            );
        });
        let path = dir.path().join("read.trace");
        write(&path, events.clone());
        group.bench_function("scan", |bencher| {
            bencher.iter(|| {
                let trace = Trace::open(&path).expect("open");
                for event in trace.scan().expect("scan") {
                    black_box(event.expect("event"));
                }
            });
        });
        group.bench_function("requests in order", |bencher| {
            bencher.iter(|| {
                let mut trace = Trace::open(&path).expect("open");
                let ids: Vec<ExchangeId> = trace.entries().iter().map(|entry| entry.id).collect();
                for id in ids {
                    black_box(trace.request(id).expect("request"));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

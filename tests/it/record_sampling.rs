//! Which exchanges are recorded: shares, filters, and what is decided at the end. Each trace is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use reenact::clock::Nanos;
use reenact::proxy::sieve::{Mesh, StatusIs};
use reenact::proxy::{Appended, Log, Sieve, Strain};
use reenact::trace::record::{Counters, Event, FramesRef, Parts, ResponseHead, Side, Span};
use reenact::trace::{
    Assembler, Cause, Exchange, Roll, RollOptions, Site, Trace, Verification, verify,
};

use crate::support::{Process, Upstream};
use crate::trace_events::{Numbers, end_after, frame, header, millis, request, response, ticked};

/// One exchange of some status (none: no response) that takes so many milliseconds, `open` without an end.
fn exchange(id: u64, start: u64, status: Option<u16>, takes: u64, open: bool) -> Vec<Event> {
    let mut events = vec![request(id, millis(start), "/v1/models")];
    events.push(frame(id, Side::Request, millis(start), format!("the request {id}")));
    if let Some(status) = status {
        let Event::Response(head) = response(id, millis(start + takes / 4), "text/plain") else {
            unreachable!()
        };
        let status = status.try_into().unwrap();
        events.push(Event::Response(Box::new(ResponseHead { status, ..*head })));
        for n in 0..3 {
            let at = millis(start + takes / 2 + n * takes / 8);
            events.push(frame(id, Side::Response, at, format!("part {n} of the response {id}")));
        }
    }
    if !open {
        events.push(end_after(&events, id, millis(start + takes)));
    }
    events
}

/// Exchanges that overlap, in the order of what happened.
fn traffic(seed: u64, count: u64, open: bool) -> Vec<Event> {
    let mut numbers = Numbers::new(seed);
    let mut events = Vec::new();
    for id in 1..=count {
        let statuses = [Some(200), Some(200), Some(429), Some(500), Some(503), None];
        let status = statuses[usize::try_from(numbers.next() % 6).unwrap()];
        let open = open && numbers.next().is_multiple_of(7);
        events.extend(exchange(id, id * 30, status, 8 + numbers.next() % 400, open));
    }
    events.sort_by_key(Event::at);
    events
}

/// Whether an exchange should pass; none while nobody can tell, since it has no end.
fn passes(mesh: &Mesh, exchange: &Exchange) -> Option<bool> {
    let status = exchange.response.as_ref().map(|head| head.status.as_u16());
    let status_passes = mesh.statuses.is_empty()
        || mesh.statuses.iter().any(|wanted| match wanted {
            StatusIs::Exactly(code) => status == Some(*code),
            StatusIs::Class(class) => status.is_some_and(|status| status / 100 == *class),
            StatusIs::None => status.is_none(),
        });
    let Some(end) = &exchange.end else {
        return (status.is_some() && !status_passes).then_some(false);
    };
    let took = end.at - exchange.request.at;
    Some(status_passes && mesh.slower.is_none_or(|slower| took >= slower))
}

fn mesh(statuses: &[&str], slower_ms: Option<u64>) -> Mesh {
    let statuses = statuses.iter().map(|text| text.parse().unwrap()).collect();
    Mesh { statuses, slower: slower_ms.map(Duration::from_millis) }
}

/// Verifies a trace: nothing is missing, but for what was left out on purpose and exchanges that have no end.
#[track_caller]
fn proven(path: &Path) -> Verification {
    let found = verify(&Trace::open(path).unwrap()).unwrap();
    let stray = found.findings.iter().find(|finding| finding.cause != Cause::UnderWay);
    assert!(stray.is_none(), "{stray:?}");
    found
}

fn read(path: &Path) -> Vec<Exchange> {
    Assembler::all(Trace::open(path).unwrap().scan().unwrap().map(Result::unwrap))
}

#[track_caller]
fn check(seed: u64, count: u64, open: bool, mesh: &Mesh, budget: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let roll = Roll::create(Site::File(path.clone()), header(), RollOptions::default()).unwrap();
    let mut sieve = Sieve::new(roll, mesh.clone(), budget);
    let events = traffic(seed, count, open);
    for (event, nth) in events.iter().zip(1_u64..) {
        let appended = match event {
            Event::Frame(frame) => sieve.append_frames(frame.as_ref().alone(&mut Span::default())),
            event => sieve.append(event.clone()),
        };
        assert_eq!(appended.unwrap(), Appended::Taken);
        if nth.is_multiple_of(5) {
            sieve.flush(event.at()).unwrap();
        }
    }
    let late = sieve.undecided();
    sieve.finish(millis(count * 30 + 1_000)).unwrap();
    let found = proven(&path);
    assert_eq!(found.stated.admitted, count, "every exchange is accounted for");
    let all = Assembler::all(events.into_iter().map(ticked));
    let kept: BTreeMap<u64, Exchange> =
        read(&path).into_iter().map(|exchange| (exchange.request.exchange.0, exchange)).collect();
    let mut beyond = 0;
    for exchange in &all {
        let id = exchange.request.exchange.0;
        let passes = passes(mesh, exchange);
        if let Some(kept) = kept.get(&id) {
            assert_eq!(kept, exchange, "what is kept is kept whole");
            beyond += u64::from(passes == Some(false));
        } else {
            assert_eq!(passes, Some(false), "exchange {id} is missing");
        }
    }
    assert!(
        beyond <= late,
        "{beyond} exchanges are kept that should not be, {late} were undecided"
    );
    let omitted: Vec<&Exchange> =
        all.iter().filter(|e| !kept.contains_key(&e.request.exchange.0)).collect();
    let frames = |e: &&Exchange| (e.request_frames.len() + e.response_frames.len()) as u64;
    let stated = found.causes.iter().find(|summary| summary.cause == Cause::Filtered);
    let stated = stated.map(|summary| summary.lost).unwrap_or_default();
    assert_eq!(stated.exchanges, omitted.len() as u64);
    assert_eq!(stated.frames, omitted.iter().map(frames).sum::<u64>());
    late
}

#[test]
fn what_is_known_at_the_end_decides() {
    let ample = 64 << 20;
    for mesh in [
        mesh(&[], None),
        mesh(&["5xx"], None),
        mesh(&["429", "none"], None),
        mesh(&[], Some(200)),
        mesh(&["5xx", "429"], Some(100)),
    ] {
        assert_eq!(check(3, 60, false, &mesh, ample), 0, "{mesh:?}");
    }
}

#[test]
fn beyond_the_budget_the_oldest_is_kept_and_counted() {
    let slow = mesh(&[], Some(100_000));
    assert_eq!(check(4, 40, false, &slow, 64 << 20), 0);
    let undecided = check(4, 40, false, &slow, 6_000);
    assert!(undecided > 0 && undecided < 40, "{undecided}");
    assert_eq!(check(4, 40, false, &slow, 0), 40);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_sieve_loses_nothing_and_states_what_it_leaves_out(
        seed in any::<u64>(),
        count in 0..40_u64,
        open in any::<bool>(),
        statuses in prop::sample::subsequence(vec!["200", "4xx", "5xx", "none"], 0..4),
        slower in prop::option::of(0..400_u64),
        budget in prop_oneof![Just(64_usize << 20), 0..20_000_usize],
    ) {
        check(seed, count, open, &mesh(&statuses, slower), budget);
    }
}

/// A log that can't be written every so often; what it was handed it has.
struct Flaky {
    events: Vec<Event>,
    calls: u64,
    broken: bool,
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refused {}

impl Flaky {
    fn take(&mut self, events: impl Iterator<Item = Event>) -> Result<Appended, Refused> {
        assert!(!self.broken, "nothing is appended to a log that is broken");
        self.events.extend(events);
        self.calls += 1;
        self.broken = self.calls.is_multiple_of(3);
        if self.broken { Err(Refused) } else { Ok(Appended::Taken) }
    }
}

impl Log for Flaky {
    type Summary = Vec<Event>;
    type Error = Refused;

    fn append(&mut self, event: Event) -> Result<Appended, Refused> {
        self.take(std::iter::once(event))
    }

    fn append_frames(&mut self, frames: FramesRef<'_>) -> Result<Appended, Refused> {
        self.take(frames.iter().map(|frame| Event::Frame(frame.to_frame())))
    }

    fn flush(&mut self, _now: Nanos) -> Result<(), Refused> {
        Ok(())
    }

    fn resume(&mut self, _now: Nanos) -> Result<(), Refused> {
        self.broken = false;
        Ok(())
    }

    fn give_up(&mut self) {}

    fn strain(&mut self, _strain: Strain) {}

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn written_bytes(&self) -> u64 {
        0
    }

    fn finish(self, _now: Nanos) -> Result<Vec<Event>, Refused> {
        Ok(self.events)
    }
}

#[test]
fn a_log_that_refuses_for_a_while_gets_all_of_it_in_order() {
    let flaky = Flaky { events: Vec::new(), calls: 0, broken: false };
    let mut sieve = Sieve::new(flaky, mesh(&["5xx"], None), 64 << 20);
    let events = traffic(9, 30, false);
    for event in &events {
        // Each frame twice: two that came together.
        let mut refused = match event {
            Event::Frame(frame) => {
                let len = frame.data.len();
                let (exchange, side) = (frame.exchange, frame.side);
                let (at, accepted) = (frame.at, frame.accepted);
                let parts = &[Span { start: 0, len }; 2];
                let parts = Parts::new(&frame.data, parts);
                sieve.append_frames(FramesRef { exchange, side, at, accepted, parts }).is_err()
            }
            event => sieve.append(event.clone()).is_err(),
        };
        while refused {
            refused = sieve.resume(event.at()).is_err();
        }
    }
    while sieve.flush(millis(5_000)).is_err() {
        while sieve.resume(millis(5_000)).is_err() {}
    }
    let log = sieve.finish(millis(5_000)).unwrap();
    let times = |event: &Event| if matches!(event, Event::Frame(_)) { 2 } else { 1 };
    let twice = events.iter().flat_map(|event| std::iter::repeat_n(event.clone(), times(event)));
    let all = Assembler::all(twice);
    let kept: Vec<Exchange> =
        all.into_iter().filter(|e| passes(&mesh(&["5xx"], None), e) == Some(true)).collect();
    assert!(!kept.is_empty());
    let written = log.into_iter().filter(|event| event.exchange().is_some());
    assert_eq!(Assembler::all(written), kept);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

/// Records what `send` has clients send, with more flags, and returns the verification and the exchanges.
#[track_caller]
fn record(
    upstream: &Upstream,
    flags: &[&str],
    send: impl FnOnce(&Process),
) -> (Trace, Verification, Vec<Exchange>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let process = Process::start(&upstream.url(), &path, flags);
    send(&process);
    process.signal("-TERM");
    let (status, _, words) = process.wait();
    assert_eq!(status, Some(0), "what is left out on purpose is no loss: {words}");
    let found = proven(&path);
    (Trace::open(&path).unwrap(), found, read(&path))
}

fn ask(process: &Process, head: &str) {
    let mut peer = process.connect();
    peer.send(format!("{head}\r\nHost: a\r\n\r\n"));
    assert!(peer.message().ends_with("body"));
    peer.close();
}

#[test]
fn sessions_are_recorded_whole_or_not_at_all() {
    let upstream = Upstream::answering(OK);
    let flags = ["--sample", "50%", "--session-key", "header:x-session,query:s"];
    let (trace, found, exchanges) = record(&upstream, &flags, |process| {
        for turn in 0..3 {
            for session in 0..24 {
                // The same session on another connection, and named in another way.
                let head = match turn {
                    2 => format!("GET /v1/b?s=q{session} HTTP/1.1"),
                    _ => format!("GET /v1/a HTTP/1.1\r\nX-Session: h{session}"),
                };
                ask(process, &head);
            }
        }
    });
    assert_eq!(trace.header().sampled_ppm, 500_000);
    assert_eq!(found.stated.admitted, 72);
    assert_eq!(found.stated.sampled_out, 72 - exchanges.len() as u64);
    let sampled = found.causes.iter().find(|summary| summary.cause == Cause::Sampled).unwrap();
    assert_eq!(sampled.lost.bytes, found.stated.sampled_out * 4, "their bodies are counted");
    let mut turns: BTreeMap<String, u64> = BTreeMap::new();
    for exchange in &exchanges {
        if let Some(session) = exchange.request.headers.get("x-session") {
            *turns.entry(session.to_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert!(turns.values().all(|&count| count == 2), "{turns:?}");
    // That all or none are chosen happens once in 2^47 times.
    assert!(!exchanges.is_empty() && found.stated.sampled_out > 0);
}

#[test]
fn only_what_is_asked_for_is_recorded() {
    let upstream = Upstream::answering(OK);
    let flags = ["--only-path", "/v1/*", "--only-method", "POST,GET", "--only-header", "x-t=a|b"];
    let (trace, found, exchanges) = record(&upstream, &flags, |process| {
        ask(process, "GET /v1/models HTTP/1.1\r\nX-T: a");
        ask(process, "GET /health HTTP/1.1\r\nX-T: a");
        ask(process, "DELETE /v1/models HTTP/1.1\r\nX-T: a");
        ask(process, "GET /v1/models HTTP/1.1\r\nX-T: c");
        ask(process, "GET /v1/models HTTP/1.1");
    });
    assert_eq!((found.stated.admitted, found.stated.sampled_out), (5, 4));
    assert_eq!(exchanges.len(), 1);
    assert_eq!(trace.header().sampled_ppm, 1_000_000, "a filter is no share");
    assert_eq!(found.causes[0].cause, Cause::Filtered);
}

#[test]
fn failures_alone_are_recorded_if_asked_for() {
    let upstream = Upstream::start(|mut peer| {
        while let Some(message) = peer.try_message() {
            let status = if message.contains("/bad") { "503 Busy" } else { "200 OK" };
            peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody"));
        }
    });
    let (_, found, exchanges) = record(&upstream, &["--only-status", "5xx"], |process| {
        for path in ["/good", "/bad", "/good", "/bad", "/good"] {
            ask(process, &format!("GET {path} HTTP/1.1"));
        }
    });
    assert_eq!((found.stated.admitted, found.stated.sampled_out), (5, 3));
    let targets: BTreeSet<&str> =
        exchanges.iter().map(|exchange| exchange.request.target.as_str()).collect();
    assert_eq!((exchanges.len(), targets), (2, BTreeSet::from(["/bad"])));
}

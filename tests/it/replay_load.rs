//! Reactive loads against servers that count what is in flight.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use reenact::clock::Nanos;
use reenact::replay::load::{ClosedLoop, Load, Picks, Token};
use reenact::replay::plan::Release;
use reenact::results::RunReader;

use crate::replay_support::{Finished, Options, Recorded, reenact, replay, rows, write_trace};
use crate::support::Upstream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A server that answers only when as many requests are with it as there should be, or all that will ever come have come.
/// Should it wait for the last of them in vain, it says so.
#[derive(Clone)]
struct Gate {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    wanted: usize,
    total: usize,
}

/// What a gate has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    in_flight: usize,
    most: usize,
    arrived: usize,
    in_vain: usize,
    /// Numbers in the bodies, in the order of arrival.
    order: Vec<usize>,
}

/// How long a gate waits: far beyond what any machine needs.
const PATIENCE: Duration = Duration::from_secs(15);

impl Gate {
    fn new(wanted: usize, total: usize) -> Self {
        Self { shared: Arc::default(), wanted, total }
    }

    /// Serves on a free port; breaks off in the answer where a body has `break` in it.
    fn serve(&self) -> Upstream {
        let gate = self.clone();
        Upstream::start(move |mut peer| {
            while let Some(message) = peer.try_message() {
                gate.pass(&message);
                let is_broken = message.contains("break");
                let answer = if is_broken { OK.trim_end_matches("{}") } else { OK };
                if !peer.try_send(answer) || is_broken {
                    return;
                }
            }
        })
    }

    fn pass(&self, message: &str) {
        let (seen, changed) = &*self.shared;
        let mut seen = seen.lock().unwrap();
        seen.in_flight += 1;
        seen.arrived += 1;
        seen.most = seen.most.max(seen.in_flight);
        seen.order.extend(number(message));
        changed.notify_all();
        let shut = |seen: &mut Seen| seen.in_flight < self.wanted && seen.arrived < self.total;
        let (mut seen, waited) = changed.wait_timeout_while(seen, PATIENCE, shut).unwrap();
        seen.in_vain += usize::from(waited.timed_out());
        seen.in_flight -= 1;
    }

    fn seen(&self) -> Seen {
        self.shared.0.lock().unwrap().clone()
    }
}

/// Exchange `n`, whose body says so.
fn numbered(n: usize, word: &str) -> Recorded {
    Recorded::chat(n as u64, &format!(r#"{{"model":"m","{word}":true,"n":{n}}}"#))
}

fn number(message: &str) -> Option<usize> {
    message.rsplit_once(r#""n":"#)?.1.split('}').next()?.parse().ok()
}

fn closed(recorded: &[Recorded], concurrency: u32, targets: &[String], rounds: u32) -> Finished {
    let load: Option<Box<dyn Load>> = Some(Box::new(ClosedLoop { concurrency }));
    replay(recorded, Options { load, rounds, ..Options::to(targets) })
}

#[test]
fn a_closed_loop_keeps_exactly_so_many_in_flight_while_work_remains() {
    let gate = Gate::new(5, 60);
    let server = gate.serve();
    let recorded: Vec<Recorded> = (0..30).map(|n| numbered(n, "plain")).collect();
    let finished = closed(&recorded, 5, &[server.url()], 2);
    let seen = gate.seen();
    assert_eq!((seen.most, seen.arrived, seen.in_vain), (5, 60, 0));
    assert_eq!(finished.ran.paced.released, 60);
    assert!(finished.rows.iter().all(|row| row.outcome == "complete"), "{:?}", finished.rows);
    // Due when another one had ended: at the beginning, or at the very end of a row.
    let ends: BTreeSet<_> = finished.rows.iter().map(|row| row.end_ns.unwrap()).collect();
    let dues: Vec<i64> = finished.rows.iter().map(|row| row.due_ns.unwrap()).collect();
    assert_eq!(dues.iter().filter(|due| **due == 30_000_000).count(), 5);
    assert_eq!(dues.iter().filter(|due| ends.contains(due)).count(), 55);
    assert!(finished.rows.iter().all(|row| row.lateness_ns.unwrap() >= 0));
}

/// The requests in the order of their plan numbers, whatever the answers did.
#[test]
fn a_closed_loop_sends_the_same_requests_in_the_same_order_each_time() {
    let recorded: Vec<Recorded> = (0..20).map(|n| numbered(n, "plain")).collect();
    let digest = |concurrency: u32| {
        let server = Gate::new(1, 20).serve();
        closed(&recorded, concurrency, &[server.url()], 1).ran.paced.digest.hex()
    };
    assert_eq!(digest(3), digest(7));
}

#[test]
fn no_failure_shrinks_a_closed_loop() {
    // One target refuses every connection; exchanges break off; some can't be sent at all. All that is left for the living
    // target still comes four at a time: it would wait in vain otherwise.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let mut recorded: Vec<Recorded> =
        (0..60).map(|n| numbered(n, if n % 7 == 3 { "break" } else { "plain" })).collect();
    for n in [5, 6, 20, 59] {
        "no path at all".clone_into(&mut recorded[n].target);
    }
    let to_living = (0..60).filter(|n| n % 2 == 1 && ![5, 59].contains(n)).count();
    let gate = Gate::new(4, to_living);
    let living = gate.serve();
    let finished = closed(&recorded, 4, &[refusing, living.url()], 1);
    let seen = gate.seen();
    assert_eq!((seen.most, seen.arrived, seen.in_vain), (4, to_living, 0));
    assert_eq!((finished.rows.len(), finished.ran.fed.unsendable), (60, 4));
    let failed = finished.rows.iter().filter(|row| row.outcome == "failed").count();
    assert_eq!(
        failed,
        60 - to_living + (0..60).filter(|n| n % 7 == 3 && n % 2 == 1 && *n != 59).count()
    );
}

/// Each entry once its follower has ended: an order that no plan has.
struct Backwards {
    left: usize,
    rounds: usize,
    entries: usize,
}

impl Load for Backwards {
    fn begin(&mut self, at: Nanos) -> Vec<Token> {
        self.left = self.entries * self.rounds;
        self.next(at)
    }

    fn ended(&mut self, release: &Release, at: Nanos) -> Vec<Token> {
        assert_eq!(release.entry, self.left % self.entries);
        self.next(at)
    }

    fn picks(&self) -> Picks {
        Picks::Named
    }
}

impl Backwards {
    fn next(&mut self, at: Nanos) -> Vec<Token> {
        if self.left == 0 {
            return Vec::new();
        }
        self.left -= 1;
        vec![Token { entry: Some(self.left % self.entries), due: at, ..Token::default() }]
    }
}

#[test]
fn a_load_that_names_its_entries_gets_these_one_by_one_even_where_one_cannot_be_sent() {
    let gate = Gate::new(1, 0);
    let server = gate.serve();
    let mut recorded: Vec<Recorded> = (0..6).map(|n| numbered(n, "plain")).collect();
    "no path at all".clone_into(&mut recorded[2].target);
    let load: Option<Box<dyn Load>> = Some(Box::new(Backwards { left: 0, rounds: 2, entries: 6 }));
    let finished = replay(&recorded, Options { load, rounds: 2, ..Options::to(&[server.url()]) });
    assert_eq!(gate.seen().order, [5, 4, 3, 1, 0, 5, 4, 3, 1, 0]);
    assert_eq!(gate.seen().most, 1);
    let rounds: Vec<(u32, u64)> =
        finished.rows.iter().map(|row| (row.round, row.exchange)).collect();
    let expected: Vec<(u32, u64)> =
        (0..2).flat_map(|round| (1..=6).map(move |exchange| (round, exchange))).collect();
    assert_eq!(rounds, expected);
    assert_eq!((finished.ran.paced.released, finished.ran.fed.unsendable), (10, 2));
}

/// Runs the command on a trace of `n` exchanges against a gate; returns its text, status, and what the gate saw.
fn run(n: usize, gate: &Gate, flags: &[&str]) -> (String, Option<i32>, Seen, tempfile::TempDir) {
    let server = gate.serve();
    let folder = tempfile::tempdir().unwrap();
    let recorded: Vec<Recorded> = (0..n).map(|n| numbered(n, "plain")).collect();
    let trace = write_trace(folder.path(), &recorded).display().to_string();
    let out = folder.path().join("run").display().to_string();
    let output =
        reenact(&[&["replay", &trace, "--target", &server.url(), "--out", &out], flags].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code(), gate.seen(), folder)
}

#[test]
fn the_command_runs_a_closed_loop_and_a_dry_run_has_its_digest() {
    let flags = ["--concurrency", "3", "--loop", "2", "--limit", "6"];
    let (text, _status, seen, folder) = run(8, &Gate::new(3, 12), &flags);
    assert_eq!((seen.most, seen.arrived, seen.in_vain), (3, 12, 0), "{text}");
    let run = folder.path().join("run");
    let manifest = RunReader::open(&run).unwrap().manifest().clone();
    assert_eq!((manifest.counts.planned, manifest.counts.complete), (12, 12));
    assert_eq!(manifest.options["concurrency"], 3);
    assert!(!manifest.options.contains_key("speed"));
    assert_eq!(rows(&run).0.len(), 12);
    let (dry, status, seen, _folder) =
        self::run(8, &Gate::new(1, 0), &[&flags[..], &["--dry-run"]].concat());
    assert_eq!((status, seen.arrived), (Some(0), 0), "{dry}");
    assert!(
        dry.contains("12 releases in this order. Each is due when fewer than 3 are in flight"),
        "{dry}"
    );
    assert!(dry.contains(&format!("sent digest {}", manifest.sent_digest)), "{dry}\n{text}");
    assert!(!dry.contains(" 0.500000 s"), "no due time is made up: {dry}");
}

#[test]
fn a_duration_ends_releasing_and_what_is_in_flight_goes_on_to_its_end() {
    let gate = Gate::new(1, 0);
    let (text, _status, seen, folder) =
        run(1, &gate, &["--concurrency", "2", "--loop", "4000000", "--duration", "300ms"]);
    let manifest = RunReader::open(&folder.path().join("run")).unwrap().manifest().clone();
    assert_eq!(manifest.counts.planned, seen.arrived as u64, "{text}");
    assert_eq!(manifest.counts.complete, seen.arrived as u64, "{text}");
    assert!(seen.arrived >= 2 && seen.most <= 2, "{seen:?}");
    assert!(!manifest.interrupted, "{text}");
}

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

#[test]
fn users_take_turns_in_order_and_go_around_while_the_run_time_lasts() {
    let gate = Gate::new(1, 0);
    let flags = ["--users", "2", "--spawn-rate", "5", "--run-time", "400ms", "--think"];
    let (text, _status, seen, folder) = run(3, &gate, &[&flags[..], &["pacing:0.05"]].concat());
    let run = folder.path().join("run");
    let manifest = RunReader::open(&run).unwrap().manifest().clone();
    let mut rows = rows(&run).0;
    assert!(seen.most <= 2 && rows.len() > 3, "{seen:?} {text}");
    let taken = rows.iter().map(|row| (row.round, row.exchange));
    assert!(taken.eq((0..).map(|n| (n / 3, u64::from(n % 3 + 1))).take(rows.len())), "{rows:?}");
    assert_eq!(manifest.counts.planned, rows.len() as u64, "{text}");
    assert_eq!(
        (&manifest.options["users"], &manifest.options["think"]),
        (&2.into(), &"pacing:0.05".into())
    );
    // Each user at least 50 ms from request to request, from when it was due; nothing is due once the time is over.
    rows.sort_by_key(|row| row.due_ns);
    let first = rows[0].due_ns.unwrap();
    assert!(rows.iter().all(|row| row.due_ns.unwrap() < first + 400_000_000));
    for user in [0, 1] {
        let dues: Vec<i64> = rows
            .iter()
            .filter(|row| row.load_user == Some(user))
            .map(|row| row.due_ns.unwrap())
            .collect();
        assert!(dues.windows(2).all(|pair| pair[1] - pair[0] >= 50_000_000), "{user}: {dues:?}");
    }
    assert_eq!(rows[0].load_user, Some(0));
}

#[test]
fn bursts_are_released_at_once_and_none_before_the_one_before_has_ended() {
    let (text, _status, seen, folder) =
        run(4, &Gate::new(1, 0), &["--bursts", "1,2,5,3", "--burst-pause", "30ms"]);
    let rows = rows(&folder.path().join("run")).0;
    assert_eq!((seen.arrived, rows.len()), (11, 11), "{text}");
    let of = |stage| rows.iter().filter(move |row| row.stage == Some(stage));
    for (stage, size) in [(0, 1), (1, 2), (2, 5), (3, 3)] {
        let dues: BTreeSet<_> = of(stage).map(|row| row.due_ns.unwrap()).collect();
        assert_eq!((of(stage).count(), dues.len()), (size, 1), "{stage}");
        if stage > 0 {
            let ended = of(stage - 1).map(|row| row.end_ns.unwrap()).max().unwrap();
            assert_eq!(dues.first(), Some(&(ended + 30_000_000)), "{stage}");
        }
    }
    // In order, around and around.
    let mut rows: Vec<_> = rows.iter().map(|row| (row.round, row.exchange, row.stage)).collect();
    rows.sort_by_key(|(_, _, stage)| *stage);
    let seen: BTreeSet<_> = rows.iter().map(|(round, exchange, _)| (*round, *exchange)).collect();
    let expected: BTreeSet<_> = (0..11).map(|n| (n / 4, u64::from(n % 4 + 1))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_whole_burst_is_with_the_server_at_once() {
    let gate = Gate::new(6, 6);
    let (text, _status, seen, _folder) = run(4, &gate, &["--bursts", "6"]);
    assert_eq!((seen.most, seen.arrived, seen.in_vain), (6, 6, 0), "{text}");
}

#[test]
fn a_load_that_cannot_work_ends_at_once_with_one_clear_error() {
    let check = |flags: &[&str], words: &str| {
        let gate = Gate::new(1, 0);
        let (text, status, seen, folder) = run(2, &gate, flags);
        assert_eq!((status, seen.arrived), (Some(2), 0), "{flags:?}: {text}");
        assert!(text.contains(words), "{flags:?}: {text}");
        assert!(!folder.path().join("run").exists());
    };
    check(&["--concurrency", "0"], "--concurrency 0 would send nothing");
    check(&["--concurrency", "70000"], "more than the 65535 connections");
    check(&["--users", "0"], "--users 0 would send nothing");
    check(&["--users", "1", "--spawn-rate", "0"], "--spawn-rate 0 is no use");
    check(&["--users", "1", "--think", "deeply"], "`deeply` is no think time");
    check(&["--users", "1", "--run-time", "0"], "a duration of 0 leaves nothing");
    check(&["--bursts", "1,0"], "--bursts 0 would send nothing");
    check(&["--bursts", "1", "--loop", "2"], "cannot be used with");
    check(&["--think", "constant:1"], "--users");
    check(&["--burst-pause", "1s"], "--bursts");
    check(&["--speed", "2", "--concurrency", "3"], "--speed cannot be used with --concurrency");
    check(&["--rate", "2", "--users", "3"], "--rate cannot be used with --users");
    check(&["--bursts", "2", "--users", "3"], "there is one clock");
}

#[test]
fn stages_follow_each_other_and_each_row_says_which_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let staged = |text: &str, n: usize, flags: &[&str]| {
        let file = folder.path().join("stages.toml");
        std::fs::write(&file, text).unwrap();
        let gate = Gate::new(1, 0);
        run(n, &gate, &[&["--stages", &file.display().to_string()], flags].concat())
    };
    let mixed = "[[stage]]\nconcurrency = 3\nduration = 0.2\n[[stage]]\nrate = 100\narrival = \"constant\"\nduration = \"100ms\"\n\
                 [[stage]]\nconcurrency = 1\nduration = 0.1\n";
    let (text, _status, seen, scene) = staged(mixed, 3, &[]);
    let (rows, _) = rows(&scene.path().join("run"));
    let first = rows.iter().map(|row| row.due_ns.unwrap()).min().unwrap();
    assert_eq!(rows.len(), seen.arrived, "{text}");
    for row in &rows {
        let due = row.due_ns.unwrap() - first;
        let span = match row.stage.unwrap() {
            0 => 0..200_000_000,
            1 => 200_000_000..300_000_000,
            _ => 300_000_000..400_000_000,
        };
        assert!(span.contains(&due), "{:?} at {due}", row.stage);
        let slots = [Some(3), None, Some(1)][row.stage.unwrap() as usize];
        assert_eq!(row.load_user.is_some(), slots.is_some());
        assert!(row.load_user < slots || slots.is_none());
    }
    assert_eq!(rows.iter().filter(|row| row.stage == Some(1)).count(), 10, "{text}");

    // All at a rate: an open loop, known before the run.
    let open = "[[stage]]\nrate = 100\nduration = 1\n[[stage]]\nrate = 500\nduration = 1\n";
    let dry = || {
        let (text, status, ..) = staged(open, 3, &["--dry-run", "--json"]);
        assert_eq!(status, Some(0), "{text}");
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.collect::<Vec<serde_json::Value>>()
    };
    let lines = dry();
    assert_eq!(lines.last().unwrap(), dry().last().unwrap(), "the digest of it all, for one");
    let of = |stage: u32| lines.iter().filter(|line| line["stage"] == stage).count();
    assert!((60..150).contains(&of(0)) && (400..600).contains(&of(1)), "{} {}", of(0), of(1));

    let (text, status, ..) = staged("[[stage]]\nrate = 0\nduration = 1\n", 3, &[]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("stage 1 would send nothing"), "{text}");
}

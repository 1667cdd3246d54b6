//! Several targets: who gets what, what is said of each, the same traffic to two at a time; and one that refuses everything.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use reenact::replay::balance::{Balance, Policy};
use reenact::results::RunReader;
use reenact::results::rows::Measurement;

use crate::replay_support::{Options, Recorded, reenact, replay, rows, write_trace};
use crate::support::{Simulated, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn chats(n: u64, gap_ms: u64) -> Vec<Recorded> {
    (0..n)
        .map(|n| Recorded::chat(n * gap_ms, &format!(r#"{{"model":"m{}","n":{n}}}"#, n % 2)))
        .collect()
}

/// Returns the place of each row's target, by exchange.
fn places(rows: &[Measurement]) -> Vec<u32> {
    rows.iter().map(|row| row.target_index.unwrap()).collect()
}

/// Replays with a balance on that many servers that answer at once.
fn balanced(recorded: &[Recorded], servers: usize, balance: Balance) -> Vec<Measurement> {
    let servers: Vec<Upstream> = (0..servers).map(|_| Upstream::answering(OK)).collect();
    let targets: Vec<String> = servers.iter().map(Upstream::url).collect();
    let rows = replay(recorded, Options { balance, ..Options::to(&targets) }).rows;
    for row in &rows {
        assert_eq!(row.target, targets[row.target_index.unwrap() as usize]);
        assert_eq!(row.outcome, "complete");
    }
    rows
}

#[test]
fn targets_take_turns_in_a_stated_order() {
    let recorded = chats(7, 5);
    let seen = |policy, weights: &[u32]| {
        let balance = Balance { policy, weights: weights.into(), ..Balance::default() };
        places(&balanced(&recorded, 3, balance))
    };
    assert_eq!(seen(Policy::RoundRobin, &[]), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(seen(Policy::RoundRobinLast, &[]), [1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(seen(Policy::Weighted, &[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn a_session_stays_with_its_target() {
    let recorded: Vec<Recorded> =
        (0..24).map(|n| Recorded::chat(n * 3, &format!(r#"{{"user":"u{}"}}"#, n % 6))).collect();
    let balance = Balance { policy: Policy::Session, ..Balance::default() };
    let rows = balanced(&recorded, 3, balance);
    let mut homes: BTreeMap<String, u32> = BTreeMap::new();
    for row in &rows {
        let home =
            homes.entry(row.session.clone().unwrap()).or_insert_with(|| row.target_index.unwrap());
        assert_eq!(row.target_index, Some(*home));
    }
    assert_eq!(homes.len(), 6);
}

/// A server that answers one request and then none gets one more at most while the other one answers.
#[test]
fn the_least_outstanding_target_is_chosen_when_a_release_is_due() {
    let silent = Upstream::start(|mut peer| while peer.try_message().is_some() {});
    let quick = Upstream::answering(OK);
    let options = Options {
        balance: Balance { policy: Policy::LeastOutstanding, ..Balance::default() },
        limits: reenact::replay::call::Limits {
            total: Some(Duration::from_secs(2)),
            ..Default::default()
        },
        ..Options::to(&[silent.url(), quick.url()])
    };
    let rows = replay(&chats(12, 25), options).rows;
    let places = places(&rows);
    assert_eq!(places[0], 0, "all are idle: the first");
    assert!(places[1..].iter().all(|place| *place == 1), "{places:?}");
    assert_eq!(rows[0].error_kind.as_deref(), Some("timeout"));
}

fn capturing() -> (Upstream, Receiver<String>) {
    let (requests, seen) = channel();
    let server = Upstream::start(move |mut peer| {
        while let Some(request) = peer.try_message() {
            // The test may have seen enough.
            drop(requests.send(request));
            peer.send(OK);
        }
    });
    (server, seen)
}

#[test]
fn a_mirror_sends_the_same_bytes_to_all_at_the_same_due_time() {
    let servers = [capturing(), capturing()];
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &chats(4, 20)).display().to_string();
    let out = folder.path().join("run");
    let urls = servers.each_ref().map(|(server, _)| server.url());
    let replayed = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = ["replay", &trace, "--target", &urls[0], "--target", &urls[1], "--out"];
        let output = reenact(&[&args[..], &[out.to_str().unwrap()], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let said = replayed("run", &["--mirror"]);
    let (rows, _) = rows(&out);
    assert_eq!(rows.len(), 8, "{said}");
    for pair in rows.chunks(2) {
        let [a, b] = pair else { panic!("a pair") };
        assert_eq!(
            (a.exchange, a.due_ns, &a.request_digest),
            (b.exchange, b.due_ns, &b.request_digest)
        );
        assert_ne!(a.target_index, b.target_index);
    }
    for (server, seen) in &servers {
        let bodies: Vec<String> = seen
            .try_iter()
            .map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned())
            .collect();
        assert_eq!(bodies.len(), 4, "{}", server.url());
        assert_eq!(bodies[3], r#"{"model":"m1","n":3}"#);
    }
    let manifest = RunReader::open(&out).unwrap().manifest().clone();
    assert_eq!((manifest.counts.planned, manifest.counts.complete), (8, 8));
    for target in &manifest.targets {
        assert_eq!((target.results.sent, target.results.complete), (4, 4));
        assert!(target.results.e2e_p50_ns.is_some());
    }
    assert!(said.contains("by target, milliseconds"), "{said}");
    let report = reenact(&["report", out.to_str().unwrap(), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let pair = &report["mirror"]["pairs"]["1"];
    assert_eq!((&pair["target"], &pair["pairs"]), (&urls[1].clone().into(), &4.into()), "{report}");
    assert_eq!((&pair["good"], &report["mirror"]["lost"]), (&4.into(), &0.into()));
    // What is sent is the plan's, whoever gets it.
    let digest =
        |said: &str| said.lines().find(|line| line.starts_with("sent digest")).unwrap().to_owned();
    assert_eq!(digest(&said), digest(&replayed("turns", &["--balance", "round-robin"])));
}

#[test]
fn models_have_targets_of_their_own() {
    let servers: Vec<Upstream> = (0..3).map(|_| Upstream::answering(OK)).collect();
    let folder = tempfile::tempdir().unwrap();
    let trace = write_trace(folder.path(), &chats(6, 5)).display().to_string();
    let out = folder.path().join("run");
    let [a, b, c] = [0, 1, 2].map(|n| servers[n].url());
    let routes = format!("m1={b},m1={c}");
    let args = ["replay", &trace, "--target", &a, "--route-model", &routes, "--out"];
    let output = reenact(&[&args[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(places(&rows(&out).0), [0, 1, 0, 2, 0, 1], "{output:?}");
    let dry = reenact(&[&args[..6], &["--dry-run", "--json"]].concat());
    let said = String::from_utf8(dry.stdout).unwrap();
    let urls: Vec<String> = said
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["url"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(urls.len(), 6);
    assert!(
        urls[1].starts_with(&b) && urls[3].starts_with(&c) && urls[2].starts_with(&a),
        "{urls:?}"
    );
}

#[test]
fn a_balance_that_can_not_work_ends_at_once() {
    for (args, words) in [
        (&["--mirror"][..], "a mirror needs two targets"),
        (&["--balance", "weighted"], "one for each target"),
        (&["--weight", "3"], "--weight needs --balance weighted"),
        (&["--balance", "fair"], "say round-robin"),
        (&["--target", "http://127.0.0.1:9"], "named twice"),
        (&["--route-model", "m"], "say MODEL=URL"),
        (&["--mirror", "--balance", "session"], "cannot be used with"),
    ] {
        let all = [&["replay", "none.trace", "--target", "http://127.0.0.1:9", "--dry-run"], args]
            .concat();
        let output = reenact(&all);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?} {said}");
        assert!(said.contains(words), "{args:?} {said}");
    }
}

/// A server that answers everything with this status.
fn refusing(status: &str) -> Upstream {
    Upstream::answering(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}"))
}

#[test]
fn a_target_that_answers_404_to_everything_ends_the_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The last is due in an hour.
    let mut recorded = chats(30, 1);
    recorded.push(Recorded::chat(3_600_000, r#"{"model":"m"}"#));
    let trace = write_trace(folder.path(), &recorded).display().to_string();
    let check = |status: &str, name: &str, flags: &[&str], fails: bool, words: &[&str]| {
        let out = folder.path().join(name);
        let url = refusing(status).url();
        let to = out.display().to_string();
        let output =
            reenact(&[&["replay", &trace, "--target", &url, "--out", &to], flags].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let has_failed = output.status.code() == Some(1);
        assert_eq!(has_failed, fails, "{status} {flags:?}: {text}");
        for words in words {
            assert!(text.contains(words), "{text}");
        }
        rows(&out).0.len()
    };
    let n = check(
        "404 Not Found",
        "a",
        &[],
        true,
        &[
            "requests with 404 (the last: POST /v1/chat/completions)",
            "--keep-going",
            "answers so far are in",
        ],
    );
    assert!((20..=30).contains(&n), "{n} rows");
    check("401 Unauthorized", "b", &["--concurrency", "2"], true, &["--api-key-env"]);
    check("404 Not Found", "c", &["--limit", "2"], true, &["each of its first 2 requests"]);
    let n = check("404 Not Found", "d", &["--limit", "25", "--keep-going"], false, &[]);
    assert_eq!(n, 25);
    // An error that says nothing about the plan is a result.
    check("500 Oops", "e", &["--limit", "25"], false, &[]);
}

/// Two simulated servers of different speed: the mirror tells them apart in one run.
#[test]
fn a_slower_server_shows_in_a_mirror() {
    let slow = reenact::simulate::SimulateOptions {
        prefill: Duration::from_millis(120),
        ..Simulated::quick()
    };
    let servers = [Simulated::start(Simulated::quick()), Simulated::start(slow)];
    let recorded: Vec<Recorded> = (0..5)
        .map(|n| {
            let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
            Recorded::chat(n * 30, body)
        })
        .collect();
    let options = Options {
        balance: Balance { policy: Policy::Mirror, ..Balance::default() },
        ..Options::to(&[servers[0].url(), servers[1].url()])
    };
    let rows = replay(&recorded, options).rows;
    let median = |place| {
        let mut ttft: Vec<i64> = rows
            .iter()
            .filter(|row| row.target_index == Some(place))
            .map(|row| row.ttft_ns.unwrap())
            .collect();
        assert_eq!(ttft.len(), 5);
        ttft.sort_unstable();
        ttft[2]
    };
    assert!(median(1) - median(0) > 60_000_000, "{} {}", median(0), median(1));
    // The simulated server says the same to the same request.
    assert!(rows.iter().all(|row| row.output_digest == rows[0].output_digest));
}

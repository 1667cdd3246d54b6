//! `reenact sample`: a run folder of readings alone, at the end of its time and at SIGTERM.

use std::path::Path;
use std::process::{Command, Stdio};

use reenact::results::RunReader;
use reenact::results::rows::{HostSample, Measurement};

fn sample(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reenact"));
    command.args(["sample", "--period-ms", "10", "--nvml-library", "/absent.so", "--out"]).arg(out);
    command
}

#[test]
fn readings_are_written_on_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let done = sample(&out).args(["--duration", "300ms"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("No NVIDIA GPU is sampled: /absent.so: "), "{said}");
    let reader = RunReader::open(&out).unwrap();
    assert!(reader.manifest().finished && reader.manifest().telemetry.len() >= 2);
    assert_eq!(reader.count::<Measurement>().unwrap(), 0);
    let rows: Vec<HostSample> = reader.rows().unwrap().collect::<Result<_, _>>().unwrap();
    assert!(rows.len() >= 3, "{}", rows.len());
    // Due at whole multiples of the period: a reading is never early.
    let slots: Vec<i64> = rows.iter().map(|row| row.at_ns / 10_000_000).collect();
    assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "{slots:?}");

    let again = sample(&out).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stderr).unwrap().contains("already holds a run"));
}

#[test]
fn a_signal_ends_it_well() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut child = sample(&out).stderr(Stdio::null()).spawn().unwrap();
    // Signals are listened for before the manifest stands.
    while !out.join("run.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(RunReader::open(&out).unwrap().manifest().finished);
}

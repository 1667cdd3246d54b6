//! The run folder: rows come back as they were written, parts are joined, a killed run stays readable.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use reenact::clock::Nanos;
use reenact::results::manifest::Manifest;
use reenact::results::rows::{FrameRow, GpuSample, HostSample, Measurement, ServerMetric};
use reenact::results::table::Row;
use reenact::results::{PART_NS, PART_ROWS, RunError, RunReader, RunWriter};

fn manifest() -> Manifest {
    Manifest { run: "r1".into(), tool: "reenact test".into(), ..Manifest::default() }
}

fn frame(number: u32) -> FrameRow {
    FrameRow { exchange: 7, frame: number, at_ns: i64::from(number), ..FrameRow::default() }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn all<R: Row>(reader: &RunReader) -> Vec<R> {
    reader.rows().unwrap().collect::<Result<_, _>>().unwrap()
}

prop_compose! {
    fn measurement()(
        exchange in any::<u64>(),
        session in any::<Option<String>>(),
        stream in any::<Option<bool>>(),
        sent_ns in any::<Option<i64>>(),
        sent_at in any::<Option<i64>>(),
        end_ns in proptest::option::of(0..1_000_000_i64),
        status in any::<Option<u16>>(),
        outcome in "complete|failed|cancelled",
        output_tokens in any::<Option<u64>>(),
        images in any::<u32>(),
        output_differs_at in any::<Option<u64>>(),
    ) -> Measurement {
        Measurement {
            exchange, session, stream, sent_ns, sent_at, end_ns, status, outcome, output_tokens,
            images, output_differs_at, ..Measurement::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rows_come_back_as_they_were_written(
        requests in proptest::collection::vec(measurement(), 0..40),
        values in proptest::collection::vec(any::<Option<u32>>(), 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = RunWriter::create(dir.path(), &manifest()).unwrap();
        for row in &requests {
            writer.request(row.clone()).unwrap();
        }
        let gpu: Vec<GpuSample> = values
            .into_iter()
            .map(|value| GpuSample {
                utilization_pct: value,
                power_w: value.map(f64::from),
                throttle_reasons: value.map(|value| value.to_string()),
                ..GpuSample::default()
            })
            .collect();
        for row in &gpu {
            writer.gpu(row.clone()).unwrap();
        }
        writer.finish(manifest()).unwrap();
        let reader = RunReader::open(dir.path()).unwrap();
        prop_assert!(reader.manifest().finished);
        prop_assert_eq!(all::<Measurement>(&reader), requests);
        prop_assert_eq!(all::<GpuSample>(&reader), gpu);
        prop_assert_eq!(all::<HostSample>(&reader), vec![]);
    }
}

/// Large parts are copied, small ones are encoded together: order and values stay.
#[test]
fn parts_are_joined_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(dir.path(), &manifest()).unwrap();
    let mut written = Vec::new();
    let sizes = [3, 5, PART_ROWS + 11, 2, 1, PART_ROWS / 4, 40_000, 1];
    let mut now = 0;
    for size in sizes {
        let from = u32::try_from(written.len()).unwrap();
        let rows: Vec<_> = (from..from + u32::try_from(size).unwrap()).map(frame).collect();
        written.extend(rows.clone());
        writer.frames(rows).unwrap();
        now += PART_NS;
        writer.tick(Nanos(now.cast_unsigned())).unwrap();
    }
    assert_eq!(
        files(dir.path()).iter().filter(|name| name.starts_with("frames.")).count(),
        sizes.len() + 1
    );
    writer.finish(manifest()).unwrap();
    assert_eq!(
        files(dir.path()),
        [
            "frames.parquet",
            "gpu.parquet",
            "host.parquet",
            "requests.parquet",
            "run.json",
            "server_metrics.parquet"
        ]
    );
    let reader = RunReader::open(dir.path()).unwrap();
    assert_eq!(reader.count::<FrameRow>().unwrap(), written.len());
    assert_eq!(all::<FrameRow>(&reader), written);
}

#[test]
fn a_folder_with_a_run_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    RunWriter::create(dir.path(), &manifest()).unwrap().finish(manifest()).unwrap();
    let error = RunWriter::create(dir.path(), &manifest()).unwrap_err();
    assert!(matches!(error, RunError::Occupied { .. }), "{error}");
}

#[test]
fn what_is_no_run_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| RunReader::open(path).unwrap_err();
    assert!(matches!(open(&dir.path().join("absent")), RunError::Missing(_)));
    assert!(matches!(open(dir.path()), RunError::NotARun(_)));
    fs::write(dir.path().join("run.json"), "{\"schema\": 99}").unwrap();
    assert!(matches!(open(dir.path()), RunError::Newer { found: 99, .. }));
    fs::write(dir.path().join("run.json"), "{").unwrap();
    assert!(matches!(open(dir.path()), RunError::Manifest { .. }));
    fs::write(dir.path().join("run.json"), "{}").unwrap();
    fs::write(dir.path().join("requests.parquet"), "PAR1 cut").unwrap();
    let error = RunReader::open(dir.path()).unwrap().rows::<Measurement>().unwrap().next();
    let error = error.unwrap().unwrap_err();
    assert!(error.to_string().contains("requests.parquet: cannot read"), "{error}");
}

/// What can't be written is named, the run stays unfinished, and what was closed before is still there.
#[test]
fn a_write_that_fails_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(dir.path(), &manifest()).unwrap();
    let second = |writer: &mut RunWriter, number: u32| {
        writer.frames(vec![frame(number)])?;
        writer.tick(Nanos(PART_NS.cast_unsigned() * 10 * u64::from(number + 1)))
    };
    second(&mut writer, 0).unwrap();
    fs::create_dir(dir.path().join("frames.00001.parquet.open")).unwrap();
    let error = second(&mut writer, 1).unwrap_err();
    assert!(error.to_string().contains("frames.00001.parquet.open: cannot write"), "{error}");
    drop(writer);
    let reader = RunReader::open(dir.path()).unwrap();
    assert!(!reader.manifest().finished);
    assert_eq!(all::<FrameRow>(&reader), [frame(0)]);
}

/// Tells the test that it is the process to be killed, and where to write.
const VICTIM_DIR: &str = "REENACT_TEST_VICTIM_DIR";

/// Writes a run for ever: what the process does that [`a_killed_run_can_be_read`] kills.
#[expect(clippy::print_stdout, reason = "the test reads it")]
fn write_for_ever(dir: &Path) {
    let mut writer = RunWriter::create(dir, &manifest()).unwrap();
    for second in 0.. {
        let at_ns = i64::from(second) * 1_000_000_000;
        let row =
            Measurement { exchange: second.into(), end_ns: Some(at_ns), ..Measurement::default() };
        writer.request(row).unwrap();
        writer.frames(vec![FrameRow { at_ns, frame: second, ..FrameRow::default() }]).unwrap();
        writer
            .server(ServerMetric { at_ns, value: second.into(), ..ServerMetric::default() })
            .unwrap();
        if second == 16 {
            println!("ready");
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_run_can_be_read() {
    // The process that is killed is this test, started once more.
    if let Some(dir) = std::env::var_os(VICTIM_DIR) {
        write_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "results_run::a_killed_run_can_be_read"])
        .env(VICTIM_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .any(|line| line.unwrap().contains("ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready, "the victim ended by itself");
    let reader = RunReader::open(dir.path()).unwrap();
    assert!(!reader.manifest().finished);
    let requests: Vec<Measurement> = all(&reader);
    let frames: Vec<FrameRow> = all(&reader);
    let server: Vec<ServerMetric> = all(&reader);
    // Parts are closed each 5 s of the run's own time: with second 16 written, at least 0 to 14 are safe.
    assert!(requests.len() >= 15, "{} requests", requests.len());
    assert!(frames.len() >= 15 && server.len() >= 15, "{} {}", frames.len(), server.len());
    assert!(requests.iter().enumerate().all(|(number, row)| row.exchange == number as u64));
    assert!(frames.iter().enumerate().all(|(number, row)| row.frame as usize == number));
}

//! Looks for doubts in a summary. Each threshold is named, and stands at the end.

use crate::results::answers::{Aspect, Compared};
use crate::results::manifest::Verdict;

use super::summary::Summary;
use super::warnings::Warning;

/// Returns every doubt about a run, the worst first.
pub(super) fn find(summary: &Summary) -> Vec<Warning> {
    let mut found = Vec::new();
    about_the_run(summary, &mut found);
    about_the_client(summary, &mut found);
    about_the_responses(summary, &mut found);
    about_the_recording(summary, &mut found);
    about_the_gpus(summary, &mut found);
    found.extend(summary.manifest.telemetry_doubts.iter().cloned().map(Warning::Sampling));
    found.sort_by_key(Warning::weight);
    found
}

fn about_the_run(summary: &Summary, found: &mut Vec<Warning>) {
    let (manifest, counts) = (&summary.manifest, &summary.counts);
    if !manifest.finished {
        found.push(Warning::Unfinished);
    }
    if manifest.interrupted {
        let (planned, sent) = (manifest.counts.planned, manifest.counts.sent);
        found.push(Warning::Interrupted { planned, sent });
    }
    if manifest.finished && manifest.verdict == Verdict::Invalid && manifest.reasons.is_empty() {
        found.push(Warning::Invalid("it gives no reason".to_owned()));
    }
    found.extend(manifest.reasons.iter().cloned().map(Warning::Invalid));
    found.extend(manifest.doubts.iter().cloned().map(Warning::Doubted));
    if counts.rows == 0 {
        found.extend((!summary.is_telemetry_only()).then_some(Warning::NoRequests));
        return;
    }
    let rows = counts.rows + counts.warmup;
    if manifest.finished && manifest.counts.sent > rows {
        found.push(Warning::RowsMissing { sent: manifest.counts.sent, rows });
    }
    if counts.good < ENOUGH_ROWS {
        found.push(Warning::FewRows { good: counts.good });
    }
    let bad = (counts.errors + counts.failed).saturating_sub(counts.errors_as_recorded);
    if bad > 0 {
        let commonest = summary.errors.iter().max_by_key(|(_, errors)| errors.count);
        let commonest = commonest.map(|(key, _)| key.to_string()).unwrap_or_default();
        found.push(Warning::Failures { bad, rows: counts.rows, commonest });
    }
    if !manifest.trace.path.is_empty() && !manifest.trace.complete {
        found.push(Warning::TraceIncomplete);
    }
}

fn about_the_client(summary: &Summary, found: &mut Vec<Warning>) {
    let (manifest, host, late) = (&summary.manifest, &summary.host, &summary.latencies.lateness);
    let latency = &summary.latencies;
    let median = latency.ttft.p50.or(latency.e2e.p50).or(latency.e2e.max);
    if let (Some(p99_ns), Some(median_ns)) = (late.p99, median)
        && p99_ns > LATE_NS
        && p99_ns.saturating_mul(LATE_SHARE) > median_ns
        // An INVALID run has told its lateness among its reasons.
        && manifest.verdict != Verdict::Invalid
    {
        found.push(Warning::Late { p99_ns, median_ns });
    }
    if summary.is_telemetry_only() {
        return;
    }
    if let Some(mean_pct) = host.cpu_pct.mean()
        && mean_pct > BUSY_PCT
    {
        found.push(Warning::BusyClient { mean_pct });
    }
    if host.run_delay_s > manifest.duration_s * RUN_DELAY_SHARE && host.run_delay_s > 0.0 {
        let duration_s = manifest.duration_s;
        if duration_s > 0.0 {
            found.push(Warning::RunDelay { delay_s: host.run_delay_s, duration_s });
        }
    }
    if let Some(mean_pct) = host.cpu_steal_pct.mean()
        && mean_pct > STEAL_PCT
    {
        found.push(Warning::Steal { mean_pct });
    }
    if let Some(governor) = &manifest.host.governor
        && governor != "performance"
    {
        found.push(Warning::Governor(governor.clone()));
    }
    let source = manifest.clock_source.as_str();
    if !matches!(
        source,
        "" | "unknown" | "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page"
    ) {
        found.push(Warning::ClockSource(source.to_owned()));
    }
    if host.readings == 0 && !summary.is_recording() {
        found.push(Warning::NoHost);
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn about_the_responses(summary: &Summary, found: &mut Vec<Warning>) {
    let counts = &summary.counts;
    if counts.estimated_tokens > 0 {
        let (estimated, rows) = (counts.estimated_tokens, counts.rows);
        found.push(Warning::EstimatedTokens { estimated, rows });
    }
    if counts.uncounted_tokens > 0 {
        let (uncounted, good) = (counts.uncounted_tokens, counts.good);
        found.push(Warning::UncountedTokens { uncounted, good });
    }
    if counts.content_frames > 0 {
        let events_per_frame = counts.content_events as f64 / counts.content_frames as f64;
        if events_per_frame > COALESCED {
            found.push(Warning::CoalescedFrames { events_per_frame });
        }
    }
    if counts.one_frame_streams * 20 > counts.streams {
        let (buffered, streams) = (counts.one_frame_streams, counts.streams);
        found.push(Warning::BufferedStreams { buffered, streams });
    }
    if counts.input_tokens > 0 {
        let pct = counts.cached_tokens as f64 * 100.0 / counts.input_tokens as f64;
        if pct > CACHED_PCT {
            found.push(Warning::CachedInput { pct });
        }
    }
    let connect = &summary.latencies.connect;
    let ttft = summary.latencies.ttft.p50.unwrap_or(i64::MAX);
    if let Some(median_ns) = connect.p50
        && counts.connected * 5 > counts.rows
        && median_ns.saturating_mul(20) > ttft
    {
        let (connected, rows) = (counts.connected, counts.rows);
        found.push(Warning::NewConnections { connected, rows, median_ns });
    }
    if counts.retried > 0 {
        found.push(Warning::Retried { retried: counts.retried });
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn about_the_recording(summary: &Summary, found: &mut Vec<Warning>) {
    let seen = &summary.answers;
    let Compared { rows: of, different: differ } = seen.of(Aspect::Status);
    if differ > 0 {
        found.push(Warning::StatusesDiffer { differ, of });
    }
    let Compared { rows: of, different: differ } = seen.of(Aspect::Text);
    if differ > 0 {
        found.push(Warning::OutputsDiffer { differ, of });
    }
    if seen.recorded_output_tokens > 0 {
        let (now, then) = (seen.output_tokens as f64, seen.recorded_output_tokens as f64);
        let pct = (now - then) * 100.0 / then;
        if pct.abs() > LENGTHS_PCT {
            found.push(Warning::LengthsDiffer { pct });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn about_the_gpus(summary: &Summary, found: &mut Vec<Warning>) {
    if summary.gpus.is_empty() && !summary.is_recording() {
        found.push(Warning::NoGpu);
    }
    for (gpu, used) in &summary.gpus {
        for (reason, readings) in &used.throttled {
            let pct = *readings as f64 * 100.0 / used.readings as f64;
            if !HARMLESS_REASONS.contains(&reason.as_str()) && pct >= THROTTLED_PCT {
                found.push(Warning::Throttled { gpu: *gpu, reason: reason.clone(), pct });
            }
        }
    }
}

/// Good rows below which tail quantiles are missing.
const ENOUGH_ROWS: u64 = 100;
/// Lateness below this is none.
const LATE_NS: i64 = 1_000_000;
/// Lateness matters above one part in so many of the median latency.
const LATE_SHARE: i64 = 20;
/// Busy share of the sending machine from which it may be the bottleneck.
const BUSY_PCT: f64 = 85.0;
/// Waiting for a CPU, as a share of the run, from which it shows.
const RUN_DELAY_SHARE: f64 = 0.1;
/// Stolen CPU time that shows.
const STEAL_PCT: f64 = 2.0;
/// Events per frame from which frames are groups.
const COALESCED: f64 = 1.5;
/// Share of cached input that shows.
const CACHED_PCT: f64 = 10.0;
/// Difference of output lengths that shows.
const LENGTHS_PCT: f64 = 5.0;
/// Share of readings from which a GPU counts as held down.
const THROTTLED_PCT: f64 = 1.0;
/// Reasons that are no harm: nothing to do, or clocks set by somebody.
const HARMLESS_REASONS: [&str; 3] =
    ["gpu_idle", "applications_clocks_setting", "display_clock_setting"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::machines::GpuUse;
    use crate::report::series::Level;
    use crate::report::stats::Spread;
    use crate::report::summary::{Counts, ErrorCount, ErrorKey};
    use crate::report::warnings::Weight;
    use crate::results::answers::Answers;

    /// A run that leaves nothing to be desired.
    fn sound() -> Summary {
        let mut summary = Summary {
            verdict: Verdict::Valid,
            counts: Counts { rows: 1_000, good: 1_000, streams: 1_000, ..Counts::default() },
            ..Summary::default()
        };
        summary.manifest.finished = true;
        summary.manifest.verdict = Verdict::Valid;
        summary.manifest.duration_s = 60.0;
        (summary.manifest.counts.planned, summary.manifest.counts.sent) = (1_000, 1_000);
        summary.manifest.clock_source = "tsc".to_owned();
        summary.latencies.ttft = Spread { p50: Some(50_000_000), ..Spread::default() };
        summary.latencies.lateness = Spread { p99: Some(500_000), ..Spread::default() };
        summary.host.readings = 600;
        summary.gpus.insert(0, GpuUse { readings: 600, ..GpuUse::default() });
        summary
    }

    fn level(value: f64) -> Level {
        let mut level = Level::default();
        level.push(value);
        level
    }

    /// Spoils a sound run; it must then be doubted for exactly these reasons.
    fn check(expected: &[&str], spoil: impl FnOnce(&mut Summary)) {
        let mut summary = sound();
        spoil(&mut summary);
        let found = find(&summary);
        let kinds: Vec<&str> = found.iter().map(Warning::kind).collect();
        assert_eq!(kinds, expected);
        for warning in found {
            let sentence = warning.to_string();
            assert!(
                sentence.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()),
                "{sentence}"
            );
            assert!(sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
        }
    }

    #[test]
    fn a_sound_run_is_not_doubted() {
        check(&[], |_| {});
    }

    #[test]
    fn the_run_itself_is_doubted() {
        check(&["unfinished"], |run| run.manifest.finished = false);
        check(&["invalid", "interrupted"], |run| {
            run.manifest.verdict = Verdict::Invalid;
            run.manifest.reasons = vec!["requests were late".to_owned()];
            run.manifest.interrupted = true;
        });
        check(&["invalid"], |run| run.manifest.verdict = Verdict::Invalid);
        check(&["doubted"], |run| {
            run.manifest.verdict = Verdict::Doubtful;
            run.manifest.doubts = vec!["the calls' thread was busy".to_owned()];
        });
        check(&["no_requests"], |run| {
            run.counts = Counts::default();
            run.manifest.counts.sent = 0;
        });
        check(&[], |run| {
            run.counts = Counts::default();
            run.manifest.options.insert("verb".to_owned(), "sample".into());
        });
        check(&["rows_missing"], |run| run.manifest.counts.sent = 1_001);
        check(&["few_rows"], |run| run.counts.good = 99);
        check(&["trace_incomplete"], |run| run.manifest.trace.path = "t.trace".to_owned());
        check(&[], |run| (run.counts.errors, run.counts.errors_as_recorded) = (3, 3));
        check(&["failures"], |run| {
            run.counts.failed = 3;
            let key = ErrorKey { kind: "http".to_owned(), status: Some(503) };
            run.errors.insert(key, ErrorCount { count: 3, ..ErrorCount::default() });
        });
    }

    #[test]
    fn the_sending_machine_is_doubted() {
        check(&["late"], |run| run.latencies.lateness.p99 = Some(3_000_000));
        check(&[], |run| {
            run.latencies.lateness.p99 = Some(3_000_000);
            run.latencies.ttft.p50 = Some(100_000_000);
        });
        check(&["busy_client"], |run| run.host.cpu_pct = level(90.0));
        check(&["run_delay"], |run| run.host.run_delay_s = 7.0);
        check(&["steal"], |run| run.host.cpu_steal_pct = level(3.0));
        check(&["governor"], |run| run.manifest.host.governor = Some("powersave".to_owned()));
        check(&["clock_source"], |run| run.manifest.clock_source = "hpet".to_owned());
        check(&["no_host"], |run| run.host.readings = 0);
        check(&[], |run| {
            run.manifest.counts = crate::results::manifest::Counts::default();
            run.host.readings = 0;
        });
    }

    #[test]
    fn the_responses_are_doubted() {
        check(&["estimated_tokens"], |run| run.counts.estimated_tokens = 1);
        check(&["uncounted_tokens"], |run| run.counts.uncounted_tokens = 1);
        check(&["coalesced_frames"], |run| {
            (run.counts.content_frames, run.counts.content_events) = (100, 200);
        });
        check(&["buffered_streams"], |run| run.counts.one_frame_streams = 100);
        check(&[], |run| run.counts.one_frame_streams = 50);
        check(&["cached_input"], |run| {
            (run.counts.input_tokens, run.counts.cached_tokens) = (100, 50);
        });
        check(&["new_connections"], |run| {
            run.counts.connected = 300;
            run.latencies.connect.p50 = Some(5_000_000);
        });
        check(&["retried"], |run| run.counts.retried = 1);
    }

    #[test]
    fn what_differs_from_the_recording_is_doubted() {
        let seen = |answers: Answers| move |run: &mut Summary| run.answers = answers;
        let differs = |aspect| Answers {
            compared: [(aspect, Compared { rows: 9, different: 1 })].into(),
            ..Answers::default()
        };
        check(&["statuses_differ"], seen(differs(Aspect::Status)));
        check(&["outputs_differ"], seen(differs(Aspect::Text)));
        check(
            &["lengths_differ"],
            seen(Answers { recorded_output_tokens: 100, output_tokens: 90, ..Answers::default() }),
        );
    }

    #[test]
    fn gpus_are_doubted() {
        check(&["no_gpu"], |run| run.gpus.clear());
        check(&["sampling"], |run| {
            run.manifest.telemetry_doubts = vec!["GPU 0: 3 readings were missed".to_owned()];
        });
        let held = |reason: &str, readings: u64| {
            let throttled = [(reason.to_owned(), readings)].into_iter().collect();
            move |run: &mut Summary| {
                run.gpus.insert(1, GpuUse { readings: 100, throttled, ..GpuUse::default() });
            }
        };
        check(&["throttled"], held("hw_thermal_slowdown", 10));
        check(&[], held("gpu_idle", 100));
    }

    #[test]
    fn the_worst_comes_first() {
        let mut summary = sound();
        summary.gpus.clear();
        summary.counts.retried = 1;
        summary.manifest.finished = false;
        let weights: Vec<Weight> = find(&summary).iter().map(Warning::weight).collect();
        assert_eq!(weights, [Weight::Invalid, Weight::Doubt, Weight::Note]);
    }
}

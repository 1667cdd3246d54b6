//! Tables of what the run was made on: GPUs, the sending machine, the manifest.

use crate::results::manifest::{Calibration, Quantiles};

use super::series::Level;
use super::summary::Summary;
use super::table::{Table, none, short};
use super::units::{bytes, ns, percent, seconds, three};

pub(super) fn gpus(summary: &Summary) -> Table {
    let head =
        ["GPU", "utilization", "power", "energy", "memory, most", "clock", "hottest", "held down"];
    let mean = |level: &Level, unit: &str| {
        level.mean().map_or_else(none, |mean| format!("{} {unit}", three(mean)))
    };
    let rows = summary.gpus.iter().map(|(index, used)| {
        let name = summary.manifest.gpus.iter().find(|gpu| gpu.index == *index);
        let name = name.map_or("", |gpu| gpu.name.as_str());
        let held = used.throttled.iter().max_by_key(|(_, readings)| **readings);
        vec![
            format!("GPU {index} {name}").trim_end().to_owned(),
            mean(&used.utilization_pct, "%"),
            mean(&used.power_w, "W"),
            used.energy_j.map_or_else(none, |joules| format!("{} J", three(joules))),
            most(&used.memory_bytes, bytes),
            mean(&used.sm_clock_mhz, "MHz"),
            most(&used.temperature_c, |max| format!("{max:.0} °C")),
            held.map_or_else(none, |(reason, readings)| {
                format!("{reason} {}", percent(*readings, used.readings))
            }),
        ]
    });
    Table {
        title: "GPUs",
        note: "Means over the run but where it says otherwise.".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

pub(super) fn host(summary: &Summary) -> Table {
    let host = &summary.host;
    if host.readings == 0 {
        return Table::default();
    }
    let share = |level: &Level| {
        level.mean().map_or_else(none, |mean| format!("{mean:.0} % (most {:.0} %)", level.max))
    };
    let pairs = [
        ("CPU, all", share(&host.cpu_pct)),
        ("CPU, busiest", share(&host.cpu_busiest_pct)),
        ("this process (100 % is one CPU)", share(&host.process_cpu_pct)),
        ("its memory, most", most(&host.process_rss_bytes, bytes)),
        ("its wait for a CPU", format!("{} s", three(host.run_delay_s))),
        ("memory, most", most(&host.memory_bytes, bytes)),
    ];
    Table {
        title: "Machine that ran reenact",
        note: String::new(),
        head: pairs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: vec![pairs.into_iter().map(|(_, value)| value).collect()],
    }
}

/// What the program measured of itself.
pub(super) fn instrument(summary: &Summary) -> Table {
    let seen = &summary.manifest.instrument;
    let mut rows = Vec::new();
    let mut put = |name: &str, of: &Quantiles| {
        if of.max_ns > 0 {
            let times = [of.p50_ns, of.p90_ns, of.p99_ns, of.max_ns].map(ns);
            rows.push([vec![name.to_owned()], times.to_vec()].concat());
        }
    };
    let before = summary.manifest.calibration;
    if let Some(Calibration { jitter, .. }) = &before {
        put(
            &format!("Before the run: due until a local server read, {:.0}/s", jitter.rate_per_s),
            &jitter.late,
        );
    }
    put("Due until the call ran", &seen.dispatch);
    put("Until the calls' thread came round", &seen.stalls);
    let busy = |cpus: Option<f64>| cpus.map_or_else(none, |cpus| format!("{:.0} %", cpus * 100.0));
    let round_trips: Vec<String> = summary
        .manifest
        .targets
        .iter()
        .filter_map(|target| Some((&target.url, target.connect_rtt?)))
        .map(|(url, rtt)| {
            format!(" Round trip to {url}: {} ({} connects).", ns(rtt.p50_ns), rtt.connects)
        })
        .collect();
    Table {
        title: "The measurement itself",
        note: format!(
            "Nothing of this is subtracted from anything. CPU time of the calls' thread {}, of the process {} (100 % is one \
             CPU).{}{}",
            busy(seen.calls_cpus),
            busy(seen.process_cpus),
            before.map_or_else(String::new, |found| format!(
                " Before the run one thread read {} events/s.",
                three(found.events.events_per_s)
            )),
            round_trips.concat()
        ),
        head: ["", "p50", "p90", "p99", "max"].map(str::to_owned).to_vec(),
        rows,
    }
}

/// What the manifest says.
pub(super) fn facts(summary: &Summary) -> Table {
    let manifest = &summary.manifest;
    let machine = &manifest.host;
    let memory = bytes(to_f64(machine.memory_bytes));
    let hardware = format!("{} ({} CPUs, {memory}), {}", machine.cpu, machine.cpus, machine.kernel);
    let mut rows: Vec<(String, String)> = [
        ("Run", manifest.run.clone()),
        ("Started", manifest.started.clone()),
        ("Duration", seconds(manifest.duration_s)),
        ("Trace", manifest.trace.path.clone()),
        ("Trace digest", manifest.trace.digest.clone()),
        ("Sent digest", manifest.sent_digest.clone()),
        ("Tool", manifest.tool.clone()),
        ("Machine", if machine.cpus > 0 { hardware } else { String::new() }),
        ("Clock source", manifest.clock_source.clone()),
        ("CPU governor", machine.governor.clone().unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    for target in &manifest.targets {
        let told = [target.server.clone(), target.version.clone()].into_iter().flatten();
        let models = (!target.models.is_empty()).then(|| short(&target.models.join(", "), 120));
        let told: Vec<String> = told.chain(models).collect();
        rows.push(("Target".to_owned(), [vec![target.url.clone()], told].concat().join(" · ")));
    }
    for gpu in &manifest.gpus {
        let memory = bytes(to_f64(gpu.memory_bytes));
        rows.push((
            format!("GPU {}", gpu.index),
            format!("{}, {memory}, {}, {}", gpu.name, gpu.driver, gpu.uuid),
        ));
    }
    rows.extend(manifest.options.iter().map(|(flag, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("Option {flag}"), short(&value, 200))
    }));
    rows.extend(manifest.telemetry.iter().map(|note| ("Telemetry".to_owned(), note.clone())));
    Table {
        title: "The run",
        note: String::new(),
        head: ["", ""].map(str::to_owned).to_vec(),
        rows: rows
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| vec![name, value])
            .collect(),
    }
}

fn most(level: &Level, write: impl Fn(f64) -> String) -> String {
    if level.count == 0 { none() } else { write(level.max) }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

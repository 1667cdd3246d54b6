//! What GPUs and the sending machine did: sums for the tables, lines for the charts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::rows::{GpuSample, HostSample};

use super::series::{Bin, Level, Series};

/// What a GPU did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GpuUse {
    /// Readings.
    pub readings: u64,
    /// Utilization, percent.
    pub utilization_pct: Level,
    /// Memory in use, bytes.
    pub memory_bytes: Level,
    /// Power, watts.
    pub power_w: Level,
    /// Temperature, degrees Celsius.
    pub temperature_c: Level,
    /// Shader clock, MHz.
    pub sm_clock_mhz: Level,
    /// Energy between the first and the last reading, joules: by the counter, or else power times time.
    pub energy_j: Option<f64>,
    /// Readings by the reason that held the clocks down.
    pub throttled: BTreeMap<String, u64>,
    pub(super) first_energy_j: Option<f64>,
    pub(super) power_integral_j: f64,
    pub(super) last_at_ns: Option<i64>,
}

/// What the sending machine did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostUse {
    /// Readings.
    pub readings: u64,
    /// Busy share of all CPUs.
    pub cpu_pct: Level,
    /// Busy share of the busiest CPU.
    pub cpu_busiest_pct: Level,
    /// CPU time taken by the hypervisor.
    pub cpu_steal_pct: Level,
    /// CPU use of this process, 100 is one CPU.
    pub process_cpu_pct: Level,
    /// Resident memory of this process.
    pub process_rss_bytes: Level,
    /// Memory in use.
    pub memory_bytes: Level,
    /// Waiting for a CPU while ready, seconds, all threads of this process.
    pub run_delay_s: f64,
    /// Involuntary context switches of this process.
    pub involuntary_switches: u64,
    pub(super) first_run_delay_ns: Option<u64>,
    pub(super) first_switches: Option<u64>,
}

/// Lines of a GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuLines {
    /// Percent.
    pub utilization_pct: Series<Level>,
    /// Watts.
    pub power_w: Series<Level>,
    /// Memory in use, percent.
    pub memory_pct: Series<Level>,
}

/// What the host did in a bin of time.
#[derive(Clone, Debug, Default)]
pub struct HostBin {
    /// Busy share of all CPUs.
    pub cpu_pct: Level,
    /// CPU use of this process.
    pub process_cpu_pct: Level,
}

// === impl GpuUse ===

impl GpuUse {
    /// Takes a reading in, and draws it.
    #[expect(clippy::cast_precision_loss, reason = "means and charts")]
    pub(super) fn push(&mut self, row: &GpuSample, lines: &mut GpuLines) {
        self.readings += 1;
        let used = row.memory_used_bytes.map(|bytes| bytes as f64);
        for (value, level) in [
            (row.utilization_pct.map(f64::from), &mut self.utilization_pct),
            (used, &mut self.memory_bytes),
            (row.power_w, &mut self.power_w),
            (row.temperature_c, &mut self.temperature_c),
            (row.sm_clock_mhz.map(f64::from), &mut self.sm_clock_mhz),
        ] {
            level.extend(value);
        }
        let share = used.zip(row.memory_total_bytes).map(|(used, all)| used * 100.0 / all as f64);
        for (value, line) in [
            (row.utilization_pct.map(f64::from), &mut lines.utilization_pct),
            (row.power_w, &mut lines.power_w),
            (share.filter(|share| share.is_finite()), &mut lines.memory_pct),
        ] {
            if let Some(value) = value {
                line.at(row.at_ns).push(value);
            }
        }
        self.push_energy(row);
        for reason in row.throttle_reasons.iter().flat_map(|reasons| reasons.split('|')) {
            if !reason.is_empty() && self.throttled.len() < MOST_REASONS {
                *self.throttled.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    fn push_energy(&mut self, row: &GpuSample) {
        let elapsed_s = self.last_at_ns.map_or(0.0, |last| (row.at_ns - last).max(0) as f64 / 1e9);
        self.power_integral_j += row.power_w.unwrap_or(0.0) * elapsed_s;
        self.last_at_ns = Some(row.at_ns);
        self.energy_j = match row.energy_j {
            Some(now) => Some(now - *self.first_energy_j.get_or_insert(now)),
            None => row.power_w.map(|_| self.power_integral_j).or(self.energy_j),
        };
    }
}

// === impl HostUse ===

impl HostUse {
    /// Takes a reading in, and draws it.
    #[expect(clippy::cast_precision_loss, reason = "means and charts")]
    pub(super) fn push(&mut self, row: &HostSample, lines: &mut Series<HostBin>) {
        self.readings += 1;
        let bin = lines.at(row.at_ns);
        bin.cpu_pct.extend(row.cpu_pct);
        bin.process_cpu_pct.extend(row.process_cpu_pct);
        self.cpu_pct.extend(row.cpu_pct);
        self.cpu_busiest_pct.extend(row.cpu_busiest_pct);
        self.cpu_steal_pct.extend(row.cpu_steal_pct);
        self.process_cpu_pct.extend(row.process_cpu_pct);
        self.process_rss_bytes.extend(row.process_rss_bytes.map(|bytes| bytes as f64));
        self.memory_bytes.extend(row.memory_used_bytes.map(|bytes| bytes as f64));
        if let Some(delay_ns) = row.process_run_delay_ns {
            let first = *self.first_run_delay_ns.get_or_insert(delay_ns);
            self.run_delay_s = delay_ns.saturating_sub(first) as f64 / 1e9;
        }
        if let Some(switches) = row.process_involuntary_switches {
            let first = *self.first_switches.get_or_insert(switches);
            self.involuntary_switches = switches.saturating_sub(first);
        }
    }
}

impl Bin for HostBin {
    fn join(&mut self, next: &Self) {
        self.cpu_pct.join(&next.cpu_pct);
        self.process_cpu_pct.join(&next.process_cpu_pct);
    }
}

/// Most reasons that are told apart.
const MOST_REASONS: usize = 100;

//! The machine and this process, by `/proc`.
//!
//! CPU time, context switches and run-queue delay of the process are sums over its threads, taken as differences thread
//! by thread: the kernel's sums for a process are coarse (10 ms) or of the first thread only. What a thread did after
//! its last reading and before its end is not seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use crate::results::manifest::Host;
use crate::results::rows::{HostSample, Sample};

use super::sampler::{Source, Stamp};

/// Returns what there is to say about the machine, and the kernel's source of monotonic time; `root` is `/`.
#[must_use]
pub fn machine(root: &Path) -> (Host, String) {
    let read = |path: &str| text(&root.join(path));
    let line = |path: &str| read(path).map(|text| text.trim().to_owned());
    let meminfo = read("proc/meminfo").unwrap_or_default();
    let cpuinfo = read("proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    let kernel = [line("proc/sys/kernel/ostype"), line("proc/sys/kernel/osrelease")];
    let host = Host {
        name: line("proc/sys/kernel/hostname").unwrap_or_default(),
        kernel: kernel.into_iter().flatten().collect::<Vec<_>>().join(" "),
        cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cpus: available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        governor: line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_bytes: kib(&meminfo, "MemTotal").unwrap_or(0),
    };
    let clock = line("sys/devices/system/clocksource/clocksource0/current_clocksource");
    (host, clock.unwrap_or_else(|| "unknown".to_owned()))
}

/// Finds the machine's `/proc` under `root`.
///
/// # Errors
/// A sentence that says why it can't be sampled.
pub(super) fn find(root: &Path) -> Result<HostSource, String> {
    let proc = root.join("proc");
    if text(&proc.join("stat")).is_none() {
        return Err(format!("The machine is not sampled: {} can't be read.", proc.display()));
    }
    Ok(HostSource { proc, cpus: Vec::new(), process: Process::default(), last_ns: None })
}

/// Reads the machine and this process.
pub(super) struct HostSource {
    proc: PathBuf,
    /// Times of the reading before: all CPUs, then each.
    cpus: Vec<CpuTimes>,
    process: Process,
    last_ns: Option<i64>,
}

/// Times of a CPU, in the kernel's ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    all: u64,
    idle: u64,
    steal: u64,
}

/// Running totals of this process, and what each thread had at the reading before.
#[derive(Debug, Default)]
struct Process {
    total: Thread,
    threads: BTreeMap<u64, Thread>,
}

/// Counters of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thread {
    ran_ns: u64,
    delay_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

// === impl HostSource ===

impl Source for HostSource {
    fn name(&self) -> String {
        "host".to_owned()
    }

    fn read(&mut self, stamp: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String> {
        let read = |name: &str| text(&self.proc.join(name));
        let stat = read("stat").ok_or("/proc/stat can't be read")?;
        let meminfo = read("meminfo").unwrap_or_default();
        let status = read("self/status").unwrap_or_default();
        let net = read("net/dev").map(|dev| traffic(&dev));
        let load = read("loadavg").and_then(|line| line.split(' ').next()?.parse().ok());
        let cpus = cpu_times(&stat);
        let ran_before = self.process.total.ran_ns;
        let threads = self.process.read(&self.proc.join("self/task"));
        let total = self.process.total;
        let busy = self.cpus.iter().zip(&cpus).map(|(before, now)| now.busy_pct(before));
        let elapsed = self.last_ns.map(|last| stamp.at_ns - last).filter(|elapsed| *elapsed > 0);
        let memory_total = kib(&meminfo, "MemTotal");
        let available = kib(&meminfo, "MemAvailable");
        let sample = HostSample {
            at_ns: stamp.at_ns,
            sampled_at: stamp.utc_ns,
            cpu_pct: busy.clone().next().flatten(),
            cpu_busiest_pct: busy.skip(1).flatten().reduce(f64::max),
            cpu_steal_pct: self
                .cpus
                .first()
                .zip(cpus.first())
                .and_then(|(before, now)| now.steal_pct(before)),
            load_1m: load,
            memory_used_bytes: memory_total
                .zip(available)
                .map(|(all, free)| all.saturating_sub(free)),
            memory_total_bytes: memory_total,
            switches: field(&stat, "ctxt").and_then(|count| count.parse().ok()),
            net_rx_bytes: net.map(|(rx, _)| rx),
            net_tx_bytes: net.map(|(_, tx)| tx),
            process_cpu_pct: elapsed
                .filter(|_| threads.is_some())
                .map(|elapsed| percent(total.ran_ns - ran_before, elapsed.cast_unsigned())),
            process_rss_bytes: kib(&status, "VmRSS"),
            process_threads: threads,
            process_voluntary_switches: threads.map(|_| total.voluntary),
            process_involuntary_switches: threads.map(|_| total.involuntary),
            process_run_delay_ns: threads.map(|_| total.delay_ns),
        };
        self.cpus = cpus;
        self.last_ns = Some(stamp.at_ns);
        sink(Sample::Host(sample));
        Ok(())
    }
}

// === impl CpuTimes ===

impl CpuTimes {
    fn busy_pct(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let idle = self.idle.saturating_sub(before.idle).min(all);
        Some(percent(all - idle, all))
    }

    fn steal_pct(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(percent(self.steal.saturating_sub(before.steal), all))
    }
}

// === impl Process ===

impl Process {
    /// Adds what each thread did since the reading before; returns their number, none when they can't be read.
    fn read(&mut self, tasks: &Path) -> Option<u32> {
        let mut now = BTreeMap::new();
        for entry in fs::read_dir(tasks).ok()?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            // A thread that ends between the two calls has nothing to read, and is left out.
            let (Some(id), Some(thread)) = (id, Thread::read(&entry.path())) else { continue };
            let before = self.threads.get(&id).copied().unwrap_or_default();
            self.total.ran_ns += thread.ran_ns.saturating_sub(before.ran_ns);
            self.total.delay_ns += thread.delay_ns.saturating_sub(before.delay_ns);
            self.total.voluntary += thread.voluntary.saturating_sub(before.voluntary);
            self.total.involuntary += thread.involuntary.saturating_sub(before.involuntary);
            now.insert(id, thread);
        }
        self.threads = now;
        u32::try_from(self.threads.len()).ok()
    }
}

// === impl Thread ===

impl Thread {
    fn read(task: &Path) -> Option<Self> {
        let times = text(&task.join("schedstat"))?;
        let mut times = times.split_whitespace().map(|number| number.parse().ok());
        let status = text(&task.join("status"))?;
        let count = |name| field(&status, name).and_then(|count| count.parse().ok()).unwrap_or(0);
        Some(Self {
            ran_ns: times.next()??,
            delay_ns: times.next()??,
            voluntary: count("voluntary_ctxt_switches:"),
            involuntary: count("nonvoluntary_ctxt_switches:"),
        })
    }
}

/// Times of all CPUs together, then of each, from `/proc/stat`. Guest time is in user time already.
fn cpu_times(stat: &str) -> Vec<CpuTimes> {
    stat.lines()
        .take_while(|line| line.starts_with("cpu"))
        .map(|line| {
            let ticks: Vec<u64> =
                line.split_whitespace().skip(1).map(|tick| tick.parse().unwrap_or(0)).collect();
            let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
            CpuTimes { all: ticks.iter().take(8).sum(), idle: at(3) + at(4), steal: at(7) }
        })
        .collect()
}

/// Bytes received and sent on all interfaces but loopback, from `/proc/net/dev`.
fn traffic(dev: &str) -> (u64, u64) {
    dev.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .map(|(_, counts)| {
            let counts: Vec<u64> =
                counts.split_whitespace().map(|count| count.parse().unwrap_or(0)).collect();
            let at = |index: usize| counts.get(index).copied().unwrap_or(0);
            (at(0), at(8))
        })
        .fold((0, 0), |(rx, tx), (more_rx, more_tx)| (rx + more_rx, tx + more_tx))
}

/// The word after `key` at the start of a line.
fn field<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then(|| words.next())?
    })
}

/// The value of a line such as `MemTotal:  123 kB`, in bytes.
fn kib(text: &str, key: &str) -> Option<u64> {
    let count: u64 = field(text, &format!("{key}:"))?.parse().ok()?;
    count.checked_mul(1_024)
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_shares_are_differences() {
        let before = cpu_times("cpu 100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\nintr 5");
        let now = cpu_times("cpu 150 0 150 780 110 0 0 10 50 0\ncpu0 1 2 3 4\nintr 5");
        assert_eq!(now.len(), 2);
        assert_eq!(now[0].busy_pct(&before[0]), Some(55.0));
        assert_eq!(now[0].steal_pct(&before[0]), Some(5.0));
        assert_eq!(now[1].busy_pct(&before[1]), None);
    }

    #[test]
    fn traffic_leaves_loopback_out() {
        let dev = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0\n  eth0: 100 1 0 0 \
                   0 0 0 0 40 2 0\nwlan0:5 1 0 0 0 0 0 0 7 1\n";
        assert_eq!(traffic(dev), (105, 47));
    }

    #[test]
    fn lines_with_units_are_bytes() {
        assert_eq!(kib("MemTotal:       24 kB\nVmRSS:\t 3 kB\n", "VmRSS"), Some(3_072));
        assert_eq!(kib("MemTotal:       24 kB\n", "Mem"), None);
    }
}

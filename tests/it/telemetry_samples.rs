//! Samplers: NVIDIA by a stand-in library behind the real wrapper, AMD and host by made-up trees, a metrics page by HTTP.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use reenact::clock::Clock;
use reenact::results::rows::{GpuSample, HostSample, Sample, ServerMetric};
use reenact::telemetry::{Options, Running, machine, start};

/// Compiles the stand-in for `libnvidia-ml.so.1`.
fn stand_in(dir: &Path) -> PathBuf {
    let library = dir.join("libnvidia-ml.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nvml/nvml.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .expect("cc compiles the stand-in NVML; Rust's own linker needs it as well");
    assert!(status.success(), "cc failed on {source}");
    library
}

fn put(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn sampling(options: &Options) -> (Running, Receiver<Sample>) {
    let (sender, samples) = sync_channel(4_096);
    let running = start(options, Clock::start(), move |sample| sender.try_send(sample).is_ok());
    (running, samples)
}

fn options(root: &Path) -> Options {
    Options {
        period: Duration::from_millis(5),
        scrape_period: Duration::from_millis(5),
        // A machine with an NVIDIA GPU runs the same tests.
        nvml_library: Some(root.join("absent.so")),
        root: root.to_owned(),
        ..Options::default()
    }
}

/// Waits for the first sample that `wanted` makes something of.
fn first<T>(samples: &Receiver<Sample>, mut wanted: impl FnMut(Sample) -> Option<T>) -> T {
    loop {
        let sample = samples.recv_timeout(Duration::from_secs(20)).expect("a sample in 20 s");
        if let Some(found) = wanted(sample) {
            return found;
        }
    }
}

fn gpu(index: u32) -> impl FnMut(Sample) -> Option<GpuSample> {
    move |sample| match sample {
        Sample::Gpu(sample) if sample.gpu == index => Some(sample),
        _ => None,
    }
}

fn host(sample: Sample) -> Option<HostSample> {
    match sample {
        Sample::Host(sample) => Some(sample),
        _ => None,
    }
}

#[test]
fn nvidia_gpus_are_read_through_their_library() {
    let dir = tempfile::tempdir().unwrap();
    let (running, samples) =
        sampling(&Options { nvml_library: Some(stand_in(dir.path())), ..options(dir.path()) });
    let names: Vec<&str> = running.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    assert_eq!(names, ["Stand-in H100", "Stand-in GT 710", "unknown"]);
    assert_eq!(running.gpus[0].driver, "nvidia 550.54.15");
    assert_eq!(running.gpus[1].uuid, "GPU-0001");
    assert_eq!(running.gpus[0].memory_bytes, 80_000_000_000);

    let whole = first(&samples, gpu(0));
    let expected = GpuSample {
        gpu: 0,
        at_ns: whole.at_ns,
        sampled_at: whole.sampled_at,
        utilization_pct: Some(97),
        memory_utilization_pct: Some(41),
        memory_used_bytes: Some(60_000_000_000),
        memory_total_bytes: Some(80_000_000_000),
        process_memory_bytes: Some(59_000_000_000),
        own_memory_bytes: Some(1_000_000_000),
        power_w: Some(512.345),
        power_limit_w: Some(700.0),
        energy_j: Some(1_000.0),
        temperature_c: Some(61.0),
        memory_temperature_c: Some(77.0),
        sm_clock_mhz: Some(1_980),
        memory_clock_mhz: Some(2_619),
        throttle_reasons: Some("sw_power_cap|hw_thermal_slowdown".into()),
        pcie_rx_bytes_per_s: Some(3_000_000),
        pcie_tx_bytes_per_s: Some(2_000_000),
        pstate: Some(2),
        fan_pct: None,
    };
    assert_eq!(whole, expected);
    let next = first(&samples, gpu(0));
    assert!(
        next.at_ns > whole.at_ns && next.sampled_at - whole.sampled_at == next.at_ns - whole.at_ns
    );
    assert_eq!(next.energy_j, Some(1_050.0));

    let poor = first(&samples, gpu(1));
    let expected = GpuSample {
        gpu: 1,
        at_ns: poor.at_ns,
        sampled_at: poor.sampled_at,
        memory_used_bytes: Some(30_000_000_000),
        memory_total_bytes: Some(40_000_000_000),
        temperature_c: Some(40.0),
        ..GpuSample::default()
    };
    assert_eq!(poor, expected);
    let doubts = running.stop();
    assert!(doubts.iter().any(|doubt| doubt.starts_with("GPU 2: ")), "{doubts:?}");
    assert!(!doubts.iter().any(|doubt| doubt.starts_with("GPU 0: ") && doubt.contains("failed")));
}

#[test]
fn amd_gpus_are_read_from_sysfs() {
    let dir = tempfile::tempdir().unwrap();
    let (card, sensors) = ("sys/class/drm/card1/device", "sys/class/drm/card1/device/hwmon/hwmon4");
    let file = |name: &str, text: &str| put(dir.path(), &[(name, text)]);
    put(
        dir.path(),
        &[
            ("sys/class/drm/card0/device/vendor", "0x8086\n"),
            ("sys/class/drm/renderD128/device/vendor", "0x1002\n"),
        ],
    );
    for (name, text) in [
        ("vendor", "0x1002\n"),
        ("device", "0x74a1\n"),
        ("product_name", "Instinct MI300X\n"),
        ("unique_id", "abc123\n"),
        ("gpu_busy_percent", "88\n"),
        ("mem_info_vram_used", "1000\n"),
        ("mem_info_vram_total", "4000\n"),
    ] {
        file(&format!("{card}/{name}"), text);
    }
    for (name, text) in [
        ("power1_average", "345000000\n"),
        ("power1_cap", "750000000\n"),
        ("temp1_label", "edge\n"),
        ("temp1_input", "50000\n"),
        ("temp2_label", "junction\n"),
        ("temp2_input", "63000\n"),
        ("temp3_label", "mem\n"),
        ("temp3_input", "58500\n"),
        ("freq1_label", "sclk\n"),
        ("freq1_input", "2100000000\n"),
        ("pwm1", "51\n"),
    ] {
        file(&format!("{sensors}/{name}"), text);
    }
    file("sys/module/amdgpu/version", "6.12.12\n");
    let (running, samples) = sampling(&options(dir.path()));
    assert_eq!(running.gpus.len(), 1, "{:?}", running.notes);
    assert_eq!(running.gpus[0].name, "Instinct MI300X");
    assert_eq!(running.gpus[0].driver, "amdgpu 6.12.12");
    let sample = first(&samples, gpu(0));
    let expected = GpuSample {
        at_ns: sample.at_ns,
        sampled_at: sample.sampled_at,
        utilization_pct: Some(88),
        memory_used_bytes: Some(1_000),
        memory_total_bytes: Some(4_000),
        power_w: Some(345.0),
        power_limit_w: Some(750.0),
        temperature_c: Some(63.0),
        memory_temperature_c: Some(58.5),
        sm_clock_mhz: Some(2_100),
        fan_pct: Some(20),
        ..GpuSample::default()
    };
    assert_eq!(sample, expected);
    drop(running.stop());
}

#[test]
fn the_machine_is_read_from_proc() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        &[
            ("proc/stat", "cpu 10 0 10 80 0 0 0 0 0 0\ncpu0 10 0 10 80 0 0 0 0 0 0\nctxt 777\n"),
            ("proc/loadavg", "1.50 0.9 0.5 2/90 1234\n"),
            ("proc/meminfo", "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n"),
            ("proc/net/dev", "a\nb\n lo: 5 0 0 0 0 0 0 0 5 0\n eth0: 11 0 0 0 0 0 0 0 22 0\n"),
            ("proc/self/status", "Name: x\nVmRSS:   12 kB\n"),
            ("proc/self/task/5/schedstat", "1000 30 2\n"),
            (
                "proc/self/task/5/status",
                "voluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t1\n",
            ),
            ("proc/self/task/6/schedstat", "500 12 2\n"),
            (
                "proc/self/task/6/status",
                "voluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t0\n",
            ),
            ("proc/sys/kernel/ostype", "Linux\n"),
            ("proc/sys/kernel/osrelease", "6.1.0\n"),
            ("proc/sys/kernel/hostname", "box\n"),
            ("proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ],
    );
    let (running, samples) = sampling(&options(dir.path()));
    let before = first(&samples, host);
    let expected = HostSample {
        at_ns: before.at_ns,
        sampled_at: before.sampled_at,
        load_1m: Some(1.5),
        memory_used_bytes: Some(60 * 1_024),
        memory_total_bytes: Some(100 * 1_024),
        switches: Some(777),
        net_rx_bytes: Some(11),
        net_tx_bytes: Some(22),
        process_rss_bytes: Some(12 * 1_024),
        process_threads: Some(2),
        process_voluntary_switches: Some(7),
        process_involuntary_switches: Some(1),
        process_run_delay_ns: Some(42),
        ..HostSample::default()
    };
    assert_eq!(before, expected);

    fs::remove_dir_all(dir.path().join("proc/self/task/6")).unwrap();
    put(dir.path(), &[("proc/self/task/5/schedstat", "1000 40 2\n")]);
    let after = first(&samples, |sample| {
        host(sample).filter(|sample| sample.process_run_delay_ns == Some(52))
    });
    assert_eq!((after.process_threads, after.process_voluntary_switches), (Some(1), Some(7)));
    assert_eq!(after.process_cpu_pct, Some(0.0));
    drop(running.stop());

    let (host, clock) = machine(dir.path());
    assert_eq!((host.name.as_str(), host.kernel.as_str()), ("box", "Linux 6.1.0"));
    assert_eq!(
        (host.cpu.as_str(), host.memory_bytes, clock.as_str()),
        ("Some CPU", 102_400, "tsc")
    );
    assert_eq!(host.governor, None);
}

#[test]
fn this_machine_is_read() {
    let (running, samples) = sampling(&options(Path::new("/")));
    let later =
        first(&samples, |sample| host(sample).filter(|sample| sample.process_cpu_pct.is_some()));
    assert!(later.process_rss_bytes > Some(1 << 20) && later.memory_total_bytes > Some(1 << 26));
    drop(running.stop());
}

/// Nothing to sample: sentences, no error.
#[test]
fn a_machine_without_anything_is_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (running, _samples) =
        sampling(&Options { scrape: vec!["ftp://x".into()], ..options(dir.path()) });
    let notes = running.notes.clone();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("No NVIDIA GPU is sampled: ") && notes[0].contains("absent.so"));
    assert!(notes[1].starts_with("The machine is not sampled: "));
    assert!(notes[2].starts_with("ftp://x is not scraped: "));
    assert!(running.gpus.is_empty() && running.stop().is_empty());
}

#[test]
fn metrics_pages_are_scraped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let page = "vllm:num_requests_waiting{model_name=\"m\"} 4.0\n";
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    let dir = tempfile::tempdir().unwrap();
    let (running, samples) =
        sampling(&Options { scrape: vec![format!("http://{address}")], ..options(dir.path()) });
    let metric = first(&samples, |sample| match sample {
        Sample::Server(metric) => Some(metric),
        _ => None,
    });
    let expected = ServerMetric {
        at_ns: metric.at_ns,
        sampled_at: metric.sampled_at,
        target: format!("http://{address}/metrics"),
        name: "vllm:num_requests_waiting".into(),
        labels: r#"{"model_name":"m"}"#.into(),
        value: 4.0,
    };
    assert_eq!(metric, expected);
    assert!(server.join().unwrap().starts_with("GET /metrics HTTP/1.1\r\n"));
    drop(running.stop());
}

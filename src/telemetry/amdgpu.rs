//! AMD GPUs, by the files that the `amdgpu` driver keeps under `/sys`.
//!
//! Each value is one small file. A file that is not there, or can't be read, is a value that this GPU does not report.

use std::fs;
use std::path::{Path, PathBuf};

use crate::results::manifest::Gpu;
use crate::results::rows::{GpuSample, Sample};

use super::sampler::{Found, Source, Stamp};

/// Finds the AMD GPUs under `root`; the first gets the number `first`.
pub(super) fn find(root: &Path, first: usize) -> Vec<Found> {
    let mut cards: Vec<(u32, PathBuf)> = fs::read_dir(root.join("sys/class/drm"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            let device = entry.path().join("device");
            (text(&device.join("vendor"))? == AMD).then_some((number, device))
        })
        .collect();
    cards.sort();
    let driver = text(&root.join("sys/module/amdgpu/version"))
        .or_else(|| {
            text(&root.join("proc/sys/kernel/osrelease")).map(|kernel| format!("of {kernel}"))
        })
        .unwrap_or_default();
    cards
        .into_iter()
        .zip(first..)
        .map(|((number, device), index)| {
            found(number, device, u32::try_from(index).unwrap_or(u32::MAX), &driver)
        })
        .collect()
}

struct AmdGpu {
    index: u32,
    device: PathBuf,
    /// Folder of the sensors.
    sensors: Option<PathBuf>,
}

fn found(card: u32, device: PathBuf, index: u32, driver: &str) -> Found {
    let sensors = fs::read_dir(device.join("hwmon"))
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .map(|entry| entry.path());
    let address = text(&device.join("uevent")).and_then(|uevent| {
        uevent.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=").map(str::to_owned))
    });
    Found {
        gpu: Gpu {
            index,
            name: text(&device.join("product_name"))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| {
                    let chip = text(&device.join("device")).unwrap_or_default();
                    format!("AMD GPU {chip} (card{card})")
                }),
            uuid: text(&device.join("unique_id")).or(address).unwrap_or_default(),
            driver: format!("amdgpu {driver}").trim_end().to_owned(),
            memory_bytes: number(&device.join("mem_info_vram_total")).unwrap_or(0),
        },
        source: Box::new(AmdGpu { index, device, sensors }),
    }
}

// === impl AmdGpu ===

impl AmdGpu {
    fn value(&self, name: &str) -> Option<u64> {
        number(&self.device.join(name))
    }

    fn sensor(&self, name: &str) -> Option<u64> {
        number(&self.sensors.as_ref()?.join(name))
    }

    fn percent(&self, name: &str) -> Option<u32> {
        self.value(name).and_then(|value| u32::try_from(value).ok())
    }

    /// Temperature of the sensor that is labeled `label`, in degrees.
    fn temperature(&self, label: &str) -> Option<f64> {
        let sensors = self.sensors.as_ref()?;
        (1..=MOST_SENSORS)
            .find(|n| text(&sensors.join(format!("temp{n}_label"))).as_deref() == Some(label))
            .and_then(|n| self.sensor(&format!("temp{n}_input")))
            .map(|milli| scaled(milli, 1e3))
    }

    /// Clock in MHz of the sensor that is labeled `label`.
    fn clock(&self, label: &str) -> Option<u32> {
        let sensors = self.sensors.as_ref()?;
        (1..=MOST_SENSORS)
            .find(|n| text(&sensors.join(format!("freq{n}_label"))).as_deref() == Some(label))
            .and_then(|n| self.sensor(&format!("freq{n}_input")))
            .and_then(|hz| u32::try_from(hz / 1_000_000).ok())
    }
}

impl Source for AmdGpu {
    fn name(&self) -> String {
        format!("GPU {}", self.index)
    }

    fn read(&mut self, stamp: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String> {
        if !self.device.exists() {
            return Err(format!("{} is gone", self.device.display()));
        }
        let fan = self.sensor("pwm1").and_then(|pwm| u32::try_from(pwm * 100 / 255).ok());
        sink(Sample::Gpu(GpuSample {
            gpu: self.index,
            at_ns: stamp.at_ns,
            sampled_at: stamp.utc_ns,
            utilization_pct: self.percent("gpu_busy_percent"),
            memory_utilization_pct: self.percent("mem_busy_percent"),
            memory_used_bytes: self.value("mem_info_vram_used"),
            memory_total_bytes: self.value("mem_info_vram_total"),
            power_w: self
                .sensor("power1_average")
                .or_else(|| self.sensor("power1_input"))
                .map(|micro| scaled(micro, 1e6)),
            power_limit_w: self.sensor("power1_cap").map(|micro| scaled(micro, 1e6)),
            energy_j: self.sensor("energy1_input").map(|micro| scaled(micro, 1e6)),
            temperature_c: self.temperature("junction").or_else(|| self.temperature("edge")),
            memory_temperature_c: self.temperature("mem"),
            sm_clock_mhz: self.clock("sclk"),
            memory_clock_mhz: self.clock("mclk"),
            fan_pct: fan,
            ..GpuSample::default()
        }));
        Ok(())
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "sensors do not count to 2^53")]
fn scaled(value: u64, by: f64) -> f64 {
    value as f64 / by
}

/// PCI vendor of AMD.
const AMD: &str = "0x1002";

/// More sensors of a kind than any card has.
const MOST_SENSORS: u32 = 9;

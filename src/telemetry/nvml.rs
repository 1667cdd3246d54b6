//! NVIDIA GPUs, by the driver's own library.
//!
//! The library is loaded while the program runs, so that the same program works where there is none. Every value is
//! asked for by itself: what this GPU, driver or container does not report is none, and costs nothing else.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_MEMORY_TEMP;
use nvml_wrapper::{Device, Nvml};

use crate::results::manifest::Gpu;
use crate::results::rows::{GpuSample, Sample};

use super::sampler::{Found, Source, Stamp};

/// Finds the GPUs that NVIDIA's library names; `library` is its path, none for where the loader finds it.
///
/// # Errors
/// Why there are none, as the end of a sentence.
pub(super) fn find(library: Option<&Path>) -> Result<Vec<Found>, String> {
    let nvml = match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::builder().lib_path(OsStr::new(LIBRARY)).init(),
    };
    let nvml = Arc::new(nvml.map_err(|error| match error {
        NvmlError::LibloadingError(error) => error.to_string(),
        error => error.to_string(),
    })?);
    let count = nvml.device_count().map_err(|error| error.to_string())?;
    Ok((0..count).map(|index| found(&nvml, index)).collect())
}

struct NvidiaGpu {
    nvml: Arc<Nvml>,
    index: u32,
    own_pid: u32,
}

fn found(nvml: &Arc<Nvml>, index: u32) -> Found {
    let device = nvml.device_by_index(index).ok();
    let device = device.as_ref();
    let version = nvml.sys_driver_version().unwrap_or_else(|_| "unknown".to_owned());
    Found {
        gpu: Gpu {
            index,
            name: device
                .and_then(|device| device.name().ok())
                .unwrap_or_else(|| "unknown".to_owned()),
            uuid: device.and_then(|device| device.uuid().ok()).unwrap_or_default(),
            driver: format!("nvidia {version}"),
            memory_bytes: device
                .and_then(|device| device.memory_info().ok())
                .map_or(0, |memory| memory.total),
        },
        source: Box::new(NvidiaGpu { nvml: Arc::clone(nvml), index, own_pid: std::process::id() }),
    }
}

// === impl NvidiaGpu ===

impl Source for NvidiaGpu {
    fn name(&self) -> String {
        format!("GPU {}", self.index)
    }

    fn read(&mut self, stamp: Stamp, sink: &mut dyn FnMut(Sample)) -> Result<(), String> {
        let device = self.nvml.device_by_index(self.index).map_err(|error| error.to_string())?;
        let utilization = device.utilization_rates().ok();
        let memory = device.memory_info().ok();
        let process = process_memory(&device, self.own_pid);
        let sample = GpuSample {
            gpu: self.index,
            at_ns: stamp.at_ns,
            sampled_at: stamp.utc_ns,
            utilization_pct: utilization.as_ref().map(|utilization| utilization.gpu),
            memory_utilization_pct: utilization.as_ref().map(|utilization| utilization.memory),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            process_memory_bytes: process.map(|(all, _)| all),
            own_memory_bytes: process.map(|(_, own)| own),
            power_w: device.power_usage().ok().map(|mw| f64::from(mw) / 1e3),
            power_limit_w: device.enforced_power_limit().ok().map(|mw| f64::from(mw) / 1e3),
            energy_j: device.total_energy_consumption().ok().map(joules),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            memory_temperature_c: memory_temperature(&device),
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
            throttle_reasons: device.current_throttle_reasons().ok().map(names),
            pstate: device.performance_state().ok().map(|state| state.as_c()),
            fan_pct: device.fan_speed(0).ok(),
            // The last, since the driver measures each for 20 ms before it answers.
            pcie_rx_bytes_per_s: pcie(&device, PcieUtilCounter::Receive),
            pcie_tx_bytes_per_s: pcie(&device, PcieUtilCounter::Send),
        };
        sink(Sample::Gpu(sample));
        Ok(())
    }
}

/// Returns the memory of all processes and that of `own_pid`; none when the driver lists no processes, or hides what
/// they use.
fn process_memory(device: &Device<'_>, own_pid: u32) -> Option<(u64, u64)> {
    let mut processes = device.running_compute_processes().ok()?;
    processes.extend(device.running_graphics_processes().unwrap_or_default());
    // A process may be of both kinds, and is then in both lists.
    processes.sort_by_key(|process| process.pid);
    processes.dedup_by_key(|process| process.pid);
    let (mut all, mut own) = (0_u64, 0);
    for process in processes {
        let UsedGpuMemory::Used(bytes) = process.used_gpu_memory else { return None };
        all = all.saturating_add(bytes);
        if process.pid == own_pid {
            own = bytes;
        }
    }
    Some((all, own))
}

fn memory_temperature(device: &Device<'_>) -> Option<f64> {
    let mut values = device.field_values_for(&[FieldId(NVML_FI_DEV_MEMORY_TEMP)]).ok()?;
    match values.pop()?.ok()?.value.ok()? {
        SampleValue::U32(celsius) => Some(f64::from(celsius)),
        SampleValue::F64(celsius) => Some(celsius),
        SampleValue::U64(_) | SampleValue::I64(_) => None,
    }
}

/// NVML counts kilobytes, of 1,000 bytes by its header's word.
fn pcie(device: &Device<'_>, direction: PcieUtilCounter) -> Option<u64> {
    device.pcie_throughput(direction).ok().map(|kb| u64::from(kb) * 1_000)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 mJ are 285 years at 1 kW")]
fn joules(mj: u64) -> f64 {
    mj as f64 / 1e3
}

fn names(reasons: ThrottleReasons) -> String {
    let names: Vec<&str> = REASONS
        .iter()
        .filter(|(reason, _)| reasons.contains(*reason))
        .map(|(_, name)| *name)
        .collect();
    names.join("|")
}

/// What the loader is asked for: drivers bring this name; the one without a number comes with their headers only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Reasons by name, as `nvidia-smi` has them.
const REASONS: [(ThrottleReasons, &str); 9] = [
    (ThrottleReasons::GPU_IDLE, "gpu_idle"),
    (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting"),
    (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
    (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
    (ThrottleReasons::SYNC_BOOST, "sync_boost"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting"),
];

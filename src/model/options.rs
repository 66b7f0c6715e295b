//! Where and how a model runs.

use candle_core::Device;

use super::ModelError;
pub use crate::kernels::{CpuFeatures, KvType};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

/// Which code computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// The project's own kernels; x86-64 only.
    Kernels,
    /// candle's operations; every device.
    Candle,
}

/// Where and how a model runs.
#[derive(Debug, Clone, Copy)]
pub struct ModelOptions {
    /// Where.
    pub device: DeviceChoice,
    /// Which code; `None` chooses by the device.
    pub backend: Option<BackendChoice>,
    /// The instructions that the kernels may use.
    pub cpu_features: CpuFeatures,
    /// Threads of the kernels; 0 means one for each CPU.
    pub threads: usize,
    /// How the kernels keep keys and values.
    pub kv_type: KvType,
    /// The longest sequence that will be run, in tokens; bounds the tables that are made for it.
    pub max_positions: usize,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            backend: None,
            cpu_features: CpuFeatures::detect(),
            threads: 0,
            kv_type: KvType::F16,
            max_positions: 8_192,
        }
    }
}

impl ModelOptions {
    /// The code that computes: the kernels on an x86-64 CPU, candle everywhere else.
    pub(super) fn backend(&self) -> BackendChoice {
        let on_cpu = match self.device {
            DeviceChoice::Cpu => true,
            DeviceChoice::Auto => self.device.open().is_ok_and(|device| device.is_cpu()),
            DeviceChoice::Cuda(_) => false,
        };
        match self.backend {
            Some(chosen) => chosen,
            None if on_cpu && cfg!(target_arch = "x86_64") => BackendChoice::Kernels,
            None => BackendChoice::Candle,
        }
    }
}

impl ModelOptions {
    /// Where a model runs with these options, by name: `cpu` or `cuda:N`.
    pub fn device_name(&self) -> String {
        match self.device {
            DeviceChoice::Auto if self.device.open().is_ok_and(|device| !device.is_cpu()) => {
                DeviceChoice::Cuda(0).to_string()
            }
            DeviceChoice::Auto => DeviceChoice::Cpu.to_string(),
            chosen => chosen.to_string(),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When a CUDA device is asked for and this build or machine has none.
    pub fn open(self) -> Result<Device, ModelError> {
        let cuda = |index: usize| {
            if cfg!(feature = "cuda") {
                Device::new_cuda(index).map_err(|e| e.to_string())
            } else {
                Err("this build has no CUDA; build it with `--features cuda`".to_owned())
            }
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(cuda(0).unwrap_or(Device::Cpu)),
            Self::Cuda(index) => {
                cuda(index).map_err(|detail| ModelError::Device { name: format!("device {self}"), detail })
            }
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{s}` is no device; use auto, cpu, cuda or cuda:N")),
        }
    }
}

//! Where and how a model runs.

use candle_core::Device;

use super::{ModelError, one_line};
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
    /// The code that computes on `device`: the kernels on an x86-64 CPU, candle everywhere else.
    pub(super) fn backend_on(&self, device: DeviceChoice) -> BackendChoice {
        let has_kernels = device == DeviceChoice::Cpu && cfg!(target_arch = "x86_64");
        self.backend.unwrap_or(if has_kernels { BackendChoice::Kernels } else { BackendChoice::Candle })
    }

    /// Where a model runs with these options, by name: `cpu` or `cuda:N`.
    pub fn device_name(&self) -> String {
        self.device.resolve().0.to_string()
    }
}

impl DeviceChoice {
    /// What is chosen, never `Auto`, and why: one line for the log.
    pub fn resolve(self) -> (Self, String) {
        match self {
            Self::Auto => match cuda_devices() {
                Ok(count @ 1..) => (Self::Cuda(0), format!("the first of {count} CUDA devices")),
                Ok(_) => (Self::Cpu, "this machine has no CUDA device".to_owned()),
                Err(reason) => (Self::Cpu, reason),
            },
            chosen => (chosen, "asked for".to_owned()),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// When a CUDA device is asked for and this build or machine has none.
    pub fn open(self) -> Result<Device, ModelError> {
        let (chosen, _) = self.resolve();
        let Self::Cuda(index) = chosen else { return Ok(Device::Cpu) };
        let refuse = |detail| ModelError::Device { name: format!("device {chosen}"), detail };
        let count = cuda_devices().map_err(refuse)?;
        if index >= count {
            return Err(refuse(format!("this machine has {count} CUDA devices, counted from 0")));
        }
        // One stream for all threads: the weights are read by another thread than the one that loads them.
        Device::new_cuda_with_stream(index).map_err(|error| refuse(one_line(&error)))
    }
}

/// How many CUDA devices this machine has.
///
/// # Errors
/// Why none can be used: this build has no CUDA, or the driver refuses.
#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<usize, String> {
    use candle_core::cuda::cudarc::driver::{CudaContext, sys::CUresult};
    match CudaContext::device_count() {
        Ok(count) => Ok(usize::try_from(count).unwrap_or_default()),
        Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(error) => Err(format!("the CUDA driver refuses: {error:?}")),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Result<usize, String> {
    Err("this build has no CUDA; build it with `cargo build --release --features cuda`".to_owned())
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

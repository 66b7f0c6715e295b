//! Options for loading a model: device, backend, threads and limits. Filled by the command line, read by
//! [`super::load`].

use candle_core::Device;

use super::{ModelError, error::first_line};
pub use crate::kernels::{CpuFeatures, KvType};

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if the build supports one and the machine has one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

/// The implementation of a model's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// This project's kernels; x86-64 only.
    Kernels,
    /// candle's operations; any device.
    Candle,
}

/// Options for loading a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelOptions {
    /// The device.
    pub device: DeviceChoice,
    /// The implementation; `None` selects it by the device.
    pub backend: Option<BackendChoice>,
    /// The instruction sets that the kernels may use.
    pub cpu_features: CpuFeatures,
    /// Number of threads of the kernels; 0 means one per CPU.
    pub threads: usize,
    /// The format of keys and values in the kernels' KV cache.
    pub kv_type: KvType,
    /// Maximum length of a sequence in tokens; limits the size of the position tables.
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
    /// Returns the implementation for `device`: the kernels on an x86-64 CPU, otherwise candle.
    pub(super) fn backend_on(&self, device: DeviceChoice) -> BackendChoice {
        let has_kernels = device == DeviceChoice::Cpu && cfg!(target_arch = "x86_64");
        self.backend.unwrap_or(if has_kernels { BackendChoice::Kernels } else { BackendChoice::Candle })
    }

    /// Returns the name of the selected device: `cpu` or `cuda:N`.
    pub fn device_name(&self) -> String {
        self.device.resolve().0.to_string()
    }
}

impl DeviceChoice {
    /// Resolves `Auto` to a device; also returns the reason for the choice, for the log.
    pub fn resolve(self) -> (Self, String) {
        match self {
            Self::Auto => match cuda_devices() {
                Ok(count @ 1..) => (Self::Cuda(0), format!("the first of {count} CUDA devices")),
                Ok(_) => (Self::Cpu, "this machine has no CUDA device".to_owned()),
                Err(reason) => (Self::Cpu, reason),
            },
            requested => (requested, "requested".to_owned()),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If a CUDA device is requested and the build or the machine has none.
    pub fn open(self) -> Result<Device, ModelError> {
        let (device, _) = self.resolve();
        let Self::Cuda(index) = device else { return Ok(Device::Cpu) };
        let unusable = |detail| ModelError::Device { name: format!("device {device}"), detail };
        let count = cuda_devices().map_err(unusable)?;
        if index >= count {
            return Err(unusable(format!("this machine has {count} CUDA devices, numbered from 0")));
        }
        // One stream for all threads, because another thread loads the weights than the one that reads them.
        Device::new_cuda_with_stream(index).map_err(|error| unusable(first_line(&error)))
    }
}

/// Returns the number of CUDA devices of this machine.
///
/// # Errors
/// The reason why none can be used: the build has no CUDA support, or the driver fails.
#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<usize, String> {
    use candle_core::cuda::cudarc::driver::{CudaContext, sys::CUresult};
    match CudaContext::device_count() {
        Ok(count) => Ok(usize::try_from(count).unwrap_or_default()),
        Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(error) => Err(format!("the CUDA driver failed: {error:?}")),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Result<usize, String> {
    Err("this build has no CUDA support; build it with `cargo build --release --features cuda`".to_owned())
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
                .ok_or_else(|| format!("unknown device `{s}`; use auto, cpu, cuda or cuda:N")),
        }
    }
}

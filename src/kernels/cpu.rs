//! Selection of the instruction set: detection, parsing of a configured name, and [`CpuFeatures`], the proof that this
//! machine has a set. `cli` parses its flag into a [`CpuFeatures`]; this file never reads the environment.

#![allow(unsafe_code)] // calls into code that is compiled for a CPU feature

use super::KernelError;
use std::fmt;
use std::str::FromStr;

/// An instruction set that the kernels are implemented for, in ascending order of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionSet {
    /// No intrinsics: the reference in tests, and the fallback for other CPUs.
    Portable,
    /// AVX2, FMA and F16C: x86-64 since 2013 to 2015.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI: Intel since Ice Lake, AMD since Zen 4.
    Avx512,
    /// AMX with int8 tiles in addition to AVX-512: Intel since Sapphire Rapids, if the operating system permits it.
    Amx,
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// Returns the name that is used in the configuration, logs and benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    fn is_present(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_present()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.is_present() && super::gemm::amx_is_present(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A loop nest and its operands, to be passed to [`CpuFeatures::compiled`]. A trait rather than a closure, because the
/// compiler may leave a closure as a separate function, compiled without the CPU features.
pub(super) trait Loops {
    /// Runs the loops. Implementations, and all functions that they call, must be `#[inline(always)]`.
    fn run(self);
}

/// An instruction set that this machine has. Values are only created in this file, after detection, which makes the
/// kernels' calls of `#[target_feature]` functions sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuFeatures(InstructionSet);

impl CpuFeatures {
    /// Detects the fastest instruction set of this machine.
    pub fn detect() -> Self {
        let best = InstructionSet::ALL.into_iter().rev().find(|set| set.is_present());
        Self(best.unwrap_or(InstructionSet::Portable))
    }

    /// Returns the proof for exactly `set`.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedInstructionSet`] if this machine lacks the set.
    pub fn request(set: InstructionSet) -> Result<Self, KernelError> {
        if set.is_present() { Ok(Self(set)) } else { Err(KernelError::UnsupportedInstructionSet(set.name())) }
    }

    /// Returns all sets of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        InstructionSet::ALL.into_iter().filter(|set| set.is_present()).map(Self).collect()
    }

    /// Runs `loops` compiled for this set, so that they are vectorized with its instructions. The result is the same on
    /// every set, because Rust never contracts or reorders floating-point operations.
    #[inline(always)]
    pub(super) fn compiled<L: Loops>(self, loops: L) {
        match self.0 {
            InstructionSet::Portable => loops.run(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `self` is the proof that this machine has these features.
            InstructionSet::Avx2 => unsafe { run_with_avx2(loops) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::Avx512 | InstructionSet::Amx => unsafe { run_with_avx512(loops) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => loops.run(),
        }
    }

    /// Returns the instruction set.
    pub fn instruction_set(self) -> InstructionSet {
        self.0
    }
}

/// Runs `loops` compiled for [`InstructionSet::Avx2`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_with_avx2<L: Loops>(loops: L) {
    loops.run();
}

/// Runs `loops` compiled for [`InstructionSet::Avx512`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn run_with_avx512<L: Loops>(loops: L) {
    loops.run();
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CpuFeatures {
    type Err = KernelError;

    /// Parses `auto`, `portable`, `avx2`, `avx512` or `amx`, ignoring case.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        let lowercase = name.trim().to_ascii_lowercase();
        if lowercase == "auto" {
            return Ok(Self::detect());
        }
        match InstructionSet::ALL.into_iter().find(|set| set.name() == lowercase) {
            Some(set) => Self::request(set),
            None => Err(KernelError::UnknownInstructionSet(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_name_and_auto_selects_the_fastest_set() {
        for cpu in CpuFeatures::available() {
            assert_eq!(cpu.to_string().to_uppercase().parse::<CpuFeatures>(), Ok(cpu));
        }
        assert_eq!("auto".parse(), Ok(CpuFeatures::detect()));
        assert_eq!(CpuFeatures::available().last(), Some(&CpuFeatures::detect()));
        assert!(matches!("neon".parse::<CpuFeatures>(), Err(KernelError::UnknownInstructionSet(_))));
    }
}

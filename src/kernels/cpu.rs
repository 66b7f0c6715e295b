//! Which instructions the kernels may use: detection, the names for a forced choice, and a proof that a choice is
//! present. `config` turns a flag or variable into a [`CpuFeatures`] with `parse`; this file never reads the environment.

#![allow(unsafe_code)] // the step into code compiled for a feature

use super::KernelError;
use std::fmt;
use std::str::FromStr;

/// A set of instructions that the kernels have a form for, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionSet {
    /// No intrinsics: the oracle of the tests, and the form for other CPUs.
    Portable,
    /// AVX2, FMA and F16C: x86-64 since 2013 to 2015.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI: Intel since Ice Lake, AMD since Zen 4.
    Avx512,
    /// AMX with int8 tiles beside AVX-512: Intel since Sapphire Rapids, where the system permits it.
    Amx,
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// The name in configuration, logs and benchmarks.
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
            Self::Amx => Self::Avx512.is_present() && super::amx_tiles::is_present(),
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

/// Loops for [`CpuFeatures::compiled`], with what they work on. A trait and not a closure: a closure may stay a
/// function of its own, compiled without the features.
pub(super) trait Loops {
    /// To be marked `#[inline(always)]`, as all that it calls.
    fn run(self);
}

/// An instruction set that this machine was seen to have. Only this file makes one, so the kernels may rely on it:
/// it is what makes their calls of `#[target_feature]` functions sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuFeatures(InstructionSet);

impl CpuFeatures {
    /// The best set of this machine.
    pub fn detect() -> Self {
        let best = InstructionSet::ALL.into_iter().rev().find(|set| set.is_present());
        Self(best.unwrap_or(InstructionSet::Portable))
    }

    /// Exactly `set`, for tests and comparisons.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedInstructionSet`] where this machine lacks it.
    pub fn request(set: InstructionSet) -> Result<Self, KernelError> {
        if set.is_present() { Ok(Self(set)) } else { Err(KernelError::UnsupportedInstructionSet(set.name())) }
    }

    /// Every set of this machine, least first.
    pub fn available() -> Vec<Self> {
        InstructionSet::ALL.into_iter().filter(|set| set.is_present()).map(Self).collect()
    }

    /// Runs `work` compiled for this set: its plain loops become the set's vector instructions. The result is the
    /// same on every set, because Rust never contracts or reorders float operations.
    #[inline(always)]
    pub(super) fn compiled<W: Loops>(self, work: W) {
        match self.0 {
            InstructionSet::Portable => work.run(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `self` is the proof that this machine has these features.
            InstructionSet::Avx2 => unsafe { super::avx2::compiled(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            InstructionSet::Avx512 | InstructionSet::Amx => unsafe { super::avx512::compiled(work) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => work.run(),
        }
    }

    /// The set.
    pub fn instruction_set(self) -> InstructionSet {
        self.0
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CpuFeatures {
    type Err = KernelError;

    /// `auto`, `portable`, `avx2`, `avx512` or `amx`, in any case.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        let wanted = name.trim().to_ascii_lowercase();
        if wanted == "auto" {
            return Ok(Self::detect());
        }
        match InstructionSet::ALL.into_iter().find(|set| set.name() == wanted) {
            Some(set) => Self::request(set),
            None => Err(KernelError::UnknownInstructionSet(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_auto_is_the_best() {
        for cpu in CpuFeatures::available() {
            assert_eq!(cpu.to_string().to_uppercase().parse::<CpuFeatures>(), Ok(cpu));
        }
        assert_eq!("auto".parse(), Ok(CpuFeatures::detect()));
        assert_eq!(CpuFeatures::available().last(), Some(&CpuFeatures::detect()));
        assert!(matches!("neon".parse::<CpuFeatures>(), Err(KernelError::UnknownInstructionSet(_))));
    }
}

//! Selection of the kernel: multiplies one panel by the implementation for an instruction set. Called by the schedule
//! in `gemm`; the arithmetic is in `portable` and `x86_64`.

#![allow(unsafe_code)] // kernels require a CPU feature

use super::ScratchActivations;
use super::panel::{
    Block32, Block256Min, Block256Q6, BlockFloat, BlockMinimum, FloatValue, LANES, PanelBlock,
};
use super::portable;
use super::quants::Quants;
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use crate::kernels::cpu::{CpuFeatures, InstructionSet};

/// With fewer rows than this, AVX-512 is as fast as AMX, because both wait for memory.
const AMX_ROWS: usize = 6;

/// A panel type that every instruction set can multiply.
pub(super) trait MultiplyPanel: PanelBlock<X: ScratchActivations> {
    /// Multiplies one panel (its column blocks) by the rows of the activations from `row` on and adds the products to
    /// `sums`, one element per row. `x` is laid out `[column block][m rows]`.
    fn multiply(
        cpu: CpuFeatures,
        panel: &[Self],
        x: &[Self::X],
        m: usize,
        row: usize,
        sums: &mut [[f32; LANES]],
    );
}

/// Quants that every instruction set of the target can unpack.
#[cfg(target_arch = "x86_64")]
trait AnyQuants: Quants + x86_64::avx2_unpack::UnpackAvx2 + x86_64::avx512_unpack::UnpackAvx512 {}
#[cfg(target_arch = "x86_64")]
impl<Q: Quants + x86_64::avx2_unpack::UnpackAvx2 + x86_64::avx512_unpack::UnpackAvx512> AnyQuants for Q {}
#[cfg(not(target_arch = "x86_64"))]
use Quants as AnyQuants;

/// Weights of a float type that every instruction set of the target can widen to f32.
#[cfg(target_arch = "x86_64")]
trait AnyFloat: FloatValue + x86_64::avx2::WidenAvx2 + x86_64::avx512::WidenAvx512 {}
#[cfg(target_arch = "x86_64")]
impl<T: FloatValue + x86_64::avx2::WidenAvx2 + x86_64::avx512::WidenAvx512> AnyFloat for T {}
#[cfg(not(target_arch = "x86_64"))]
use FloatValue as AnyFloat;

/// Implements [`MultiplyPanel`] by the functions of the given name in the modules of the instruction sets, and by `$amx`
/// for batches on AMX.
macro_rules! multiply {
    ($kernel:ident$(, $amx:ident)?: [$($generics:tt)*] $ty:ty) => {
        impl<$($generics)*> MultiplyPanel for $ty {
            fn multiply(
                cpu: CpuFeatures,
                panel: &[Self],
                x: &[Self::X],
                m: usize,
                row: usize,
                sums: &mut [[f32; LANES]],
            ) {
                match cpu.instruction_set() {
                    InstructionSet::Portable => portable::$kernel(panel, x, m, row, sums),
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: `cpu` is the proof that this machine has these features.
                    InstructionSet::Avx2 => unsafe { x86_64::avx2::$kernel(panel, x, m, row, sums) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    $(InstructionSet::Amx if sums.len() >= AMX_ROWS => unsafe {
                        x86_64::amx::$amx(panel, x, m, row, sums)
                    },)?
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    InstructionSet::Avx512 | InstructionSet::Amx => unsafe { x86_64::avx512::$kernel(panel, x, m, row, sums) },
                    #[cfg(not(target_arch = "x86_64"))]
                    _ => portable::$kernel(panel, x, m, row, sums),
                }
            }
        }
    };
}
multiply!(block256_min, block256_min: [Q: AnyQuants] Block256Min<Q>);
multiply!(block256_q6, block256_q6: [] Block256Q6);
multiply!(block32, block32: [Q: AnyQuants, M: BlockMinimum] Block32<Q, M>);
multiply!(float: [T: AnyFloat] BlockFloat<T>);

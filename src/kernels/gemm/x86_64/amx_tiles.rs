//! The tile unit of Intel's AMX: detection, configuration, and the tile programs that `amx` uses. Stable Rust has no
//! intrinsics for tiles, so each program is one `asm!` block, which leaves nothing in the tile registers.
//!
//! A tile is 16 rows of 64 bytes. `TDPBUSD` and its variants multiply `A`, `(16 rows of activations, K bytes)`, by `B`,
//! `(K / 4 groups, 16 rows of weights · 4)`, which is the layout of the panels, and add the product to `C`, 16 rows of
//! activations × 16 rows of weights in i32. They take 16 cycles for K = 32 as for K = 64 (measured), so K is 64 where the
//! type permits it.

#![allow(unsafe_code)] // tile instructions

use crate::kernels::gemm::activations::{Activations2x32, Activations256};
use crate::kernels::gemm::panel::LANES;
use crate::kernels::gemm::quants::QuantGroup;
use std::arch::asm;
use std::sync::OnceLock;

/// Rows of activations of a tile.
pub(super) const TILE: usize = 16;

/// A tile `C` in memory: `[row of activations][row of weights]`.
pub(super) type TileSums = [[i32; LANES]; TILE];

/// The low and high bytes of the scaled quants of a block, as tiles of 64 columns: `[64 columns][low, high][4 columns]`.
#[repr(C, align(64))]
pub(super) struct BytePlanes(pub(super) [[[QuantGroup; 16]; 2]; 4]);

/// A value aligned to cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct CacheAligned<T>(pub(super) T);

/// Returns `true` if the CPU has int8 tiles, and the operating system saves them and permits this process to use them. The
/// check runs once.
pub(in crate::kernels) fn is_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| has_tiles() && system_saves_tiles() && permitted())
}

fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILE | INT8) == TILE | INT8
}

fn system_saves_tiles() -> bool {
    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: `XGETBV` of register 0 exists if the operating system has enabled XSAVE, which the caller has checked.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    /// State components 17 and 18: the configuration of the tiles and their data.
    const TILES: u64 = 3 << 17;
    // SAFETY: `is_x86_feature_detected` returns `true` only if the operating system has enabled XSAVE.
    is_x86_feature_detected!("xsave") && unsafe { saved() } & TILES == TILES
}

/// Requests permission to use tiles: Linux saves their 8 KiB only for processes that have it.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and accesses no memory of this process; older kernels return an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The operand of `LDTILECFG`.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The configured tile unit of this thread: tiles 0 to 3 are `C`, 4 and 5 are `A`, 6 and 7 are `B`. Dropping it releases
/// the unit, so that the operating system does not save tiles for a thread that no longer uses them.
pub(super) struct TileUnit<const K: usize>(());

/// The tile unit configured for 256-value blocks.
pub(super) type TileUnit256 = TileUnit<64>;
/// The tile unit configured for 32-value blocks.
pub(super) type TileUnit32 = TileUnit<32>;

impl<const K: usize> TileUnit<K> {
    const CONFIG: TileConfig = {
        assert!(K == 32 || K == 64);
        let mut config =
            TileConfig { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < 8 {
            config.row_bytes[tile] = if tile == 4 || tile == 5 { K as u16 } else { 64 };
            config.rows[tile] = if tile >= 6 { K as u8 / 4 } else { TILE as u8 };
            tile += 1;
        }
        config
    };

    /// Configures the unit.
    ///
    /// # Safety
    /// [`is_present`] has returned `true`, and this thread has no other `TileUnit`.
    #[inline(always)]
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: the unit is present and permitted; the operand is a valid configuration of palette 1, because `CONFIG`
        // has at most 16 rows of 64 bytes for each of 8 tiles. Compilers do not use tiles, so no other code is affected.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &Self::CONFIG, options(nostack, preserves_flags, readonly));
        }
        Self(())
    }
}

impl<const K: usize> Drop for TileUnit<K> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: this value owns the unit, and no tile program leaves anything in it.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

const STRIDE_256: usize = size_of::<Activations256>();
const STRIDE_2X32: usize = size_of::<Activations2x32>();

impl TileUnit256 {
    /// Multiplies 32 rows by the planes of a block. `sums` are low and high of the first 16 rows, then of the second 16.
    #[inline(always)]
    pub(super) fn pair(
        &self,
        x: &[Activations256; 2 * TILE],
        planes: &BytePlanes,
        sums: &mut CacheAligned<[TileSums; 4]>,
    ) {
        // SAFETY: `self` proves a configured unit. Loads read 16 rows of 64 bytes, `STRIDE_256` apart, from the quants
        // of `x` (4 steps of 64 are its 256 columns, and the quants come first in a block) and 8 KiB of `planes`;
        // the stores fill `sums`, 4 KiB. Tiles and counters are declared as overwritten.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{x} + {x_stride}*1]",
                "tileloadd tmm6, [{w} + {stride}*1]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {stride}*1 + 1024]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{x} + {x_stride}*1 + {second}]",
                "tdpbsud tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "add {x}, 64",
                "add {w}, 2048",
                "dec {n:e}",
                "jnz 2b",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + 1024], tmm1",
                "tilestored [{sums} + {stride}*1 + 2048], tmm2",
                "tilestored [{sums} + {stride}*1 + 3072], tmm3",
                x = inout(reg) x.as_ptr() => _,
                w = inout(reg) planes => _,
                n = inout(reg) 4 => _,
                sums = in(reg) sums,
                x_stride = in(reg) STRIDE_256,
                stride = in(reg) 64usize,
                second = const TILE * STRIDE_256,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Multiplies 16 rows, like [`Self::pair`]; the second half of `sums` is unchanged.
    #[inline(always)]
    pub(super) fn single(
        &self,
        x: &[Activations256; TILE],
        planes: &BytePlanes,
        sums: &mut CacheAligned<[TileSums; 4]>,
    ) {
        // SAFETY: same as for `pair`, with half of the rows and sums.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{x} + {x_stride}*1]",
                "tileloadd tmm6, [{w} + {stride}*1]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {stride}*1 + 1024]",
                "tdpbssd tmm1, tmm4, tmm7",
                "add {x}, 64",
                "add {w}, 2048",
                "dec {n:e}",
                "jnz 2b",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + 1024], tmm1",
                x = inout(reg) x.as_ptr() => _,
                w = inout(reg) planes => _,
                n = inout(reg) 4 => _,
                sums = in(reg) sums,
                x_stride = in(reg) STRIDE_256,
                stride = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl TileUnit32 {
    /// Multiplies 16 rows by two blocks of 32 columns.
    #[inline(always)]
    pub(super) fn single(
        &self,
        x: &[Activations2x32; TILE],
        weights: &CacheAligned<[[QuantGroup; 8]; 2]>,
        sums: &mut CacheAligned<[TileSums; 2]>,
    ) {
        // SAFETY: `self` proves a configured unit. Loads read 16 rows of 2 · 32 bytes, `STRIDE_2X32` apart, from the
        // quants of `x`, which come first in a block, and 1 KiB of `weights`; the stores fill `sums`, 2 KiB.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1",
                "tileloadd tmm4, [{x} + {x_stride}*1]",
                "tileloadd tmm6, [{w} + {stride}*1]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{x} + {x_stride}*1 + 32]",
                "tileloadd tmm7, [{w} + {stride}*1 + 512]",
                "tdpbsud tmm1, tmm5, tmm7",
                "tilestored [{sums} + {stride}*1], tmm0",
                "tilestored [{sums} + {stride}*1 + 1024], tmm1",
                x = in(reg) x.as_ptr(),
                w = in(reg) weights,
                sums = in(reg) sums,
                x_stride = in(reg) STRIDE_2X32,
                stride = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

//! The tile unit of Intel's AMX: whether this machine and system have it, its configuration on a thread, and the few
//! tile programs that `amx` is made of. Stable Rust has no intrinsics for tiles, so each program is one `asm!` that
//! keeps nothing in tile registers for the next. Called by `amx` and `cpu` only.
//!
//! A tile is 16 rows of 64 bytes. `TDPBUSD` and its kin add to `C`, 16 rows of activations × 16 rows of weights in i32,
//! the product of `A`, `(16 rows of activations, K bytes)`, and `B`, `(K / 4 groups, 16 rows of weights · 4)`: the
//! panels' own layout. The cost is 16 cycles whether K is 32 or 64 (measured), so what can has K = 64.

#![allow(unsafe_code)] // tile instructions

use super::panel::{Group, LANES};
use super::quantize::{LongBlock, ShortBlocks};
use std::arch::asm;
use std::sync::OnceLock;

/// Rows of activations of a tile.
pub(super) const TILE: usize = 16;

/// `C` of a tile in memory: `[row of activations][row of weights]`.
pub(super) type Sums = [[i32; LANES]; TILE];

/// The two bytes of every scaled quant of a panel block, as tiles of 64 columns: `[64 columns][low, high][4 columns]`.
#[repr(C, align(64))]
pub(super) struct Planes(pub(super) [[[Group; 16]; 2]; 4]);

/// What a tile program writes, cache lines apart.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lines<T>(pub(super) T);

/// Whether the CPU has int8 tiles, the system saves them, and it lets this process use them: asked for once.
pub(super) fn is_present() -> bool {
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
        // SAFETY: `XGETBV` of register 0 exists where the system has turned XSAVE on, which the caller has seen.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    /// State components 17 and 18: the configuration of the tiles and their data.
    const TILES: u64 = 3 << 17;
    // SAFETY: XSAVE is present, and `is_x86_feature_detected` says so only where the system has turned it on.
    is_x86_feature_detected!("xsave") && unsafe { saved() } & TILES == TILES
}

/// Linux saves the 8 KiB of tiles only for processes that ask.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of this process; an older kernel answers an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The operand of `LDTILECFG`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// A configured tile unit of this thread: tiles 0 to 3 are `C`, 4 and 5 are `A`, 6 and 7 are `B`. Dropping it frees
/// the unit, so that the system saves no tiles of a thread that does not use them.
pub(super) struct Tiles<const K: usize>(());

/// For 256-value blocks.
pub(super) type LongTiles = Tiles<64>;
/// For 32-value blocks.
pub(super) type ShortTiles = Tiles<32>;

impl<const K: usize> Tiles<K> {
    const CONFIG: Config = {
        assert!(K == 32 || K == 64);
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < 8 {
            config.row_bytes[tile] = if tile == 4 || tile == 5 { K as u16 } else { 64 };
            config.rows[tile] = if tile >= 6 { K as u8 / 4 } else { TILE as u8 };
            tile += 1;
        }
        config
    };

    /// # Safety
    /// [`is_present`] has said yes, and this thread has no other `Tiles`.
    #[inline(always)]
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: the unit is present and permitted; the operand is a valid configuration of palette 1, as `CONFIG`
        // has at most 16 rows of 64 bytes for each of 8 tiles. No compiled code uses tiles, so none is disturbed.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &Self::CONFIG, options(nostack, preserves_flags, readonly));
        }
        Self(())
    }
}

impl<const K: usize> Drop for Tiles<K> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the unit is this value's, and no tile program keeps anything in it.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

const LONG_STRIDE: usize = size_of::<LongBlock>();
const SHORT_STRIDE: usize = size_of::<ShortBlocks>();

impl LongTiles {
    /// The products of 32 rows with the planes of a panel block: low and high of the first 16 rows, then of the second.
    #[inline(always)]
    pub(super) fn pair(&self, x: &[LongBlock; 2 * TILE], planes: &Planes, sums: &mut Lines<[Sums; 4]>) {
        // SAFETY: `self` proves a configured unit. Loads read 16 rows of 64 bytes, `LONG_STRIDE` apart, from the quants
        // of `x` (4 steps of 64 are its 256 columns, and the quants stand first in a block) and 8 KiB of `planes`;
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
                x_stride = in(reg) LONG_STRIDE,
                stride = in(reg) 64usize,
                second = const TILE * LONG_STRIDE,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// [`Self::pair`] for 16 rows; the second half of `sums` stays.
    #[inline(always)]
    pub(super) fn single(&self, x: &[LongBlock; TILE], planes: &Planes, sums: &mut Lines<[Sums; 4]>) {
        // SAFETY: as for `pair`, with half of the rows and sums.
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
                x_stride = in(reg) LONG_STRIDE,
                stride = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl ShortTiles {
    /// The products of 16 rows with two blocks of 32 columns.
    #[inline(always)]
    pub(super) fn single(
        &self,
        x: &[ShortBlocks; TILE],
        weights: &Lines<[[Group; 8]; 2]>,
        sums: &mut Lines<[Sums; 2]>,
    ) {
        // SAFETY: `self` proves a configured unit. Loads read 16 rows of 2 · 32 bytes, `SHORT_STRIDE` apart, from the
        // quants of `x`, which stand first in a block, and 1 KiB of `weights`; the stores fill `sums`, 2 KiB.
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
                x_stride = in(reg) SHORT_STRIDE,
                stride = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

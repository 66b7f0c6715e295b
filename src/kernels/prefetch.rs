//! Prefetching of packed weights, for the x86-64 products (`avx2`, `avx512`).

#![allow(unsafe_code)] // one intrinsic

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Asks for memory ahead of the block that is being multiplied, one of `parts` of a block at a time, so that the
/// requests are spread over the work. The CPU's own prefetch stops at each page's end: without this, a product with
/// 8 rows takes 1.7 times as long out of memory, one with a row 1.1 to 1.8 times (measured on Zen 4).
#[inline(always)]
pub(super) fn prefetch_ahead<T>(block: &T, part: usize, parts: usize) {
    /// What will be multiplied soon.
    const BLOCK: usize = 6 * 1024;
    /// A line of a page that comes later: its address is translated in time.
    const PAGE: usize = 12 * 1024;
    let start: *const i8 = std::ptr::from_ref(block).cast();
    let lines = size_of::<T>() / 64;
    // SAFETY: a prefetch does not access memory as the program sees it: any address is allowed.
    let prefetch = |at: usize| unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at)) };
    for line in part * lines / parts..(part + 1) * lines / parts {
        prefetch(BLOCK + 64 * line);
    }
    if part == 0 {
        prefetch(PAGE);
    }
}

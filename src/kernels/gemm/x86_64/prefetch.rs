//! Prefetching of packed weights for the products in x86-64 instructions.

#![allow(unsafe_code)] // one intrinsic

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Prefetches memory ahead of the block that is being multiplied. The caller calls it `parts` times per block, which
/// spreads the requests over the computation.
///
/// The hardware prefetcher stops at the end of each page. Without this function, products whose weights come from memory
/// take 1.7 times as long for 8 rows, and 1.1 to 1.8 times for one row (measured on Zen 4).
#[inline(always)]
pub(super) fn prefetch_ahead<T>(block: &T, part: usize, parts: usize) {
    /// Distance of the data that is prefetched.
    const BLOCK: usize = 6 * 1024;
    /// Distance of a line in a later page, which is prefetched so that the page's address is translated in time.
    const PAGE: usize = 12 * 1024;
    let start: *const i8 = std::ptr::from_ref(block).cast();
    let lines = size_of::<T>() / 64;
    // SAFETY: a prefetch is only a hint and may use any address.
    let prefetch = |at: usize| unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at)) };
    for line in part * lines / parts..(part + 1) * lines / parts {
        prefetch(BLOCK + 64 * line);
    }
    if part == 0 {
        prefetch(PAGE);
    }
}

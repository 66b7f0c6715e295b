//! The inner loops of attention: the portable implementations, and the selection of those in AVX2 and AVX-512. Called by
//! `attention`.

#![allow(unsafe_code)] // kernels require a CPU feature

use super::TOKENS;
use super::kv_store::KvCells;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::kernels::cpu::{CpuFeatures, InstructionSet};
use crate::kernels::widen::widen_f16;

/// Widens a cell to f32: keys `(dim, 16)` and values `(16, dim)`.
pub(super) fn widen(
    cpu: CpuFeatures,
    cells: &KvCells,
    cell: usize,
    dim: usize,
    k: &mut [[f32; TOKENS]],
    v: &mut [f32],
) {
    let len = TOKENS * dim;
    let start = 2 * cell * len;
    match cells {
        KvCells::F16(data) => {
            let (keys, vals) = data[start..start + 2 * len].split_at(len);
            widen_f16(cpu, keys, k.as_flattened_mut());
            widen_f16(cpu, vals, v);
        }
        KvCells::Int8 { quants, scales } => {
            let (keys, vals) = quants[start..start + 2 * len].split_at(len);
            let (k_scales, v_scales) = scales[2 * cell * TOKENS..2 * (cell + 1) * TOKENS].split_at(TOKENS);
            let k_scales = k_scales.first_chunk().expect("a scale for each token");
            widen_int8(cpu, keys.as_chunks().0, k_scales, k, vals, v_scales, v);
        }
    }
}

/// Widens int8 keys `(dim, 16)`, multiplied by the scale of their column, and values `(16, dim)`, multiplied by the scale of
/// their row.
fn widen_int8(
    cpu: CpuFeatures,
    keys: &[[i8; TOKENS]],
    k_scales: &[f32; TOKENS],
    k: &mut [[f32; TOKENS]],
    vals: &[i8],
    v_scales: &[f32],
    v: &mut [f32],
) {
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe {
            avx2::widen_int8(keys, k_scales, k, vals, v_scales, v);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe {
            avx512::widen_int8(keys, k_scales, k, vals, v_scales, v);
        },
        _ => {
            for (k, keys) in k.iter_mut().zip(keys) {
                *k = std::array::from_fn(|token| f32::from(keys[token]) * k_scales[token]);
            }
            let dim = v.len() / TOKENS;
            for ((v, vals), scale) in v.chunks_exact_mut(dim).zip(vals.chunks_exact(dim)).zip(v_scales) {
                v.iter_mut().zip(vals).for_each(|(v, &quant)| *v = f32::from(quant) * scale);
            }
        }
    }
}

/// Computes `p = q · k`; `q` is `(rows, k.len())`.
pub(super) fn scores(cpu: CpuFeatures, q: &[f32], k: &[[f32; TOKENS]], p: &mut [[f32; TOKENS]]) {
    assert_eq!(q.len(), k.len() * p.len());
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { avx2::scores(q, k, p) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe { avx512::scores(q, k, p) },
        _ => {
            for (p, q) in p.iter_mut().zip(q.chunks_exact(k.len())) {
                *p = [0.0; TOKENS];
                for (q, k) in q.iter().zip(k) {
                    for token in 0..TOKENS {
                        p[token] += q * k[token];
                    }
                }
            }
        }
    }
}

/// Computes `sums += p · v`; `v` is `(16, dim)`, `sums` is `(p.len(), dim)`.
pub(super) fn add_values(cpu: CpuFeatures, p: &[[f32; TOKENS]], v: &[f32], sums: &mut [f32]) {
    let dim = v.len() / TOKENS;
    assert!(dim.is_multiple_of(16) && sums.len() == p.len() * dim);
    match cpu.instruction_set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `cpu` is the proof that this machine has these features.
        InstructionSet::Avx2 => unsafe { avx2::add_values(p, v, sums) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Amx => unsafe { avx512::add_values(p, v, sums) },
        _ => {
            for (p, sums) in p.iter().zip(sums.chunks_exact_mut(dim)) {
                for (p, v) in p.iter().zip(v.chunks_exact(dim)) {
                    for (sum, v) in sums.iter_mut().zip(v) {
                        *sum += p * v;
                    }
                }
            }
        }
    }
}

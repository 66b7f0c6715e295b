//! Row operations between the products: RMSNorm, SwiGLU, GeGLU, biases and residuals. They are plain loops that
//! [`CpuFeatures::compiled`](crate::kernels::CpuFeatures) vectorizes, so every instruction set returns the same bits. Long
//! inputs are split over the threads of the pool.

#![allow(unsafe_code)] // threads write disjoint slices

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::kernels::Kernels;
use crate::kernels::cpu::Loops;
use crate::kernels::math::{exp, sum16};
use crate::kernels::pool::SharedMut;

/// Elements of a task: about ten microseconds.
const TASK_ELEMENTS: usize = 16_384;

/// Computes `out = x / sqrt(mean(x²) + eps) · weight` for each row; `x` and `out` are `(rows, weight.len())`.
///
/// # Panics
/// If the lengths of the slices do not match.
pub fn rms_norm(kernels: &Kernels, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(x.len() == out.len() && width > 0 && x.len().is_multiple_of(width), "shapes of a norm");
    let rows = (TASK_ELEMENTS / width).max(1);
    kernels.pool().run_slices(out, rows * width, &|start, out| {
        let x = &x[start..start + out.len()];
        kernels.cpu().compiled(RmsNormRows { x, weight, eps, out });
    });
}

/// Adds a residual and computes the norm after it, in one pass: `x += delta`, then `out` is the [`rms_norm`] of the new `x`.
///
/// # Panics
/// If the lengths of the slices do not match.
pub fn add_rms_norm(
    kernels: &Kernels,
    x: &mut [f32],
    delta: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    assert!(x.len() == out.len() && x.len() == delta.len(), "lengths of a residual and its norm");
    assert!(width > 0 && x.len().is_multiple_of(width), "shapes of a norm");
    let rows = (TASK_ELEMENTS / width).max(1);
    let sums = SharedMut::new(x);
    kernels.pool().run_slices(out, rows * width, &|start, out| {
        // SAFETY: the slices of `out` do not overlap, and this slice of `x` has the same position.
        let x = unsafe { sums.slice(start, out.len()) };
        let delta = &delta[start..start + out.len()];
        kernels.cpu().compiled(AddRows(x, delta));
        kernels.cpu().compiled(RmsNormRows { x, weight, eps, out });
    });
}

struct AddRows<'a>(&'a mut [f32], &'a [f32]);

impl Loops for AddRows<'_> {
    #[inline(always)]
    fn run(self) {
        for (x, delta) in self.0.iter_mut().zip(self.1) {
            *x += delta;
        }
    }
}

struct RmsNormRows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Loops for RmsNormRows<'_> {
    #[inline(always)]
    fn run(self) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            norm_row(x, self.weight, self.eps, out);
        }
    }
}

/// Normalizes one row. The squares are summed in 16 lanes and these as a tree, an order that vector registers can follow.
#[inline(always)]
fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut lanes = [0.0f32; 16];
    for chunk in chunks {
        for lane in 0..16 {
            lanes[lane] += chunk[lane] * chunk[lane];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    let factor = 1.0 / (sum16(lanes) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

/// Computes SwiGLU in place: `gate = gate · sigmoid(gate) · up`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(kernels: &Kernels, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "lengths of a SwiGLU");
    kernels.pool().run_slices(gate, TASK_ELEMENTS, &|start, gate| {
        let up = &up[start..start + gate.len()];
        kernels.cpu().compiled(SiluMul { gate, up });
    });
}

struct SiluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Loops for SiluMul<'_> {
    #[inline(always)]
    fn run(self) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// Computes GeGLU in place: `gate = gelu(gate) · up`, element by element, with the tanh form of GELU (Hendrycks and Gimpel
/// 2016): `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, which equals `x · sigmoid` of twice that argument.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_mul(kernels: &Kernels, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "lengths of a GeGLU");
    kernels.pool().run_slices(gate, TASK_ELEMENTS, &|start, gate| {
        let up = &up[start..start + gate.len()];
        kernels.cpu().compiled(GeluMul { gate, up });
    });
}

struct GeluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Loops for GeluMul<'_> {
    #[inline(always)]
    fn run(self) {
        const TWICE_ROOT: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2; // 2 √(2/π)
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            let x = *gate;
            *gate = x / (1.0 + exp(-TWICE_ROOT * (x + 0.044_715 * x * x * x))) * up;
        }
    }
}

/// Multiplies every element by `factor`.
pub fn scale(kernels: &Kernels, x: &mut [f32], factor: f32) {
    kernels.pool().run_slices(x, TASK_ELEMENTS, &|_, x| kernels.cpu().compiled(ScaleValues(x, factor)));
}

struct ScaleValues<'a>(&'a mut [f32], f32);

impl Loops for ScaleValues<'_> {
    #[inline(always)]
    fn run(self) {
        self.0.iter_mut().for_each(|x| *x *= self.1);
    }
}

/// Adds `bias` to every row of `x`, `(rows, bias.len())`.
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn add_bias(kernels: &Kernels, x: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "shapes of a bias");
    let rows = (TASK_ELEMENTS / width).max(1);
    kernels.pool().run_slices(x, rows * width, &|_, x| {
        for row in x.chunks_exact_mut(width) {
            kernels.cpu().compiled(AddRows(row, bias));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Random, all_kernels, assert_close};

    /// Asserts that `f` returns values close to `want`, and the same bits on every instruction set and thread count.
    fn check(want: &[f32], f: impl Fn(&Kernels) -> Vec<f32>) {
        let mut first = None;
        for kernels in all_kernels() {
            let got = f(&kernels);
            assert_close(&got, want, 2e-6, &format!("{kernels:?}"));
            assert_eq!(*first.get_or_insert(got.clone()), got, "{kernels:?}");
        }
    }

    #[test]
    fn rms_norm_and_add_rms_norm_match_f64_arithmetic() {
        for (rows, width) in [(1, 7), (3, 16), (5, 100), (40, 896)] {
            let mut random = Random::new(width as u64);
            let (x, delta) = (random.floats(rows * width, 3.0), random.floats(rows * width, 1.0));
            let weight = random.floats(width, 1.0);
            let norm = |x: &[f32]| -> Vec<f32> {
                x.chunks_exact(width)
                    .flat_map(|row| {
                        let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
                        let factor = 1.0 / (squares / width as f64 + 1e-6).sqrt();
                        row.iter()
                            .zip(&weight)
                            .map(move |(&x, &w)| (f64::from(x) * factor * f64::from(w)) as f32)
                    })
                    .collect()
            };
            let mut out = vec![0.0; x.len()];
            check(&norm(&x), |kernels| {
                let mut out = out.clone();
                rms_norm(kernels, &x, &weight, 1e-6, &mut out);
                out
            });
            let sum: Vec<f32> = x.iter().zip(&delta).map(|(a, b)| a + b).collect();
            check(&norm(&sum), |kernels| {
                let (mut x, mut out) = (x.clone(), out.clone());
                add_rms_norm(kernels, &mut x, &delta, &weight, 1e-6, &mut out);
                assert_eq!(x, sum);
                out
            });
            out.clear();
        }
    }

    #[test]
    fn swiglu_geglu_scale_and_bias_match_f64_arithmetic() {
        let mut random = Random::new(9);
        let (mut gate, up) = (random.floats(40_003, 8.0), random.floats(40_003, 2.0));
        gate[..6].copy_from_slice(&[0.0, -0.0, 100.0, -100.0, 89.0, -89.0]);
        let want: Vec<f32> = gate
            .iter()
            .zip(&up)
            .map(|(&g, &u)| (f64::from(g) / (1.0 + (-f64::from(g)).exp()) * f64::from(u)) as f32)
            .collect();
        check(&want, |kernels| {
            let mut gate = gate.clone();
            silu_mul(kernels, &mut gate, &up);
            gate
        });
        let want: Vec<f32> = gate
            .iter()
            .zip(&up)
            .map(|(&g, &u)| {
                let g = f64::from(g);
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                (0.5 * g * (1.0 + inner.tanh()) * f64::from(u)) as f32
            })
            .collect();
        check(&want, |kernels| {
            let mut gate = gate.clone();
            gelu_mul(kernels, &mut gate, &up);
            gate
        });
        let want: Vec<f32> = gate.iter().map(|g| g * 25.3).collect();
        check(&want, |kernels| {
            let mut gate = gate.clone();
            scale(kernels, &mut gate, 25.3);
            gate
        });
        let bias = &up[..40_003 / 13];
        let x = &gate[..bias.len() * 12];
        let want: Vec<f32> = x.iter().zip(bias.iter().cycle()).map(|(a, b)| a + b).collect();
        check(&want, |kernels| {
            let mut x = x.to_vec();
            add_bias(kernels, &mut x, bias);
            x
        });
    }
}

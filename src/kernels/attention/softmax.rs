//! The online softmax: scores come 16 tokens at a time, and the sums of earlier tokens are rescaled when a larger score
//! appears (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax"). Called by `attention`.

use super::TOKENS;
use crate::kernels::cpu::Loops;
use crate::kernels::math::exp;
use std::ops::Range;

/// The running softmax of a row.
#[derive(Clone, Copy)]
pub(super) struct SoftmaxState {
    /// The largest score so far.
    largest: f32,
    /// The sum of the weights so far, relative to the largest score, in 16 lanes.
    pub(super) weights: [f32; TOKENS],
}

impl SoftmaxState {
    pub(super) const EMPTY: Self = Self { largest: f32::NEG_INFINITY, weights: [0.0; TOKENS] };
}

/// Turns the scores of one block into weights, for the rows of a tile.
pub(super) struct SoftmaxStep<'a> {
    /// The end of the positions that the tile's first token attends to.
    pub(super) end: usize,
    /// Maximum number of positions that a row attends to.
    pub(super) window: usize,
    /// The position of the block's first token.
    pub(super) position: usize,
    /// Rows per token.
    pub(super) group: usize,
    /// Rows before this one attend to nothing in the block.
    pub(super) skipped: usize,
    /// Scores, replaced by weights, `(rows, 16)`.
    pub(super) p: &'a mut [[f32; TOKENS]],
    /// One for each row.
    pub(super) states: &'a mut [SoftmaxState],
    /// Weighted sums of values, `(rows, dim)`.
    pub(super) sums: &'a mut [f32],
}

impl Loops for SoftmaxStep<'_> {
    #[inline(always)]
    fn run(self) {
        let dim = self.sums.len() / self.p.len();
        for row in self.skipped..self.p.len() {
            let end = self.end + row / self.group;
            let first = end.saturating_sub(self.window).saturating_sub(self.position);
            let visible = first..end.saturating_sub(self.position).min(TOKENS);
            let sums = &mut self.sums[row * dim..(row + 1) * dim];
            softmax_step(&mut self.p[row], visible, &mut self.states[row], sums);
        }
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Turns 16 scores into weights relative to the largest score so far, and rescales the earlier sums to it.
#[inline(always)]
fn softmax_step(p: &mut [f32; TOKENS], visible: Range<usize>, state: &mut SoftmaxState, sums: &mut [f32]) {
    for (token, p) in p.iter_mut().enumerate() {
        *p = if token >= visible.start && token < visible.end { *p } else { f32::NEG_INFINITY };
    }
    let largest: [f32; 8] = std::array::from_fn(|i| larger(p[i], p[i + 8]));
    let largest: [f32; 4] = std::array::from_fn(|i| larger(largest[i], largest[i + 4]));
    let largest = larger(larger(largest[0], largest[2]), larger(largest[1], largest[3]));
    if largest > state.largest {
        let factor = exp(state.largest - largest); // 0 at the first block
        state.largest = largest;
        state.weights.iter_mut().for_each(|w| *w *= factor);
        sums.iter_mut().for_each(|s| *s *= factor);
    }
    for (p, weight) in p.iter_mut().zip(&mut state.weights) {
        *p = exp(*p - state.largest);
        *weight += *p;
    }
}

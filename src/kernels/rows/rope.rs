//! Rotary position embedding of rows with individual positions. `model` applies it to queries and keys before the keys are
//! stored; `kv_store` rotates key biases with the same table.

use crate::kernels::cpu::Loops;
use crate::kernels::{KernelError, Kernels};

/// The elements of a head that form a pair, which is rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Element `i` with `i + rotated/2`: GPT-NeoX, Qwen2, Phi; ggml's `NEOX`.
    Halves,
    /// Element `2i` with `2i + 1`: Llama in GGUF files; ggml's `NORM`.
    Neighbors,
}

/// The cosines and sines of all positions up to a limit.
#[derive(Debug, Clone)]
pub struct RopeTable {
    style: RopeStyle,
    head_dim: usize,
    pairs: usize,
    positions: usize,
    /// `(positions, 2 · pairs)`: the cosines of a position, then its sines.
    table: Vec<f32>,
}

impl RopeTable {
    /// Creates the table for the frequencies `base^(-2i / rotated)` of the first `rotated` elements of a head of `head_dim`,
    /// each divided by its element of `divisors` (linear scaling, Llama 3) unless that is empty.
    ///
    /// # Errors
    /// [`KernelError::Shape`] if `rotated` is odd, zero or more than `head_dim`, `divisors` has another length than there are
    /// pairs, or `positions` is zero.
    pub fn new(
        style: RopeStyle,
        head_dim: usize,
        rotated: usize,
        base: f32,
        divisors: &[f32],
        positions: usize,
    ) -> Result<Self, KernelError> {
        let pairs = rotated / 2;
        if !rotated.is_multiple_of(2) || pairs == 0 || rotated > head_dim || positions == 0 {
            return Err(KernelError::Shape(format!(
                "cannot rotate {rotated} of the {head_dim} elements of a head at {positions} positions"
            )));
        }
        if !divisors.is_empty() && divisors.len() != pairs {
            return Err(KernelError::Shape(format!(
                "{} frequency divisors for {pairs} pairs of elements",
                divisors.len()
            )));
        }
        let exponent = |i: usize| -2.0 * i as f64 / rotated as f64;
        let mut frequencies: Vec<f32> =
            (0..pairs).map(|i| f64::from(base).powf(exponent(i)) as f32).collect();
        frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
        let mut table = Vec::with_capacity(positions * 2 * pairs);
        for position in 0..positions {
            let angle = |f: &f32| position as f64 * f64::from(*f);
            table.extend(frequencies.iter().map(|f| angle(f).cos() as f32));
            table.extend(frequencies.iter().map(|f| angle(f).sin() as f32));
        }
        Ok(Self { style, head_dim, pairs, positions, table })
    }

    /// Returns the number of positions in the table.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the number of elements of a head.
    pub(in crate::kernels) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Rotates `x`, `(positions, heads · head_dim)` row-major, in place. Row `i` is at `positions[i]`.
    ///
    /// # Panics
    /// If a row is not a whole number of heads, or a position is outside of the table.
    pub fn rotate(&self, kernels: &Kernels, x: &mut [f32], positions: &[u32]) {
        if positions.is_empty() {
            return assert!(x.is_empty(), "rows without positions");
        }
        let width = x.len() / positions.len();
        assert!(
            width * positions.len() == x.len() && width.is_multiple_of(self.head_dim),
            "rows of whole heads"
        );
        let last = positions.iter().max().map_or(0, |&p| p as usize);
        assert!(last < self.positions, "position {last} is outside of a table of {}", self.positions);
        let rows = (16_384 / width.max(1)).max(1);
        kernels.pool().run_slices(x, rows * width.max(1), &|start, part| {
            let positions = &positions[start / width..];
            kernels.cpu().compiled(RotateRows { table: self, rows: part, positions, width });
        });
    }

    /// Returns the element that forms a pair with `element`, or `element` itself if it is not rotated.
    pub(in crate::kernels) fn partner(&self, element: usize) -> usize {
        match self.style {
            _ if element >= 2 * self.pairs => element,
            RopeStyle::Halves => (element + self.pairs) % (2 * self.pairs),
            RopeStyle::Neighbors => element ^ 1,
        }
    }

    /// Rotates the heads of one row.
    #[inline(always)]
    pub(in crate::kernels) fn rotate_row(&self, row: &mut [f32], position: u32) {
        let at = &self.table[position as usize * 2 * self.pairs..][..2 * self.pairs];
        let (cos, sin) = at.split_at(self.pairs);
        for head in row.chunks_exact_mut(self.head_dim) {
            match self.style {
                RopeStyle::Halves => {
                    let (first, second) = head[..2 * self.pairs].split_at_mut(self.pairs);
                    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
                RopeStyle::Neighbors => {
                    for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                        *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
                    }
                }
            }
        }
    }
}

struct RotateRows<'a> {
    table: &'a RopeTable,
    rows: &'a mut [f32],
    positions: &'a [u32],
    width: usize,
}

impl Loops for RotateRows<'_> {
    #[inline(always)]
    fn run(self) {
        for (row, &position) in self.rows.chunks_exact_mut(self.width).zip(self.positions) {
            self.table.rotate_row(row, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Random, all_kernels, assert_close};

    #[test]
    fn rotates_each_row_by_its_position() {
        let (heads, dim, positions) = (3, 32, [5u32, 0, 17, 16]);
        for (style, rotated) in [
            (RopeStyle::Halves, 32),
            (RopeStyle::Neighbors, 32),
            (RopeStyle::Halves, 20),
            (RopeStyle::Neighbors, 8),
        ] {
            let rope = RopeTable::new(style, dim, rotated, 10_000.0, &[], 18).expect("a valid shape");
            let x = Random::new(1).floats(positions.len() * heads * dim, 1.0);
            let mut want = x.clone();
            for (row, &position) in positions.iter().enumerate() {
                for head in 0..heads {
                    let at = (row * heads + head) * dim;
                    for pair in 0..rotated / 2 {
                        let angle = f64::from(position) * 10_000f64.powf(-2.0 * pair as f64 / rotated as f64);
                        let (i, j) = match style {
                            RopeStyle::Halves => (at + pair, at + pair + rotated / 2),
                            RopeStyle::Neighbors => (at + 2 * pair, at + 2 * pair + 1),
                        };
                        let (a, b) = (f64::from(x[i]), f64::from(x[j]));
                        want[i] = (a * angle.cos() - b * angle.sin()) as f32;
                        want[j] = (a * angle.sin() + b * angle.cos()) as f32;
                    }
                }
            }
            let mut first = None;
            for kernels in all_kernels() {
                let mut got = x.clone();
                rope.rotate(&kernels, &mut got, &positions);
                assert_close(&got, &want, 1e-5, &format!("{style:?} {kernels:?}"));
                assert_eq!(*first.get_or_insert(got.clone()), got, "{kernels:?}");
            }
        }
    }

    #[test]
    fn rejects_invalid_shapes() {
        assert!(RopeTable::new(RopeStyle::Halves, 16, 7, 1e4, &[], 4).is_err());
        assert!(RopeTable::new(RopeStyle::Halves, 16, 18, 1e4, &[], 4).is_err());
        assert!(RopeTable::new(RopeStyle::Halves, 16, 0, 1e4, &[], 4).is_err());
        assert!(RopeTable::new(RopeStyle::Halves, 16, 16, 1e4, &[], 0).is_err());
        assert!(RopeTable::new(RopeStyle::Halves, 16, 16, 1e4, &[2.0], 4).is_err());
    }
}

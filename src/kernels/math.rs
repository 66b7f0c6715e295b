//! Scalar arithmetic that returns the same bits on every instruction set, written so that compilers vectorize it. Used
//! by the quantization of activations, the row operations and attention.

/// Rounds `x` to the nearest integer, ties to even; `|x|` must be at most 2^22. `f32::round_ties_even` would be a
/// function call on CPUs without a rounding instruction.
#[inline(always)]
pub(super) fn round_ties_even(x: f32) -> i32 {
    // Adding 1.5 · 2^23 leaves no fraction bits; the low mantissa bits of the sum are the integer.
    let shifted = x + 12_582_912.0;
    shifted.to_bits().cast_signed().wrapping_sub(0x4b40_0000)
}

/// Returns `e^x`, accurate to 2 units in the last place for `x` from −87 to 88; 0 below, infinity above, NaN for NaN.
///
/// The algorithm is `expf` of Cephes: `e^x = 2^n · e^r` with `|r| <= ln 2 / 2`, and a polynomial for `e^r`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.7 { 88.7 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted.to_bits().cast_signed().wrapping_sub(0x4b40_0000);
    let whole = shifted - 12_582_912.0;
    let r = clamped - whole * LN2_HIGH - whole * LN2_LOW;
    let mut p = 1.987_569_2e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // `n` is between -126 and 128; splitting it into two factors keeps both exponents in range.
    let half = n >> 1;
    let scale = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let value = p * scale(half) * scale(n - half);
    if x < -87.3 {
        0.0
    } else if x > 88.7 {
        f32::INFINITY
    } else if x.is_nan() {
        x
    } else {
        value
    }
}

/// Returns the sum of 16 lanes, added as a tree: an order that vector registers can follow.
#[inline(always)]
pub(super) fn sum16(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_ties_to_even() {
        for (x, want) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.6, 127), (-127.0, -127), (0.49, 0)]
        {
            assert_eq!(round_ties_even(x), want, "{x}");
        }
    }

    #[test]
    fn exp_is_accurate_and_handles_the_limits_of_its_range() {
        for i in -8700..=8800 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
        }
        assert_eq!((exp(0.0), exp(-1000.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert_eq!((exp(f32::INFINITY), exp(90.0)), (f32::INFINITY, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan());
    }
}

//! Packed quants of 16 rows: the byte layouts of 4, 5, 6 and 8 bits that panels are built from. The instruction sets unpack
//! them with their own instructions; [`Quants::unpack`] is the reference.

/// Four columns of 16 rows; the byte at `4 · row + column`.
pub(super) type QuantGroup = [u8; 64];

/// 32 columns of unsigned quants of 16 rows, packed.
pub(super) trait Quants: Copy + Send + Sync + 'static {
    /// The quant that represents zero in types without a minimum.
    const ZERO_POINT: i32;

    /// Packs 32 columns, one quant per byte.
    fn pack(groups: &[QuantGroup; 8]) -> Self;

    /// Returns the 32 columns, one quant per byte.
    fn unpack(&self) -> [QuantGroup; 8];
}

/// 4-bit quants: groups 0 to 3 in the low halves, 4 to 7 in the high halves.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Quants4(pub(super) [QuantGroup; 4]);

/// 5-bit quants: the low bits like [`Quants4`], and the fifth bit of group `g` in bit `g`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Quants5(pub(super) [QuantGroup; 4], pub(super) QuantGroup);

/// 6-bit quants: the low bits like [`Quants4`], and the two high bits of groups `i` and `i + 4` in bits `2i` and `2i + 1` of
/// the first and the second high group.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Quants6(pub(super) [QuantGroup; 4], pub(super) [QuantGroup; 2]);

/// 8-bit quants.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Quants8(pub(super) [QuantGroup; 8]);

/// Builds a group from a function of the byte's index.
fn group(f: impl Fn(usize) -> u8) -> QuantGroup {
    std::array::from_fn(f)
}

impl Quants for Quants4 {
    const ZERO_POINT: i32 = 8;

    #[inline(always)]
    fn pack(g: &[QuantGroup; 8]) -> Self {
        Self(std::array::from_fn(|i| group(|b| g[i][b] & 15 | g[i + 4][b] << 4)))
    }

    #[inline(always)]
    fn unpack(&self) -> [QuantGroup; 8] {
        std::array::from_fn(|i| group(|b| if i < 4 { self.0[i][b] & 15 } else { self.0[i - 4][b] >> 4 }))
    }
}

impl Quants for Quants5 {
    const ZERO_POINT: i32 = 16;

    #[inline(always)]
    fn pack(g: &[QuantGroup; 8]) -> Self {
        let high = group(|b| (0..8).fold(0, |bits, i| bits | (g[i][b] >> 4 & 1) << i));
        Self(Quants4::pack(g).0, high)
    }

    #[inline(always)]
    fn unpack(&self) -> [QuantGroup; 8] {
        let low = Quants4(self.0).unpack();
        std::array::from_fn(|i| group(|b| low[i][b] | (self.1[b] >> i & 1) << 4))
    }
}

impl Quants for Quants6 {
    const ZERO_POINT: i32 = 32;

    #[inline(always)]
    fn pack(g: &[QuantGroup; 8]) -> Self {
        let high =
            |h: usize| group(|b| (0..4).fold(0, |bits, i| bits | (g[4 * h + i][b] >> 4 & 3) << (2 * i)));
        Self(Quants4::pack(g).0, [high(0), high(1)])
    }

    #[inline(always)]
    fn unpack(&self) -> [QuantGroup; 8] {
        let low = Quants4(self.0).unpack();
        std::array::from_fn(|i| group(|b| low[i][b] | (self.1[i / 4][b] >> (i % 4 * 2) & 3) << 4))
    }
}

impl Quants for Quants8 {
    const ZERO_POINT: i32 = 128;

    #[inline(always)]
    fn pack(g: &[QuantGroup; 8]) -> Self {
        Self(*g)
    }

    #[inline(always)]
    fn unpack(&self) -> [QuantGroup; 8] {
        self.0
    }
}

//! Quantities of Chinese and English text as exact values: numbers, money, percentages, fractions, ordinals, dates.
//!
//! ```text
//! Chinese text ─chinese─▶ quantities ─┐
//!                                     ├─compare─▶ NumberReport
//! English text ─english─▶ quantities ─┘
//! Chinese text ─rewrite─▶ Chinese text whose quantities are written in English (by render)
//! ```
//! Called by `check` and, to rewrite a source before it is translated, by `pipeline`. Pure functions over text.
//!
//! Values are [`rust_decimal::Decimal`], so 35亿 and 3.5 billion are exactly equal.

mod chinese;
mod compare;
mod english;
#[cfg(test)]
mod properties;
mod quantity;
mod render;
mod rewrite;
#[cfg(test)]
mod tests;
mod units;

pub use chinese::read_zh;
pub(super) use compare::summary_numbers_not_in;
pub use compare::{NumberReport, compare};
pub use english::read_en;
pub use quantity::{Approx, Clock, Date, Quantity, QuantityKind};
pub(super) use render::english_of;
pub use render::{english, number};
pub use rewrite::{QuantityRewrite, rewrite_quantities};
pub use units::{Currency, Unit};

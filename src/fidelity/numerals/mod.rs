//! Quantities of Chinese and English text as exact values: numbers, money, percentages, fractions, ordinals, dates.
//!
//! ```text
//! zh text ─zh, zh_dates, zh_number─▶ quantities ─┐
//!                                                ├─compare─▶ NumberReport
//! en text ─en, en_dates, en_number─▶ quantities ─┘
//! zh text ─settle (render)─▶ zh text with English quantities
//! ```
//! Called by `fidelity` (the verdict) and by `pipeline` (settling). Pure functions over text; knows no model.
//!
//! Values are [`rust_decimal::Decimal`]: 35亿 and 3.5 billion are equal, not nearly so.

mod compare;
mod en;
mod en_dates;
mod en_number;
mod en_words;
#[cfg(test)]
mod properties;
mod render;
mod settle;
#[cfg(test)]
mod tests;
mod units;
mod value;
mod zh;
mod zh_dates;
mod zh_measure;
mod zh_number;
mod zh_words;

pub use compare::{NumberReport, compare, summary_numbers_not_in};
pub use en::read_en;
pub use render::{english, number};
pub use settle::{Replacement, Settle, settle_with, settle_zh};
pub use units::{Currency, Unit};
pub use value::{Approx, Clock, Date, Kind, Quantity};
pub use zh::read_zh;

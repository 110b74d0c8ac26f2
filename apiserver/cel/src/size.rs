//! Ranges of sizes and costs, which never overflow: what is beyond all numbers stays the largest.

/// A size that nothing limits.
pub const UNBOUNDED: u64 = u64::MAX;

/// A range of sizes or costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub min: u64,
    pub max: u64,
}

impl Size {
    pub const fn exactly(size: u64) -> Self {
        Self { min: size, max: size }
    }

    pub const UNKNOWN: Self = Self { min: 0, max: UNBOUNDED };

    pub fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub fn factor(self, by: f64) -> Self {
        // A float that is too large becomes the largest integer.
        let scaled = |size: u64| (size as f64 * by).ceil() as u64;
        Self { min: scaled(self.min), max: scaled(self.max) }
    }

    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// How large a text of this size gets where parts are replaced.
pub fn replaced(size: Size, from: Size, to: Size) -> Size {
    let (mut count, mut kept) = (Size::exactly(0), Size::exactly(0));
    if from.min == 0 {
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if to.max <= from.min {
        kept.max = size.max;
    } else {
        count.max = (size.max as f64 / from.min as f64).ceil() as u64;
    }
    if from.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if from.max <= to.min {
        kept.min = size.min;
    } else {
        count.min = (size.min as f64 / from.max as f64).ceil() as u64;
    }
    count.times(to).plus(kept)
}

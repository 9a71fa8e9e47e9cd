//! Versions in 64 bits, where that is exact: how far each is from a base, in a unit that divides all these distances.

/// Whole numbers are this far apart, see [`super::Entry::version`].
const COARSEST: i128 = 1_000_000_000_000_000_000;
const SIGN: u64 = 1 << 63;

/// Numbers and times in use have one of these in common: integers of 64 bits, nanoseconds of three centuries on both
/// sides of the base, decimal fractions of 19 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    base: i128,
    /// A power of ten.
    unit: i128,
}

impl Scale {
    pub(super) fn from(base: i128) -> Self {
        Self { base, unit: COARSEST }
    }

    /// In the order of the versions, and never the same for two of them. `None` where a version does not fit.
    pub(super) fn pack(self, version: i128) -> Option<u64> {
        let distance = version.checked_sub(self.base)?;
        let units = i64::try_from(distance / self.unit).ok()?;
        (i128::from(units) * self.unit == distance).then_some(units as u64 ^ SIGN)
    }

    pub(super) fn unpack(self, packed: u64) -> i128 {
        self.base + i128::from((packed ^ SIGN) as i64) * self.unit
    }

    /// The coarsest one in which the distance of this version, too, is whole. `None` where it was already.
    pub(super) fn finer(self, version: i128) -> Option<Self> {
        let distance = version.checked_sub(self.base)?;
        let mut unit = self.unit;
        while distance % unit != 0 {
            unit /= 10;
        }
        (unit < self.unit).then_some(Self { unit, ..self })
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::from(0)
    }
}

//! Quantities as people write them: durations, sizes and rates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration written as `90s`, `4h`, `2d` or `1h30m`; units `ms`, `s`, `m`, `h`, `d`, `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// A number of octets written as `64MiB`; units `B`, `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// So many per interval, written as `1000/s`, `30/min`, `5/h` or `20/d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which time: a second, a minute, an hour or a day.
    pub per: Duration,
}

/// Text that is not the quantity that was expected; says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAQuantity(String);

const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const RATE_UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];

impl FromStr for HumanDuration {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let error = || {
            NotAQuantity(format!(
                "\"{text}\" is not a duration; write a number and a unit (ms, s, m, h, d, w), as in \"90s\", \"4h\" or \"1h30m\""
            ))
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(error());
        }
        let mut total = 0_u64;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = leading_number(rest).ok_or_else(error)?;
            let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
            if *millis >= last_unit {
                return Err(error()); // "1h2h", "5s1h": more likely a slip than a sum
            }
            last_unit = *millis;
            total = number.checked_mul(*millis).and_then(|n| total.checked_add(n)).ok_or_else(error)?;
            rest = after;
        }
        Ok(HumanDuration(Duration::from_millis(total)))
    }
}

impl FromStr for ByteSize {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let error = || {
            NotAQuantity(format!(
                "\"{text}\" is not a size; write a number and a unit (B, KiB, MiB, GiB), as in \"64MiB\""
            ))
        };
        let (number, unit) = leading_number(text.trim()).ok_or_else(error)?;
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(error)?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(error)
    }
}

impl FromStr for Rate {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let error = || {
            NotAQuantity(format!(
                "\"{text}\" is not a rate; write a number from 1 and an interval (s, min, h, d), as in \"1000/s\" or \"30/min\""
            ))
        };
        let (number, rest) = leading_number(text.trim()).ok_or_else(error)?;
        let unit = rest.strip_prefix('/').ok_or_else(error)?;
        let (_, seconds) = RATE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let count = u32::try_from(number).ok().filter(|n| *n > 0).ok_or_else(error)?;
        Ok(Rate { count, per: Duration::from_secs(*seconds) })
    }
}

impl Rate {
    /// How many in a second, on average.
    pub fn per_second(&self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64().max(1.0)
    }
}

/// The largest unit that fits without a rest: `96h` reads back as `4d`, `5400s` as `90m`.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        // Weeks are read, but days are how people speak of validities.
        let (unit, size) = DURATION_UNITS
            .iter()
            .find(|(name, size)| *name != "w" && millis.is_multiple_of(*size))
            .unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", millis / size)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            SIZE_UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size)).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = RATE_UNITS.iter().find(|(_, s)| *s == self.per.as_secs()).map_or("s", |(name, _)| name);
        write!(f, "{}/{unit}", self.count)
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, seconds) in
            [("90s", 90), ("4h", 14_400), ("2d", 172_800), ("1h30m", 5_400), ("1w", 604_800), ("0s", 0), ("10m", 600)]
        {
            assert_eq!(text.parse(), Ok(HumanDuration(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!("250ms".parse(), Ok(HumanDuration(Duration::from_millis(250))));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_an_example() {
        for text in
            ["", "4", "h", "4 hours", "-4h", "1.5h", "5s1h", "1h1h", "99999999999999999999d", "9999999999999999d"]
        {
            let error = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert!(error.contains("\"90s\""), "{text}: {error}");
        }
        for text in ["", "64", "64MB", "64M", "-1B", "99999999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["", "5", "0/s", "5/m", "5/", "/s", "-1/s", "5000000000/s", "1/ s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0_u64..1 << 50, octets in any::<u64>(), count in 1_u32.., unit in 0_usize..4) {
            let duration = HumanDuration(Duration::from_millis(millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            prop_assert_eq!(ByteSize(octets).to_string().parse(), Ok(ByteSize(octets)));
            let rate = Rate { count, per: Duration::from_secs(RATE_UNITS[unit].1) };
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}

//! GeneralizedTime, UTCTime and HTTP-date, by arithmetic: no allocation, no locale, no fraction.

use super::Timestamp;

/// An IMF-fixdate (RFC 9110 §5.6.7), always 29 octets, always `GMT`.
pub type HttpDate = [u8; 29];

const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A civil date and time in UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// Days are counted in 400-year eras that begin on 1 March, so that the leap day is the last of its year.
    fn from_timestamp(t: Timestamp) -> Self {
        let days = t.unix().div_euclid(86_400);
        let rest = t.unix().rem_euclid(86_400);
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil { year, month, day, hour: rest / 3_600, minute: rest / 60 % 60, second: rest % 60 }
    }

    /// `None` for a date that does not exist. A leap second (60) is read as the last ordinary second.
    fn to_timestamp(&self) -> Option<Timestamp> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last_day = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i64::from(leap),
            _ => return None,
        };
        if !(1..=last_day).contains(&self.day) || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = (self.month + 9) % 12;
        let day_of_year = (153 * shifted_month + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = self.hour * 3_600 + self.minute * 60 + self.second.min(59);
        Some(Timestamp::from_unix(days * 86_400 + seconds))
    }
}

/// The content octets of a GeneralizedTime as RFC 5280 §4.1.2.5.2 wants it: `YYYYMMDDHHMMSSZ`, no fraction.
pub fn format_generalized(t: Timestamp) -> [u8; 15] {
    let c = Civil::from_timestamp(t);
    let mut out = *b"00000000000000Z";
    let [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, m1, m2, s1, s2, _z] = &mut out;
    put2(y1, y2, c.year / 100);
    put2(y3, y4, c.year % 100);
    put2(mo1, mo2, c.month);
    put2(d1, d2, c.day);
    put2(h1, h2, c.hour);
    put2(m1, m2, c.minute);
    put2(s1, s2, c.second);
    out
}

/// Reads a GeneralizedTime of the RFC 5280 form; a fraction or an offset is refused.
pub fn parse_generalized(content: &[u8]) -> Option<Timestamp> {
    let [y1, y2, y3, y4, rest @ ..] = content else { return None };
    let year = digits(&[*y1, *y2, *y3, *y4])?;
    parse_from_month(year, rest)
}

/// Reads a UTCTime of the RFC 5280 form `YYMMDDHHMMSSZ`; years 50 to 99 are 1950 to 1999 (§4.1.2.5.1).
pub fn parse_utc_time(content: &[u8]) -> Option<Timestamp> {
    let [y1, y2, rest @ ..] = content else { return None };
    let short = digits(&[*y1, *y2])?;
    let year = if short >= 50 { 1900 + short } else { 2000 + short };
    parse_from_month(year, rest)
}

fn parse_from_month(year: i64, rest: &[u8]) -> Option<Timestamp> {
    let [mo1, mo2, d1, d2, h1, h2, m1, m2, s1, s2, b'Z'] = rest else { return None };
    Civil {
        year,
        month: digits(&[*mo1, *mo2])?,
        day: digits(&[*d1, *d2])?,
        hour: digits(&[*h1, *h2])?,
        minute: digits(&[*m1, *m2])?,
        second: digits(&[*s1, *s2])?,
    }
    .to_timestamp()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub fn format_http_date(t: Timestamp) -> HttpDate {
    let c = Civil::from_timestamp(t);
    let weekday = usize::try_from((t.unix().div_euclid(86_400) + 3).rem_euclid(7)).unwrap_or(0);
    let month = usize::try_from(c.month - 1).unwrap_or(0);
    let mut out = *b"Mon, 00 Jan 0000 00:00:00 GMT";
    let [w1, w2, w3, _, _, d1, d2, _, n1, n2, n3, _, y1, y2, y3, y4, _, h1, h2, _, m1, m2, _, s1, s2, ..] = &mut out;
    [*w1, *w2, *w3] = **DAYS.get(weekday).unwrap_or(&b"Mon");
    [*n1, *n2, *n3] = **MONTHS.get(month).unwrap_or(&b"Jan");
    put2(d1, d2, c.day);
    put2(y1, y2, c.year / 100);
    put2(y3, y4, c.year % 100);
    put2(h1, h2, c.hour);
    put2(m1, m2, c.minute);
    put2(s1, s2, c.second);
    out
}

/// Reads an IMF-fixdate. The two obsolete forms of RFC 9110 §5.6.7 are not read: a condition that cannot be read is
/// ignored, which costs a full answer and never a wrong one.
pub fn parse_http_date(text: &[u8]) -> Option<Timestamp> {
    let [
        _,
        _,
        _,
        b',',
        b' ',
        d1,
        d2,
        b' ',
        n1,
        n2,
        n3,
        b' ',
        y1,
        y2,
        y3,
        y4,
        b' ',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        b' ',
        b'G',
        b'M',
        b'T',
    ] = text
    else {
        return None;
    };
    let name = [*n1, *n2, *n3];
    let month = MONTHS.iter().position(|m| **m == name)? + 1;
    Civil {
        year: digits(&[*y1, *y2, *y3, *y4])?,
        month: i64::try_from(month).ok()?,
        day: digits(&[*d1, *d2])?,
        hour: digits(&[*h1, *h2])?,
        minute: digits(&[*m1, *m2])?,
        second: digits(&[*s1, *s2])?,
    }
    .to_timestamp()
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn put2(tens: &mut u8, ones: &mut u8, n: i64) {
    *tens = b'0' + u8::try_from(n / 10 % 10).unwrap_or(0);
    *ones = b'0' + u8::try_from(n % 10).unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_written_as_the_standards_print_them() {
        let t = Timestamp::from_unix(784_111_777);
        assert_eq!(&format_http_date(t), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format_generalized(t), b"19941106084937Z");
        assert_eq!(&format_generalized(Timestamp::EPOCH), b"19700101000000Z");
        assert_eq!(&format_generalized(Timestamp::MAX), b"99991231235959Z");
        assert_eq!(&format_generalized(Timestamp::MIN), b"00000101000000Z");
        assert_eq!(t.to_string(), "1994-11-06T08:49:37Z");
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for bad in [
            "20250229000000Z",
            "20260431000000Z",
            "20261301000000Z",
            "20260101240000Z",
            "20260101006000Z",
            "20260101000000.5Z",
            "20260101000000",
            "20260101000000+0100",
            "2026010100000Z",
            "",
            "Z",
        ] {
            assert_eq!(parse_generalized(bad.as_bytes()), None, "{bad}");
        }
        assert!(parse_generalized(b"20240229000000Z").is_some());
        assert_eq!(parse_utc_time(b"491231235959Z").map(|t| t.to_string()), Some("2049-12-31T23:59:59Z".into()));
        assert_eq!(parse_utc_time(b"500101000000Z").map(|t| t.to_string()), Some("1950-01-01T00:00:00Z".into()));
    }

    proptest! {
        #[test]
        fn every_second_round_trips_in_both_formats(s in Timestamp::MIN.unix()..=Timestamp::MAX.unix()) {
            let t = Timestamp::from_unix(s);
            prop_assert_eq!(parse_generalized(&format_generalized(t)), Some(t));
            prop_assert_eq!(parse_http_date(&format_http_date(t)), Some(t));
        }
    }
}

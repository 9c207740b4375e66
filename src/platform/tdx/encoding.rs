//! RFC 3339 and ASN.1 times, as Intel's collateral spells them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time that `YYYY-MM-DDThh:mm:ssZ` names, the one form of RFC 3339 that Intel's services write.
pub(super) fn rfc3339(text: &str) -> Option<SystemTime> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1, b'Z'] = text.as_bytes()
    else {
        return None;
    };
    civil(
        decimal(&[y0, y1, y2, y3])?,
        decimal(&[m0, m1])?,
        decimal(&[d0, d1])?,
        [decimal(&[h0, h1])?, decimal(&[n0, n1])?, decimal(&[s0, s1])?],
    )
}

/// The time in the contents of a UTCTime (tag 0x17) or GeneralizedTime (tag 0x18) as RFC 5280 §4.1.2.5 restricts them.
pub(super) fn asn1_time(tag: u8, contents: &[u8]) -> Option<SystemTime> {
    let (year, rest): (u64, &[u8]) = match tag {
        0x17 => {
            let (year, rest) = contents.split_at_checked(2)?;
            let year = decimal(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        0x18 => {
            let (year, rest) = contents.split_at_checked(4)?;
            (decimal(year)?, rest)
        }
        _ => return None,
    };
    let &[m0, m1, d0, d1, h0, h1, n0, n1, s0, s1, b'Z'] = rest else { return None };
    civil(
        year,
        decimal(&[m0, m1])?,
        decimal(&[d0, d1])?,
        [decimal(&[h0, h1])?, decimal(&[n0, n1])?, decimal(&[s0, s1])?],
    )
}

/// `time` as `YYYY-MM-DDThh:mm:ssZ`; times before 1970 show as 1970.
pub(super) fn show_time(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Inverse of `days_before`: eras of 400 years, counted from March (H. Hinnant, "chrono-compatible low-level date
    // algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit.wrapping_sub(b'0')))
    })
}

fn civil(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<SystemTime> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year < 1970 || day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_before(year, month, day);
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Days from 1970-01-01 to a date of 1970 or later.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(time: Option<SystemTime>) -> Option<u64> {
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_of_both_spellings_are_read() {
        assert_eq!(seconds(rfc3339("1970-01-01T00:00:00Z")), Some(0));
        assert_eq!(seconds(rfc3339("2000-02-29T12:34:56Z")), Some(951_827_696));
        assert_eq!(seconds(rfc3339("2026-02-18T13:58:55Z")), Some(1_771_423_135));
        assert_eq!(seconds(asn1_time(0x17, b"260218135855Z")), Some(1_771_423_135));
        assert_eq!(seconds(asn1_time(0x18, b"20491231235959Z")), Some(2_524_607_999));
    }

    #[test]
    fn other_spellings_of_times_are_refused() {
        for text in [
            "",
            "2026-02-18T13:58:55",
            "2026-02-18T13:58:55+00:00",
            "2026-02-18T13:58:55.0Z",
            "2026-02-29T13:58:55Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "1969-12-31T23:59:59Z",
            "2026-02-18t13:58:55z",
            "20 6-02-18T13:58:55Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        assert_eq!(asn1_time(0x17, b"2602181358Z"), None);
        assert_eq!(asn1_time(0x18, b"260218135855Z"), None);
        assert_eq!(asn1_time(0x0c, b"260218135855Z"), None);
    }

    #[test]
    fn times_survive_a_round_trip() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-29T12:34:56Z", "2026-12-31T23:59:59Z", "2100-03-01T00:00:00Z"] {
            assert_eq!(show_time(rfc3339(text).unwrap()), text);
        }
    }
}

//! Dates of the Gregorian calendar from 1970 on, as certificates, revocation lists and collateral spell them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The contents of a UTCTime or GeneralizedTime, in the form that RFC 5280 section 4.1.2.5 allows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asn1Time<'a> {
    /// `YYMMDDhhmmssZ`: years below 50 are those of 2000.
    Utc(&'a [u8]),
    /// `YYYYMMDDhhmmssZ`.
    Generalized(&'a [u8]),
}

impl Asn1Time<'_> {
    /// The time; `None` if it is spelt in another way, does not exist or is before 1970.
    pub(crate) fn read(self) -> Option<SystemTime> {
        let (year, rest) = match self {
            Self::Utc(contents) => {
                let (year, rest) = contents.split_first_chunk::<2>()?;
                let year = decimal(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            Self::Generalized(contents) => {
                let (year, rest) = contents.split_first_chunk::<4>()?;
                (decimal(year)?, rest)
            }
        };
        let &[m0, m1, d0, d1, h0, h1, n0, n1, s0, s1, b'Z'] = rest else { return None };
        let clock = [decimal(&[h0, h1])?, decimal(&[n0, n1])?, decimal(&[s0, s1])?];
        civil(year, decimal(&[m0, m1])?, decimal(&[d0, d1])?, clock)
    }
}

/// The number that ASCII digits write.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit.wrapping_sub(b'0')))
    })
}

/// The moment of a date and a time of day; `None` if there is no such date or time, or it is before 1970.
pub(crate) fn civil(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<SystemTime> {
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
    // Years are counted from March, so that the leap day is the last of its year.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = 365 * shifted_year + leap_days + (153 * shifted_month + 2) / 5 + day - 1 - MARCH_OF_YEAR_0;
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Year, month and day, then hour, minute and second, of `time`; times before 1970 count as 1970.
#[cfg(any(feature = "tdx", feature = "sim"))]
pub(crate) fn date_and_clock(time: SystemTime) -> ([u64; 3], [u64; 3]) {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Inverse of `civil`: eras of 400 years, counted from March (H. Hinnant, "chrono-compatible low-level date
    // algorithms").
    let shifted = days + MARCH_OF_YEAR_0;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    ([year, month, day], [second / 3_600, second / 60 % 60, second % 60])
}

/// Days from 1 March of the year 0 to 1 January 1970.
const MARCH_OF_YEAR_0: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(time: Option<SystemTime>) -> Option<u64> {
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    fn utc(text: &str) -> Option<u64> {
        seconds(Asn1Time::Utc(text.as_bytes()).read())
    }

    fn generalized(text: &str) -> Option<u64> {
        seconds(Asn1Time::Generalized(text.as_bytes()).read())
    }

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(utc("700101000000Z"), Some(0));
        assert_eq!(utc("000229235959Z"), Some(951_868_799));
        assert_eq!(utc("230403192343Z"), Some(1_680_549_823));
        assert_eq!(utc("491231235959Z"), Some(2_524_607_999));
        assert_eq!(generalized("20500101000000Z"), Some(2_524_608_000));
        assert_eq!(generalized("99991231235959Z"), Some(253_402_300_799));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "230403192343",
            "2304031923Z",
            "23040319234aZ",
            "23 403192343Z",
            "231303192343Z",
            "230003192343Z",
            "230400192343Z",
            "230432192343Z",
            "230431192343Z",
            "230229192343Z",
            "230403242343Z",
            "230403196043Z",
            "230403192360Z",
            "230403192343+",
            "230403192343+0000",
            "690101000000Z",
        ] {
            assert_eq!(utc(text), None, "{text:?}");
        }
        assert_eq!(utc("20230403192343Z"), None);
        assert_eq!(generalized("230403192343Z"), None);
        assert_eq!(generalized("21000229000000Z"), None);
    }

    #[cfg(any(feature = "tdx", feature = "sim"))]
    #[test]
    fn dates_survive_a_round_trip() {
        for seconds in [0, 86_399, 951_868_799, 1_709_251_199, 2_524_607_999, 2_524_608_000, 4_107_542_400] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let ([year, month, day], clock) = date_and_clock(time);
            assert_eq!(civil(year, month, day, clock), Some(time), "{seconds}");
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(date_and_clock(before), ([1970, 1, 1], [0, 0, 0]));
    }
}

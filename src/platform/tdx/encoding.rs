//! RFC 3339, as Intel's collateral spells it.

use std::time::SystemTime;

use crate::calendar::{civil, date_and_clock, decimal};

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

/// `time` as `YYYY-MM-DDThh:mm:ssZ`; times before 1970 show as 1970.
pub(super) fn show_time(time: SystemTime) -> String {
    let ([year, month, day], [hour, minute, second]) = date_and_clock(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn seconds(time: Option<SystemTime>) -> Option<u64> {
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(seconds(rfc3339("1970-01-01T00:00:00Z")), Some(0));
        assert_eq!(seconds(rfc3339("2000-02-29T12:34:56Z")), Some(951_827_696));
        assert_eq!(seconds(rfc3339("2026-02-18T13:58:55Z")), Some(1_771_423_135));
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
    }

    #[test]
    fn times_survive_a_round_trip() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-29T12:34:56Z", "2026-12-31T23:59:59Z", "2100-03-01T00:00:00Z"] {
            assert_eq!(show_time(rfc3339(text).unwrap()), text);
        }
    }
}

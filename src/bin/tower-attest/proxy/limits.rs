//! How much of everything one client may have.

use std::time::Duration;

use clap::Args;

/// Limits of connections and exchanges. Both sidecars have the same.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Bytes of a request's fields; more is answered 431.
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = header_bytes)]
    pub(crate) max_header_bytes: u32,
    /// Bytes of a request's body; more is answered 413, or RESOURCE_EXHAUSTED over gRPC. 0: no limit.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    pub(crate) max_body_bytes: u64,
    /// How long a client may take to send a request's fields. An idle HTTP/1.1 connection is closed after it too.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive)]
    pub(crate) header_timeout: Duration,
    /// How long an exchange may stand still, with nothing sent in either direction; then 504, or DEADLINE_EXCEEDED
    /// over gRPC. An upgraded connection is closed after it too. 0: no limit.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) idle_timeout: Duration,
    /// How long an exchange may take in all. Upgraded connections are exempt. 0: no limit.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(crate) total_timeout: Duration,
    /// Client connections at once; further ones wait to be accepted.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Requests at once on one HTTP/2 connection.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_streams: u32,
    /// How long running exchanges may go on after SIGTERM or SIGINT.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
}

impl Limits {
    /// `None` where there is no limit.
    pub(crate) fn max_body(&self) -> Option<u64> {
        (self.max_body_bytes > 0).then_some(self.max_body_bytes)
    }

    /// `None` where there is no limit.
    pub(crate) fn idle(&self) -> Option<Duration> {
        (!self.idle_timeout.is_zero()).then_some(self.idle_timeout)
    }

    /// `None` where there is no limit.
    pub(crate) fn total(&self) -> Option<Duration> {
        (!self.total_timeout.is_zero()).then_some(self.total_timeout)
    }
}

/// `30s`, `5m`, `1h 30m`; a bare `0` too. At most a century: a deadline has to be a time that a clock can show.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= CENTURY);
    time.ok_or_else(|| format!("expected a time such as 250ms, 30s, 5m or 1h, at most a century, found {text:?}"))
}

/// A time that is more than zero.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("expected more than zero".to_owned()),
        time => Ok(time),
    }
}

/// `512`, `64KiB`, `16MiB`, `1GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.get(digits.len()..) {
        Some("") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| unit > 0)
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("expected bytes such as 512, 64KiB, 16MiB or 1GiB, found {text:?}"))
}

/// hyper's buffer for an HTTP/1.1 head has at least 8 KiB.
fn header_bytes(text: &str) -> Result<u32, String> {
    match u32::try_from(bytes(text)?) {
        Ok(bytes @ 8192..=16_777_216) => Ok(bytes),
        _ => Err(format!("expected 8KiB to 16MiB, found {text:?}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        limits: Limits,
    }

    pub(crate) fn limits(flags: &[&str]) -> Limits {
        Command::try_parse_from(["test"].iter().chain(flags)).unwrap().limits
    }

    #[test]
    fn the_defaults_are_those_that_the_help_names() {
        let limits = limits(&[]);
        assert_eq!((limits.max_header_bytes, limits.max_body()), (65_536, Some(1 << 30)));
        assert_eq!((limits.idle(), limits.total()), (Some(Duration::from_secs(300)), Some(Duration::from_secs(3600))));
    }

    #[test]
    fn zero_means_no_limit_where_the_help_says_so() {
        let limits = limits(&["--max-body-bytes=0", "--idle-timeout=0", "--total-timeout=0s"]);
        assert_eq!((limits.max_body(), limits.idle(), limits.total()), (None, None, None));
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for flag in [
            "--max-header-bytes=8191",
            "--max-header-bytes=17MiB",
            "--max-body-bytes=1GB",
            "--max-body-bytes=MiB",
            "--max-body-bytes=99999999999GiB",
            "--header-timeout=0s",
            "--idle-timeout=soon",
            "--total-timeout=101years",
            "--max-connections=0",
            "--max-streams=0",
        ] {
            assert!(Command::try_parse_from(["test", flag]).is_err(), "{flag}");
        }
    }
}

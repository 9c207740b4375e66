//! Which format of metrics a client wants.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, which everything reads.
    Prometheus,
}

impl Format {
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        })
    }

    /// The one that the client prefers. OpenMetrics only for those who name it in our version; Prometheus's text for
    /// everybody else, those included who accept neither: a person at a browser, a probe with a fixed `Accept`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut open, mut plain) = (0, 0);
        let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in fields.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1000, None);
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = thousandths(value.trim()),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match media_type.as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => open = open.max(quality),
                "text/plain" if matches!(version, None | Some("0.0.4")) => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// A weight of RFC 9110, section 12.4.2; one that is none counts as not wanted.
fn thousandths(weight: &str) -> u16 {
    match weight.split_once('.').unwrap_or((weight, "")) {
        ("1", zeros) if zeros.len() <= 3 && zeros.bytes().all(|digit| digit == b'0') => 1000,
        ("0", digits) if digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            format!("{digits:0<3}").parse().unwrap_or(0)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        Format::of(&headers)
    }

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        // What Prometheus 2.x and 3.x send.
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,\
                   text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [old, new, "application/openmetrics-text", "Application/OpenMetrics-Text; Version=\"1.0.0\""] {
            assert_eq!(format(&[accept]), Format::OpenMetrics, "{accept}");
        }
        assert_eq!(format(&["text/plain;q=0.5", "application/openmetrics-text;q=0.6"]), Format::OpenMetrics);
    }

    #[test]
    fn everybody_else_gets_text() {
        for accept in [
            "*/*",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=0.5, text/plain;version=0.0.4;q=0.501",
            "application/json",
            ";,;q=,=",
        ] {
            assert_eq!(format(&[accept]), Format::Prometheus, "{accept}");
        }
        assert_eq!(format(&[]), Format::Prometheus);
    }
}

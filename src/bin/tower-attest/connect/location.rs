//! Where the far end sends a client on to. An address of its own would lead the client past this port, over connections that
//! nobody attests.

use http::header::LOCATION;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};

/// Has a redirect (RFC 9110, section 10.2.2) to `far` come back to this port: the path alone is kept. One that takes over
/// the scheme, which at the far end is https, keeps that.
pub(super) fn keep_here(headers: &mut HeaderMap, far: &Uri) {
    let here =
        headers.get(LOCATION).and_then(|location| location.to_str().ok()).and_then(|location| here(location, far));
    if let Some(here) = here.and_then(|here| HeaderValue::try_from(here).ok()) {
        headers.insert(LOCATION, here);
    }
}

/// `None` where it can stay as it is.
fn here(location: &str, far: &Uri) -> Option<String> {
    let (scheme, rest) = match location.split_once("//")? {
        ("", rest) => (None, rest),
        (scheme, rest) => (Some(scheme.strip_suffix(':')?), rest),
    };
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_https = scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case("https"));
    if is_https && authority.parse().is_ok_and(|authority| is_same(&authority, far)) {
        return Some(match path.chars().next() {
            // Two slashes would begin an authority; browsers take either kind for one.
            Some('/') if path.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\'])) => format!("/.{path}"),
            Some('/') => path.to_owned(),
            Some('\\') => format!("/.{path}"),
            _ => format!("/{path}"),
        });
    }
    scheme.is_none().then(|| format!("https:{location}"))
}

fn is_same(authority: &Authority, far: &Uri) -> bool {
    far.host().is_some_and(|host| host.eq_ignore_ascii_case(authority.host()))
        && far.port_u16().unwrap_or(443) == authority.port_u16().unwrap_or(443)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(location: &str, far: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        keep_here(&mut headers, &Uri::from_static(far));
        headers[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_to_the_far_end_comes_back_to_this_port() {
        for (location, expected) in [
            ("https://prover.example/a?b#c", "/a?b#c"),
            ("HTTPS://Prover.Example:443/a", "/a"),
            ("https://user@prover.example/a", "/a"),
            ("//prover.example/a", "/a"),
            ("https://prover.example", "/"),
            ("https://prover.example?b", "/?b"),
            ("https://prover.example#c", "/#c"),
            ("https://prover.example//evil.example/a", "/.//evil.example/a"),
            ("https://prover.example/\\evil.example/a", "/./\\evil.example/a"),
            ("https://prover.example\\evil.example/a", "/.\\evil.example/a"),
        ] {
            assert_eq!(kept(location, "https://prover.example"), expected, "{location}");
        }
        assert_eq!(kept("https://prover.example:8443/a", "https://prover.example:8443"), "/a");
        assert_eq!(kept("https://[::1]:8443/a", "https://[::1]:8443"), "/a");
    }

    #[test]
    fn a_redirect_to_anywhere_else_stays_and_never_loses_https() {
        for location in [
            "/a",
            "a//b",
            "?b",
            "",
            "https://prover.example:8443/a",
            "https://prover.example.evil/a",
            "https://other.example/a",
            "http://prover.example/a",
            "wss://prover.example/a",
        ] {
            assert_eq!(kept(location, "https://prover.example"), location);
        }
        assert_eq!(kept("//other.example/a", "https://prover.example"), "https://other.example/a");
    }
}

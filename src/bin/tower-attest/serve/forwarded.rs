//! What an upstream is told of the client, and of the proxies before it.

use std::net::SocketAddr;

use http::header::{FORWARDED, HOST, HeaderName};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, StatusCode};

use crate::proxy::head::remove_forwarding;
use crate::proxy::problem::{Code, Problem};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Replaces what the client says of proxies before it by what is known here.
pub(super) fn forward(request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem> {
    remove_forwarding(&mut request.headers);
    let host = match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(HOST).cloned(),
    };
    let mut forwarded = Vec::new();
    if let Some(ip) = peer.map(|peer| peer.ip().to_canonical()) {
        forwarded.push(if ip.is_ipv6() { format!("for=\"[{ip}]\"") } else { format!("for={ip}") });
        insert(request, X_FORWARDED_FOR, &ip.to_string());
    }
    if let Some(host) = host {
        // A quoted string (RFC 7239, section 4); an authority has neither quotes nor backslashes.
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let authority = authority.filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, Code::Request, "host: expected a host, found something else")
        })?;
        forwarded.push(format!("host=\"{authority}\""));
        insert(request, X_FORWARDED_HOST, authority.as_str());
        request.headers.insert(HOST, host);
    }
    forwarded.push("proto=https".to_owned());
    insert(request, FORWARDED, &forwarded.join(";"));
    insert(request, X_FORWARDED_PROTO, "https");
    Ok(())
}

fn insert(request: &mut Parts, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn prepared(request: http::request::Builder, peer: &str) -> Result<Parts, StatusCode> {
        let mut parts = request.body(()).unwrap().into_parts().0;
        forward(&mut parts, peer.parse().ok()).map_err(|problem| problem.status())?;
        Ok(parts)
    }

    #[test]
    fn what_a_client_says_of_proxies_before_it_is_replaced() {
        let mut request = Request::get("/").header("host", "prover.example:8443");
        let names = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
        for name in names.into_iter().chain(["x-forwarded-port", "x-forwarded-server", "x-forwarded-prefix"]) {
            request = request.header(name, "forged");
        }
        let headers = prepared(request, "192.0.2.7:1234").unwrap().headers;
        assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"prover.example:8443\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-host"], "prover.example:8443");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["host"], "prover.example:8443");
        assert!(headers.values().all(|value| value != "forged"), "{headers:?}");
    }

    #[test]
    fn addresses_of_both_families_are_written_as_rfc_7239_has_them() {
        let forwarded = |peer| {
            let parts = prepared(Request::get("/").header("host", "a"), peer).unwrap();
            (parts.headers["forwarded"].clone(), parts.headers["x-forwarded-for"].clone())
        };
        assert_eq!(
            forwarded("[2001:db8::1]:9"),
            ("for=\"[2001:db8::1]\";host=\"a\";proto=https".parse().unwrap(), "2001:db8::1".parse().unwrap())
        );
        assert_eq!(forwarded("[::ffff:192.0.2.7]:9").1, "192.0.2.7");
    }

    #[test]
    fn a_host_that_could_forge_a_field_is_refused() {
        for host in ["a\";for=evil", "a b", "a\\b", "user@a", "a/b", ""] {
            let refused = prepared(Request::get("/").header("host", host), "192.0.2.7:1").map(|_| ());
            assert_eq!(refused, Err(StatusCode::BAD_REQUEST), "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn a_host_is_refused_or_stands_between_quotes(host in r#"[ab@"\\/;:.]{0,6}"#) {
            if let Ok(parts) = prepared(Request::get("/").header("host", &host), "192.0.2.7:1") {
                let expected = format!("for=192.0.2.7;host=\"{host}\";proto=https");
                prop_assert_eq!(parts.headers["forwarded"].as_bytes(), expected.as_bytes());
                prop_assert!(!host.contains(['"', '\\', '@', '/']));
            }
        }
    }
}

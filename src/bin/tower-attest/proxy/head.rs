//! What a proxy must take out of a message's head, and which requests it must not carry (RFC 9110, section 7.6).

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tower_attest::seal::SealedRequest;

use super::problem::{Code, Problem};

/// Fields of one connection alone, listed in `Connection` or not. `Trailer` is none of them: trailers pass.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Nobody's field: CGI and its heirs hand it on as `HTTP_PROXY`, by which programs learn where to send their own requests.
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// Removes what concerns one connection alone: fields that `Connection` lists, and those that it should.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in listed(headers).iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes what `Connection` lists, but for a change of protocol: a field that is added afterwards then stays.
pub(crate) fn remove_listed(headers: &mut HeaderMap) {
    let listed = listed(headers);
    for name in listed.iter().filter(|name| **name != UPGRADE) {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    if listed.contains(&UPGRADE) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn listed(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect()
}

/// Makes a request fit to be sent on. The body's length is told anew by whoever sends it, so that no two readers can
/// differ on where the request ends; `Expect` was answered when the body was read; `TE: trailers` stays, which gRPC wants.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    headers.remove(PROXY);
    remove_all(headers, is_lookalike);
    join_cookies(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// HTTP/2 may cut cookies into lines, each of which an upstream that speaks HTTP/1.1 could take for all (RFC 9113,
/// section 8.2.3; Binary HTTP as well).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() < 2 {
        return;
    }
    // Values and semicolons are a value.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Removes every `Attestation-*` field: which of them stand in a message, the two ends of attestation alone decide.
pub(crate) fn remove_attestation(headers: &mut HeaderMap) {
    remove_all(headers, |name| hyphened(name).starts_with("attestation-"));
}

/// Removes what proxies say of clients, which a client may have set to be taken for one.
pub(crate) fn remove_forwarding(headers: &mut HeaderMap) {
    remove_all(headers, |name| is_forwarding(&hyphened(name)));
}

/// Removes from trailers what may stand in a head alone (RFC 9110, section 6.5.1), and what a head would have lost: a
/// reader that merges the two must not learn from trailers what nobody could tell it in a head.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_all(trailers, |name| is_reserved(&hyphened(name)));
}

/// CGI and its heirs read `X_Forwarded_For` as `X-Forwarded-For`.
fn is_lookalike(name: &HeaderName) -> bool {
    matches!(hyphened(name), Cow::Owned(name) if is_reserved(&name))
}

fn hyphened(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str() {
        name if name.contains('_') => name.replace('_', "-").into(),
        name => name.into(),
    }
}

/// What the sidecars say themselves, or take from a message: no client and no service says it in their place.
fn is_reserved(name: &str) -> bool {
    name.starts_with("attestation-")
        || is_forwarding(name)
        || matches!(name, "host" | "content-length" | "expect" | "proxy")
        || HOP_BY_HOP.iter().any(|field| field == name)
}

fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

fn remove_all(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The comma-separated tokens of all lines of a field. What is no text in one of them hides none of the others.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let tokens = headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.filter_map(|token| str::from_utf8(token.trim_ascii()).ok())
}

/// Refuses what cannot be carried, before anything of it is sent.
pub(crate) fn check(request: &Parts, max_body: Option<u64>) -> Result<(), Problem> {
    if request.method == Method::CONNECT {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::Request, "CONNECT is not served here"));
    }
    if request.uri.path() == "*" {
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, Code::Request, "the target * is not served here"));
    }
    let encodings: Vec<_> = request.headers.get_all(TRANSFER_ENCODING).iter().collect();
    if encodings.len() > 1 || encodings.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        let detail = "transfer-encoding: expected chunked alone";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, Code::Request, detail));
    }
    check_host(request)?;
    let length = request.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match (max_body, length) {
        (Some(limit), Some(length)) if length > limit => Err(Problem::too_large(limit)),
        _ => Ok(()),
    }
}

/// Two hosts in one request: the next reader may choose the other.
fn check_host(request: &Parts) -> Result<(), Problem> {
    let refuse = |detail: &'static str| Err(Problem::new(StatusCode::BAD_REQUEST, Code::Request, detail));
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    match (request.uri.authority(), host) {
        _ if another.is_some() => refuse("host: expected one, found more"),
        // A client that seals may leave the host to its transport, as those over tonic's channel do: the seal holds none then.
        (None, None) if request.extensions.get::<SealedRequest>().is_some() => Ok(()),
        (None, None) if request.version >= Version::HTTP_11 => refuse("host: expected one, found none"),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            refuse("host: expected that of the target, found another")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_concerns_one_connection_goes_and_the_rest_stays() {
        let mut found = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("trailer", "grpc-status"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("trailer", "grpc-status"), ("accept", "*/*")]));
    }

    #[test]
    fn an_option_of_other_bytes_hides_no_field_of_the_connection() {
        let mut found = headers(&[("x-secret", "1"), ("accept", "*/*")]);
        found.insert(CONNECTION, HeaderValue::from_bytes(b"cl\x88se, x-secret").unwrap());
        remove_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn what_is_said_after_connection_was_obeyed_stays() {
        for (connection, upgrades) in [("attestation-result, x-hop", false), ("Upgrade, Attestation-Result", true)] {
            let mut found = headers(&[("connection", connection), ("upgrade", "websocket"), ("x-hop", "1")]);
            remove_listed(&mut found);
            found.insert("attestation-result", HeaderValue::from_static("verified"));
            assert_eq!(found.get("connection").is_some_and(|value| value == "upgrade"), upgrades);
            assert_eq!(found.contains_key("x-hop"), upgrades);
            remove_hop_by_hop(&mut found);
            assert_eq!(found["attestation-result"], "verified");
        }
    }

    #[test]
    fn a_request_loses_its_framing_and_keeps_te_trailers_alone() {
        let mut found = headers(&[
            ("te", "gzip, Trailers"),
            ("content-length", "5"),
            ("expect", "100-continue"),
            ("connection", "te"),
        ]);
        clean_request(&mut found);
        assert_eq!(found, headers(&[("te", "trailers")]));
    }

    #[test]
    fn every_attestation_field_goes() {
        let mut found = headers(&[
            ("attestation-report", "v=1"),
            ("attestation-nonce", ":a:"),
            ("attestation-x", ""),
            ("attestation_result", "verified"),
            ("a", "b"),
        ]);
        remove_attestation(&mut found);
        assert_eq!(found, headers(&[("a", "b")]));
    }

    #[test]
    fn names_that_cgi_reads_as_another_field_go() {
        let mut found = headers(&[
            ("x_forwarded_for", "192.0.2.1"),
            ("x_forwarded-proto", "https"),
            ("x_real_ip", "192.0.2.1"),
            ("attestation_result", "verified"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("client_id", "1"),
            ("x-forwarded-for", "its backend replaces it"),
        ]);
        clean_request(&mut found);
        assert_eq!(found, headers(&[("client_id", "1"), ("x-forwarded-for", "its backend replaces it")]));
    }

    #[test]
    fn trailers_say_nothing_that_a_head_would_have_lost() {
        let mut found = headers(&[
            ("attestation-result", "verified"),
            ("attestation_report", "v=1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x_real_ip", "192.0.2.1"),
            ("host", "evil.example"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-listed"),
            ("x-listed", "1"),
            ("grpc-status", "0"),
        ]);
        clean_trailers(&mut found);
        assert_eq!(found, headers(&[("grpc-status", "0")]));
    }

    #[test]
    fn cookies_in_lines_become_one() {
        let mut found = headers(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
        clean_request(&mut found);
        assert_eq!(found, headers(&[("cookie", "a=1; b=2; c=3"), ("x", "y")]));
    }

    /// Names that matter, as they are and as CGI would read them, others, and lists of them.
    fn any_fields() -> impl Strategy<Value = HeaderMap> {
        let reserved = HOP_BY_HOP.into_iter().map(|name| name.as_str().to_owned());
        let others = ["host", "content-length", "expect", "forwarded", "x-real-ip", "x-forwarded-for", "cookie", "x-a"];
        let attestation = ["attestation-report", "attestation-result", "x-b", "trailer", "accept"];
        let names: Vec<String> = reserved.chain(others.into_iter().chain(attestation).map(str::to_owned)).collect();
        let name = (proptest::sample::select(names), any::<bool>())
            .prop_map(|(name, cgi)| if cgi { name.replace('-', "_") } else { name });
        let value = prop_oneof![
            proptest::collection::vec(name.clone(), 0..4).prop_map(|names| names.join(", ").to_uppercase()),
            "[ -~]{0,12}",
            Just("trailers".to_owned()),
        ];
        proptest::collection::vec((name, value), 0..12).prop_map(|lines| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            fields
        })
    }

    proptest! {
        #[test]
        fn nothing_that_goes_is_left_whatever_the_fields(fields in any_fields()) {
            let listed: Vec<String> = tokens(&fields, &CONNECTION).map(str::to_ascii_lowercase).collect();
            let goes = |name: &HeaderName| HOP_BY_HOP.contains(name) || listed.iter().any(|other| name.as_str() == other);
            let mut request = fields.clone();
            clean_request(&mut request);
            prop_assert!(request.get(TE).is_none_or(|value| value == "trailers"));
            for name in request.keys().filter(|name| **name != TE) {
                prop_assert!(!goes(name) && !matches!(*name, CONTENT_LENGTH | EXPECT), "{name}");
                prop_assert!(!(name.as_str().contains('_') && is_reserved(&hyphened(name))), "{name}");
            }
            prop_assert!(request.get_all(COOKIE).iter().count() < 2);
            let kept = HeaderName::from_static("x-a");
            prop_assert_eq!(request.get_all(&kept).iter().count(), if goes(&kept) { 0 } else { fields.get_all(&kept).iter().count() });

            let mut trailers = fields.clone();
            clean_trailers(&mut trailers);
            for name in trailers.keys() {
                prop_assert!(!goes(name) && !is_reserved(&hyphened(name)), "{name}");
            }
            for cleaned in [clean_request, clean_trailers] {
                let mut once = fields.clone();
                cleaned(&mut once);
                let mut twice = once.clone();
                cleaned(&mut twice);
                prop_assert_eq!(once, twice);
            }
        }
    }

    fn checked(request: http::request::Builder) -> Result<(), StatusCode> {
        check(&request.body(()).unwrap().into_parts().0, Some(10)).map_err(|problem| problem.status())
    }

    #[test]
    fn requests_that_two_readers_may_read_differently_are_refused() {
        let get = || Request::get("/");
        assert_eq!(checked(get().header("host", "a")), Ok(()));
        assert_eq!(checked(get().header("host", "a").header("host", "a")), Err(StatusCode::BAD_REQUEST));
        assert_eq!(checked(get()), Err(StatusCode::BAD_REQUEST));
        assert_eq!(checked(get().version(Version::HTTP_10)), Ok(()));
        assert_eq!(checked(Request::get("http://a/").header("host", "b")), Err(StatusCode::BAD_REQUEST));
        assert_eq!(checked(Request::get("http://a/").header("host", "A")), Ok(()));
        for encoding in ["gzip, chunked", "chunked, chunked", "identity"] {
            let request = get().header("host", "a").header("transfer-encoding", encoding);
            assert_eq!(checked(request), Err(StatusCode::NOT_IMPLEMENTED), "{encoding}");
        }
        let twice =
            get().header("host", "a").header("transfer-encoding", "chunked").header("transfer-encoding", "chunked");
        assert_eq!(checked(twice), Err(StatusCode::NOT_IMPLEMENTED));
    }

    #[test]
    fn what_is_no_request_to_forward_is_refused() {
        let connect = Request::builder().method("CONNECT").uri("a:1").header("host", "a:1");
        assert_eq!(checked(connect), Err(StatusCode::METHOD_NOT_ALLOWED));
        let asterisk = Request::builder().method("OPTIONS").uri("*").header("host", "a");
        assert_eq!(checked(asterisk), Err(StatusCode::NOT_IMPLEMENTED));
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_the_body() {
        let post = |length| Request::post("/").header("host", "a").header("content-length", length);
        assert_eq!(checked(post("10")), Ok(()));
        assert_eq!(checked(post("11")), Err(StatusCode::PAYLOAD_TOO_LARGE));
    }
}

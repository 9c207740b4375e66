//! Adds this crate's fields to the lists of a CORS policy that the application has. Where there is none, there stays none.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::protocol::{ATTESTATION_KEYS, ATTESTATION_NONCE, ATTESTATION_REPORT, ATTESTATION_ROUTE, SEALED_PATH};

/// What a browser must be let send: everywhere, and with a sealed request, whose media type is none of a form's.
static FIELDS: [HeaderName; 1] = [ATTESTATION_NONCE];
static SEALED_FIELDS: [HeaderName; 4] = [ATTESTATION_NONCE, ATTESTATION_KEYS, ATTESTATION_ROUTE, CONTENT_TYPE];

/// Whether the request is a browser's question before the real one. It never carries a nonce.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The fields that the answer to a browser's question must allow; `None` if the request is no such question.
pub(super) fn asked_fields(request: &Parts) -> Option<&'static [HeaderName]> {
    match is_preflight(&request.method, &request.headers) {
        false => None,
        true if request.uri.path() == SEALED_PATH => Some(&SEALED_FIELDS),
        true => Some(&FIELDS),
    }
}

/// Lets browsers send these fields.
pub(super) fn allow(headers: &mut HeaderMap, fields: &[HeaderName]) {
    for field in fields {
        amend(headers, ACCESS_CONTROL_ALLOW_HEADERS, field);
    }
}

/// Lets scripts read the report.
pub(super) fn expose_report(headers: &mut HeaderMap) {
    amend(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &ATTESTATION_REPORT);
}

/// The policy is whatever has put an allowed origin into the response.
fn amend(headers: &mut HeaderMap, list: HeaderName, field: &HeaderName) {
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    // With credentials, `*` is a field of that name and nothing more (Fetch, section 3.3.3).
    let wildcard = headers.get(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_none_or(|value| value != "true");
    let mut lines: Vec<HeaderValue> = headers.get_all(&list).iter().cloned().collect();
    let listed = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).any(|item| {
        let item = item.trim_ascii();
        item.eq_ignore_ascii_case(field.as_str().as_bytes()) || (wildcard && item == b"*")
    });
    if listed {
        return;
    }
    let last = lines.pop().unwrap_or(HeaderValue::from_static(""));
    let joined = match last.as_bytes().trim_ascii() {
        b"" => Ok(HeaderValue::from(field.clone())),
        items => HeaderValue::from_bytes(&[items, b", ", field.as_str().as_bytes()].concat()),
    };
    // Bytes of a value, a comma and a name are a value.
    lines.push(joined.unwrap_or(last));
    headers.remove(&list);
    for line in lines {
        headers.append(&list, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preflight_is_all_three_its_method_its_origin_and_the_method_it_asks_for() {
        let whole = [
            (http::header::ORIGIN, HeaderValue::from_static("null")),
            (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET")),
        ];
        let of = |fields: &[(HeaderName, HeaderValue)]| fields.iter().cloned().collect::<HeaderMap>();
        assert!(is_preflight(&Method::OPTIONS, &of(&whole)));
        assert!(!is_preflight(&Method::GET, &of(&whole)));
        for field in &whole {
            assert!(!is_preflight(&Method::OPTIONS, &of(std::slice::from_ref(field))));
        }
    }

    fn after(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        // `collect` replaces; lists may stand on several lines.
        headers.remove(ACCESS_CONTROL_ALLOW_HEADERS);
        for (_, value) in lines.iter().filter(|(name, _)| *name == "access-control-allow-headers") {
            headers.append(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(value));
        }
        allow(&mut headers, &FIELDS);
        headers.get_all(ACCESS_CONTROL_ALLOW_HEADERS).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    const ORIGIN: (&str, &str) = ("access-control-allow-origin", "https://a.example");
    const CREDENTIALS: (&str, &str) = ("access-control-allow-credentials", "true");
    const fn list(items: &'static str) -> (&'static str, &'static str) {
        ("access-control-allow-headers", items)
    }

    #[test]
    fn the_field_joins_the_list_once() {
        assert_eq!(after(&[ORIGIN, list("content-type")]), ["content-type, attestation-nonce"]);
        assert_eq!(after(&[ORIGIN, list("a"), list("b")]), ["a", "b, attestation-nonce"]);
        assert_eq!(after(&[ORIGIN, list("a, Attestation-Nonce")]), ["a, Attestation-Nonce"]);
        assert_eq!(after(&[ORIGIN]), ["attestation-nonce"]);
        assert_eq!(after(&[ORIGIN, list("")]), ["attestation-nonce"]);
        assert_eq!(after(&[ORIGIN, list("x-attestation-nonce")]), ["x-attestation-nonce, attestation-nonce"]);
    }

    #[test]
    fn a_star_is_a_wildcard_only_without_credentials() {
        assert_eq!(after(&[ORIGIN, list("*")]), ["*"]);
        assert_eq!(after(&[ORIGIN, CREDENTIALS, list("*")]), ["*, attestation-nonce"]);
    }

    #[test]
    fn without_a_policy_nothing_is_added() {
        assert!(after(&[]).is_empty());
        assert_eq!(after(&[list("content-type")]), ["content-type"]);
    }
}

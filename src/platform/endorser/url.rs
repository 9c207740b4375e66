//! Base URLs, behind which an endorser's paths are put.

use http::Uri;

use super::{EndorsementError, EndorsementErrorKind};

/// `url` without a slash at its end, if it is `http` or `https` with a host and without a query.
pub(crate) fn base_url(url: &str, example: &str) -> Result<String, EndorsementError> {
    let refuse = |found: &str| {
        let message = format!("expected a base URL such as {example}, found {url:?}{found}");
        EndorsementError::new(EndorsementErrorKind::Configuration, message)
    };
    let uri: Uri = url.parse().map_err(|_| refuse(""))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(refuse(": neither http nor https with a host"));
    }
    if uri.query().is_some() {
        return Err(refuse(" with a query"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_http_or_https_with_a_host_and_without_a_query() {
        let base = |url| base_url(url, "https://amd.example");
        assert_eq!(base("https://kds.example/").unwrap(), "https://kds.example");
        assert_eq!(base("http://127.0.0.1:80/mirror/amd/").unwrap(), "http://127.0.0.1:80/mirror/amd");
        for url in
            ["", "kds.example", "ftp://kds.example", "https://", "/vcek", "https://kds.example?x=1", "https://a b"]
        {
            let error = base(url).unwrap_err();
            assert_eq!(error.kind(), EndorsementErrorKind::Configuration, "{url:?}");
            assert!(error.to_string().contains("https://amd.example"), "{error}");
        }
    }
}

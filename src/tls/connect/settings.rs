//! What all connections of one channel share.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::connector::Connector;
use super::error::{ChannelError, Stage};
use super::observe::Observer;
use crate::client::exchange::Expectations;
use crate::error::{AttestError, ErrorKind};
use crate::time::Clock;
use crate::verifier::ReportVerifier;

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) authority: Authority,
    pub(super) server_name: ServerName<'static>,
    pub(super) connector: Connector,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) verifier: Arc<dyn ReportVerifier>,
    pub(super) expectations: Expectations,
    pub(super) connect_timeout: Duration,
    pub(super) handshake_timeout: Duration,
    pub(super) verification_timeout: Duration,
    pub(super) max_evidence_age: Duration,
    pub(super) observer: Observer,
    pub(super) clock: Arc<dyn Clock>,
}

impl Settings {
    /// A request that names a host must name this channel's: what was attested is a server of that name.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), ChannelError> {
        match request.uri().authority() {
            Some(found) if !same_host(found, &self.authority) => Err(ChannelError::new(
                Stage::Request,
                AttestError::new(
                    ErrorKind::Configuration,
                    format!("expected a request to {}, found one to {}", self.authority, found.host()),
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn same_host(a: &Authority, b: &Authority) -> bool {
    a.host().eq_ignore_ascii_case(b.host()) && port(a) == port(b)
}

fn port(authority: &Authority) -> u16 {
    authority.port_u16().unwrap_or(443)
}

/// Host and port of an `https` URI, without user information.
pub(super) fn authority(uri: &Uri) -> Result<Authority, AttestError> {
    let wrong = |found: &str| {
        let message = format!("channel URI: expected https://host or https://host:port, found {found}");
        AttestError::new(ErrorKind::Configuration, message)
    };
    if uri.scheme_str() != Some("https") {
        return Err(wrong(uri.scheme_str().unwrap_or("no scheme")));
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(authority.clone()),
        Some(_) => Err(wrong("user information")),
        None => Err(wrong("no host")),
    }
}

/// The host as TLS knows it: without the brackets of an IPv6 address.
pub(super) fn host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_port_and_the_case_of_a_name_do_not_make_another_host() {
        let of = |text: &'static str| Authority::from_static(text);
        assert!(same_host(&of("Prover.example"), &of("prover.example:443")));
        assert!(!same_host(&of("prover.example"), &of("prover.example:8443")));
        assert!(!same_host(&of("prover.example"), &of("prover.example.org")));
    }

    #[test]
    fn only_https_uris_with_a_host_make_a_channel() {
        assert!(authority(&"https://prover.example".parse().unwrap()).is_ok());
        for uri in ["http://prover.example", "/path", "https://user@prover.example"] {
            assert_eq!(authority(&uri.parse().unwrap()).unwrap_err().kind(), ErrorKind::Configuration, "{uri}");
        }
        assert_eq!(host(&Authority::from_static("[::1]:443")), "::1");
    }
}

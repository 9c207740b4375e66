//! The flags of `--tls acme`, and which of them cannot work.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};
use http::Uri;
use instant_acme::{ChallengeType, ExternalAccountKey, LetsEncrypt};
use tower_attest::platform::fetch::HttpsClient;

use crate::certificates;
use crate::failure::Failure;

/// How `--tls acme` gets its certificate.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Certificates from a CA (--tls acme)")]
pub(crate) struct AcmeFlags {
    /// Where the account and the certificate are kept, with their private keys: a directory of this server alone, on
    /// storage that the host cannot read.
    #[arg(long, value_name = "DIR", required_if_eq("tls", "acme"))]
    state_dir: Option<PathBuf>,
    /// The CA's directory (RFC 8555).
    #[arg(long, value_name = "URL", default_value = LetsEncrypt::Production.url(), value_parser = https)]
    acme_directory: Uri,
    /// Accept the CA's terms of service, which its directory names.
    #[arg(long)]
    acme_accept_terms: bool,
    /// Where the CA reaches the operator: an e-mail address, or a URL. Repeat it for more.
    #[arg(long, value_name = "CONTACT")]
    acme_contact: Vec<String>,
    /// How the CA checks the names: on port 443, or on port 80 by way of --redirect.
    #[arg(long, value_name = "KIND", default_value = "tls-alpn-01")]
    acme_challenge: Challenge,
    /// Who may issue the certificate of the CA's own server, PEM. Default: Mozilla's roots.
    #[arg(long, value_name = "FILE")]
    acme_roots_file: Option<PathBuf>,
    /// Which of the CA's kinds of certificate to ask for.
    #[arg(long, value_name = "NAME")]
    acme_profile: Option<String>,
    /// The identifier of an account that the CA knows already (external account binding).
    #[arg(long, value_name = "ID", requires = "acme_eab_key_file")]
    acme_eab_id: Option<String>,
    /// A file with that account's key, as the CA gives it: base64url.
    #[arg(long, value_name = "FILE", requires = "acme_eab_id")]
    acme_eab_key_file: Option<PathBuf>,
}

/// What a CA asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Challenge {
    /// A TLS handshake on port 443 (RFC 8737). It must reach this server as it is.
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
    /// An HTTP request on port 80 (RFC 8555, section 8.3). Needs --redirect.
    #[value(name = "http-01")]
    Http01,
}

impl Challenge {
    pub(super) fn kind(self) -> ChallengeType {
        match self {
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

/// What the flags and their files amount to.
pub(super) struct Settings {
    pub(super) state_dir: PathBuf,
    pub(super) directory: Uri,
    pub(super) contacts: Vec<String>,
    pub(super) challenge: Challenge,
    pub(super) https: HttpsClient,
    pub(super) profile: Option<String>,
    pub(super) external: Option<ExternalAccountKey>,
}

impl AcmeFlags {
    /// What no flag can say of itself. `names` are the server's, `redirects` says whether port 80 is answered.
    pub(crate) fn check<'a>(&self, mut names: impl Iterator<Item = &'a str>, redirects: bool) -> Result<(), Failure> {
        if !self.acme_accept_terms {
            return Err(Failure::undecided(format_args!(
                "--tls acme: read the terms of service that {} names, then accept them with --acme-accept-terms",
                self.acme_directory
            )));
        }
        if self.acme_challenge == Challenge::Http01 && !redirects {
            return Err(Failure::undecided(
                "--acme-challenge http-01: nothing would answer it; give --redirect 0.0.0.0:80 too",
            ));
        }
        if let Some(name) = names.find(|name| name.contains('*')) {
            return Err(Failure::undecided(format_args!(
                "--host {name}: no challenge that this server can answer proves a wildcard; name each host, or use --tls pem"
            )));
        }
        Ok(())
    }

    /// Reads the files.
    pub(super) fn open(self) -> Result<Settings, Failure> {
        let https = match &self.acme_roots_file {
            Some(path) => HttpsClient::with_roots(certificates::read(path)?),
            None => HttpsClient::new(),
        };
        let external = match (self.acme_eab_id, self.acme_eab_key_file) {
            (Some(id), Some(path)) => {
                let text = std::fs::read_to_string(&path).map_err(|error| Failure::during(path.display(), &error))?;
                let key = URL_SAFE_NO_PAD
                    .decode(text.trim().trim_end_matches('='))
                    .map_err(|_| Failure::undecided(format_args!("{}: expected a key in base64url", path.display())))?;
                Some(ExternalAccountKey::new(id, &key))
            }
            _ => None,
        };
        let state_dir = self.state_dir.ok_or_else(|| Failure::undecided("--tls acme: --state-dir is missing"))?;
        let contacts = self.acme_contact.into_iter().map(contact).collect();
        Ok(Settings {
            state_dir,
            directory: self.acme_directory,
            contacts,
            challenge: self.acme_challenge,
            https,
            profile: self.acme_profile,
            external,
        })
    }
}

/// The account's key signs what is sent there, and anybody on the way could answer for a CA without TLS.
fn https(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    uri.ok_or_else(|| format!("expected an https URL, found {text:?}"))
}

/// A URL as it is; what has no scheme is an e-mail address.
fn contact(text: String) -> String {
    if text.contains(':') { text } else { format!("mailto:{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_spoken_to_over_tls_alone() {
        assert!(https("https://localhost:14000/dir").is_ok());
        for url in ["http://localhost:14000/dir", "localhost", "https:///dir", "ftp://ca.example/dir", ""] {
            assert!(https(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn a_contact_without_a_scheme_is_an_address() {
        assert_eq!(contact("ops@prover.example".to_owned()), "mailto:ops@prover.example");
        assert_eq!(contact("mailto:ops@prover.example".to_owned()), "mailto:ops@prover.example");
    }
}

//! What a server or a file shows, and that it is genuine.

mod fetch;

use std::time::SystemTime;

use clap::Args;
use http::Uri;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::platform::snp::SnpDetails;
use tower_attest::platform::snp::vek::KdsClient;
use tower_attest::platform::tdx::{PcsClient, TdxDetails};
use tower_attest::tls::AttestedChannel;
use tower_attest::{
    Claims, Platform, Report, ReportVerifier, VerifiedReport, VerifyError, VerifyErrorKind, async_trait,
};

use crate::certificates::CertificateFlags;
use crate::failure::Failure;
use crate::inspect::{Details, Endorsements, NotGenuine};
use crate::verify::{channel, origin};

/// Genuine evidence, and what it says of the server.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) details: Details,
    /// The name under which the server was asked, which it answers for.
    pub(super) name: Option<String>,
    pub(super) config: Option<[u8; 32]>,
    pub(super) at: SystemTime,
}

/// How to reach a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where --from is a server")]
pub(super) struct Origin {
    #[command(flatten)]
    certificates: CertificateFlags,
    /// Fetch nothing from AMD or Intel: certificates and collateral come with the evidence or from files.
    #[arg(long)]
    offline: bool,
}

impl Origin {
    /// Asks a server on an attested channel that believes any genuine TEE.
    pub(super) fn ask(&self, url: &str, endorsements: &Endorsements) -> Result<Seen, Failure> {
        let told = |error: String| Failure::undecided(format_args!("--from {url}: {error}"));
        let uri = origin(url).map_err(told)?;
        if uri.scheme_str() != Some("https") {
            return Err(told("expected https: what comes over plain http may be anybody's".to_owned()));
        }
        let certificates = self.certificates.open()?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::during("starting", &error))?;
        let verifier = AnyGenuine { endorsements: endorsements.clone(), offline: self.offline };
        let exchange = runtime
            .block_on(async { channel(certificates.apply(AttestedChannel::builder(uri.clone(), verifier))).await });
        match exchange {
            Ok(report) => seen(&uri, &report, endorsements.time()).ok_or_else(|| told("no details".to_owned())),
            Err(refusal) if refusal.is_final() => Err(Failure::refused(format_args!("{url}: {refusal}"))),
            Err(refusal) => Err(told(refusal.to_string())),
        }
    }
}

fn seen(uri: &Uri, report: &VerifiedReport, at: SystemTime) -> Option<Seen> {
    let claims = report.claims();
    let details = match (claims.details::<SnpDetails>(), claims.details::<TdxDetails>()) {
        (Some(details), _) => Details::Snp(details.clone()),
        (None, Some(details)) => Details::Tdx(Box::new(details.clone())),
        (None, None) => return None,
    };
    // As it was asked for: the channel has found it among the names that the evidence vouches for.
    let name = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned());
    Some(Seen { details, name, config: report.config_digest().copied(), at })
}

/// Accepts whatever is genuine. What it accepts is then pinned, and nothing is ever sent to it.
#[derive(Debug)]
struct AnyGenuine {
    endorsements: Endorsements,
    offline: bool,
}

#[async_trait]
impl ReportVerifier for AnyGenuine {
    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::SNP, Platform::TDX]
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        let missing = |error: &NotGenuine| matches!(error, NotGenuine::Refused(error) if error.kind() == VerifyErrorKind::EndorsementMissing);
        let details = match self.endorsements.authenticate(report) {
            Err(error) if missing(&error) && !self.offline => {
                let kds = KdsClient::new(HttpsClient::new());
                let pcs = PcsClient::new(HttpsClient::new());
                let endorsed = fetch::endorsed(report, kds, pcs, now).await?;
                self.endorsements.authenticate(&endorsed)
            }
            outcome => outcome,
        };
        match details {
            Ok(details) => Ok(claims(details)),
            Err(NotGenuine::Refused(error)) => Err(error),
            Err(NotGenuine::Unreadable(message)) => Err(VerifyError::new(VerifyErrorKind::Configuration, message)),
        }
    }
}

fn claims(details: Details) -> Claims {
    match details {
        Details::Snp(details) => {
            let report = details.report();
            let claims = Claims::new(Platform::SNP, report.report_data(), report.measurement());
            claims.with_valid_until(details.valid_until()).with_details(details)
        }
        Details::Tdx(details) => {
            let body = &details.td_report;
            let claims = Claims::new(Platform::TDX, body.report_data, body.mr_td);
            claims.with_valid_until(details.valid_until).with_details(*details)
        }
    }
}

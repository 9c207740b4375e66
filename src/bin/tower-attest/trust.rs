//! Whom a client believes: the flags that every command with a policy shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::snp::sim::SimulatedAmd;
use tower_attest::snp::vek::{CrlRefresh, CrlRefresher, EndorsementDirectory, KdsClient, MemoryVeks};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::tdx::sim::SimulatedIntel;
use tower_attest::tdx::{CollateralDirectory, MemoryCollateral, PcsClient, TdxPolicy, TdxVerifier};
use tower_attest::tls::{AttestedChannel, ChannelBuilder};
use tower_attest::{AnyOf, PolicyFile};

use crate::failure::Failure;
use crate::proxy::limits::positive;
use crate::simulation;

/// Which servers are believed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Trust")]
pub(crate) struct Trust {
    /// The policy: which measurements, TCBs and flags are acceptable.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The name that the server must answer for. Default: that of the policy, else the URL's host.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// SHA-256 of the server's effective configuration, 64 hexadecimal digits. Default: that of the policy, else any.
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    config: Option<[u8; 32]>,
    /// Who may issue the server's certificate.
    #[arg(long, value_name = "ROOTS", default_value = "webpki", conflicts_with_all = ["roots_file", "dangerous_trust_attestation_alone"])]
    roots: Roots,
    /// Root certificates, PEM, in place of --roots.
    #[arg(long, value_name = "FILE", conflicts_with = "dangerous_trust_attestation_alone")]
    roots_file: Option<PathBuf>,
    /// Take any certificate, such as a self-signed one: the evidence alone says who the server is. Anybody who runs the
    /// same measured program can then answer, unless the policy pins the chip or the configuration.
    #[arg(long)]
    dangerous_trust_attestation_alone: bool,
    /// How old evidence may be when a request starts.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive)]
    max_evidence_age: Duration,
    /// Fetch nothing from AMD or Intel: certificates and collateral come with the evidence or from directories.
    #[arg(long)]
    offline: bool,
    /// A directory with AMD's certificates (docs/SNP.md).
    #[arg(long, value_name = "DIR")]
    endorsements: Option<PathBuf>,
    /// A directory with Intel's collateral (docs/TDX.md).
    #[arg(long, value_name = "DIR")]
    collateral: Option<PathBuf>,
    /// Believe simulated hardware, which proves nothing: the mock, and the simulators under the policy.
    #[arg(long)]
    insecure_simulator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Roots {
    /// Mozilla's.
    Webpki,
    /// The operating system's.
    Native,
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("expected 64 hexadecimal digits, found {text:?}"))?;
    Ok(bytes)
}

/// What the flags and the files they name amount to. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Believer {
    verifier: Arc<AnyOf>,
    name: Option<String>,
    config: Option<[u8; 32]>,
    certificates: Certificates,
    max_evidence_age: Duration,
    /// Revocation lists are renewed for as long as it lives.
    _crls: Option<CrlRefresh>,
}

#[derive(Debug, Clone)]
enum Certificates {
    WebPki,
    Native,
    File(RootCertStore),
    Any,
}

impl Trust {
    /// Reads the files and makes the verifiers. Inside a tokio runtime.
    pub(crate) fn open(&self) -> Result<Believer, Failure> {
        let file = read_policy(&self.policy)?;
        let config = match (self.config, file.server_config()) {
            (Some(flag), Some(policy)) if flag != *policy => {
                return Err(Failure::undecided("--config is not the configuration that the policy pins"));
            }
            (flag, policy) => flag.or(policy.copied()),
        };
        let name = match (&self.name, file.server_name()) {
            (Some(flag), Some(policy)) if !flag.eq_ignore_ascii_case(policy) => {
                return Err(Failure::undecided(format_args!(
                    "--name {flag:?} is not the name that the policy expects, {policy:?}"
                )));
            }
            (flag, policy) => flag.clone().or(policy.map(str::to_owned)),
        };
        let (verifier, crls) = self.verifier(&file);
        let (certificates, max_evidence_age) = (self.certificates()?, self.max_evidence_age);
        Ok(Believer { verifier: Arc::new(verifier), name, config, certificates, max_evidence_age, _crls: crls })
    }

    fn verifier(&self, file: &PolicyFile) -> (AnyOf, Option<CrlRefresh>) {
        let snp = file.snp().map(|policy| Arc::new(self.snp(policy.clone())));
        let tdx = file.tdx().map(|policy| self.tdx(policy.clone()));
        let mock = self.insecure_simulator.then(|| simulation::mock().verifier());
        let crls = snp.as_ref().filter(|_| !self.offline && !self.insecure_simulator).map(|verifier| {
            let products = [Product::Milan, Product::Genoa, Product::Turin];
            CrlRefresher::new(KdsClient::new(HttpsClient::new()), products).spawn(verifier)
        });
        (AnyOf::none().or_maybe(snp).or_maybe(tdx).or_maybe(mock), crls)
    }

    fn snp(&self, policy: SnpPolicy) -> SnpVerifier {
        if self.insecure_simulator {
            return SnpVerifier::trusting_simulator(policy, &SimulatedAmd::new());
        }
        let verifier = SnpVerifier::new(policy);
        match (&self.endorsements, self.offline) {
            (Some(dir), true) => verifier.with_vek_source(EndorsementDirectory::new(dir)),
            (Some(dir), false) => {
                let kds = KdsClient::new(HttpsClient::new());
                verifier.with_vek_source(MemoryVeks::new(EndorsementDirectory::new(dir).then(kds)))
            }
            (None, true) => verifier,
            (None, false) => verifier.with_vek_source(MemoryVeks::new(KdsClient::new(HttpsClient::new()))),
        }
    }

    fn tdx(&self, policy: TdxPolicy) -> TdxVerifier {
        if self.insecure_simulator {
            return TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
        }
        let verifier = TdxVerifier::new(policy);
        match (&self.collateral, self.offline) {
            (Some(dir), _) => verifier.collateral_source(MemoryCollateral::new(CollateralDirectory::new(dir))),
            (None, true) => verifier,
            (None, false) => verifier.collateral_source(MemoryCollateral::new(PcsClient::new(HttpsClient::new()))),
        }
    }

    fn certificates(&self) -> Result<Certificates, Failure> {
        if self.dangerous_trust_attestation_alone {
            return Ok(Certificates::Any);
        }
        let Some(path) = &self.roots_file else {
            return Ok(if self.roots == Roots::Native { Certificates::Native } else { Certificates::WebPki });
        };
        let wrong = |error: &(dyn std::error::Error + 'static)| Failure::during(path.display(), error);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(Failure::undecided(format_args!("{}: expected certificates, found none", path.display())));
        }
        Ok(Certificates::File(roots))
    }
}

/// Reads a policy file.
pub(crate) fn read_policy(path: &std::path::Path) -> Result<PolicyFile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::during(path.display(), &error))?;
    text.parse().map_err(|error: tower_attest::platform::InvalidPolicyFile| Failure::during(path.display(), &error))
}

impl Believer {
    /// A channel to `uri` that believes what the flags say, and nothing else.
    pub(crate) fn channel(&self, uri: Uri) -> ChannelBuilder {
        let mut builder =
            AttestedChannel::builder(uri, Arc::clone(&self.verifier)).max_evidence_age(self.max_evidence_age);
        if let Some(name) = &self.name {
            builder = builder.name(name);
        }
        if let Some(config) = self.config {
            builder = builder.config(config);
        }
        match &self.certificates {
            Certificates::WebPki => builder,
            Certificates::Native => builder.native_roots(),
            Certificates::File(roots) => builder.roots(roots.clone()),
            Certificates::Any => builder.dangerous_trust_attestation_alone(),
        }
    }
}

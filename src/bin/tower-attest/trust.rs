//! Whom a client believes: the flags that every command with a policy shares.

mod judge;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::seal::SealLayer;
use tower_attest::snp::sim::SimulatedAmd;
use tower_attest::snp::vek::{CrlRefresh, CrlRefresher, EndorsementDirectory, KdsClient, MemoryVeks};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::tdx::sim::SimulatedIntel;
use tower_attest::tdx::{CollateralDirectory, MemoryCollateral, PcsClient, TdxPolicy, TdxVerifier};
use tower_attest::tls::{AttestedChannel, ChannelBuilder};
use tower_attest::{AnyOf, AttestLayer, PolicyFile, ReportVerifier};

use self::judge::Judge;
use crate::admin::metrics::believing::Believing;
use crate::certificates::{CertificateFlags, Certificates};
use crate::failure::Failure;
use crate::proxy::limits::positive;
use crate::simulation;

/// How long a command that asks once waits for revocation lists, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

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
    /// SHA-256 of the server's effective configuration, 64 hexadecimal digits. Repeat it to accept several. Default:
    /// those of the policy, else any.
    #[arg(long = "config", value_name = "DIGEST", value_parser = digest)]
    configs: Vec<[u8; 32]>,
    #[command(flatten)]
    certificates: CertificateFlags,
    #[command(flatten)]
    sources: Sources,
}

/// Where what evidence lacks comes from, and for how long evidence is believed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sources {
    /// How old evidence may be when a request starts.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive)]
    pub(crate) max_evidence_age: Duration,
    /// Fetch nothing from AMD or Intel: certificates and collateral come with the evidence or from directories.
    #[arg(long)]
    pub(crate) offline: bool,
    /// A directory with AMD's certificates (docs/SNP.md).
    #[arg(long, value_name = "DIR")]
    pub(crate) endorsements: Option<PathBuf>,
    /// A directory with Intel's collateral (docs/TDX.md).
    #[arg(long, value_name = "DIR")]
    pub(crate) collateral: Option<PathBuf>,
    /// Believe simulated hardware, which proves nothing: the mock, and the simulators under the policy.
    #[arg(long)]
    pub(crate) insecure_simulator: bool,
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("expected 64 hexadecimal digits, found {text:?}"))?;
    Ok(bytes)
}

/// What the flags and the files they name amount to. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Believer {
    judge: Arc<Judge>,
    snp: Option<Arc<SnpVerifier>>,
    tdx: Option<Arc<TdxVerifier>>,
    demands: Demands,
    max_evidence_age: Duration,
    /// Revocation lists are renewed for as long as it lives.
    crls: Option<CrlRefresh>,
}

/// What stands in the flags and in the files that they name.
#[derive(Debug, Clone)]
pub(crate) struct Demands {
    policy: PolicyFile,
    name: Option<String>,
    /// Any, if there are none.
    configs: Vec<[u8; 32]>,
    certificates: Certificates,
}

impl Demands {
    /// The roots for a client that attests no connection.
    pub(crate) fn roots(&self) -> Result<RootCertStore, Failure> {
        self.certificates.store()
    }

    /// What a policy demands that stands alone.
    pub(crate) fn of(policy: PolicyFile, certificates: Certificates) -> Self {
        let (name, configs) = (policy.server_name().map(str::to_owned), policy.server_configs().to_vec());
        Self { policy, name, configs, certificates }
    }

    /// Whether a channel made for these can go on under `other`: all but the rules of the platforms is the same.
    fn is_met_by_channels_of(&self, other: &Self) -> bool {
        self.policy.platforms() == other.policy.platforms()
            && (&self.name, &self.configs) == (&other.name, &other.configs)
            && self.certificates.are(&other.certificates)
    }
}

impl Trust {
    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Demands, Failure> {
        let policy = read_policy(&self.policy)?;
        self.sources.check("--")?;
        let configs = match (&self.configs[..], policy.server_configs()) {
            ([], policy) => policy,
            (flags, []) => flags,
            (flags, policy) if flags.iter().all(|flag| policy.contains(flag)) => flags,
            _ => return Err(Failure::undecided("--config is no configuration that the policy pins")),
        };
        let configs = configs.to_vec();
        let name = match (&self.name, policy.server_name()) {
            (Some(flag), Some(policy)) if !flag.eq_ignore_ascii_case(policy) => {
                return Err(Failure::undecided(format_args!(
                    "--name {flag:?} is not the name that the policy expects, {policy:?}"
                )));
            }
            (flag, policy) => flag.clone().or(policy.map(str::to_owned)),
        };
        Ok(Demands { name, configs, certificates: self.certificates.open()?, policy })
    }

    /// Reads the files and makes the verifiers. Inside a tokio runtime.
    pub(crate) fn open(&self) -> Result<Believer, Failure> {
        Ok(self.sources.believer(self.read()?, None))
    }

    /// Reads the files again. The verifiers, and so what they have fetched and cached, stay those of `before`, and its
    /// policy stays in force until [`Believer::take_over`].
    pub(crate) fn reopen(&self, before: &Believer) -> Result<Believer, Failure> {
        Ok(self.sources.believer(self.read()?, Some(before)))
    }
}

impl Sources {
    /// Whether the directories are there. `prefix`: what their flags begin with.
    pub(crate) fn check(&self, prefix: &str) -> Result<(), Failure> {
        for (flag, dir) in [("endorsements", &self.endorsements), ("collateral", &self.collateral)] {
            if let Some(dir) = dir.as_ref().filter(|dir| !dir.is_dir()) {
                return Err(Failure::undecided(format_args!("{prefix}{flag} {}: expected a directory", dir.display())));
            }
        }
        Ok(())
    }

    /// Makes the verifiers, or takes those of `before`. Inside a tokio runtime.
    pub(crate) fn believer(&self, demands: Demands, before: Option<&Believer>) -> Believer {
        let (file, max_evidence_age) = (&demands.policy, self.max_evidence_age);
        let known = before.and_then(|before| before.snp.clone());
        let crls = before.filter(|_| known.is_some()).map(|before| before.crls.clone());
        let snp = file.snp().map(|policy| known.unwrap_or_else(|| Arc::new(self.snp(policy.clone()))));
        let known = before.and_then(|before| before.tdx.clone());
        let tdx = file.tdx().map(|policy| known.unwrap_or_else(|| Arc::new(self.tdx(policy.clone()))));
        let mock = self.insecure_simulator.then(|| simulation::mock().verifier());
        let crls = snp.as_ref().and_then(|verifier| crls.unwrap_or_else(|| self.renew_crls(verifier)));
        let verifiers = AnyOf::none().or_maybe(snp.clone()).or_maybe(tdx.clone()).or_maybe(mock);
        Believer { judge: Arc::new(Judge::new(verifiers)), snp, tdx, demands, max_evidence_age, crls }
    }

    fn renew_crls(&self, verifier: &Arc<SnpVerifier>) -> Option<CrlRefresh> {
        let renews = !self.offline && !self.insecure_simulator;
        let products = [Product::Milan, Product::Genoa, Product::Turin];
        renews.then(|| CrlRefresher::new(KdsClient::new(HttpsClient::new()), products).spawn(verifier))
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
            (Some(dir), _) => verifier.with_collateral_source(MemoryCollateral::new(CollateralDirectory::new(dir))),
            (None, true) => verifier,
            (None, false) => verifier.with_collateral_source(MemoryCollateral::new(PcsClient::new(HttpsClient::new()))),
        }
    }
}

/// Reads a policy file.
pub(crate) fn read_policy(path: &std::path::Path) -> Result<PolicyFile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::during(path.display(), &error))?;
    text.parse().map_err(|error: tower_attest::platform::InvalidPolicyFile| Failure::during(path.display(), &error))
}

impl Believer {
    /// Puts the policy into force that a [`Trust::reopen`] has read. Trust given under the one before ends, and open
    /// connections are attested anew. Says whether channels of `before` can go on; if not, whoever has them replaces them
    /// and [retires](Self::retire) `before`.
    pub(crate) fn take_over(&self, before: &Self) -> bool {
        if let (Some(verifier), Some(policy)) = (&self.snp, self.demands.policy.snp()) {
            verifier.set_policy(policy.clone());
        }
        if let (Some(verifier), Some(policy)) = (&self.tdx, self.demands.policy.tdx()) {
            verifier.set_policy(policy.clone());
        }
        before.demands.is_met_by_channels_of(&self.demands)
    }

    /// Counts what its verifiers judge.
    pub(crate) fn count(&self, meter: Believing) {
        self.judge.count(meter);
    }

    /// Ends the trust of everything made by this one.
    pub(crate) fn retire(&self) {
        self.judge.retire();
    }

    /// A channel to `uri` that believes what the flags say, and nothing else.
    pub(crate) fn channel(&self, uri: Uri) -> ChannelBuilder {
        self.channel_judged_by(uri, Arc::clone(&self.judge))
    }

    /// What judges reports.
    pub(crate) fn judge(&self) -> &Arc<Judge> {
        &self.judge
    }

    /// The same with another verifier around the one that the flags say.
    pub(crate) fn channel_judged_by(&self, uri: Uri, verifier: impl ReportVerifier + 'static) -> ChannelBuilder {
        let mut builder = AttestedChannel::builder(uri, verifier).max_evidence_age(self.max_evidence_age);
        if let Some(name) = &self.demands.name {
            builder = builder.name(name);
        }
        for config in &self.demands.configs {
            builder = builder.config(*config);
        }
        self.demands.certificates.apply(builder)
    }

    /// A layer for clients that attest no connection, with the same demands on whoever answers for `uri`.
    pub(crate) fn layer(&self, uri: &Uri) -> AttestLayer {
        let layer = AttestLayer::new(Arc::clone(&self.judge)).max_evidence_age(self.max_evidence_age);
        let layer = match self.demands.name.as_deref().or(uri.host()) {
            Some(name) => layer.name(name),
            None => layer,
        };
        self.demands.configs.iter().fold(layer, |layer, config| layer.config(*config))
    }

    /// A client that takes the certificates that the flags say.
    pub(crate) fn client(&self) -> Result<HttpsClient, Failure> {
        Ok(HttpsClient::with_roots(self.demands.roots()?))
    }

    /// A layer that seals requests to `uri`, with the same demands.
    pub(crate) fn seal_layer<C>(&self, uri: &Uri) -> SealLayer<C> {
        let layer = SealLayer::new(Arc::clone(&self.judge)).max_evidence_age(self.max_evidence_age);
        let layer = match self.demands.name.as_deref().or(uri.host()) {
            Some(name) => layer.name(name),
            None => layer,
        };
        self.demands.configs.iter().fold(layer, |layer, config| layer.config(*config))
    }

    /// A client for what is sealed, that takes the certificates that the flags say.
    pub(crate) fn carrier<B>(&self) -> Result<Client<HttpsConnector<HttpConnector>, B>, Failure>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::during("TLS", &error))?
            .with_root_certificates(self.demands.roots()?)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector))
    }

    /// Waits until each revocation list has been asked for once, for whoever asks but once. A policy that requires a
    /// list would otherwise refuse because it has not come yet.
    pub(crate) async fn ready(&self) {
        let Some(crls) = &self.crls else { return };
        let asked = async {
            while crls.states().iter().any(|state| state.tries() == 0) {
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, asked).await;
    }
}

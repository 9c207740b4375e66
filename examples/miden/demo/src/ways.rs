//! The four ways from a wallet to a prover that is known before, or with, its first answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attested_prover::{ChannelProver, ProofRequest};
use http::{Request, Response};
use miden_remote_prover_client::RemoteTransactionProver;
use tonic::async_trait;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::{Service, ServiceBuilder};
use tower_attest::seal::SealLayer;
use tower_attest::snp::sim::SimulatedAmd;
use tower_attest::snp::{SnpPolicy, SnpVerifier};
use tower_attest::{AttestError, AttestLayer, AttestedChannel, ErrorKind, Mode, Observation, Strength, VerifiedReport};

use crate::processes::Process;
use crate::setup::{MEASUREMENT, NAME, Setup};
use wallet::Prover;
use wallet::Result;

/// How long a proof may take, on a busy machine too. On tonic's own channel the published client sets this on its endpoint.
const PROVING_TIMEOUT: Duration = Duration::from_secs(120);

/// A prover behind a channel, and what was last said of it.
#[derive(Clone)]
pub struct Way {
    pub prover: Prover,
    /// The same call with a request of our own making.
    pub call: Arc<dyn Call>,
    seen: Seen,
}

/// What is known of the far end of a call that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Verified(Strength),
    /// No report, and none was demanded.
    Missing,
    /// A report that a layer in another mode had refused.
    Bad(ErrorKind),
    /// A report that could not be judged without waiting.
    Undecided,
    Nothing,
}

/// `remote_prover.Api/Prove`, whatever the channel.
#[async_trait]
pub trait Call: Send + Sync {
    /// Whether the prover did as it was asked.
    async fn call(&self, request: ProofRequest) -> std::result::Result<(), tonic::Status>;
}

#[async_trait]
impl<S> Call for ChannelProver<S>
where
    S: GrpcService<Body, Future: Send, Error: Into<StdError>> + Clone + Send + Sync,
    S::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    async fn call(&self, request: ProofRequest) -> std::result::Result<(), tonic::Status> {
        ChannelProver::call(self, request).await.map(|_| ())
    }
}

/// What was said of the last response: in its extensions by a layer or a channel, in a field by `connect`.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Said>>);

#[derive(Clone, Default)]
struct Said {
    report: Option<VerifiedReport>,
    observation: Option<Observation>,
    result: Option<String>,
}

impl Seen {
    fn see<B>(&self, response: Response<B>) -> Response<B> {
        let result = response.headers().get("attestation-result").and_then(|result| result.to_str().ok());
        *self.lock() = Said {
            report: VerifiedReport::of(&response).cloned(),
            observation: Observation::of(&response).cloned(),
            result: result.map(ToOwned::to_owned),
        };
        response
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// What was said of the last response by a layer, a channel or `connect`.
    pub fn found(&self) -> Found {
        let said = self.seen.lock();
        match (&said.report, &said.observation, said.strength()) {
            (Some(report), _, _) | (_, Some(Observation::Verified(report)), _) => Found::Verified(report.strength()),
            (_, _, Some(strength)) => Found::Verified(strength),
            (_, Some(Observation::Missing), _) => Found::Missing,
            (_, Some(Observation::Refused(error)), _) => Found::Bad(error.kind()),
            (_, Some(Observation::Undecided(_)), _) => Found::Undecided,
            _ => Found::Nothing,
        }
    }

    /// Why the last response was not believed, where it was handed out all the same.
    pub fn doubt(&self) -> Option<AttestError> {
        self.seen.lock().observation.as_ref()?.error().cloned()
    }

    /// Who answered last, as far as is known.
    pub fn verdict(&self) -> String {
        let said = self.seen.lock();
        match (&said.report, &said.result) {
            (Some(report), _) => format!("{}, {}", report.platform(), report.measurement_name().unwrap_or("unnamed")),
            (None, Some(result)) => parameter(result, "platform")
                .zip(parameter(result, "measurement-name"))
                .map_or_else(|| result.clone(), |(platform, name)| format!("{platform}, {name}")),
            (None, None) => "unknown".to_owned(),
        }
    }
}

impl Said {
    /// The strength that `connect` names.
    fn strength(&self) -> Option<Strength> {
        match parameter(self.result.as_ref()?, "strength")?.as_str() {
            "channel" => Some(Strength::Channel),
            "sealed" => Some(Strength::Sealed),
            _ => None,
        }
    }
}

/// A string parameter of `Attestation-Result: verified;strength="channel";…`.
fn parameter(result: &str, name: &str) -> Option<String> {
    let start = format!("{name}=\"");
    let value = result.split(';').find_map(|part| part.strip_prefix(&start))?.strip_suffix('"')?;
    result.starts_with("verified;").then(|| value.to_owned())
}

/// A prover behind `channel`, whose responses are looked at.
fn observed<S, B>(channel: S) -> Way
where
    S: Service<Request<Body>, Response = Response<B>, Future: Send, Error: Into<StdError>>
        + Clone
        + Send
        + Sync
        + 'static,
    B: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let seen = Seen::default();
    let observer = seen.clone();
    let see = move |response: Response<B>| observer.see(response);
    let prover = ChannelProver::new(ServiceBuilder::new().map_response(see).service(channel));
    Way { prover: Arc::new(prover.clone()), call: Arc::new(prover), seen }
}

fn verifier(measurement: [u8; 48]) -> SnpVerifier {
    SnpVerifier::trusting_simulator(SnpPolicy::pin_named("the prover", measurement), &SimulatedAmd::new())
}

/// What the wallet does today: nothing is known of the far end.
pub async fn plain(to: &Process) -> Result<Way> {
    let channel = in_plaintext(to).await?;
    let published = RemoteTransactionProver::new(format!("http://{}", to.address)).with_timeout(PROVING_TIMEOUT);
    Ok(Way { prover: Arc::new(published), ..observed(ServiceBuilder::new().service(channel)) })
}

/// TLS to `serve`, which attests, and a wallet that does not ask.
pub async fn unasked(setup: &Setup) -> Result<Way> {
    Ok(observed(ServiceBuilder::new().service(over_tls(setup, setup.server.address.port()).await?)))
}

/// `AttestLayer` over tonic's own channel.
pub async fn presence(setup: &Setup, port: u16, measurement: [u8; 48], mode: Mode) -> Result<Way> {
    let channel = over_tls(setup, port).await?;
    Ok(observed(ServiceBuilder::new().timeout(PROVING_TIMEOUT).layer(layer(measurement, mode)).service(channel)))
}

/// The same over plaintext.
pub async fn presence_in_plaintext(to: &Process, mode: Mode) -> Result<Way> {
    let channel = in_plaintext(to).await?;
    Ok(observed(ServiceBuilder::new().timeout(PROVING_TIMEOUT).layer(layer(MEASUREMENT, mode)).service(channel)))
}

fn layer(measurement: [u8; 48], mode: Mode) -> AttestLayer {
    AttestLayer::new(verifier(measurement)).accept_presence().name(NAME).mode(mode)
}

/// `SealLayer` over tonic's own channel.
pub async fn sealed(setup: &Setup, port: u16, measurement: [u8; 48]) -> Result<Way> {
    Ok(seal(over_tls(setup, port).await?, measurement))
}

/// The same over plaintext.
pub async fn sealed_in_plaintext(to: &Process) -> Result<Way> {
    Ok(seal(in_plaintext(to).await?, MEASUREMENT))
}

fn seal(channel: Channel, measurement: [u8; 48]) -> Way {
    let layer = SealLayer::new(verifier(measurement)).name(NAME);
    observed(ServiceBuilder::new().timeout(PROVING_TIMEOUT).layer(layer).service(channel))
}

async fn over_tls(setup: &Setup, port: u16) -> Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(setup.pem()?));
    Ok(Endpoint::new(format!("https://{NAME}:{port}"))?.tls_config(tls)?.connect().await?)
}

async fn in_plaintext(to: &Process) -> Result<Channel> {
    Ok(Endpoint::new(format!("http://{}", to.address))?.connect().await?)
}

/// `AttestedChannel`. It connects with its first call.
pub fn channel(setup: &Setup, port: u16, measurement: [u8; 48]) -> Result<Way> {
    let channel = attested(setup, port, measurement)?;
    Ok(observed(ServiceBuilder::new().timeout(PROVING_TIMEOUT).service(channel)))
}

/// A prover of batches and blocks behind an `AttestedChannel`.
pub fn channel_prover(setup: &Setup, to: &Process) -> Result<ChannelProver<AttestedChannel>> {
    Ok(ChannelProver::new(attested(setup, to.address.port(), MEASUREMENT)?))
}

fn attested(setup: &Setup, port: u16, measurement: [u8; 48]) -> Result<AttestedChannel> {
    let uri = format!("https://{NAME}:{port}").parse()?;
    Ok(AttestedChannel::builder(uri, verifier(measurement)).roots(setup.roots()?).connect_lazy()?)
}

/// The published client, unchanged, at a `tower-attest connect` beside it.
pub async fn sidecar(to: &Process) -> Result<Way> {
    plain(to).await
}

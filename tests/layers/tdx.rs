//! TDX quotes, which have some 5 000 bytes, over the wire: by the endpoint, or in a header whose limit is raised.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response, Version};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::platform::tdx::sim::{CollateralSpec, SimProvider, SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{StaplingProvider, TdxPolicy, TdxVerifier};
use tower_attest::protocol::WELL_KNOWN_PATH;
use tower_attest::server::ReportBody;
use tower_attest::{
    AttestError, AttestLayer, Attester, ErrorKind, Mode, Nonce, Observation, Platform, PolicyFile, ProviderError,
    Report, ReportData, ReportLayer, ReportProvider, VerifiedReport, async_trait,
};

use crate::support::{HttpClient, attester, get, http1, http2, serve};

const MRTD: [u8; 48] = [0xab; 48];
/// What HTTP/2 clients, hyper among them, take as the fields of one response altogether unless told otherwise.
const H2_HEADER_LIST: usize = 16 * 1024;

fn intel() -> CollateralSpec {
    SimulatedIntel::new().collateral().issued_at(SystemTime::now() - Duration::from_secs(86_400))
}

fn provider() -> SimProvider {
    SimProvider::new(SimulatedTd::new(MRTD))
}

fn verifier(policy: TdxPolicy) -> TdxVerifier {
    TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new()).with_collateral_source(intel().build())
}

fn client() -> AttestLayer {
    AttestLayer::new(verifier(TdxPolicy::pin(MRTD))).accept_presence().name("localhost")
}

/// What went over the wire.
#[derive(Clone, Default)]
struct Traffic {
    /// Requests to the evidence endpoint.
    endpoint: Arc<AtomicUsize>,
    /// `Attestation-Report` values, and all fields of their responses as HTTP/2 counts them.
    reports: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Traffic {
    fn asked_endpoint(&self) -> usize {
        self.endpoint.load(Ordering::Relaxed)
    }

    fn reports(&self) -> Vec<(String, usize)> {
        self.reports.lock().unwrap().clone()
    }
}

type Server<B> = BoxCloneSyncService<Request<B>, Response<ReportBody<Full<bytes::Bytes>>>, Infallible>;

/// The layer around an application, and what goes through it.
fn server<B: Send + 'static>(layer: &ReportLayer) -> (Server<B>, Traffic) {
    let traffic = Traffic::default();
    let (seen, sent) = (traffic.clone(), traffic.clone());
    let application = service_fn(async |_: Request<B>| Ok(Response::new(Full::from("proof"))));
    let service = layer.layer(application).map_request(move |request: Request<B>| {
        seen.endpoint.fetch_add(usize::from(request.uri().path() == WELL_KNOWN_PATH), Ordering::Relaxed);
        request
    });
    let service = service.map_response(move |response: Response<_>| {
        let fields = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if let Some(report) = response.headers().get("attestation-report") {
            sent.reports.lock().unwrap().push((report.to_str().unwrap().to_owned(), fields));
        }
        response
    });
    (Server::new(service), traffic)
}

fn clients() -> [(HttpClient, Version); 2] {
    [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)]
}

#[tokio::test]
async fn a_quote_is_over_the_headers_limit_and_goes_by_the_endpoint() {
    for (transport, version) in clients() {
        let (service, traffic) = server(&ReportLayer::new(attester(provider()).await));
        let address = serve(service).await;
        let response = client().layer(transport).oneshot(get(address, "/x")).await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(VerifiedReport::of(&response).unwrap().measurement(), MRTD);
        assert_eq!(traffic.asked_endpoint(), 1);
        assert!(traffic.reports().iter().all(|(report, _)| !report.contains("evidence=") && report.len() < 4000));
    }
}

#[tokio::test]
async fn a_quote_travels_in_the_header_where_the_limit_is_raised() {
    for (transport, version) in clients() {
        let (service, traffic) = server(&ReportLayer::new(attester(provider()).await).header_limit(12_000));
        let address = serve(service).await;
        // This mode sends at once: what it verifies came in the response's own head.
        let response = client().mode(Mode::Optional).layer(transport).oneshot(get(address, "/x")).await.unwrap();
        assert_eq!(response.version(), version);
        let observation = Observation::of(&response).unwrap();
        assert_eq!(observation.report().unwrap().platform(), &Platform::TDX, "{observation:?}");
        assert_eq!(traffic.asked_endpoint(), 0);
        let [(report, fields)] = traffic.reports().try_into().unwrap();
        assert!(report.contains("evidence=") && report.len() > 4000);
        assert!(fields <= H2_HEADER_LIST, "{fields}");
    }
}

/// Counts the calls, and waits for a permit before each quote.
#[derive(Debug)]
struct Gated {
    inner: SimProvider,
    calls: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl ReportProvider for Gated {
    fn platform(&self) -> Platform {
        self.inner.platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.unwrap().forget();
        self.inner.report(data).await
    }
}

#[tokio::test]
async fn a_batch_of_256_still_fits_the_header() {
    let (calls, gate) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(1)));
    let gated = Gated { inner: provider(), calls: Arc::clone(&calls), gate: Arc::clone(&gate) };
    let attester = Attester::builder(gated)
        .name("localhost")
        .evidence_wait(Duration::from_secs(600))
        .report_timeout(Duration::from_secs(600))
        .start()
        .await
        .unwrap();
    let (service, traffic) = server::<Full<bytes::Bytes>>(&ReportLayer::new(attester.clone()).header_limit(12_000));
    let call = || {
        let client = client().mode(Mode::Optional).layer(service.clone());
        tokio::spawn(client.oneshot(Request::get("http://localhost/x").body(Full::default()).unwrap()))
    };
    let first = call();
    // The first has the device, and the next 256 wait for it.
    while calls.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..256).map(|_| call()).collect();
    while attester.stats().queued < 256 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    for response in std::iter::once(first).chain(others) {
        let response = response.await.unwrap().unwrap();
        assert!(matches!(Observation::of(&response), Some(Observation::Verified(_))));
    }
    assert_eq!((attester.stats().reports, attester.stats().largest_batch), (3, 256));
    assert_eq!(traffic.asked_endpoint(), 0);
    let reports = traffic.reports();
    assert_eq!(reports.len(), 257);
    assert!(reports.iter().all(|(report, fields)| report.contains("evidence=") && *fields <= H2_HEADER_LIST));
}

/// A client that has no collateral and no route to Intel.
fn without_a_source(policy: TdxPolicy) -> AttestLayer {
    let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
    AttestLayer::new(verifier).accept_presence().name("localhost")
}

async fn verdict(layer: AttestLayer, service: &Server<Full<bytes::Bytes>>) -> Result<VerifiedReport, AttestError> {
    let request = Request::get("http://localhost/x").body(Full::default()).unwrap();
    match layer.layer(service.clone()).oneshot(request).await {
        Ok(response) => Ok(VerifiedReport::of(&response).unwrap().clone()),
        Err(error) => Err(error.downcast_ref::<AttestError>().unwrap().clone()),
    }
}

#[tokio::test]
async fn stapled_collateral_goes_by_the_endpoint_alone_and_is_enough_for_a_client() {
    let stapling = StaplingProvider::new(provider(), intel().build()).trusting_simulator(&SimulatedIntel::new());
    let attester = attester(stapling).await;
    // The attester's own first report has set the fetch off.
    while attester.evidence(&Nonce::from_bytes([1; 32]), None).await.unwrap().report.collateral().is_none() {
        tokio::task::yield_now().await;
    }
    // The header could hold it.
    let (service, traffic) = server(&ReportLayer::new(attester).header_limit(200_000));
    let layer = without_a_source(TdxPolicy::pin(MRTD));
    verdict(layer.clone(), &service).await.unwrap();
    assert_eq!(traffic.asked_endpoint(), 1);

    let request = Request::get("http://localhost/x").body(Full::default()).unwrap();
    let response = layer.mode(Mode::Optional).layer(service).oneshot(request).await.unwrap();
    assert!(Observation::of(&response).unwrap().report().is_some());
    assert_eq!(traffic.asked_endpoint(), 2, "the header's evidence lacks it");
    let reports = traffic.reports();
    assert!(reports.iter().any(|(report, _)| report.contains("evidence=")));
    assert!(reports.iter().all(|(report, _)| report.len() < 12_000), "a quote, and no collateral");
}

#[tokio::test]
async fn stapled_collateral_that_is_rolled_back_or_another_platforms_is_refused() {
    let mut elsewhere = SimulatedTd::new(MRTD).platform;
    elsewhere.pck.id.fmspc = [0x90, 0xc0, 0x6f, 0, 0, 0];
    let floor = || TdxPolicy::pin(MRTD).with_min_tcb_evaluation_data_number(19);
    for (collateral, reason) in [
        (intel().evaluation_number(19), None),
        (intel().evaluation_number(18), Some("min-tcb-evaluation-data-number: expected at least 19, found 18")),
        (intel().evaluation_number(19).platform(&elsewhere), Some("for another platform")),
    ] {
        let (service, _) = server(&ReportLayer::new(attester(provider().stapling(collateral)).await));
        let error = verdict(without_a_source(floor()), &service).await.err();
        assert_eq!(error.as_ref().map(AttestError::kind), reason.map(|_| ErrorKind::Refused));
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(reason.unwrap_or_default()), "{message}");
    }
}

#[tokio::test]
async fn what_a_policy_file_says_of_the_server_holds() {
    let configured = Attester::builder(provider()).name("localhost").config([0x5e; 32]).start().await.unwrap();
    let (service, _) = server::<Full<bytes::Bytes>>(&ReportLayer::new(configured));
    for (name, config, refusal) in [
        ("localhost", "5e", None),
        ("other.example", "5e", Some(ErrorKind::NameMismatch)),
        ("localhost", "5f", Some(ErrorKind::ConfigMismatch)),
    ] {
        let file = PolicyFile::from_toml(&format!(
            "[server]\nname = '{name}'\nconfig = '{}'\n[[tdx.measurement]]\nmrtd = '{}'",
            config.repeat(32),
            "ab".repeat(48),
        ))
        .unwrap();
        let layer = AttestLayer::new(verifier(file.tdx().unwrap().clone()))
            .accept_presence()
            .name(file.server_name().unwrap())
            .config(file.server_configs()[0]);
        assert_eq!(verdict(layer, &service).await.err().map(|error| error.kind()), refusal, "{name} {config}");
    }
}

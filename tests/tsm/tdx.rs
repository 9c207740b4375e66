//! TDX from the device to the client's verdict: the real provider, attester, layers and verifier over a simulated TD.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::platform::tdx::sim::{CollateralSpec, QuoteFormat, SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{Quote, TdxPolicy, TdxProvider, TdxVerifier};
use tower_attest::platform::tsm::Backoff;
use tower_attest::server::ReportBody;
use tower_attest::{
    AttestError, AttestLayer, Attester, AttesterErrorKind, BoxError, Platform, ProviderErrorKind, ReportLayer,
    ReportProvider, VerifiedReport, VerifyError, VerifyErrorKind,
};

use super::fuse::Configfs;
use super::kernel::{EBUSY, EIO, Machine};
use super::{data, mounted, until};

const MRTD: [u8; 48] = [0xab; 48];

fn td() -> SimulatedTd {
    SimulatedTd::new(MRTD)
}

/// A guest whose kernel hands quotes out with this many zero bytes after them.
fn machine(td: SimulatedTd, padding: usize) -> Machine {
    let hardware = move |data: &[u8; 64], _| Ok(([td.quote(data), vec![0; padding]].concat(), Vec::new()));
    Machine::new("tdx_guest", Box::new(hardware))
}

fn provider(fs: &Configfs) -> TdxProvider {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1), 3);
    TdxProvider::builder().tsm_root(fs.root()).backoff(backoff).open().unwrap()
}

fn intel() -> CollateralSpec {
    SimulatedIntel::new().collateral().issued_at(SystemTime::now() - Duration::from_secs(86_400))
}

/// What stands before a client's transport. The quote comes without collateral: the client has a source.
fn layer() -> AttestLayer {
    let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin(MRTD), &SimulatedIntel::new())
        .with_collateral_source(intel().build());
    AttestLayer::new(verifier).accept_presence().name("prover.example")
}

async fn attester(fs: &Configfs) -> Attester {
    Attester::builder(provider(fs)).name("prover.example").start().await.unwrap()
}

type Server = BoxCloneSyncService<Request<Full<Bytes>>, Response<ReportBody<Full<Bytes>>>, Infallible>;

fn server(attester: &Attester) -> Server {
    let prove = service_fn(async |_: Request<Full<Bytes>>| Ok(Response::new(Full::from("proof"))));
    Server::new(ReportLayer::new(attester.clone()).layer(prove))
}

/// What one client of this server gets, in memory.
async fn call(server: Server) -> Result<VerifiedReport, BoxError> {
    let request = Request::get("https://prover.example/prove").body(Full::default())?;
    let response = layer().layer(server).oneshot(request).await?;
    Ok(VerifiedReport::of(&response).expect("nothing comes back unverified").clone())
}

/// Why the client's verifier refused.
async fn refusal(fs: &Configfs) -> VerifyErrorKind {
    let error = call(server(&attester(fs).await)).await.unwrap_err();
    let error = error.downcast_ref::<AttestError>().unwrap_or_else(|| panic!("{error}"));
    let cause: Option<&(dyn Error + 'static)> = error.cause().map(|cause| cause as _);
    let cause = cause.and_then(|cause| cause.downcast_ref::<VerifyError>());
    cause.unwrap_or_else(|| panic!("{error}: {error:?}")).kind()
}

#[tokio::test]
async fn a_client_accepts_a_quote_of_each_format_without_the_kernels_padding() {
    for (format, padding) in [(QuoteFormat::V4, 3000), (QuoteFormat::V5Td10, 1), (QuoteFormat::V5Td15, 0)] {
        let td = td().with_format(format);
        let fs = mounted!(machine(td, padding));
        let report = call(server(&attester(&fs).await)).await.unwrap();
        assert_eq!((report.platform(), report.measurement()), (&Platform::TDX, &MRTD[..]));
        assert_eq!(fs.entries(), [""; 0]);

        let report = provider(&fs).report(&data(1)).await.unwrap();
        // The parser refuses even one byte of padding.
        assert_eq!(Quote::parse(report.bytes()).unwrap().td_report().report_data, *data(1).as_bytes());
    }
}

/// The kernel serialises quotes and takes a second for each: what makes the attester share them.
#[tokio::test]
async fn sixty_four_clients_of_a_slow_device_cost_two_quotes() {
    const CLIENTS: usize = 64;
    let fs = mounted!(machine(td(), 3000));
    let attester = attester(&fs).await;
    let server = server(&attester);
    let made = fs.machine().made;

    fs.hang_reports();
    let first = tokio::spawn(call(server.clone()));
    until(|| fs.hanging() == 1).await;
    let others: Vec<_> = (1..CLIENTS).map(|_| tokio::spawn(call(server.clone()))).collect();
    until(|| attester.stats().queued == CLIENTS - 1).await;
    assert_eq!((fs.machine().made, fs.hanging()), (made + 1, 1), "no second call while the first runs");
    fs.release();

    for client in std::iter::once(first).chain(others) {
        assert_eq!(client.await.unwrap().unwrap().measurement(), MRTD);
    }
    assert_eq!(fs.machine().made, made + 2);
    let stats = attester.stats();
    assert_eq!((stats.reports, stats.largest_batch), (3, CLIENTS - 1), "one of them at the start");
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn another_program_and_a_host_that_may_debug_are_refused_by_the_client() {
    let mut debug = td();
    debug.report.td_attributes |= 1;
    for td in [SimulatedTd::new([0xcd; 48]), debug] {
        let fs = mounted!(machine(td, 3000));
        assert_eq!(refusal(&fs).await, VerifyErrorKind::Policy);
    }
}

#[tokio::test]
async fn a_quoting_service_that_is_busy_is_asked_again_and_not_for_ever() {
    let fs = mounted!(machine(td(), 3000));
    let provider = provider(&fs);
    fs.machine().faults = [EBUSY, EBUSY].into();
    assert!(provider.report(&data(1)).await.is_ok());
    fs.machine().faults = [EBUSY; 20].into();
    assert_eq!(provider.report(&data(1)).await.unwrap_err().kind(), ProviderErrorKind::Busy);
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn a_quote_that_cannot_be_right_stops_at_the_provider() {
    let fs = mounted!(machine(td(), 0));
    let provider = provider(&fs);
    let quote = td().quote(data(1).as_bytes());
    let (short, dirty) = (quote[..quote.len() - 1].to_vec(), [&quote[..], &[0, 1]].concat());
    for blob in [short, dirty, vec![0; 8000]] {
        fs.machine().hardware = Box::new(move |_, _| Ok((blob.clone(), vec![])));
        assert_eq!(provider.report(&data(1)).await.unwrap_err().kind(), ProviderErrorKind::Failed);
    }
    // The right quote for one request is the wrong one for another.
    fs.machine().hardware = Box::new(move |_, _| Ok((quote.clone(), vec![])));
    assert!(provider.report(&data(1)).await.is_ok());
    let error = provider.report(&data(2)).await.unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Failed);
    assert!(error.to_string().contains("REPORTDATA"), "{error}");
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn a_machine_of_another_kind_and_a_broken_device_stop_the_start() {
    let mut other = machine(td(), 0);
    other.provider = Some("sev_guest");
    let fs = mounted!(other);
    let error = TdxProvider::builder().tsm_root(fs.root()).open().unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("sev_guest"), "{error}");

    let fs = mounted!(machine(td(), 0));
    fs.machine().faults = [EIO].into();
    let error = Attester::builder(provider(&fs)).name("prover.example").start().await.unwrap_err();
    assert_eq!(error.kind(), AttesterErrorKind::Hardware);
}

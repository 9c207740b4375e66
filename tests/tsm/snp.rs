//! SNP from the device to the client's verdict: the real provider, attester, layers and verifier over simulated firmware.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::watch;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_attest::platform::snp::sim::{SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{CertTable, Product, REPORT_LEN, ReportView, SnpDevice, SnpPolicy, SnpProvider};
use tower_attest::platform::snp::{SnpProviderBuilder, SnpVerifier};
use tower_attest::platform::tsm::Backoff;
use tower_attest::time::{Clock, Now, Sleep, SystemClock};
use tower_attest::{
    AttestError, AttestLayer, Attester, AttesterErrorKind, BoxError, Health, Nonce, Platform, ProviderErrorKind,
    ReportLayer, ReportProvider, VerifiedReport, VerifyError, VerifyErrorKind,
};

use super::fuse::Configfs;
use super::kernel::{EIO, Hardware, Machine};
use super::{data, mounted, until};

const MEASUREMENT: [u8; 48] = [0xab; 48];

fn guest(product: Product) -> SimulatedGuest {
    SimulatedGuest::new(product).with_measurement(MEASUREMENT)
}

/// The firmware of `guest`, on a host with this certificate table.
fn firmware(guest: SimulatedGuest, table: Vec<u8>) -> Hardware {
    Box::new(move |data, level| {
        let mut guest = guest.clone();
        guest.vmpl = level.into();
        Ok((guest.report(data).to_vec(), table.clone()))
    })
}

fn machine(guest: SimulatedGuest, table: Vec<u8>) -> Machine {
    Machine::new("sev_guest", firmware(guest, table))
}

/// A table as hosts write it: entries, an entry of zeros, the certificates, zeros to the end of the page.
fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let (mut head, mut certificates) = (Vec::new(), Vec::new());
    for (guid, certificate) in entries {
        head.extend_from_slice(guid);
        head.extend(((entries.len() + 1) * 24 + certificates.len()).to_le_bytes().iter().take(4));
        head.extend(certificate.len().to_le_bytes().iter().take(4));
        certificates.extend_from_slice(certificate);
    }
    let mut table = [head, vec![0; 24], certificates].concat();
    table.resize(table.len().next_multiple_of(4096), 0);
    table
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")).into_bytes()
}

fn builder(fs: &Configfs) -> SnpProviderBuilder {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1), 3);
    SnpProvider::builder().tsm_root(fs.root()).backoff(backoff)
}

async fn prove(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("proof")))
}

/// What a client of a server on this machine gets: through both layers, in memory.
async fn exchange(fs: &Configfs) -> Result<VerifiedReport, BoxError> {
    let provider = builder(fs).open()?;
    assert_eq!(provider.device(), SnpDevice::ConfigfsTsm);
    let attester = Attester::builder(provider).name("prover.example").start().await?;
    let server = ServiceBuilder::new().layer(ReportLayer::new(attester)).service(service_fn(prove));
    let policy = SnpPolicy::pin(MEASUREMENT).allow_vlek(["cloud.example"]);
    let verifier = SnpVerifier::trusting_simulator(policy, &SimulatedAmd::new());
    let layer = AttestLayer::new(verifier).accept_presence().name("prover.example");
    let client = ServiceBuilder::new().layer(layer).service(server);
    let request = Request::get("https://prover.example/prove").body(Full::default())?;
    let response = client.oneshot(request).await?;
    Ok(VerifiedReport::of(&response).expect("nothing comes back unverified").clone())
}

/// Why the client's verifier refused.
async fn refusal(fs: &Configfs) -> VerifyErrorKind {
    let error = exchange(fs).await.unwrap_err();
    let error = error.downcast_ref::<AttestError>().unwrap_or_else(|| panic!("{error}"));
    let cause: Option<&(dyn Error + 'static)> = error.cause().map(|cause| cause as _);
    let cause = cause.and_then(|cause| cause.downcast_ref::<VerifyError>());
    cause.unwrap_or_else(|| panic!("{error}: {error:?}")).kind()
}

#[tokio::test]
async fn a_client_accepts_a_report_with_the_certificate_from_the_hosts_table() {
    for product in [Product::Genoa, Product::Turin] {
        let by_chip = guest(product);
        let by_cloud = guest(product).with_vlek("cloud.example");
        let (vcek, vlek) = (by_chip.vek(), by_cloud.vek());
        let other = b"neither of them".as_slice();
        let tables = [
            (&by_chip, &vcek, table(&[(CertTable::VCEK, &vcek), (CertTable::ARK, other)])),
            (&by_chip, &vcek, table(&[(CertTable::ASK, other), (CertTable::VCEK, &pem(&vcek))])),
            (&by_cloud, &vlek, table(&[(CertTable::VLEK, &vlek)])),
            (&by_cloud, &vlek, table(&[(CertTable::VCEK, &vcek), (CertTable::VLEK, &pem(&vlek))])),
        ];
        for (guest, certificate, table) in tables {
            let fs = mounted!(machine(guest.clone(), table));
            let report = exchange(&fs).await.unwrap();
            assert_eq!(report.measurement(), MEASUREMENT);
            assert_eq!(report.platform(), &Platform::SNP);
            assert_eq!(fs.entries(), [""; 0]);

            let stapled = builder(&fs).open().unwrap().report(&data(1)).await.unwrap();
            assert_eq!(&stapled.vek().unwrap()[..], &certificate[..]);
        }
    }
}

#[tokio::test]
async fn without_a_usable_table_the_report_comes_alone_and_the_verifier_misses_the_certificate() {
    let guest = guest(Product::Genoa);
    let good = table(&[(CertTable::VCEK, &guest.vek())]);
    let mut far = good.clone();
    far[16..20].copy_from_slice(&0x7fff_0000_u32.to_le_bytes());
    let mut long = good.clone();
    long[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let no_end = good[..24].repeat(170);
    let twice = table(&[(CertTable::VCEK, &guest.vek()), (CertTable::VCEK, &guest.vek())]);
    let text = table(&[(CertTable::VCEK, b"-----BEGIN CERTIFICATE-----\nAA")]);
    let only_vlek = table(&[(CertTable::VLEK, &guest.vek())]);
    for table in [vec![], vec![0; 4096], vec![0xff; 4096], far, long, no_end, twice, text, only_vlek] {
        let fs = mounted!(machine(guest.clone(), table));
        let report = builder(&fs).open().unwrap().report(&data(1)).await.unwrap();
        assert_eq!((report.bytes().len(), report.vek()), (REPORT_LEN, None));
        assert_eq!(refusal(&fs).await, VerifyErrorKind::EndorsementMissing);
        assert_eq!(fs.entries(), [""; 0]);
    }
}

#[tokio::test]
async fn a_host_that_lies_in_its_table_is_found_out_by_the_client() {
    let amd = SimulatedAmd::new();
    let guest = guest(Product::Genoa);
    let another_chip = amd.vcek(Product::Genoa, &[0x77; 64], guest.reported_tcb);
    let mut older = guest.reported_tcb;
    older.snp -= 1;
    let another_tcb = amd.vcek(Product::Genoa, &guest.chip_id, older);
    for certificate in [another_chip, another_tcb] {
        let fs = mounted!(machine(guest.clone(), table(&[(CertTable::VCEK, &certificate)])));
        assert_eq!(refusal(&fs).await, VerifyErrorKind::Mismatch);
    }
    let fs = mounted!(machine(guest.clone(), table(&[(CertTable::VCEK, &[0x30, 1, 1])])));
    assert_eq!(refusal(&fs).await, VerifyErrorKind::Endorsement);
}

#[tokio::test]
async fn another_program_on_genuine_hardware_is_refused() {
    let guest = SimulatedGuest::new(Product::Genoa).with_measurement([0xcd; 48]);
    let fs = mounted!(machine(guest.clone(), table(&[(CertTable::VCEK, &guest.vek())])));
    assert_eq!(refusal(&fs).await, VerifyErrorKind::Policy);
}

#[tokio::test]
async fn a_report_that_cannot_be_right_stops_at_the_provider() {
    let fs = mounted!(machine(guest(Product::Genoa), vec![]));
    let provider = builder(&fs).open().unwrap();
    let guest = guest(Product::Genoa);
    let report = guest.report(data(1).as_bytes()).to_vec();
    let (short, long) = (report[..REPORT_LEN - 1].to_vec(), [&report[..], &[0]].concat());
    for blob in [short, long, report[..1].to_vec(), vec![0; REPORT_LEN]] {
        fs.machine().hardware = Box::new(move |_, _| Ok((blob.clone(), vec![])));
        assert_eq!(provider.report(&data(1)).await.unwrap_err().kind(), ProviderErrorKind::Failed);
    }
    // The right report for one request is the wrong one for another.
    fs.machine().hardware = Box::new(move |_, _| Ok((report.clone(), vec![])));
    assert!(provider.report(&data(1)).await.is_ok());
    let error = provider.report(&data(2)).await.unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Failed);
    assert!(error.to_string().contains("REPORT_DATA"), "{error}");
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn the_vmpl_is_asked_for_by_name_and_is_0_unless_set() {
    let fs = mounted!(machine(guest(Product::Genoa), vec![]));
    for (builder, expected) in [(builder(&fs), 0), (builder(&fs).vmpl(2), 2)] {
        let report = builder.open().unwrap().report(&data(1)).await.unwrap();
        assert_eq!(ReportView::parse(report.bytes().clone()).unwrap().vmpl(), expected);
    }
}

#[tokio::test]
async fn an_attester_does_not_start_over_a_broken_device() {
    let fs = mounted!(machine(guest(Product::Genoa), vec![]));
    fs.machine().faults = [EIO].into();
    let error = Attester::builder(builder(&fs).open().unwrap()).name("prover.example").start().await.unwrap_err();
    assert_eq!(error.kind(), AttesterErrorKind::Hardware);
    assert!(error.to_string().contains("outblob") || error.source().is_some(), "{error}");
}

/// Real time, and timers that end only when the test says so.
#[derive(Debug, Clone)]
struct HeldTimers(Arc<watch::Sender<bool>>);

impl Clock for HeldTimers {
    fn now(&self) -> Now {
        SystemClock.now()
    }

    fn sleep(&self, _: Duration) -> Sleep {
        let mut ended = self.0.subscribe();
        Box::pin(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}

#[tokio::test]
async fn a_hung_device_stalls_the_attester_and_recovers() {
    let guest = guest(Product::Genoa);
    let fs = mounted!(machine(guest.clone(), table(&[(CertTable::VCEK, &guest.vek())])));
    let timers = HeldTimers(Arc::new(watch::channel(false).0));
    let provider = builder(&fs).open().unwrap();
    let attester = Attester::builder(provider).name("prover.example").clock(timers.clone()).start().await.unwrap();
    let nonce = Nonce::from_bytes([7; 32]);

    fs.hang_reports();
    let waiting = tokio::spawn({
        let attester = attester.clone();
        async move { attester.evidence(&nonce, None).await }
    });
    until(|| fs.hanging() == 1).await;
    timers.0.send_replace(true);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), AttesterErrorKind::Stalled);
    timers.0.send_replace(false);
    assert_eq!(attester.health(), Health::Stalled);
    // Nothing more is asked of the device: its directories are as many as before.
    let made = fs.machine().made;
    assert_eq!(attester.evidence(&nonce, None).await.unwrap_err().kind(), AttesterErrorKind::Stalled);
    assert_eq!(fs.machine().made, made);

    fs.release();
    until(|| attester.health() != Health::Stalled).await;
    let evidence = attester.evidence(&nonce, None).await.unwrap();
    assert!(evidence.report.vek().is_some());
    assert_eq!(attester.health(), Health::Ready);
    assert_eq!(fs.entries(), [""; 0]);
}

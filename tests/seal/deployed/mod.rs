//! Three servers on simulated hardware behind a real nginx or HAProxy that ends TLS. Each test says so and passes where its
//! program is not installed; CI installs them.

mod replica;
mod tap;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tower::{ServiceBuilder, service_fn};
use tower_attest::seal::{Seal, SealLayer};
use tower_attest::snp::sim::SimulatedAmd;
use tower_attest::snp::{SnpPolicy, SnpVerifier};
use tower_attest::{AttestError, ErrorKind, Strength, VerifiedReport};

use self::replica::{Log, PROGRAM, Replica};
use self::tap::{Tap, Tapped};
use crate::prover::api::prover_client::ProverClient;
use crate::prover::api::{Proof, ProveRequest, WitnessChunk};
use crate::proxy::Proxy;

const WITNESS: &str = "witness-4f1c2a";
const METADATA: &str = "customer-77aa31";

type Client = ProverClient<Seal<Channel, tonic::body::Body>>;

/// A proxy, its servers, and a tap before each.
struct Deployment {
    proxy: Proxy,
    replicas: Vec<Replica>,
    log: Log,
    tapped: Arc<Tapped>,
}

impl Deployment {
    async fn start(name: &str, config: &str) -> Option<Self> {
        let (log, tapped) = (Log::default(), Arc::<Tapped>::default());
        let needles = ["witness-", "customer-", "x-customer", "/prover.", "Prover/Prove"].map(Vec::from);
        let tap = Tap { needles: Arc::new(needles.to_vec()), tapped: Arc::clone(&tapped) };
        let routes = ["tee-1", "tee-2", "tee-3"];
        let starting = routes.map(|route| {
            let (log, tap) = (Arc::clone(&log), tap.clone());
            tokio::task::spawn_blocking(move || Replica::start(route, log, tap))
        });
        let (mut replicas, mut ports) = (vec![], vec![]);
        for starting in starting {
            let replica = starting.await.unwrap();
            ports.push(replica.port);
            replicas.push(replica);
        }
        let proxy = Proxy::start(name, config, &ports).await?;
        Some(Self { proxy, replicas, log, tapped })
    }

    /// HTTP/2 over TLS to the proxy.
    fn channel(&self) -> Channel {
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(self.proxy.roots())
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, port) = (tokio_rustls::TlsConnector::from(Arc::new(config)), self.proxy.port);
        let connect = service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                let stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::new(format!("http://localhost:{port}")).unwrap();
        endpoint.origin(self.proxy.uri().parse().unwrap()).connect_with_connector_lazy(connect)
    }

    fn client(&self) -> Client {
        let verifier = SnpVerifier::trusting_simulator(SnpPolicy::pin(PROGRAM), &SimulatedAmd::new());
        let layer = SealLayer::new(verifier).name("localhost");
        ProverClient::new(ServiceBuilder::new().layer(layer).service(self.channel()))
    }

    /// What the servers saw outside, whole.
    fn seen_outside(&self) -> String {
        format!("{:?}", self.log.lock().unwrap())
    }
}

fn ask(number: usize) -> Request<ProveRequest> {
    let mut request =
        Request::new(ProveRequest { program: b"p".to_vec(), witness: format!("{WITNESS} {number}").into_bytes() });
    request.metadata_mut().insert("x-customer", MetadataValue::from_static(METADATA));
    request
}

/// What the service answers to [`ask`].
fn proof(number: usize) -> Proof {
    let hash = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut digest = hash(format!("p{WITNESS} {number}").as_bytes());
    for _ in 0..1_000 {
        digest = hash(digest.as_ref());
    }
    Proof { bytes: digest.as_ref().to_vec() }
}

/// A call that is made again until it works, as its caller would: some replicas may be down, or have new keys.
async fn insist(client: &mut Client, number: usize, failures: &AtomicUsize) -> Proof {
    for _ in 0..200 {
        match client.prove(ask(number)).await {
            Ok(reply) => {
                assert_eq!(VerifiedReport::of(&reply).unwrap().strength(), Strength::Sealed);
                return reply.into_inner();
            }
            Err(status) => {
                let known = [Code::Unavailable, Code::Unauthenticated, Code::DataLoss, Code::Unknown, Code::Internal];
                assert!(
                    known.contains(&status.code())
                        && AttestError::of(&status).is_none_or(|error| { error.kind() != ErrorKind::Refused }),
                    "{status:?}"
                );
                println!("call {number}: {:?}: {}", status.code(), status.message());
                failures.fetch_add(1, Ordering::SeqCst);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("call {number} never came through");
}

async fn carries_sealed_requests(name: &str, config: &str) {
    let Some(deployment) = Deployment::start(name, config).await else { return };
    let mut client = deployment.client();
    let reply = client.prove(ask(1)).await.unwrap();
    assert_eq!(VerifiedReport::of(&reply).unwrap().strength(), Strength::Sealed);
    assert_eq!(reply.into_inner(), proof(1));

    let progress = client.prove_with_progress(ask(2)).await.unwrap().into_inner();
    let last = progress.map(Result::unwrap).collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.proof, Some(proof(2)));

    // Each request is sent only when the reply to the one before has come: the proxy must not collect either way.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(ask(0).into_inner()).await.unwrap();
    let mut replies = client.prove_many(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for number in 1..5 {
        assert_eq!(replies.next().await.unwrap().unwrap(), proof(number - 1));
        sender.send(ask(number).into_inner()).await.unwrap();
    }
    drop(sender);
    assert_eq!(replies.next().await.unwrap().unwrap(), proof(4));
    assert!(replies.next().await.is_none());

    let before = deployment.tapped.bytes.load(Ordering::Relaxed);
    let chunk = WitnessChunk { data: WITNESS.as_bytes().repeat(1024 * 1024 / WITNESS.len()) };
    let chunks = tokio_stream::iter(std::iter::repeat_n(chunk, 100));
    assert_eq!(client.prove_chunked(chunks).await.unwrap().into_inner().bytes.len(), 32);
    let carried = deployment.tapped.bytes.load(Ordering::Relaxed) - before;
    assert!(carried > 99 << 20, "a 100 MB upload, {carried} bytes");

    // Replicas have keys of their own: other clients meet the others.
    for number in 10..16 {
        assert_eq!(insist(&mut deployment.client(), number, &AtomicUsize::new(0)).await, proof(number));
    }
    let outside = deployment.seen_outside();
    for secret in [WITNESS, METADATA, "x-customer", "prover", "Prove"] {
        assert!(!outside.contains(secret), "{secret} shows in what the servers saw outside");
    }
    assert_eq!(deployment.tapped.found(), Vec::<String>::new());
    for route in ["tee-1", "tee-2", "tee-3"] {
        assert!(outside.contains(route), "{route} has served");
    }

    // The same tap and log do see what is not sealed; and the servers refuse it.
    let mut plain = ProverClient::new(deployment.channel());
    let witness = "witness-".to_owned();
    // The refusal may come before the proxy has sent the body on: then there was nothing to see.
    for _ in 0..100 {
        assert_eq!(plain.prove(ask(1)).await.unwrap_err().code(), Code::PermissionDenied);
        if deployment.tapped.found().contains(&witness) {
            break;
        }
    }
    assert!(deployment.tapped.found().contains(&witness));
    let outside = deployment.seen_outside();
    assert!(outside.contains(METADATA) && outside.contains("Prover/Prove"));
}

/// Waits until so many calls are done, or all callers are.
async fn reached(done: &AtomicUsize, calls: usize, callers: &[tokio::task::JoinHandle<()>]) {
    while done.load(Ordering::SeqCst) < calls && !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn survives_its_replicas(name: &str, config: &str) {
    let Some(mut deployment) = Deployment::start(name, config).await else { return };
    let (done, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (mut client, done, failures) = (deployment.client(), Arc::clone(&done), Arc::clone(&failures));
            tokio::spawn(async move {
                for number in (0..60).map(|call| caller * 1000 + call) {
                    assert_eq!(insist(&mut client, number, &failures).await, proof(number));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for (round, number) in [0, 1, 2, 0].into_iter().enumerate() {
        // Under load: each time when so many more calls have come through.
        reached(&done, 40 * (round + 1), &callers).await;
        deployment.replicas[number].kill();
        reached(&done, done.load(Ordering::SeqCst) + 10, &callers).await;
        let mut replica = deployment.replicas.remove(number);
        let restarted = tokio::task::spawn_blocking(move || {
            replica.restart();
            replica
        });
        deployment.replicas.insert(number, restarted.await.unwrap());
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 240, "every call came through, with its own answer");
    println!("{name}: {} attempts failed and were made again", failures.load(Ordering::SeqCst));
    assert_eq!(deployment.tapped.found(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_every_kind_of_call_is_sealed() {
    carries_sealed_requests("nginx", "nginx-sealed.conf").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_every_kind_of_call_is_sealed() {
    carries_sealed_requests("haproxy", "haproxy-sealed.cfg").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_replicas_that_are_killed_and_started_lose_nothing_silently() {
    survives_its_replicas("nginx", "nginx-sealed.conf").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_replicas_that_are_killed_and_started_lose_nothing_silently() {
    survives_its_replicas("haproxy", "haproxy-sealed.cfg").await;
}

//! A server on simulated hardware that can be killed and started again, each time with keys of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tower::util::MapRequestLayer;
use tower_attest::seal::UnsealLayer;
use tower_attest::snp::Product;
use tower_attest::snp::sim::{SimProvider, SimulatedGuest};
use tower_attest::{Attester, ReportLayer};

use super::tap::{Tap, carry_to};
use crate::prover::HashProver;
use crate::prover::api::prover_server::ProverServer;

pub(crate) const PROGRAM: [u8; 48] = [0x11; 48];

/// The requests as they reached a server, in the clear: target and fields.
pub(crate) type Log = Arc<Mutex<Vec<(String, HeaderMap)>>>;

pub(crate) struct Replica {
    /// Where the proxy finds it: its tap.
    pub(crate) port: u16,
    route: String,
    log: Log,
    tap: Tap,
    runtime: Option<Runtime>,
}

impl Replica {
    /// A replica on a free port, and with a runtime of its own: to end it is to end every connection at once.
    pub(crate) fn start(route: &str, log: Log, tap: Tap) -> Self {
        let mut replica = Self { port: 0, route: route.to_owned(), log, tap, runtime: None };
        replica.restart();
        replica
    }

    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (route, log, tap, port) = (self.route.clone(), Arc::clone(&self.log), self.tap.clone(), self.port);
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let guest = SimulatedGuest::new(Product::Genoa).with_measurement(PROGRAM);
            let attester = Attester::builder(SimProvider::new(guest)).name("localhost").route(route).seal();
            let attester = attester.start().await.unwrap();
            let front = bind(port).await;
            sender.send(front.local_addr().unwrap().port()).unwrap();
            let listener = bind(0).await;
            carry_to(listener.local_addr().unwrap().port(), front, tap);
            let record = MapRequestLayer::new(move |request: Request<tonic::body::Body>| {
                log.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
                request
            });
            tonic::transport::Server::builder()
                .layer(record)
                .layer(ReportLayer::new(attester.clone()))
                .layer(UnsealLayer::new(attester).unwrap().sealed_only())
                .add_service(ProverServer::new(HashProver))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.port = receiver.recv().unwrap();
        self.runtime = Some(runtime);
    }
}

/// The connections of the one before may take a moment to go.
async fn bind(port: u16) -> TcpListener {
    loop {
        match TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

//! The channel below `AttestLayer`, and the listener below axum.

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get as route;
use http::Request;
use tower::{ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, Tls, TlsListener};
use tower_attest::{AttestLayer, Attester, ChannelBinding, ConnectionInfo, ReportLayer, Strength, VerifiedReport};

use crate::support::{Attested, body, get, roots, text};

#[tokio::test]
async fn attest_layer_above_the_channel_needs_no_accept_presence_and_binds_its_signatures() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).connect().await.unwrap();
    let service = ServiceBuilder::new().layer(AttestLayer::new(tee.verifier()).name("localhost")).service(channel);
    let response = service.clone().oneshot(Request::get("/").body(body("")).unwrap()).await.unwrap();
    let report = VerifiedReport::of(&response).unwrap();
    assert_eq!(report.strength(), Strength::Channel);
    assert!(report.channel_bound());
    let seen = server.record().requests();
    let nonce = seen.last().unwrap().headers["attestation-nonce"].to_str().unwrap();
    assert!(nonce.contains("bind=tls-exporter"), "{nonce}");
}

#[tokio::test]
async fn an_answer_that_was_signed_for_another_connection_is_refused_above_the_channel() {
    // The channel is attested; then the server starts to sign for another connection, as one behind a mix-up would.
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let server = Attested::start_at(&tee, ([127, 0, 0, 1], 0).into(), tls.clone(), |layer| {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        layer.binding_from(move |extensions| {
            let real = extensions.get::<ConnectionInfo>().map(ConnectionInfo::binding);
            let other = Some(ChannelBinding::from_tls_exporter([7; 32]));
            if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1 { real } else { other }
        })
    })
    .await;
    let channel = server.builder(&tee).connect().await.unwrap();
    let service = ServiceBuilder::new().layer(AttestLayer::new(tee.verifier())).service(channel);
    let error = service.oneshot(Request::get("/").body(body("")).unwrap()).await.unwrap_err();
    let error = error.downcast_ref::<tower_attest::AttestError>().expect("an AttestError");
    assert!(matches!(error.kind(), tower_attest::ErrorKind::BadSignature | tower_attest::ErrorKind::Stale), "{error}");
}

async fn through_axum(app: impl FnOnce(TlsListener) -> tokio::task::JoinHandle<()>) -> String {
    let tls = Tls::self_signed("localhost").unwrap();
    let listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
    let uri = format!("https://localhost:{}", listener.local_addr().port()).parse().unwrap();
    let server = app(listener);
    let channel =
        AttestedChannel::builder(uri, TEE.with(Clone::clone).verifier()).roots(roots(&tls)).connect().await.unwrap();
    let answer = text(get(&channel, "/who").await.unwrap()).await;
    server.abort();
    answer
}

thread_local! {
    static TEE: MockTee = MockTee::new();
}

async fn attester() -> Attester {
    Attester::builder(TEE.with(Clone::clone).provider()).name("localhost").start().await.unwrap()
}

#[tokio::test]
async fn axum_serves_with_connection_info() {
    let layer = ReportLayer::new(attester().await);
    let answer = through_axum(|listener| {
        let who = async |ConnectInfo(info): ConnectInfo<ConnectionInfo>| {
            format!("{} {}", info.remote_addr().unwrap().ip(), info.server_name().unwrap())
        };
        let router = Router::new().route("/who", route(who)).layer(layer);
        tokio::spawn(async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<ConnectionInfo>()).await.unwrap();
        })
    })
    .await;
    assert_eq!(answer, "127.0.0.1 localhost");
}

#[tokio::test]
async fn axum_serves_with_the_bare_binding() {
    let layer = ReportLayer::new(attester().await);
    let answer = through_axum(|listener| {
        let router = Router::new().route("/who", route(async || "bound")).layer(layer);
        tokio::spawn(async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<ChannelBinding>()).await.unwrap();
        })
    })
    .await;
    assert_eq!(answer, "bound");
}

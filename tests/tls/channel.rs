//! What a caller sees of a channel that works.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, StatusCode};
use tower::ServiceExt;
use tower::discover::Change;
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, EndpointState, Stage, Tls};
use tower_attest::{ErrorKind, Strength, VerifiedReport};

use crate::support::{Attested, Counted, body, channel_error, get, text, until};

#[tokio::test]
async fn every_response_carries_the_report_of_its_connection() {
    let tee = MockTee::new();
    for alpn in ["h2", "http/1.1"] {
        let server = Attested::start(&tee).await;
        let channel = server.builder(&tee).alpn([alpn]).connect().await.unwrap();
        for _ in 0..3 {
            let response = get(&channel, "/").await.unwrap();
            let report = VerifiedReport::of(&response).expect("a report");
            assert_eq!(report.strength(), Strength::Channel);
            assert!(report.channel_bound() && report.secret_before_send() && report.response_intact());
            assert_eq!(report.measurement(), tee.measurement());
            assert_eq!(text(response).await, "ok");
        }
        assert_eq!(server.record().preflights(), 1, "once per connection, not per request");
        assert_eq!(server.record().connections(), 1);
    }
}

#[tokio::test]
async fn requests_go_out_in_the_form_of_the_protocol_and_to_the_channels_host_alone() {
    let tee = MockTee::new();
    for alpn in ["h2", "http/1.1"] {
        let server = Attested::start(&tee).await;
        let channel = server.builder(&tee).alpn([alpn]).connect().await.unwrap();
        let absolute = format!("{}a?b=c", server.server.uri());
        assert_eq!(get(&channel, &absolute).await.unwrap().status(), StatusCode::OK);
        assert_eq!(get(&channel, "/a?b=c").await.unwrap().status(), StatusCode::OK);
        assert_eq!(server.record().paths()[1..], ["/a?b=c", "/a?b=c"]);

        let error = channel_error(&get(&channel, "https://elsewhere.example/").await.unwrap_err());
        assert_eq!((error.stage(), error.kind()), (Stage::Request, ErrorKind::Configuration), "{error}");
        assert_eq!(server.record().applications(), 2);
    }
}

#[tokio::test]
async fn a_host_field_of_the_callers_does_not_send_a_request_to_another_host() {
    let tee = MockTee::new();
    for alpn in ["h2", "http/1.1"] {
        let server = Attested::start(&tee).await;
        let channel = server.builder(&tee).alpn([alpn]).connect().await.unwrap();
        let request = Request::get("/a").header("host", "elsewhere.example").body(body("")).unwrap();
        assert_eq!(channel.oneshot(request).await.unwrap().status(), StatusCode::OK);
        let requests = server.record().requests();
        let host = requests.last().unwrap().headers.get("host").map(|host| host.to_str().unwrap().to_owned());
        // Over HTTP/2 it is `:authority` that says it, and nothing beside it.
        assert!(host.is_none() || Some(host.unwrap().as_str()) == server.server.uri().authority().map(|a| a.as_str()));
    }
}

#[tokio::test]
async fn redirects_are_handed_out_and_not_followed() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).connect().await.unwrap();
    let response = get(&channel, "/redirect").await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(server.record().applications(), 1);
}

#[tokio::test]
async fn a_restarted_server_with_new_keys_is_attested_anew_before_the_next_request() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let channel = server
        .builder(&tee)
        .connector(Counted { attempts: Arc::clone(&attempts) })
        .dangerous_trust_attestation_alone()
        .connect()
        .await
        .unwrap();
    let first = get(&channel, "/").await.unwrap();
    let before = VerifiedReport::of(&first).unwrap().keys_digest().to_owned();
    text(first).await;
    let addr = server.server.stop().await;

    let server = Attested::start_at(&tee, addr, Tls::self_signed("localhost").unwrap(), |layer| layer).await;
    let second = loop {
        // The end of the old connection may not have been noticed yet, or a pause may be on.
        match get(&channel, "/").await {
            Ok(response) => break response,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    assert_ne!(VerifiedReport::of(&second).unwrap().keys_digest(), &before);
    assert!(server.record().paths()[0].ends_with("tower-attest"), "{:?}", server.record().paths());
    assert!(attempts.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_server_restarted_with_another_program_gets_nothing() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).dangerous_trust_attestation_alone().connect().await.unwrap();
    text(get(&channel, "/").await.unwrap()).await;
    let addr = server.server.stop().await;
    let other = tee.clone().with_measurement([9; 48]);
    let server = Attested::start_at(&other, addr, Tls::self_signed("localhost").unwrap(), |layer| layer).await;
    let error = loop {
        let error = get(&channel, "/secret").await.map(drop).unwrap_err();
        match tower_attest::tls::ChannelError::of(&*error) {
            Some(error) if error.stage() == Stage::Policy => break error.clone(),
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(server.record().applications(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let path = std::env::temp_dir().join(format!("tower-attest-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = tokio::net::UnixListener::bind(&path).unwrap();
    let addr = server.server.addr;
    tokio::spawn(async move {
        let (mut client, _) = socket.accept().await.unwrap();
        let mut upstream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    });
    let channel = server.builder(&tee).unix_socket(&path).connect().await.unwrap();
    assert_eq!(text(get(&channel, "/").await.unwrap()).await, "ok");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn each_of_several_connections_is_attested_by_itself() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).connections(3).connect().await.unwrap();
    text(get(&channel, "/").await.unwrap()).await;
    until(|| server.record().preflights() == 3).await;
    for _ in 0..60 {
        text(get(&channel, "/").await.unwrap()).await;
    }
    let seen = server.record().requests();
    let used: HashSet<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(used.len(), 3, "all three serve");
    for connection in used {
        let first = seen.iter().find(|seen| seen.connection == connection).unwrap();
        assert!(first.path.ends_with("tower-attest"), "{first:?}");
    }
}

#[tokio::test]
async fn a_replica_with_another_measurement_is_ejected_with_its_reason_and_the_others_serve() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let local = ([127, 0, 0, 1], 0).into();
    let a = Attested::start_at(&tee, local, tls.clone(), |layer| layer).await;
    let b = Attested::start_at(&tee, local, tls.clone(), |layer| layer).await;
    let bad = Attested::start_at(&tee.clone().with_measurement([9; 48]), local, tls.clone(), |layer| layer).await;

    let addresses = [&a, &b, &bad].map(|server| server.server.uri());
    let changes = addresses.clone().into_iter().enumerate().map(|(key, address)| Change::Insert(key, address));
    let builder = AttestedChannel::builder("https://localhost".parse().unwrap(), tee.verifier())
        .roots(crate::support::roots(&tls));
    let channel = AttestedChannel::balance(builder, tokio_stream::iter(changes)).unwrap();
    for _ in 0..100 {
        assert_eq!(text(get(&channel, "/").await.unwrap()).await, "ok");
        if a.record().applications() > 0 && b.record().applications() > 0 && bad.record().preflights() > 0 {
            break;
        }
    }
    assert!(a.record().applications() > 0 && b.record().applications() > 0);
    assert_eq!(bad.record().applications(), 0);
    for endpoint in channel.endpoints() {
        match endpoint.state {
            EndpointState::Attested(report) => {
                assert_ne!(endpoint.address, addresses[2]);
                assert_eq!(report.strength(), Strength::Channel);
            }
            EndpointState::Ejected(error) => {
                assert_eq!(endpoint.address, addresses[2]);
                assert_eq!(error.stage(), Stage::Policy);
            }
            other => panic!("{:?}: {other:?}", endpoint.address),
        }
    }
}

#[tokio::test]
async fn when_every_replica_is_refused_calls_fail_at_once_with_the_reason() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let other = tee.clone().with_measurement([9; 48]);
    let bad = Attested::start_at(&other, ([127, 0, 0, 1], 0).into(), tls.clone(), |layer| layer).await;
    let changes = [Change::Insert(0, bad.server.uri()), Change::Insert(1, bad.server.uri())];
    let builder = AttestedChannel::builder("https://localhost".parse().unwrap(), tee.verifier())
        .roots(crate::support::roots(&tls));
    let channel = AttestedChannel::balance(builder, tokio_stream::iter(changes)).unwrap();
    let error = channel_error(&get(&channel, "/").await.unwrap_err());
    assert_eq!(error.stage(), Stage::Policy);
    assert_eq!(bad.record().applications(), 0);
}

#[tokio::test]
async fn a_body_of_any_kind_goes_through() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).connect().await.unwrap();
    let request = Request::post("/echo").body(String::from("text")).unwrap();
    assert_eq!(text(channel.clone().oneshot(request).await.unwrap()).await, "text");
    let request = Request::post("/echo").body(body("boxed")).unwrap();
    assert_eq!(text(channel.oneshot(request).await.unwrap()).await, "boxed");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    for uri in ["http://localhost", "https://user@localhost", "/path"] {
        let error = AttestedChannel::builder(uri.parse().unwrap(), MockTee::new().verifier()).connect_lazy();
        assert_eq!(error.map(drop).unwrap_err().kind(), ErrorKind::Configuration, "{uri}");
    }
}

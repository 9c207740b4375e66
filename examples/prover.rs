//! The main job: a client sends a secret witness to a delegated prover over gRPC and knows which program answered.
//!
//! Everything runs on loopback with a simulated machine, SEV-SNP or TDX. First a verified call, then each attack by a man
//! in the middle and the reason for which it is refused. Exits with an error if anything turns out otherwise.
//!
//! `cargo run --all-features --example prover [-- --platform snp|tdx]`

#![allow(unreachable_pub)]

#[path = "support/prover.rs"]
mod prover;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/tee.rs"]
mod tee;

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use prover::api::prover_client::ProverClient;
use prover::api::{Proof, ProveRequest};
use relay::Attack;
use tee::Tee;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tower::ServiceBuilder;
use tower_attest::{Attest, AttestError, AttestLayer, Attester, ErrorKind, VerifiedReport};

const NAME: &str = "prover.example";
const PROGRAM: [u8; 48] = [0x11; 48];
const ANOTHER_PROGRAM: [u8; 48] = [0x22; 48];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let tee = Tee::from_arguments(std::env::args().skip(1))?;
    let server = start_server(tee, PROGRAM).await?;
    let twin = start_server(tee, PROGRAM).await?;

    println!("A verified call (gRPC on loopback, simulated {tee})");
    let mut client = connect(server, tee, PROGRAM).await?;
    let (cold, reply) = timed(prove(&mut client)).await;
    show(&reply?);
    let mut warm = Duration::MAX;
    for _ in 0..20 {
        let (took, reply) = timed(prove(&mut client)).await;
        reply?;
        warm = warm.min(took);
    }
    println!("  latency      {cold:.1?} with evidence, then {warm:.1?} with known keys\n");

    println!("Attacks, each refused");
    let through = |attack| relay::start(server, attack);
    let mut failures = 0;
    let mut expect = |attack: &str, outcome: std::result::Result<Response<Proof>, Status>, kind: ErrorKind| {
        let line = match outcome {
            Ok(_) => Err("NOT REFUSED".to_owned()),
            Err(status) => match AttestError::of(&status) {
                Some(error) if error.kind() == kind && status.code() == Code::Unauthenticated => Ok(error.to_string()),
                _ => Err(format!("refused for another reason: {status}")),
            },
        };
        failures += usize::from(line.is_err());
        println!("  {attack:<28} {}", shortened(line.unwrap_or_else(|wrong| format!("FAILED: {wrong}"))));
    };

    let mut client = connect(through(Attack::Strip).await?, tee, PROGRAM).await?;
    expect("report stripped", prove(&mut client).await, ErrorKind::NoReport { status: 200 });

    let mut client = connect(through(Attack::Replay).await?, tee, PROGRAM).await?;
    prove(&mut client).await?;
    expect("report replayed", prove(&mut client).await, ErrorKind::BadSignature);

    let mut client = connect(through(Attack::KeysOfAnotherServer(twin)).await?, tee, PROGRAM).await?;
    expect("keys of another server", prove(&mut client).await, ErrorKind::UnknownKeys);

    let mut client = connect(server, tee, ANOTHER_PROGRAM).await?;
    expect("wrong measurement", prove(&mut client).await, ErrorKind::Refused);

    let mut client = connect(through(Attack::AnotherNonce).await?, tee, PROGRAM).await?;
    expect("a report for another nonce", prove(&mut client).await, ErrorKind::Stale);

    println!("\nWhat Presence does not cover");
    let forged = Proof { bytes: b"a proof of the relay's own".to_vec() };
    let mut client = connect(through(Attack::SwapBody(grpc_frame(&forged))).await?, tee, PROGRAM).await?;
    let swapped = prove(&mut client).await?;
    let who = VerifiedReport::of(&swapped).ok_or("no verified report")?;
    if swapped.get_ref() != &forged || who.response_intact() {
        return Err("the swapped body was expected to arrive, with response_intact() false".into());
    }
    println!("  a body swapped by a relay is *not detected* at {}: use an attested channel", who.strength());

    if failures > 0 { Err(format!("{failures} attacks were not refused as expected").into()) } else { Ok(()) }
}

async fn start_server(tee: Tee, measurement: [u8; 48]) -> Result<SocketAddr> {
    let attester = Attester::builder(tee.provider(measurement)).name(NAME).start().await?;
    Ok(prover::serve(attester).await?)
}

async fn connect(to: SocketAddr, tee: Tee, measurement: [u8; 48]) -> Result<ProverClient<Attest<Channel>>> {
    let channel = Endpoint::new(format!("http://{to}"))?.connect().await?;
    let layer = AttestLayer::new(tee.verifier(measurement)).accept_presence().name(NAME);
    Ok(ProverClient::new(ServiceBuilder::new().layer(layer).service(channel)))
}

async fn prove(client: &mut ProverClient<Attest<Channel>>) -> std::result::Result<Response<Proof>, Status> {
    client.prove(ProveRequest { program: b"fibonacci".to_vec(), witness: b"a secret witness".to_vec() }).await
}

async fn timed<T>(future: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let output = future.await;
    (start.elapsed(), output)
}

fn show(reply: &Response<Proof>) {
    let Some(who) = VerifiedReport::of(reply) else { return };
    println!("  proof        {}", hex::encode(&reply.get_ref().bytes));
    println!("  measurement  {} ({})", hex::encode(who.measurement()), who.measurement_name().unwrap_or("unnamed"));
    for fact in ["product", "fmspc", "tcb", "chip"] {
        if let Some(value) = who.fact(fact) {
            println!("  {fact:<12} {value}");
        }
    }
    println!("  strength     {} (the request was secret: {})", who.strength(), who.secret_before_send());
}

/// The start of a reason: whole ones name expected and found, which can be long.
fn shortened(reason: String) -> String {
    match reason.char_indices().nth(110) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason,
    }
}

fn grpc_frame(message: &impl Message) -> Bytes {
    let payload = message.encode_to_vec();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &payload].concat().into()
}

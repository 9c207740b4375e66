//! What each way costs: real proofs for the time of a call, and for the share of attestation the same call of the same
//! size, which the prover refuses before it proves anything.

use std::time::{Duration, Instant};

use attested_prover::{ProofRequest, ProofType};
use tonic::Code;
use tower_attest::Mode;

use crate::setup::{MEASUREMENT, Setup};
use crate::ways::{self, Found, Way};
use wallet::Result;
use wallet::Wallet;

/// Calls of each way for its median, taken in turn with the plain one.
const CALLS: usize = 60;
/// First calls of each way for their median.
const FIRST_CALLS: usize = 9;

/// One line of the table.
pub struct Row {
    pub way: &'static str,
    pub verdict: String,
    pub strength: String,
    /// Median of real proving calls.
    pub proving: Duration,
    /// What a warm call takes longer than without attestation, in seconds.
    pub warm: Option<f64>,
    /// What the first call of a new client takes longer, connection included.
    pub cold: Option<f64>,
}

/// The ways in the order of the table; the first is what the others are compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Tls,
    Presence,
    Channel,
    Sealed,
    Sidecars,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Plain, Self::Tls, Self::Presence, Self::Channel, Self::Sealed, Self::Sidecars];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "published client and prover, plaintext",
            Self::Tls => "tonic's channel to `serve`: TLS, nothing asked",
            Self::Presence => "`AttestLayer` over tonic's channel",
            Self::Channel => "`AttestedChannel`",
            Self::Sealed => "`SealLayer` over tonic's channel",
            Self::Sidecars => "published client, `connect` and `serve`",
        }
    }

    async fn make(self, setup: &Setup) -> Result<Way> {
        let port = setup.server.address.port();
        match self {
            Self::Plain => ways::plain(&setup.prover).await,
            Self::Tls => ways::unasked(setup).await,
            Self::Presence => ways::presence(setup, port, MEASUREMENT, Mode::Required).await,
            Self::Channel => ways::channel(setup, port, MEASUREMENT),
            Self::Sealed => ways::sealed(setup, port, MEASUREMENT).await,
            Self::Sidecars => ways::sidecar(&setup.sidecar).await,
        }
    }
}

/// Proves `proofs` times each way, and measures.
pub async fn all_ways(setup: &Setup, wallet: &Wallet, proofs: usize) -> Result<Vec<Row>> {
    let request = misdirected(wallet.witness());
    let mut made = Vec::new();
    for kind in Kind::ALL {
        made.push((kind, kind.make(setup).await?));
    }
    let proving = proving_times(wallet, &made, proofs).await?;
    let warm = in_turn(&made, CALLS, async |(_, way)| refused_call(way, &request).await).await?;
    let cold = in_turn(&made, FIRST_CALLS, async |(kind, _)| first_call(*kind, setup, &request).await).await?;
    let rows = made.iter().enumerate().map(|(at, (kind, way))| Row {
        way: kind.name(),
        verdict: way.verdict(),
        strength: match way.found() {
            Found::Verified(strength) => strength.to_string(),
            _ => "–".to_owned(),
        },
        proving: median(proving.iter().map(|round| round[at])),
        warm: (at > 0).then(|| difference(&warm, at)),
        cold: (at > 0).then(|| difference(&cold, at)),
    });
    Ok(rows.collect())
}

/// A prover of transactions refuses a batch once it has read it: all of the way, and no proving.
pub fn misdirected(payload: Vec<u8>) -> ProofRequest {
    ProofRequest { proof_type: ProofType::Batch.into(), payload }
}

async fn proving_times(wallet: &Wallet, ways: &[(Kind, Way)], proofs: usize) -> Result<Vec<Vec<Duration>>> {
    in_turn(ways, proofs, async |(_, way)| {
        let start = Instant::now();
        let proven = wallet.prove_unverified(way.prover.clone()).await?;
        let took = start.elapsed();
        wallet.verify(&proven)?;
        Ok(took)
    })
    .await
}

/// `rounds` times one of each.
async fn in_turn<T>(
    ways: &[T],
    rounds: usize,
    mut measure: impl AsyncFnMut(&T) -> Result<Duration>,
) -> Result<Vec<Vec<Duration>>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut round = Vec::with_capacity(ways.len());
        for way in ways {
            round.push(measure(way).await?);
        }
        times.push(round);
    }
    Ok(times)
}

async fn refused_call(way: &Way, request: &ProofRequest) -> Result<Duration> {
    let start = Instant::now();
    match way.call.call(request.clone()).await {
        Err(status) if status.code() == Code::InvalidArgument => Ok(start.elapsed()),
        Err(status) => Err(status.into()),
        Ok(()) => Err("the prover of transactions proved a batch".into()),
    }
}

/// The first call of a client that has just been made, its connection included. `connect` attests when it starts, which
/// is not counted.
async fn first_call(kind: Kind, setup: &Setup, request: &ProofRequest) -> Result<Duration> {
    let sidecar = if kind == Kind::Sidecars { Some(setup.start_sidecar().await?) } else { None };
    let start = Instant::now();
    let way = match &sidecar {
        Some(sidecar) => ways::sidecar(sidecar).await?,
        None => kind.make(setup).await?,
    };
    refused_call(&way, request).await?;
    Ok(start.elapsed())
}

/// The median of what way `at` took longer than the first one in the same round, in seconds.
fn difference(rounds: &[Vec<Duration>], at: usize) -> f64 {
    let mut more: Vec<_> = rounds.iter().map(|round| round[at].as_secs_f64() - round[0].as_secs_f64()).collect();
    more.sort_by(f64::total_cmp);
    more[more.len() / 2]
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

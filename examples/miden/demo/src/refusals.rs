//! Each attack and each fault, by each way: what happens, and whether it is what should.

use std::net::SocketAddr;

use tonic::Code;
use tower_attest::{AttestError, ErrorKind, Mode, Strength};

use crate::measure::misdirected;
use crate::processes::Process;
use crate::relay::{Read, Relay, Strip};
use crate::setup::{ANOTHER_MEASUREMENT, MEASUREMENT, Setup};
use crate::ways::{self, Found, Way};
use wallet::Wallet;
use wallet::{Result, chain};

/// One line of the table.
pub struct Outcome {
    pub attack: &'static str,
    pub way: &'static str,
    pub outcome: String,
    pub read: Option<Read>,
    pub expected: bool,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Refused(ErrorKind),
    /// Refused by a sidecar: the published client sees gRPC's status alone.
    RefusedBeside(Code),
    Passes(Found),
    Fails,
}

/// What a relay is expected to have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Ciphertext,
    Witness,
}

const PRESENCE: &str = "`AttestLayer`";
const OPTIONAL: &str = "`AttestLayer`, `Optional`";
const OBSERVE: &str = "`AttestLayer`, `Observe`";
const CHANNEL: &str = "`AttestedChannel`";
const SEALED: &str = "`SealLayer`";
const SIDECARS: &str = "`connect` beside the published client";
const SEALING: &str = "`connect --sealed` beside it";

/// What is expected where TLS ends before the TEE.
const TLS_ENDS_BEFORE: [(&str, End, Expected); 5] = [
    (PRESENCE, End::Passes(Found::Verified(Strength::Presence)), Expected::Witness),
    (CHANNEL, End::Refused(ErrorKind::Stale), Expected::Nothing),
    (SEALED, End::Passes(Found::Verified(Strength::Sealed)), Expected::Ciphertext),
    (SIDECARS, End::RefusedBeside(Code::Unauthenticated), Expected::Nothing),
    (SEALING, End::Passes(Found::Verified(Strength::Sealed)), Expected::Ciphertext),
];

pub async fn all(setup: &Setup, wallet: &Wallet) -> Result<Vec<Outcome>> {
    let mut attacks = Attacks { setup, wallet, outcomes: Vec::new() };
    attacks.reports_stripped().await?;
    attacks.another_program().await?;
    attacks.man_in_the_middle().await?;
    attacks.no_attestation().await?;
    Ok(attacks.outcomes)
}

struct Attacks<'a> {
    setup: &'a Setup,
    wallet: &'a Wallet,
    outcomes: Vec<Outcome>,
}

impl Attacks<'_> {
    async fn reports_stripped(&mut self) -> Result<()> {
        let attack = "a relay strips all reports";
        let workers = [("worker-1", self.setup.server.address)];
        let end = End::Refused(ErrorKind::NoReport { status: 200 });
        for (way, end) in
            [(PRESENCE, end), (CHANNEL, end), (SEALED, end), (SIDECARS, End::RefusedBeside(Code::Unauthenticated))]
        {
            self.behind(attack, way, &workers, Strip::Everything, end, Expected::Nothing).await?;
        }
        let attack = "it strips those of answers alone";
        self.behind(attack, PRESENCE, &workers, Strip::Answers, end, Expected::Witness).await?;
        self.behind(attack, SEALED, &workers, Strip::Answers, end, Expected::Ciphertext).await
    }

    /// The relay has the server's own key: TLS is content, and only evidence that is bound to the channel gives it away.
    async fn man_in_the_middle(&mut self) -> Result<()> {
        let attack = "a relay with the server's TLS key reads along";
        let workers = [("worker-1", self.setup.server.address)];
        for (way, end, read) in TLS_ENDS_BEFORE {
            self.behind(attack, way, &workers, Strip::Nothing, end, read).await?;
        }
        // Strictly in turn: whenever an answer by the second worker makes the layer ask who that is, the first one answers.
        let attack = "a balancer ends TLS before two workers";
        let workers = [workers[0], ("worker-2", self.setup.worker.address)];
        for (way, end, read) in TLS_ENDS_BEFORE {
            let end = if way == PRESENCE { End::Refused(ErrorKind::UnknownKeys) } else { end };
            self.behind(attack, way, &workers, Strip::Nothing, end, read).await?;
        }
        Ok(())
    }

    async fn another_program(&mut self) -> Result<()> {
        let attack = "another program runs (its measurement)";
        let port = self.setup.server.address.port();
        let refused = End::Refused(ErrorKind::Refused);
        for (name, end) in [
            (PRESENCE, refused),
            (OPTIONAL, refused),
            (OBSERVE, End::Passes(Found::Undecided)),
            (CHANNEL, refused),
            (SEALED, refused),
            (SIDECARS, End::RefusedBeside(Code::Unauthenticated)),
        ] {
            let (way, _sidecar) = self.way(name, port, ANOTHER_MEASUREMENT).await?;
            self.attempt(attack, name, &way, end, None).await;
        }
        Ok(())
    }

    /// Miden's prover as it is, without `serve`: what a wallet meets in the three phases of a migration.
    async fn no_attestation(&mut self) -> Result<()> {
        let attack = "a prover that does not attest";
        let (prover, port) = (&self.setup.prover, self.setup.prover.address.port());
        let no_report = End::Refused(ErrorKind::NoReport { status: 200 });
        for (name, mode, end) in [
            (PRESENCE, Mode::Required, no_report),
            (OPTIONAL, Mode::Optional, End::Passes(Found::Missing)),
            (OBSERVE, Mode::Observe, End::Passes(Found::Missing)),
        ] {
            let way = ways::presence_in_plaintext(prover, mode).await?;
            self.attempt(attack, name, &way, end, None).await;
        }
        let way = ways::channel(self.setup, port, MEASUREMENT)?;
        self.attempt(attack, CHANNEL, &way, End::Refused(ErrorKind::Transport), None).await;
        let way = ways::sealed_in_plaintext(prover).await?;
        self.attempt(attack, SEALED, &way, no_report, None).await;
        let (way, _sidecar) = self.way(SIDECARS, port, MEASUREMENT).await?;
        self.attempt(attack, SIDECARS, &way, End::RefusedBeside(Code::Unavailable), None).await;
        Ok(())
    }

    async fn behind(
        &mut self,
        attack: &'static str,
        name: &'static str,
        workers: &[(&'static str, SocketAddr)],
        strip: Strip,
        end: End,
        read: Expected,
    ) -> Result<()> {
        let relay = Relay::start(self.setup, workers, strip).await?;
        let (way, _sidecar) = self.way(name, relay.address.port(), MEASUREMENT).await?;
        self.attempt(attack, name, &way, end, Some((&relay, read))).await;
        Ok(())
    }

    /// The way of that name to a port of loopback, and the sidecar that it needs.
    async fn way(&self, name: &str, port: u16, measurement: [u8; 48]) -> Result<(Way, Option<Process>)> {
        let setup = self.setup;
        let way = match name {
            PRESENCE => ways::presence(setup, port, measurement, Mode::Required).await?,
            OPTIONAL => ways::presence(setup, port, measurement, Mode::Optional).await?,
            OBSERVE => ways::presence(setup, port, measurement, Mode::Observe).await?,
            CHANNEL => ways::channel(setup, port, measurement)?,
            SEALED => ways::sealed(setup, port, measurement).await?,
            _ => {
                let flags: &[&str] = if name == SEALING { &["--sealed"] } else { &[] };
                let sidecar = setup.start_sidecar_to(port, measurement, flags).await?;
                return Ok((ways::sidecar(&sidecar).await?, Some(sidecar)));
            }
        };
        Ok((way, None))
    }

    async fn attempt(
        &mut self,
        attack: &'static str,
        name: &'static str,
        way: &Way,
        expected: End,
        relay: Option<(&Relay, Expected)>,
    ) {
        let proved = self.wallet.prove(way.prover.clone()).await;
        if proved.is_ok() && way.found() == Found::Nothing {
            // The published client hands out no fields of responses: one more call of the same way tells them.
            let _ = way.call.call(misdirected(Vec::new())).await;
        }
        let (end, outcome) = match proved {
            Ok(_) => (End::Passes(way.found()), format!("passes: {}", passed(way))),
            Err(error) => (refusal(&*error), format!("refused: {}", reason(&*error))),
        };
        let read = relay.map(|(relay, _)| relay.read(&secret(self.wallet)));
        let as_read = match (read, relay.map(|(_, expected)| expected)) {
            (Some(Read::Nothing), Some(Expected::Nothing))
            | (Some(Read::Ciphertext(_)), Some(Expected::Ciphertext))
            | (Some(Read::Witness), Some(Expected::Witness))
            | (None, None) => true,
            _ => false,
        };
        self.outcomes.push(Outcome { attack, way: name, outcome, read, expected: end == expected && as_read });
    }
}

fn passed(way: &Way) -> String {
    let found = match way.found() {
        Found::Verified(strength) => format!("`{strength}`"),
        Found::Missing => "`Observation::Missing`".to_owned(),
        Found::Bad(_) => "`Observation::Refused`".to_owned(),
        Found::Undecided => "`Observation::Undecided`".to_owned(),
        Found::Nothing => "nothing is known".to_owned(),
    };
    way.doubt().map_or(found.clone(), |error| format!("{found}, {error}"))
}

fn refusal(error: &(dyn std::error::Error + 'static)) -> End {
    match (AttestError::of(error), status(error)) {
        (Some(error), _) => End::Refused(error.kind()),
        (None, Some(status)) => End::RefusedBeside(status.code()),
        (None, None) => End::Fails,
    }
}

/// What of an error's chain tells a reader the most.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    match (AttestError::of(error), status(error)) {
        (Some(error), _) if error.kind() == ErrorKind::Refused => error.to_string(),
        (Some(error), _) => error.kind().to_string(),
        (None, Some(status)) => format!("{:?}: {}", status.code(), status.message()),
        (None, None) => chain(error),
    }
}

fn status<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a tonic::Status> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Some of the witness, from its middle.
fn secret(wallet: &Wallet) -> Vec<u8> {
    let witness = wallet.witness();
    witness.iter().skip(witness.len() / 2).take(64).copied().collect()
}

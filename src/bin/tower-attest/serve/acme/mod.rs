//! `--tls acme`: a certificate from a CA (RFC 8555), whose key is made here, renewed while the server serves.
//!
//! Until the CA has answered for the first time, and where its certificate cannot be used, a self-signed one serves: clients that
//! rely on the evidence alone need no other, and TLS-ALPN-01 needs a listener. Evidence is bound to a connection's exporter and
//! to no certificate, so that neither the first issue nor a renewal is a change for attested clients.

mod ca;
mod challenges;
mod error;
mod flags;
mod issued;
mod order;
mod schedule;
mod state;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tower_attest::tls::{CertificateSlot, Tls};

use self::ca::CaClient;
pub(crate) use self::challenges::Challenges;
use self::error::AttemptError;
pub(crate) use self::flags::AcmeFlags;
use self::issued::{Issued, identifier};
use self::order::Orders;
use self::schedule::{Backoff, Schedule, Step, random_fraction};
use self::state::StateDir;
pub(crate) use self::status::AcmeStatus;
use crate::failure::Failure;

/// A certificate that renews itself once [`run`](Self::run) runs.
pub(crate) struct Acme {
    orders: Orders,
    slot: CertificateSlot,
    status: Arc<AcmeStatus>,
    current: Option<Current>,
    retry: Arc<Notify>,
}

/// The CA's certificate that is served.
struct Current {
    issued: Issued,
    schedule: Schedule,
}

impl Acme {
    /// Reads the files that the flags name. The state directory need not be there yet.
    pub(crate) fn check(flags: AcmeFlags) -> Result<(), Failure> {
        let settings = flags.open()?;
        if settings.state_dir.exists() { state::private(&settings.state_dir) } else { Ok(()) }
    }

    /// Reads what is kept. Nothing is asked of the CA yet, so that its absence delays no start.
    pub(crate) fn open(flags: AcmeFlags, names: &[String]) -> Result<Self, Failure> {
        let settings = flags.open()?;
        let state = StateDir::open(&settings.state_dir, &settings.directory)?;
        let orders = Orders {
            ca: CaClient::new(settings.https.clone()),
            names: names.iter().map(|name| identifier(name)).collect(),
            challenges: Challenges::default(),
            settings,
            state,
        };
        let kept = orders.kept().map_err(|error| Failure::during("--state-dir", &error))?;
        let (chain, key) = match &kept {
            Some(issued) => issued.chain_and_key(),
            None => self_signed(names)?,
        };
        let slot = CertificateSlot::new(chain, key).map_err(|error| Failure::during("TLS", &error))?;
        let mut acme = Self { orders, slot, status: Arc::default(), current: None, retry: Arc::default() };
        if let Some(issued) = kept {
            acme.hold(issued, None);
        }
        Ok(acme)
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::replaceable(&self.slot).acme_challenges(Arc::new(self.challenges()))
    }

    /// What port 80 answers to the CA.
    pub(crate) fn challenges(&self) -> Challenges {
        self.orders.challenges.clone()
    }

    pub(crate) fn status(&self) -> Arc<AcmeStatus> {
        Arc::clone(&self.status)
    }

    /// Ends the pause after a failure, for whoever has mended its cause.
    pub(crate) fn retry(&self) -> Arc<Notify> {
        Arc::clone(&self.retry)
    }

    /// The CA's host, for people.
    pub(crate) fn ca(&self) -> &str {
        self.orders.settings.directory.host().unwrap_or_default()
    }

    /// Orders and renews until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let step =
                self.current.as_ref().map_or(Step::Order, |current| current.step(&self.orders, SystemTime::now()));
            match step {
                Step::Wait(time) => self.pause(time).await,
                Step::Ask => self.ask().await,
                Step::Order => match self.order().await {
                    Ok(()) => backoff.reset(),
                    Err(error) => {
                        let told = self.orders.ca.take_come_again();
                        let told = told.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
                        let pause = backoff.next(error.cause(), random_fraction(), told);
                        self.failed(&error, pause);
                        self.pause(pause).await;
                    }
                },
            }
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.retry.notified() => {}
        }
    }

    async fn order(&mut self) -> Result<(), AttemptError> {
        let replaces = self.current.as_ref().and_then(|current| current.issued.identifier());
        let issued = self.orders.attempt(replaces).await?;
        if let Err(error) = self.orders.state.keep_certificate(&issued) {
            // It serves all the same. The next start orders another.
            tracing::error!(%error, "acme: the new certificate cannot be kept in --state-dir");
        }
        let (chain, key) = issued.chain_and_key();
        self.slot.replace(chain, key).map_err(issued::NotUsable::from)?;
        tracing::info!(
            not_after = %humantime::format_rfc3339_seconds(issued.not_after()),
            "acme: a new certificate serves"
        );
        self.hold(issued, Some(SystemTime::now()));
        self.status.issued();
        Ok(())
    }

    fn hold(&mut self, issued: Issued, since: Option<SystemTime>) {
        let complete = issued.lacks(&self.orders.names).is_none();
        self.status.serves(issued.not_before(), issued.not_after(), complete);
        let schedule = Schedule::new(issued.not_before(), issued.not_after(), since);
        self.current = Some(Current { issued, schedule });
    }

    /// Renewal information (RFC 9773). A CA that has none is asked again in a day.
    async fn ask(&mut self) {
        let Some(current) = &mut self.current else { return };
        let asked = async {
            let account = self.orders.account().await?;
            let Some(identifier) = current.issued.identifier() else { return Ok(None) };
            match account.renewal_info(&identifier).await {
                Ok((info, again)) => Ok(Some((info.suggested_window, again))),
                Err(instant_acme::Error::Unsupported(_)) => Ok(None),
                Err(error) => Err(AttemptError::during("renewal information")(error)),
            }
        };
        let answer = asked.await;
        let now = SystemTime::now();
        match answer {
            Ok(Some((window, again))) => {
                let window = SystemTime::from(window.start)..SystemTime::from(window.end);
                current.schedule.suggest(window, random_fraction(), again, now);
            }
            Ok(None) => current.schedule.ask_again(schedule::RARELY, now),
            Err(error) => {
                tracing::debug!(%error, "acme: no renewal information");
                current.schedule.ask_again(schedule::OFTEN, now);
            }
        }
    }

    fn failed(&self, error: &AttemptError, pause: Duration) {
        self.status.failed();
        let pause = humantime::format_duration(Duration::from_secs(pause.as_secs().max(1)));
        match self.current.as_ref().map(|current| current.issued.not_after()) {
            Some(end) if end > SystemTime::now() => tracing::warn!(
                %error, next_attempt_in = %pause, not_after = %humantime::format_rfc3339_seconds(end),
                "acme: no new certificate; the old one serves on"
            ),
            Some(_) => {
                tracing::error!(%error, next_attempt_in = %pause, "acme: no new certificate; the one that serves has expired")
            }
            None => {
                tracing::error!(%error, next_attempt_in = %pause, "acme: no certificate yet; a self-signed one serves")
            }
        }
    }
}

impl Current {
    fn step(&self, orders: &Orders, now: SystemTime) -> Step {
        if self.issued.lacks(&orders.names).is_some() { Step::Order } else { self.schedule.step(now) }
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("ca", &self.ca()).field("status", &self.status).finish_non_exhaustive()
    }
}

type ChainAndKey = (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

/// What serves until the CA has answered.
fn self_signed(names: &[String]) -> Result<ChainAndKey, Failure> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| Failure::during("TLS", &error))?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

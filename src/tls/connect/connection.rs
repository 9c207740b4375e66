//! An attested connection: takes requests for as long as its evidence holds, and renews that while it serves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, Uri};
use tower_service::Service;

use super::attest::{Attested, attest};
use super::body::ChannelBody;
use super::error::{ChannelError, Stage};
use super::observe::Attestation;
use super::sender::{RequestBody, Sender};
use super::settings::Settings;
use super::status::Report;
use super::task::Task;
use crate::client::transport::{AttestedTransport, CloseConnection};
use crate::error::BoxError;
use crate::protocol::ChannelBinding;

/// Marks a request that asks whether the connection may take one, and is not sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe;

/// A connection whose far end has been verified. Only [`establish`](super::establish::establish) makes one.
#[derive(Debug)]
pub(super) struct Connection {
    settings: Arc<Settings>,
    address: Uri,
    /// `None` while a renewal on HTTP/1.1, which cannot share the connection, has it.
    sender: Option<Sender>,
    binding: ChannelBinding,
    attested: Attested,
    /// No request has started on this evidence yet.
    fresh: bool,
    renewal: Option<Task<Renewed>>,
    /// When the next renewal may start, after one that failed.
    not_before: Duration,
    closer: CloseConnection,
    /// Set once it has been handed a request.
    served: Arc<AtomicBool>,
    /// Where it says what it was attested with last.
    status: Option<Arc<Report>>,
}

impl Connection {
    pub(super) fn new(
        settings: Arc<Settings>,
        address: Uri,
        sender: Sender,
        binding: ChannelBinding,
        attested: Attested,
        closer: CloseConnection,
        served: Arc<AtomicBool>,
    ) -> Self {
        Self {
            settings,
            address,
            sender: Some(sender),
            binding,
            attested,
            fresh: true,
            renewal: None,
            not_before: Duration::ZERO,
            closer,
            served,
            status: None,
        }
    }

    /// Says from now on, in the channel's status, what it was attested with.
    pub(super) fn reporting(mut self, status: &Arc<Report>) -> Self {
        status.attested(self.attested.report.clone());
        self.status = Some(Arc::clone(status));
        self
    }

    pub(super) fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Takes in what a renewal brought, and starts one where that is due. Ready once requests may start.
    fn poll_trust(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        loop {
            if let Some(renewal) = &mut self.renewal
                && let Poll::Ready(renewed) = Pin::new(renewal).poll(cx)
            {
                self.renewal = None;
                self.take_in(renewed.map_err(ended)?)?;
            }
            let now = self.settings.clock.now();
            let allows_one = self.fresh && self.attested.allows_one(&self.settings, now);
            let holds = allows_one || self.attested.holds(&self.settings, now);
            let due = !allows_one && self.attested.is_due(&self.settings, now) && now.monotonic >= self.not_before;
            if self.renewal.is_none() && (!holds || due) {
                if let Some(sender) = &mut self.sender {
                    ready!(sender.poll_ready(cx)).map_err(closed)?;
                }
                self.start_renewal();
                continue;
            }
            return if holds && self.sender.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    fn start_renewal(&mut self) {
        let shared = self.sender.as_ref().and_then(Sender::try_clone);
        let Some(mut sender) = shared.or_else(|| self.sender.take()) else { return };
        let (settings, address) = (Arc::clone(&self.settings), self.address.clone());
        let (binding, closer) = (self.binding, self.closer.clone());
        self.renewal = Some(Task::spawn(async move {
            let started = settings.clock.now().monotonic;
            let outcome = attest(&settings, &mut sender, binding).await;
            settings.observer.tell(&Attestation {
                address,
                renewal: true,
                took: settings.clock.now().monotonic.saturating_sub(started),
                outcome: outcome.as_ref().map(|attested| attested.report.clone()).map_err(Clone::clone),
            });
            if let Err(error) = &outcome {
                tracing::warn!(name: "attest.renewal_failed", target: "tower_attest::tls", %error, "evidence not renewed");
                if error.is_refusal() {
                    closer.close();
                }
            }
            Renewed { sender, outcome }
        }));
    }

    /// A refusal ends the connection. What may pass by itself leaves it in use for as long as the old evidence holds.
    fn take_in(&mut self, renewed: Renewed) -> Result<(), ChannelError> {
        if self.sender.is_none() {
            self.sender = Some(renewed.sender);
        }
        match renewed.outcome {
            Ok(attested) => {
                if let Some(status) = &self.status {
                    status.attested(attested.report.clone());
                }
                self.attested = attested;
                self.fresh = true;
                Ok(())
            }
            Err(error) => {
                let now = self.settings.clock.now();
                if error.is_refusal() || !self.attested.holds(&self.settings, now) {
                    return Err(error);
                }
                let lifetime = self.attested.keys.lifetime(self.settings.max_evidence_age);
                self.not_before = now.monotonic.saturating_add(lifetime / 8);
                Ok(())
            }
        }
    }
}

impl Service<Request<RequestBody>> for Connection {
    type Response = Response<ChannelBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ChannelBody>, BoxError>> + Send>>;

    /// Fails once the connection takes no more requests: it is closed, or its far end is no longer believed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_trust(cx)).inspect_err(|error| {
            tracing::info!(name: "attest.connection_given_up", target: "tower_attest::tls", %error, "connection given up");
        })?;
        match &mut self.sender {
            Some(sender) => sender.poll_ready(cx).map_err(Into::into),
            None => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let Some(sender) = &mut self.sender else {
            let error = "expected a service that was polled ready, found one that was not";
            return Box::pin(async move { Err(error.into()) });
        };
        self.fresh = false;
        let report = self.attested.report.at(self.settings.clock.now());
        if request.extensions().get::<Probe>().is_some() {
            let mut response = Response::new(ChannelBody::default());
            response.extensions_mut().insert(report);
            return Box::pin(async move { Ok(response) });
        }
        self.served.store(true, Ordering::Relaxed);
        let transport = AttestedTransport::new(self.binding);
        let sent = sender.send(request, &self.settings.authority);
        Box::pin(async move {
            let mut response = sent.await?;
            response.extensions_mut().insert(report);
            response.extensions_mut().insert(transport);
            Ok(response.map(ChannelBody::new))
        })
    }
}

fn closed(error: hyper::Error) -> ChannelError {
    ChannelError::io(Stage::Http, "the connection was closed", error)
}

fn ended(error: tokio::task::JoinError) -> ChannelError {
    ChannelError::io(Stage::Evidence, "the renewal of the evidence did not end", error)
}

/// What a renewal gives back.
#[derive(Debug)]
struct Renewed {
    sender: Sender,
    outcome: Result<Attested, ChannelError>,
}

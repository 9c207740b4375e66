//! A request on the way into its seal.

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request};
use http_body::Body;

use super::body::{CarrierBody, CarrierRequestBody};
use super::repeat::Repeatable;
use crate::client::endpoint::Endpoint;
use crate::client::exchange::{Exchange, VerifiedKeys};
use crate::client::service::draw_nonce;
use crate::client::trust::Plan;
use crate::error::{AttestError, ErrorKind};
use crate::protocol::{ATTESTATION_KEYS, ATTESTATION_NONCE, ATTESTATION_ROUTE, KeysHeader};
use crate::seal::config::KeyConfig;
use crate::seal::error::SealError;
use crate::seal::framing::{ResponseKey, Sealer};
use crate::seal::message::{SealBody, request_head};
use crate::time::Now;

/// What it takes to seal a request: once, and again if it may be repeated.
pub(super) struct Unsent<B> {
    pub(super) endpoint: Endpoint,
    head: Bytes,
    body: Option<B>,
    extensions: Extensions,
    again: Option<Repeatable<B>>,
}

/// What is kept of a request that has left.
pub(super) struct Sent {
    pub(super) exchange: Exchange,
    pub(super) plan: Plan,
    pub(super) bind: bool,
    /// Those that it is sealed to.
    pub(super) keys: Arc<VerifiedKeys>,
    pub(super) response_key: ResponseKey,
}

impl<B: Body + Default + 'static> Unsent<B> {
    pub(super) fn new(request: Request<B>) -> Result<Self, (Endpoint, AttestError)> {
        let endpoint = Endpoint::of(&request);
        let (parts, body) = request.into_parts();
        match request_head(&parts) {
            Ok(head) => {
                let again = Repeatable::of(&parts, &body);
                Ok(Self { endpoint, head, body: Some(body), extensions: parts.extensions, again })
            }
            Err(error) => Err((endpoint, cannot_seal(error))),
        }
    }

    /// Whether it can be sealed once more.
    pub(super) fn is_repeatable(&self) -> bool {
        self.body.is_some() || self.again.is_some()
    }

    /// Seals it to `keys`, and draws the nonce.
    pub(super) fn seal<C: CarrierBody<B>>(
        &mut self,
        plan: Plan,
        keys: Arc<VerifiedKeys>,
        now: Now,
    ) -> Result<(Sent, Request<C>), AttestError> {
        let fields = keys.document().fields();
        let config = fields.seal.as_ref().ok_or_else(no_key)?;
        let (sealer, response_key) =
            KeyConfig::try_from(config).and_then(|config| Sealer::request(&config)).map_err(cannot_seal)?;
        let body = self.body.take().or_else(|| self.again.as_ref().map(Repeatable::body)).ok_or_else(only_once)?;
        let body = C::carrying(CarrierRequestBody::new(SealBody::new(sealer, self.head.clone(), body)));

        let (exchange, mut request) = self.endpoint.carry(draw_nonce(), now, body)?;
        // The answer is to be signed by these keys. Left out, its evidence renews them.
        let have = plan.have.iter().filter(|digest| *digest == keys.digest()).copied().collect();
        let bind = plan.attested;
        let headers = request.headers_mut();
        headers.insert(ATTESTATION_NONCE, exchange.nonce_header(have, bind));
        headers.insert(ATTESTATION_KEYS, KeysHeader { keys: *keys.digest() }.to_value());
        if let Some(route) = fields.route.as_deref().and_then(|route| HeaderValue::from_str(route).ok()) {
            headers.insert(ATTESTATION_ROUTE, route);
        }
        *request.extensions_mut() = match &self.again {
            Some(_) => self.extensions.clone(),
            None => std::mem::take(&mut self.extensions),
        };
        Ok((Sent { exchange, plan, bind, keys, response_key }, request))
    }
}

pub(super) fn no_key() -> AttestError {
    AttestError::new(
        ErrorKind::Configuration,
        "expected a member `seal` in the server's key document, found none that this version can seal to: build the \
         server's attester with .seal() and put UnsealLayer inside its ReportLayer",
    )
}

fn only_once() -> AttestError {
    AttestError::new(
        ErrorKind::UnknownKeys,
        "expected a request that may be sent again, found one that has been sent: retry",
    )
}

fn cannot_seal(error: SealError) -> AttestError {
    AttestError::new(ErrorKind::Configuration, format!("expected a request that can be sealed: {error}"))
}

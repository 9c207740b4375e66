//! The one code path from bytes to verdicts, sans-IO: no async, no clock, no randomness, no tower.
//!
//! A shell (a layer, a channel, a command) draws a nonce, sends it, and hands what came back to an [`Exchange`]:
//!
//! 1. [`judge_head`](Exchange::judge_head): exactly one well-formed `Attestation-Report`.
//! 2. [`judge_evidence`](Exchange::judge_evidence), if there is evidence: everything up to the hardware's report. The
//!    shell lets a [`ReportVerifier`](crate::ReportVerifier) judge that, and [`Pending::finish`] compares REPORTDATA. Only there do
//!    [`VerifiedKeys`] come into being.
//! 3. [`judge_signature`](Exchange::judge_signature): the response is signed by those keys over the client's own view.
//!    Only there does a [`VerifiedReport`] come into being.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use subtle::ConstantTimeEq;

use super::verified::{Strength, VerifiedReport};
use crate::crypto;
use crate::error::{AttestError, ErrorKind};
use crate::protocol::{
    ChannelBinding, Evidence, EvidenceStatement, KeyDocument, KeysDigest, Nonce, NonceHeader, ReportHeader,
    ResponseStatement, Target,
};
use crate::report::{Hex, Platform, Report, ReportData};
use crate::time::Now;
use crate::verifier::{Claims, VerifyError, VerifyErrorKind};

/// What a client expects of a server beyond what its verifier demands of the hardware.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expectations {
    /// A host name that must stand in the key document.
    pub(crate) name: Option<String>,
    /// One of them must stand in the key document as `config`. None: whatever stands there will do.
    pub(crate) configs: Vec<[u8; 32]>,
    /// The platforms whose reports the verifier can judge.
    pub(crate) platforms: Vec<Platform>,
}

/// What the client's own transport says about the connection that served a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Nothing: statements are not bound to a channel.
    Unbound,
    /// The connection's exporter: statements are bound to it, and nobody attested it before sending.
    Bound(ChannelBinding),
    /// The same, and evidence bound to it was verified before any request left on it.
    Attested(ChannelBinding),
}

impl Carrier {
    fn binding(&self) -> Option<&ChannelBinding> {
        match self {
            Self::Unbound => None,
            Self::Bound(binding) | Self::Attested(binding) => Some(binding),
        }
    }
}

/// One request's side of the protocol: its nonce, when that was drawn, and what was asked.
#[derive(Debug)]
pub(crate) struct Exchange {
    nonce: Nonce,
    drawn: Now,
    method: Method,
    target: Target,
}

/// A response head that carries one well-formed report field. Nothing in it is believed yet.
#[derive(Debug)]
pub(crate) struct Head {
    report: ReportHeader,
    carrier: Carrier,
    status: StatusCode,
}

/// Evidence in one of its two encodings.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Encoded<'a> {
    /// As in the response field.
    Cbor(&'a [u8]),
    /// As the endpoint serves it.
    Json(&'a [u8]),
}

impl Exchange {
    pub(crate) fn new(nonce: Nonce, drawn: Now, method: Method, target: Target) -> Self {
        Self { nonce, drawn, method, target }
    }

    /// When the nonce was drawn: ages are judged then.
    pub(crate) fn drawn(&self) -> Now {
        self.drawn
    }

    /// The request field.
    pub(crate) fn nonce_header(&self, have: Vec<KeysDigest>, bind: bool) -> HeaderValue {
        NonceHeader { nonce: self.nonce, have, bind }.to_value()
    }

    /// Step 1: exactly one field, which parses. `carrier` is what the client's own transport says of the connection; that
    /// it says nothing where it must is an error once there is a field to judge.
    pub(crate) fn judge_head(
        &self,
        carrier: Result<Carrier, AttestError>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Head, AttestError> {
        match ReportHeader::from_headers(headers) {
            Ok(Some(report)) => Ok(Head { report, carrier: carrier?, status }),
            Ok(None) => Err(no_report(status, headers)),
            Err(error) => Err(AttestError::with_source(
                ErrorKind::Malformed,
                format!("expected one well-formed Attestation-Report in the response head: {error}"),
                error,
            )),
        }
    }

    /// Step 2, up to the hardware: the evidence parses, vouches for the keys that the head names, meets the
    /// expectations, and leads from this exchange's own nonce and channel to REPORTDATA.
    pub(crate) fn judge_evidence(
        &self,
        head: &Head,
        evidence: Encoded<'_>,
        expected: &Expectations,
    ) -> Result<Pending, AttestError> {
        let evidence = match evidence {
            Encoded::Cbor(bytes) => Evidence::from_cbor(bytes, &expected.platforms),
            Encoded::Json(bytes) => Evidence::from_json(bytes, &expected.platforms),
        }
        .map_err(|error| AttestError::with_source(ErrorKind::Malformed, format!("evidence: {error}"), error))?;
        let document = KeyDocument::parse(evidence.keys)
            .map_err(|error| AttestError::with_source(ErrorKind::Malformed, format!("key document: {error}"), error))?;

        if document.digest() != &head.report.keys {
            return Err(AttestError::new(
                ErrorKind::KeysMismatch,
                format!("expected the key document {:?} that signed, found {:?}", head.report.keys, document.digest()),
            ));
        }
        if let Some(name) = &expected.name
            && !document.has_name(name)
        {
            return Err(AttestError::new(
                ErrorKind::NameMismatch,
                format!("expected the name {name:?}, found {:?}", document.fields().names),
            ));
        }
        let config = &document.fields().config;
        if !expected.configs.is_empty() && config.is_none_or(|config| !expected.configs.contains(&config)) {
            let accepted: Vec<_> = expected.configs.iter().map(|config| Hex(config).to_string()).collect();
            let found = config.as_ref().map_or("none".to_owned(), |config| Hex(config).to_string());
            return Err(AttestError::new(
                ErrorKind::ConfigMismatch,
                format!("expected the configuration {}, found {found}", accepted.join(" or ")),
            ));
        }

        let platform = evidence.report.platform();
        let leaf = EvidenceStatement {
            platform,
            nonce: &self.nonce,
            binding: head.carrier.binding(),
            keys: document.digest(),
        }
        .leaf();
        let expected_data = evidence.batch.report_data(platform, &leaf);
        Ok(Pending { report: evidence.report, document, expected_data, drawn: self.drawn })
    }

    /// The last step: the signature, over this exchange's own view, by keys that evidence vouches for.
    pub(crate) fn judge_signature(&self, head: &Head, keys: &Arc<VerifiedKeys>) -> Result<VerifiedReport, AttestError> {
        if keys.digest() != head.keys() {
            return Err(unknown_keys(head.keys()));
        }
        let statement = ResponseStatement {
            nonce: &self.nonce,
            binding: head.carrier.binding(),
            keys: keys.digest(),
            method: &self.method,
            target: &self.target,
            status: head.status,
        };
        if !crypto::verify_ed25519(&keys.document.fields().sign, &statement.encode(), &head.report.sig) {
            return Err(AttestError::new(ErrorKind::BadSignature, bad_signature(&head.carrier)));
        }
        let strength = match head.carrier {
            Carrier::Attested(_) => Strength::Channel,
            Carrier::Unbound | Carrier::Bound(_) => Strength::Presence,
        };
        let signed = Signed { strength, bound: head.carrier.binding().is_some(), at: self.drawn };
        Ok(VerifiedReport::new(Arc::clone(keys), &signed))
    }
}

impl Head {
    /// Which keys signed, as the response says.
    pub(crate) fn keys(&self) -> &KeysDigest {
        &self.report.keys
    }

    /// The evidence in the head, CBOR.
    pub(crate) fn evidence(&self) -> Option<&[u8]> {
        self.report.evidence.as_deref()
    }
}

/// Evidence that fits this exchange and whose report is still to be judged by a verifier.
#[derive(Debug)]
pub(crate) struct Pending {
    report: Report,
    document: KeyDocument,
    expected_data: ReportData,
    drawn: Now,
}

impl Pending {
    /// The report to verify.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// The keys that the evidence is for.
    pub(crate) fn keys(&self) -> &KeysDigest {
        self.document.digest()
    }

    /// Compares REPORTDATA, in constant time, with what the verifier read from the report at the wall-clock time `at`.
    pub(crate) fn finish(
        self,
        verified: Result<Claims, VerifyError>,
        at: SystemTime,
    ) -> Result<Arc<VerifiedKeys>, AttestError> {
        let claims = verified.map_err(refused)?;
        if claims.platform() != self.report.platform() {
            return Err(AttestError::new(
                ErrorKind::Refused,
                format!("expected claims of platform {}, found {}", self.report.platform(), claims.platform()),
            ));
        }
        if !bool::from(claims.report_data().ct_eq(self.expected_data.as_bytes())) {
            return Err(AttestError::new(
                ErrorKind::Stale,
                format!(
                    "expected REPORTDATA {} for this nonce, channel, keys and batch, found {}",
                    Hex(self.expected_data.as_bytes()),
                    Hex(claims.report_data())
                ),
            ));
        }
        if claims.valid_until().is_some_and(|end| end <= at) {
            return Err(AttestError::new(
                ErrorKind::Refused,
                "expected claims that are still valid, found ones whose certificates, revocation lists or collateral \
                 have ended: look at both clocks",
            ));
        }
        Ok(Arc::new(VerifiedKeys { claims, document: self.document, drawn: self.drawn }))
    }
}

/// Keys that verified evidence vouches for. Only [`Pending::finish`] makes them.
#[derive(Debug)]
pub(crate) struct VerifiedKeys {
    claims: Claims,
    document: KeyDocument,
    drawn: Now,
}

impl VerifiedKeys {
    pub(crate) fn digest(&self) -> &KeysDigest {
        self.document.digest()
    }

    pub(crate) fn document(&self) -> &KeyDocument {
        &self.document
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// When the nonce in the evidence was drawn.
    pub(crate) fn drawn(&self) -> Now {
        self.drawn
    }

    /// How old the evidence is at `now`: what the clock says that makes it older.
    pub(crate) fn age(&self, now: Now) -> Duration {
        let monotonic = now.monotonic.saturating_sub(self.drawn.monotonic);
        let wall = now.wall.duration_since(self.drawn.wall).unwrap_or_default();
        monotonic.max(wall)
    }

    /// Whether the keys may no longer be believed at `now`: past `max_age`, or past the end of their claims. A wall
    /// clock that steps back extends neither.
    pub(crate) fn passed(&self, now: Now, max_age: Duration) -> bool {
        self.age(now) >= self.lifetime(max_age)
    }

    /// How long after the drawing of the nonce the keys may be believed.
    pub(crate) fn lifetime(&self, max_age: Duration) -> Duration {
        match self.claims.valid_until() {
            Some(end) => end.duration_since(self.drawn.wall).unwrap_or_default().min(max_age),
            None => max_age,
        }
    }
}

/// Witness that a signature has been verified. Only [`Exchange::judge_signature`] makes it.
pub(super) struct Signed {
    strength: Strength,
    bound: bool,
    at: Now,
}

impl Signed {
    pub(super) fn strength(&self) -> Strength {
        self.strength
    }

    pub(super) fn bound(&self) -> bool {
        self.bound
    }

    pub(super) fn at(&self) -> Now {
        self.at
    }
}

/// The error for keys that no evidence vouches for.
pub(crate) fn unknown_keys(found: &KeysDigest) -> AttestError {
    AttestError::new(ErrorKind::UnknownKeys, format!("found a response signed by {found:?}"))
}

/// The error for a response without a report. What gRPC says in the head counts as HTTP's equivalent.
pub(crate) fn no_report(status: StatusCode, headers: &HeaderMap) -> AttestError {
    let grpc = headers.get("grpc-status").map(HeaderValue::as_bytes);
    let status = match grpc {
        Some(b"14") => StatusCode::SERVICE_UNAVAILABLE,
        Some(b"8") => StatusCode::TOO_MANY_REQUESTS,
        _ => status,
    };
    AttestError::new(
        ErrorKind::NoReport { status: status.as_u16() },
        "expected an Attestation-Report field: the server has no ReportLayer, the layer is not outermost, or an \
         intermediary answered or dropped the field",
    )
}

/// Whether evidence was refused for an endorsement that it lacks: a header may have had no room for it, the endpoint has.
pub(crate) fn lacks_endorsement(error: &AttestError) -> bool {
    let refusal = error.cause().and_then(|cause| cause.downcast_ref::<VerifyError>());
    refusal.is_some_and(|refusal| refusal.kind() == VerifyErrorKind::EndorsementMissing)
}

fn refused(error: VerifyError) -> AttestError {
    let kind = match error.kind() {
        VerifyErrorKind::Unavailable => ErrorKind::Unavailable,
        VerifyErrorKind::Configuration => ErrorKind::Configuration,
        _ => ErrorKind::Refused,
    };
    AttestError::with_source(kind, error.to_string(), error)
}

fn bad_signature(carrier: &Carrier) -> &'static str {
    match carrier {
        Carrier::Unbound => {
            "expected one over this request's nonce, method, target and status; likely causes: a proxy or a layer \
             rewrote the path, method or status; AttestLayer is not next to the transport, or ReportLayer is not \
             outermost; the response is replayed"
        }
        Carrier::Bound(_) | Carrier::Attested(_) => {
            "expected one over this connection, and this request's nonce, method, target and status; likely causes: \
             TLS ends before the server; a proxy or a layer rewrote the path, method or status; AttestLayer is not \
             next to the transport, or ReportLayer is not outermost; the response is replayed"
        }
    }
}

#[cfg(test)]
mod tests;

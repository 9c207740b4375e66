//! The exchange itself: on an attested channel, sealed, or over any client for presence.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use tower::{Layer as _, ServiceExt as _};
use tower_attest::protocol::WELL_KNOWN_PATH;
use tower_attest::seal::client::CarrierRequestBody;
use tower_attest::tls::{ChannelBuilder, ChannelError, EndpointState};
use tower_attest::{AttestError, BoxError, ErrorKind, FailedRule, GrpcCode, VerifiedReport, VerifyError};

use crate::failure::{Failure, chain};
use crate::trust::Believer;

/// Why a server was not verified.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No channel: which step failed is known.
    Channel(ChannelError),
    /// A check failed.
    Attest(AttestError),
    /// The exchange broke off.
    Transport(String),
}

/// Connects and verifies the evidence of this very connection.
pub(crate) async fn channel(builder: ChannelBuilder) -> Result<VerifiedReport, Refusal> {
    let channel = builder.connect().await.map_err(Refusal::Channel)?;
    let attested = channel.endpoints().into_iter().find_map(|endpoint| match endpoint.state {
        EndpointState::Attested(report) => Some(report),
        _ => None,
    });
    attested.ok_or_else(|| Refusal::Transport("the connection was closed as soon as it was attested".to_owned()))
}

/// Verifies evidence from wherever the address leads, and a signature over one exchange.
pub(super) async fn presence(believer: &Believer, url: &Uri) -> Result<Result<VerifiedReport, Refusal>, Failure> {
    let service = believer.layer(url).accept_presence().layer(believer.client()?);
    let mut target = url.clone().into_parts();
    target.path_and_query = Some(http::uri::PathAndQuery::from_static(WELL_KNOWN_PATH));
    let request = Uri::from_parts(target).map_err(|error| Failure::during("the URL", &error))?;
    let request =
        Request::get(request).body(Empty::<Bytes>::new()).map_err(|error| Failure::during("the URL", &error))?;
    Ok(judged(service.oneshot(request).await))
}

/// Seals one request to a key in verified evidence, and opens the answer.
///
/// The request is `HEAD /`, of the service itself: whether its answer can be opened is what was asked.
pub(super) async fn sealed(believer: &Believer, url: &Uri) -> Result<Result<VerifiedReport, Refusal>, Failure> {
    let carrier = believer.carrier::<CarrierRequestBody<Empty<Bytes>>>()?;
    let service = believer.seal_layer(url).layer(carrier);
    let request = Request::head(url).body(Empty::<Bytes>::new()).map_err(|error| Failure::during("the URL", &error))?;
    Ok(judged(service.oneshot(request).await))
}

fn judged<B>(response: Result<Response<B>, BoxError>) -> Result<VerifiedReport, Refusal> {
    match response {
        Ok(response) => VerifiedReport::of(&response)
            .cloned()
            .ok_or_else(|| Refusal::Transport("expected a verified report with the response, found none".to_owned())),
        Err(error) => Err(match AttestError::of(&*error) {
            Some(refused) => Refusal::Attest(refused.clone()),
            None => Refusal::Transport(chain(&*error)),
        }),
    }
}

impl Refusal {
    /// The check that failed, if it came to checks.
    pub(crate) fn attest_error(&self) -> Option<&AttestError> {
        match self {
            Self::Channel(error) => Some(error.attest_error()),
            Self::Attest(error) => Some(error),
            Self::Transport(_) => None,
        }
    }

    /// Whether the server was refused, and not merely out of reach or beyond judging.
    pub(crate) fn is_final(&self) -> bool {
        self.attest_error().is_some_and(|error| error.grpc_code() == GrpcCode::Unauthenticated)
    }

    /// Each rule that failed; none if something else did.
    pub(crate) fn failed_rules(&self) -> &[FailedRule] {
        let verify = self.attest_error().and_then(|error| error.cause()?.downcast_ref::<VerifyError>());
        verify.map_or(&[], VerifyError::failed_rules)
    }

    /// What else to try.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self.attest_error().map(AttestError::kind) {
            Some(ErrorKind::Configuration) => Some(
                "If a proxy ends TLS before the server, no channel to it can be attested. --sealed goes through such a proxy; --presence asks for less.",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => f.write_str(&chain(error)),
            Self::Attest(error) => f.write_str(&chain(error)),
            Self::Transport(message) => f.write_str(message),
        }
    }
}

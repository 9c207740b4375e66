//! [`AttestedChannel`]: what callers hold.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use pin_project::pin_project;
use tower::ServiceExt;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower_service::Service;

use super::body::ChannelBody;
use super::builder::ChannelBuilder;
use super::connection::Probe;
use super::error::{ChannelError, Stage};
use super::fail_fast::FailFast;
use super::sender::{RequestBody, Unsent};
use super::settings::Settings;
use super::status::{EndpointStatus, Registry};
use crate::client::VerifiedReport;
use crate::error::BoxError;
use crate::verifier::ReportVerifier;

/// How many connections in a row may end under one request before it is written.
const ATTEMPTS: usize = 3;

type Answer = Pin<Box<dyn Future<Output = Result<Response<ChannelBody>, BoxError>> + Send>>;

/// A channel to one server that sends nothing before it has verified that the server's end of this very connection is
/// inside a TEE that the verifier accepts. See the [module](crate::tls) for an example.
///
/// Clones share the connections. It is a tower service for HTTP requests with any body, and so a transport for tonic's
/// generated clients. Each response has the [`VerifiedReport`](crate::VerifiedReport) of its connection in its
/// extensions, of [`Strength::Channel`](crate::Strength::Channel).
///
/// A request without authority goes to the channel's; one that names another is refused. A `Host` field of the caller's is
/// replaced. Redirects are not followed.
/// Where no connection can be had, the error is a boxed [`ChannelError`], and nothing was sent; errors of a request
/// that was sent are [`hyper::Error`]. A request that was handed to a connection which ended before anything of it was
/// written, as when the server closes an idle connection, goes to the next one by itself.
#[derive(Clone)]
pub struct AttestedChannel {
    buffer: Requests,
    settings: Arc<Settings>,
    registry: Registry,
}

impl AttestedChannel {
    /// A channel to `uri`, `https://host` or `https://host:port`, whose server satisfies `verifier`.
    pub fn builder(uri: Uri, verifier: impl ReportVerifier + 'static) -> ChannelBuilder {
        ChannelBuilder::new(uri, Arc::new(verifier))
    }

    /// A channel to several servers of one name: each is attested by itself, requests go to the one of two random
    /// choices that has fewer in flight (tower's p2c `Balance`), and one that fails is ejected until it recovers.
    ///
    /// `addresses` inserts and removes the addresses of servers, by any key, for as long as it lasts. The connector gets
    /// them; certificates, `Host` and the evidence's names are judged by the URI of `builder`. The requests of a server
    /// that is removed are finished.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration), if a setting of `builder` cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower::discover::Change;
    /// use tower_attest::mock::MockTee;
    /// use tower_attest::tls::AttestedChannel;
    ///
    /// let addresses = ["https://10.0.0.1", "https://10.0.0.2"].map(str::parse::<http::Uri>);
    /// let addresses = addresses.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// let changes = addresses.into_iter().enumerate().map(|(key, address)| Change::Insert(key, address));
    ///
    /// let builder = AttestedChannel::builder("https://prover.example".parse()?, MockTee::new().verifier());
    /// let channel = AttestedChannel::balance(builder, tokio_stream::iter(changes))?;
    /// # drop(channel);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    pub fn balance<K>(
        builder: ChannelBuilder,
        addresses: impl Stream<Item = Change<K, Uri>> + Send + 'static,
    ) -> Result<Self, ChannelError>
    where
        K: std::hash::Hash + Eq + Clone + fmt::Debug + Send + Sync + Unpin + 'static,
    {
        builder.balance(Box::pin(addresses))
    }

    /// What each endpoint is doing, and why those that are ejected are.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.registry.endpoints()
    }

    /// Makes sure that there is an attested connection, and says who stands at its far end. Sends no request.
    ///
    /// It connects where there is no connection, and renews evidence that is due, as a request would: for health checks,
    /// and to keep a channel ready that is seldom used. With several connections or servers it is about one of them.
    ///
    /// # Errors
    ///
    /// The [`ChannelError`] that a request would meet now.
    pub fn verify(&self) -> impl Future<Output = Result<VerifiedReport, ChannelError>> + Send + use<> {
        let ended = |error: BoxError| match ChannelError::of(&*error) {
            Some(error) => error.clone(),
            None => ChannelError::io(Stage::Http, "the channel has ended", error),
        };
        let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        request.extensions_mut().insert(Probe);
        // Boxed here: inside the block below the compiler cannot see that it is `Send`.
        let answered: Answer = Box::pin(self.buffer.clone().oneshot(request));
        async move {
            let response = answered.await.map_err(ended)?;
            // A probe's answer has one, and none but a connection's gets here.
            VerifiedReport::of(&response).cloned().ok_or_else(|| ended("no report".into()))
        }
    }

    pub(super) fn new<S>(service: S, settings: Arc<Settings>, registry: Registry, buffer: usize) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<ChannelBody>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let service = FailFast::new(service, registry.clone());
        Self { buffer: Buffer::new(service, buffer), settings, registry }
    }
}

impl fmt::Debug for AttestedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestedChannel")
            .field("authority", &self.settings.authority)
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for AttestedChannel
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ChannelBody>;
    type Error = BoxError;
    type Future = ChannelFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.buffer.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ChannelFuture {
        match self.settings.check(&request) {
            Ok(()) => {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                let called = self.buffer.call(request);
                ChannelFuture { state: State::Called(called, self.buffer.clone()), attempts: 1 }
            }
            Err(error) => ChannelFuture { state: State::Refused(Some(error)), attempts: 0 },
        }
    }
}

/// The response of an [`AttestedChannel`].
#[pin_project]
pub struct ChannelFuture {
    #[pin]
    state: State,
    attempts: usize,
}

type Requests = Buffer<Request<RequestBody>, Answer>;

#[pin_project(project = StateProj)]
enum State {
    Called(#[pin] tower::buffer::future::ResponseFuture<Answer>, Requests),
    /// Handed back, and waits to be handed in again.
    Unsent(Option<Box<Request<RequestBody>>>, Requests),
    Refused(Option<ChannelError>),
}

impl Future for ChannelFuture {
    type Output = Result<Response<ChannelBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProj::Called(called, requests) => match ready!(called.poll(cx)).map_err(Unsent::take) {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(Ok((request, _))) if *this.attempts < ATTEMPTS => {
                        State::Unsent(Some(Box::new(request)), requests.clone())
                    }
                    Err(Ok((_, error))) => return Poll::Ready(Err(error.into())),
                    Err(Err(error)) => return Poll::Ready(Err(error)),
                },
                StateProj::Unsent(request, requests) => {
                    ready!(requests.poll_ready(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    *this.attempts += 1;
                    State::Called(requests.call(*request), requests.clone())
                }
                StateProj::Refused(error) => match error.take() {
                    Some(error) => return Poll::Ready(Err(error.into())),
                    None => return Poll::Pending,
                },
            };
            this.state.set(next);
        }
    }
}

impl fmt::Debug for ChannelFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelFuture").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "mock"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::uri::Authority;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::super::sender::Sender;
    use super::*;
    use crate::platform::mock::MockTee;

    /// What becomes of a request on a connection that has ended.
    async fn hand_back(request: Request<RequestBody>) -> BoxError {
        let (io, _far) = tokio::io::duplex(64);
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        drop(connection);
        Sender::Http1(sender).send(request, &Authority::from_static("prover.example")).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_request_that_a_connection_hands_back_goes_to_the_next_but_not_for_ever() {
        for (ended, served) in [(0, true), (1, true), (2, true), (3, false)] {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let connections = tower::service_fn(move |request: Request<RequestBody>| {
                let nth = counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    if nth < ended {
                        return Err(hand_back(request).await);
                    }
                    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
                    Ok(Response::new(ChannelBody::default()))
                }
            });
            let builder =
                AttestedChannel::builder("https://prover.example".parse().unwrap(), MockTee::new().verifier());
            let channel = AttestedChannel::new(connections, builder.settings().unwrap().0, Registry::default(), 1);
            let answered = channel.oneshot(Request::post("/").body(Full::from("body")).unwrap()).await;
            assert_eq!((answered.is_ok(), calls.load(Ordering::SeqCst)), (served, (ended + 1).min(ATTEMPTS)));
            if let Err(error) = answered {
                assert_eq!(ChannelError::of(&*error).map(ChannelError::stage), Some(Stage::Http), "{error:?}");
            }
        }
    }
}

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
use http_body_util::BodyExt;
use pin_project::pin_project;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower_service::Service;

use super::body::ChannelBody;
use super::builder::ChannelBuilder;
use super::error::ChannelError;
use super::fail_fast::FailFast;
use super::sender::RequestBody;
use super::settings::Settings;
use super::status::{EndpointStatus, Registry};
use crate::error::BoxError;
use crate::verifier::ReportVerifier;

type Answer = Pin<Box<dyn Future<Output = Result<Response<ChannelBody>, BoxError>> + Send>>;

/// A channel to one server that sends nothing before it has verified that the server's end of this very connection is
/// inside a TEE that the verifier accepts. See the [module](crate::tls) for an example.
///
/// Clones share the connections. It is a tower service for HTTP requests with any body, and so a transport for tonic's
/// generated clients. Each response has the [`VerifiedReport`](crate::VerifiedReport) of its connection in its
/// extensions, of [`Strength::Channel`](crate::Strength::Channel).
///
/// A request without authority goes to the channel's; one that names another is refused. Redirects are not followed.
/// Where no connection can be had, the error is a boxed [`ChannelError`], and nothing was sent; errors of a request
/// that was sent are [`hyper::Error`].
#[derive(Clone)]
pub struct AttestedChannel {
    buffer: Buffer<Request<RequestBody>, Answer>,
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
                ChannelFuture { state: State::Called(self.buffer.call(request)) }
            }
            Err(error) => ChannelFuture { state: State::Refused(Some(error)) },
        }
    }
}

/// The response of an [`AttestedChannel`].
#[pin_project]
pub struct ChannelFuture {
    #[pin]
    state: State,
}

#[pin_project(project = StateProj)]
enum State {
    Called(#[pin] tower::buffer::future::ResponseFuture<Answer>),
    Refused(Option<ChannelError>),
}

impl Future for ChannelFuture {
    type Output = Result<Response<ChannelBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called(called) => Poll::Ready(ready!(called.poll(cx))),
            StateProj::Refused(error) => match error.take() {
                Some(error) => Poll::Ready(Err(error.into())),
                None => Poll::Pending,
            },
        }
    }
}

impl fmt::Debug for ChannelFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelFuture").finish_non_exhaustive()
    }
}

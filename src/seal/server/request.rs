//! [`SealedRequest`].

use crate::protocol::KeysDigest;

/// In a request's extensions: it was sealed, so that nobody between the client and this process has read it.
///
/// Only [`UnsealLayer`](super::UnsealLayer) can make one. Who the client is it does not say.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower_attest::seal::SealedRequest;
///
/// async fn handler<B>(request: Request<B>) -> Response<String> {
///     let mut response = Response::new(String::new());
///     if request.extensions().get::<SealedRequest>().is_none() {
///         *response.status_mut() = StatusCode::FORBIDDEN;
///     }
///     response
/// }
/// # tokio_test::block_on(async {
/// assert_eq!(handler(Request::new(())).await.status(), StatusCode::FORBIDDEN);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedRequest {
    keys: KeysDigest,
}

impl SealedRequest {
    pub(super) fn new(keys: KeysDigest) -> Self {
        Self { keys }
    }

    /// The key document that the request was sealed to.
    pub fn keys(&self) -> &KeysDigest {
        &self.keys
    }
}

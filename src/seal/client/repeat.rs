//! [`Repeatable`]: which requests may be sealed and sent a second time.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http_body::Body;

/// In a request's extensions: it may be delivered twice, and this makes its body again.
///
/// A server that does not hold the keys that a request was sealed to says so, with evidence for its own. [`Seal`](super::Seal)
/// then seals again by itself only if that does no harm, since whoever carries requests could have delivered the first one to
/// the server that can open it, and kept the answer. Without this extension, only requests of an idempotent method
/// (RFC 9110 section 9.2.2) without a body are repeated.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tower_attest::seal::client::Repeatable;
///
/// let witness = Bytes::from_static(b"witness");
/// let mut request = Request::post("https://prover.example/prove").body(Full::new(witness.clone()))?;
/// request.extensions_mut().insert(Repeatable::new(move || Full::new(witness.clone())));
/// # Ok::<(), http::Error>(())
/// ```
pub struct Repeatable<B> {
    body: Arc<dyn Fn() -> B + Send + Sync>,
}

impl<B> Repeatable<B> {
    /// A request whose body `body` makes again. `B` must be the request's own body type, or this has no effect.
    pub fn new(body: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self { body: Arc::new(body) }
    }

    /// How to make the body of this request again, if it may be repeated.
    pub(super) fn of(parts: &Parts, body: &B) -> Option<Self>
    where
        B: Body + Default + 'static,
    {
        if let Some(repeatable) = parts.extensions.get::<Self>() {
            return Some(repeatable.clone());
        }
        (parts.method.is_idempotent() && body.is_end_stream()).then(|| Self::new(B::default))
    }

    pub(super) fn body(&self) -> B {
        (self.body)()
    }
}

impl<B> Clone for Repeatable<B> {
    fn clone(&self) -> Self {
        Self { body: Arc::clone(&self.body) }
    }
}

impl<B> fmt::Debug for Repeatable<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeatable").finish_non_exhaustive()
    }
}

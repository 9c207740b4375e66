//! What became of a request whose exchange with the far end failed: whether it may be sent again.

use std::error::Error;

use tower_attest::BoxError;
use tower_attest::tls::ChannelError;

use super::lent::Loan;

/// How far a request got.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The client broke off its body.
    Client,
    /// Nothing of it was sent: there was no attested connection any more.
    Unsent,
    /// The far end said that it has not processed it (RFC 9113, section 8.7).
    Unprocessed,
    /// The exchange broke: it may have been processed.
    Broken,
}

impl Failed {
    pub(crate) fn of(error: &BoxError, loan: &Loan) -> Self {
        let error: &(dyn Error + 'static) = &**error;
        let mut causes = std::iter::successors(Some(error), |error| (*error).source());
        if loan.broke() {
            Self::Client
        } else if ChannelError::of(error).is_some() {
            Self::Unsent
        } else if causes.any(|cause| cause.downcast_ref().is_some_and(says_unprocessed)) {
            Self::Unprocessed
        } else {
            Self::Broken
        }
    }

    /// Whether the request may be sent again. Nothing that may have been processed is, but for requests that
    /// ask for nothing to be done (safe methods, RFC 9110, section 9.2.1), once.
    pub(crate) fn allows_another(&self, is_whole: bool, is_harmless: bool) -> bool {
        match self {
            Self::Client => false,
            Self::Unsent | Self::Unprocessed => is_whole,
            Self::Broken => is_whole && is_harmless,
        }
    }
}

fn says_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let leaving = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || leaving)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;
    use crate::proxy::body::{empty, full};

    /// The error of a request whose server resets its stream for this reason, or ends the connection without a word.
    async fn error(reset: Option<h2::Reason>) -> BoxError {
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let (_request, mut respond) = server.accept().await.unwrap().unwrap();
            if let Some(reason) = reset {
                respond.send_reset(reason);
                while server.accept().await.is_some() {}
            }
        });
        let io = TokioIo::new(near);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(Request::new(Empty::<bytes::Bytes>::new())).await.unwrap_err().into()
    }

    #[tokio::test]
    async fn only_a_worker_that_says_so_has_not_processed_a_request() {
        let loan = Loan::new(empty());
        let refused = error(Some(h2::Reason::REFUSED_STREAM)).await;
        assert!(matches!(Failed::of(&refused, &loan), Failed::Unprocessed), "{refused:?}");
        for reset in [Some(h2::Reason::INTERNAL_ERROR), Some(h2::Reason::CANCEL), None] {
            let broken = error(reset).await;
            assert!(matches!(Failed::of(&broken, &loan), Failed::Broken), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn what_may_have_been_processed_is_not_sent_again_unless_it_is_harmless() {
        assert!(Failed::Unprocessed.allows_another(true, false));
        assert!(!Failed::Unprocessed.allows_another(false, true), "its body is gone");
        assert!(!Failed::Broken.allows_another(true, false));
        assert!(Failed::Broken.allows_another(true, true));
        assert!(!Failed::Broken.allows_another(false, true));
        assert!(!Failed::Client.allows_another(true, true));
    }

    #[tokio::test]
    async fn a_body_that_broke_off_is_the_clients_doing_whatever_else_is_said() {
        use http_body_util::{BodyExt, StreamBody};
        let failing =
            StreamBody::new(tokio_stream::iter([Err::<http_body::Frame<bytes::Bytes>, BoxError>("x".into())]));
        let loan = Loan::new(failing.boxed_unsync());
        let _ = loan.lend().collect().await;
        let refused = error(Some(h2::Reason::REFUSED_STREAM)).await;
        assert!(matches!(Failed::of(&refused, &loan), Failed::Client));
        assert!(!matches!(Failed::of(&refused, &Loan::new(full(""))), Failed::Client));
    }
}

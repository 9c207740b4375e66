//! The addresses of a service that `connect` balances between.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::Uri;
use tower::discover::Change;

/// `HOST:PORT` as a connector takes it.
pub(crate) fn address(text: &str) -> Result<Uri, String> {
    let wrong = || format!("expected HOST:PORT, found {text:?}");
    let uri: Uri = format!("https://{text}").parse().map_err(|_| wrong())?;
    let plain = uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none() && !text.contains('@');
    if plain { Ok(uri) } else { Err(wrong()) }
}

/// Addresses that do not change.
pub(crate) fn fixed(addresses: &[Uri]) -> impl Stream<Item = Change<usize, Uri>> + Send + 'static {
    Fixed(addresses.iter().cloned().enumerate().collect::<Vec<_>>().into_iter())
}

struct Fixed(std::vec::IntoIter<(usize, Uri)>);

impl Stream for Fixed {
    type Item = Change<usize, Uri>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(|(key, address)| Change::Insert(key, address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(address("10.0.0.1:8443").unwrap(), "https://10.0.0.1:8443");
        assert!(address("[::1]:1").is_ok());
        for text in ["10.0.0.1", "https://a:1", "a:1/path", "a:1?query", "user@a:1", ""] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}

//! `--redirect`: a port without TLS, which answers a CA's HTTP-01 challenges and sends everybody else to https.
//!
//! Nothing is forwarded from here. Where it sends clients is a name of this server's own, whatever their `Host` says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::service_fn;

use super::acme::Challenges;
use crate::failure::Failure;
use crate::proxy::activity::Exchanges;
use crate::proxy::limits::Limits;
use crate::proxy::server::serve_connection;
use crate::proxy::shutdown::Running;

/// Where a CA asks for the answer to a challenge (RFC 8555, section 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";
/// The longest path that is sent back in `Location`.
const MAX_TARGET: usize = 8 << 10;
/// A connection carries one exchange, which needs no body. Its client may take this long beyond `--header-timeout`.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait after the system refused a connection for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A port that sends clients to https.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Port 80")]
pub(crate) struct RedirectFlags {
    /// Listen here without TLS, usually on 0.0.0.0:80: answer HTTP-01 challenges, send all else to https. What a client has
    /// sent by then has been read on the way; a redirect does not undo that.
    #[arg(long, value_name = "ADDR")]
    pub(crate) redirect: Option<SocketAddr>,
    /// The port that clients are sent to.
    #[arg(long, value_name = "PORT", default_value = "443", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) redirect_port: u16,
}

/// A listener that redirects.
#[derive(Debug)]
pub(crate) struct Redirect {
    tcp: TcpListener,
    answers: Arc<Answers>,
}

/// What decides an answer.
#[derive(Debug)]
struct Answers {
    names: Vec<Authority>,
    port: u16,
    challenges: Option<Challenges>,
}

impl Redirect {
    /// `None` without `--redirect`. `names` are those of this server; there is one at least.
    pub(crate) async fn bind(
        flags: &RedirectFlags,
        names: &[Authority],
        challenges: Option<Challenges>,
    ) -> Result<Option<Self>, Failure> {
        let Some(addr) = flags.redirect else { return Ok(None) };
        let tcp = TcpListener::bind(addr)
            .await
            .map_err(|error| Failure::during(format_args!("--redirect {addr}"), &error))?;
        let answers = Answers { names: names.to_vec(), port: flags.redirect_port, challenges };
        Ok(Some(Self { tcp, answers: Arc::new(answers) }))
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Accepts until the shutdown begins; connections then have the drain's time, as those with TLS have.
    pub(crate) async fn run(self, limits: Arc<Limits>, mut running: Running) {
        let permits =
            Arc::new(Semaphore::new(usize::try_from(limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
        let connections = running.clone();
        let accepting = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                match self.tcp.accept().await {
                    Ok((stream, _)) => {
                        let (answers, limits) = (Arc::clone(&self.answers), Arc::clone(&limits));
                        tokio::spawn(connection(stream, answers, limits, connections.with(permit)));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "redirect: tcp accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = running.ending() => {}
        }
    }
}

async fn connection(stream: TcpStream, answers: Arc<Answers>, limits: Arc<Limits>, running: Running) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answers.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let time = limits.header_timeout.saturating_add(ANSWER);
    let serving = serve_connection(stream, service, Exchanges::default(), &limits, running);
    if tokio::time::timeout(time, serving).await.is_err() {
        tracing::debug!("redirect: connection ended: its client does not read");
    }
}

impl Answers {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let mut response = match path.strip_prefix(CHALLENGE) {
            Some(token) if self.challenges.is_some() => self.challenge(request.method(), token),
            _ => self.redirect(request),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    fn challenge(&self, method: &Method, token: &str) -> Response<Full<Bytes>> {
        let answer = self.challenges.as_ref().and_then(|challenges| challenges.answer(token));
        match answer {
            Some(_) if method != Method::GET && method != Method::HEAD => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
            Some(answer) => {
                let mut response = plain(StatusCode::OK, answer);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                response
            }
            None => plain(StatusCode::NOT_FOUND, "no such challenge\n"),
        }
    }

    fn redirect<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if request.method() == Method::CONNECT || !target.starts_with('/') {
            return plain(StatusCode::BAD_REQUEST, "expected a path\n");
        }
        if target.len() > MAX_TARGET {
            return plain(StatusCode::URI_TOO_LONG, "");
        }
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let location = format!("https://{}{port}{target}", self.name(request));
        match HeaderValue::try_from(location) {
            Ok(location) => {
                let mut response = plain(StatusCode::PERMANENT_REDIRECT, "this server speaks https\n");
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Err(_) => plain(StatusCode::BAD_REQUEST, "expected a path\n"),
        }
    }

    /// The name of this server that the client used, or the first.
    fn name<B>(&self, request: &Request<B>) -> &str {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let used = host.and_then(|host| self.names.iter().find(|name| name.host().eq_ignore_ascii_case(host.host())));
        used.or_else(|| self.names.first()).map_or("", |name| name.host())
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(port: u16) -> Answers {
        let names = ["prover.example", "other.example", "[2001:db8::1]"].map(|name| name.parse().unwrap());
        Answers { names: names.to_vec(), port, challenges: Some(Challenges::default()) }
    }

    fn sent_to(answers: &Answers, host: Option<&str>, target: &str) -> String {
        let mut request = Request::post(target);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let response = answers.answer(&request.body(()).unwrap());
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT, "{target}");
        assert_eq!(response.headers()[CONNECTION], "close");
        response.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn clients_are_sent_to_a_name_of_this_servers_own_and_nowhere_else() {
        let answers = answers(443);
        assert_eq!(sent_to(&answers, Some("prover.example"), "/a?b=c"), "https://prover.example/a?b=c");
        assert_eq!(sent_to(&answers, Some("OTHER.example:80"), "/"), "https://other.example/");
        assert_eq!(sent_to(&answers, Some("[2001:db8::1]"), "/"), "https://[2001:db8::1]/");
        for host in [Some("evil.example"), Some("evil@prover.example.evil"), Some(""), Some("a b"), None] {
            assert_eq!(sent_to(&answers, host, "/a"), "https://prover.example/a", "{host:?}");
        }
        // The target may be a whole URL, or look like one.
        assert_eq!(sent_to(&answers, None, "http://evil.example/a"), "https://prover.example/a");
        assert_eq!(sent_to(&answers, None, "//evil.example/a"), "https://prover.example//evil.example/a");
    }

    #[test]
    fn another_port_is_named() {
        assert_eq!(sent_to(&answers(8443), None, "/"), "https://prover.example:8443/");
    }

    #[test]
    fn what_has_no_path_or_a_long_one_is_refused() {
        let status = |request: http::request::Builder| answers(443).answer(&request.body(()).unwrap()).status();
        assert_eq!(status(Request::options("*")), StatusCode::BAD_REQUEST);
        assert_eq!(status(Request::connect("evil.example:443")), StatusCode::BAD_REQUEST);
        let path = |length| format!("/{}", "a".repeat(length));
        assert_eq!(status(Request::get(path(MAX_TARGET))), StatusCode::URI_TOO_LONG);
        assert_eq!(status(Request::get(path(MAX_TARGET - 1))), StatusCode::PERMANENT_REDIRECT);
    }

    #[test]
    fn a_challenge_that_is_not_open_is_not_found_and_redirected_only_without_acme() {
        let request = Request::get("/.well-known/acme-challenge/token").body(()).unwrap();
        assert_eq!(answers(443).answer(&request).status(), StatusCode::NOT_FOUND);
        let without = Answers { challenges: None, ..answers(443) };
        assert_eq!(without.answer(&request).status(), StatusCode::PERMANENT_REDIRECT);
    }
}

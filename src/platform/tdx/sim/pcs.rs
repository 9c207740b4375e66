//! A PCS for tests: the URLs of Intel's service over simulated collateral, with faults.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

use super::{CollateralSpec, SimulatedPlatform};
use crate::platform::tdx::collateral::Collateral;
use crate::report::Hex;

/// How one response of a [`SimulatedPcs`] goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PcsFault {
    /// Another status, with an empty body.
    Status(StatusCode),
    /// Another status with `Retry-After`, in seconds.
    RetryAfter(StatusCode, u64),
    /// Half of the body, as if it were all.
    Truncated,
    /// Two megabytes of body.
    Oversized,
    /// No issuer chain in the header.
    NoChain,
    /// A body that is none of what is expected.
    Garbage,
    /// No answer, ever.
    Hang,
}

/// A PCS, and a PCCS, that knows what it is told. Clones share everything; a `Service` of any request body, to be called
/// directly or served by hyper or axum.
#[derive(Debug, Clone, Default)]
pub struct SimulatedPcs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    platforms: HashMap<String, Collateral>,
    faults: VecDeque<PcsFault>,
    requests: Vec<String>,
}

impl SimulatedPcs {
    /// A service that knows no platform.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes collateral for this platform, in place of what it had.
    pub fn publish(&self, platform: &SimulatedPlatform, spec: &CollateralSpec) {
        let fmspc = Hex(&platform.pck.id.fmspc).to_string();
        self.state().platforms.insert(fmspc, spec.build());
    }

    /// Spoils the next response that no earlier fault spoils.
    pub fn fail_next(&self, fault: PcsFault) {
        self.state().faults.push_back(fault);
    }

    /// Path and query of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, target: &str) -> Option<Response<Full<Bytes>>> {
        let mut state = self.state();
        state.requests.push(target.to_owned());
        let fault = state.faults.pop_front();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // Everything but the TCB info is the same for all platforms of one CA.
        let fmspc = query.strip_prefix("fmspc=").and_then(|fmspc| state.platforms.get(fmspc));
        let any = state.platforms.values().next();
        let chain = |pem: &str| pem.replace('\n', "%0A").replace(' ', "%20");
        let signed = |name: &str, body: &str, signature: &[u8]| {
            format!("{{\"{name}\":{body},\"signature\":\"{}\"}}", Hex(signature)).into_bytes()
        };
        let found = match path {
            "/tdx/certification/v4/tcb" => fmspc.map(|set| {
                let body = signed("tcbInfo", &set.tcb_info, &set.tcb_info_signature);
                (body, "TCB-Info-Issuer-Chain", chain(&set.tcb_info_issuer_chain))
            }),
            "/tdx/certification/v4/qe/identity" => any.map(|set| {
                let body = signed("enclaveIdentity", &set.qe_identity, &set.qe_identity_signature);
                (body, "SGX-Enclave-Identity-Issuer-Chain", chain(&set.qe_identity_issuer_chain))
            }),
            "/sgx/certification/v4/pckcrl" => {
                any.map(|set| (set.pck_crl.clone(), "SGX-PCK-CRL-Issuer-Chain", chain(&set.pck_crl_issuer_chain)))
            }
            "/IntelSGXRootCA.der" => any.map(|set| (set.root_ca_crl.clone(), "x-none", String::new())),
            "/sgx/certification/v4/rootcacrl" => {
                any.map(|set| (Hex(&set.root_ca_crl).to_string().into_bytes(), "x-none", String::new()))
            }
            _ => None,
        };
        let response = match (fault, found) {
            (Some(PcsFault::Hang), _) => return None,
            (Some(PcsFault::Status(status)), _) => Response::builder().status(status).body(Full::default()),
            (Some(PcsFault::RetryAfter(status, seconds)), _) => {
                Response::builder().status(status).header(RETRY_AFTER, seconds).body(Full::default())
            }
            (None | Some(PcsFault::Truncated), None) => {
                Response::builder().status(StatusCode::NOT_FOUND).body(Full::default())
            }
            (Some(PcsFault::Oversized), _) => Response::builder().body(Full::from(vec![b' '; 2 << 20])),
            (Some(PcsFault::Garbage), _) => Response::builder().body(Full::from("<html>")),
            (Some(PcsFault::NoChain), Some((body, ..))) => Response::builder().body(Full::from(body)),
            (Some(PcsFault::Truncated), Some((mut body, header, chain))) => {
                body.truncate(body.len() / 2);
                Response::builder().header(header, chain).body(Full::from(body))
            }
            (Some(PcsFault::NoChain), None) => Response::builder().body(Full::default()),
            (None, Some((body, header, chain))) => Response::builder().header(header, chain).body(Full::from(body)),
        };
        response.ok()
    }
}

impl<B> Service<Request<B>> for SimulatedPcs {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        match self.answer(target) {
            Some(response) => Box::pin(std::future::ready(Ok(response))),
            None => Box::pin(std::future::pending()),
        }
    }
}

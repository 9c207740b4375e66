//! What `serve` tells whoever runs it.

use std::sync::Arc;

use tower_attest::Attester;
use tower_attest::tls::ListenerHandle;

use super::Serve;
use super::certificate::CertificateStatus;
use super::route::Route;
use crate::admin::Admin;
use crate::admin::checks::{AttesterCheck, CertificateCheck, UpstreamCheck, WorkersCheck};
use crate::admin::metrics::Metrics;
use crate::admin::metrics::attesting::{self, Attesting};
use crate::admin::metrics::believing::Believing;
use crate::admin::metrics::workers;
use crate::admin::ready::Check;
use crate::lifecycle::Lifecycle;
use crate::proxy::meter::Meter;

/// What is counted as it happens, from before the hardware is asked for the first time.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    pub(super) attesting: Attesting,
    /// Of workers that prove what they are.
    pub(super) believing: Believing,
    pub(super) meter: Meter,
}

impl Serve {
    pub(super) fn counters(&self) -> Counters {
        let meter = Meter::new(self.limits.max_connections);
        Counters { attesting: Attesting::new(), believing: Believing::new(), meter }
    }

    /// It is about to listen: from where to read how it does.
    pub(super) fn tell(
        &self,
        admin: &Admin,
        counters: &Counters,
        attester: &Attester,
        (listener, certificate): (ListenerHandle, CertificateStatus),
        route: &Route,
        lifecycle: &Lifecycle,
    ) {
        let about = [("command", "serve"), ("platform", attester.platform().name())];
        let mut metrics = Metrics::new(&about, &counters.meter, lifecycle.reloads());
        counters.attesting.register(metrics.own(), attester);
        attesting::handshakes(metrics.own(), listener);
        attesting::certificate(metrics.own(), certificate.clone());
        let upstream: Arc<dyn Check> = match route {
            Route::Plain(backend) => Arc::new(UpstreamCheck(backend.connector().clone())),
            Route::Workers(balancer) => {
                counters.believing.register(metrics.own());
                let read = Arc::clone(balancer);
                workers::register(metrics.own(), move || read.stats());
                Arc::new(WorkersCheck(Arc::clone(balancer)))
            }
        };
        let attester = Arc::new(AttesterCheck(attester.clone()));
        admin.serving(vec![attester, upstream, Arc::new(CertificateCheck(certificate))], metrics);
    }
}

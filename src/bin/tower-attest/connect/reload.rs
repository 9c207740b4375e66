//! SIGHUP at `connect`: the policy is read again, and the root certificates with it.

use std::sync::Arc;
use std::time::Duration;

use super::Connect;
use super::backend::{AttestedBackend, Far, Route, Way};
use crate::failure::Failure;
use crate::lifecycle::Lifecycle;

/// How long requests that came before a channel was replaced may take to get under way on it.
const UNDER_WAY: Duration = Duration::from_secs(1);

impl Connect {
    pub(super) fn reload_on_signal(self: &Arc<Self>, lifecycle: &Lifecycle, backend: AttestedBackend) {
        let connect = Arc::clone(self);
        lifecycle.reloads().add("policy", move || {
            let (connect, backend) = (Arc::clone(&connect), backend.clone());
            async move { connect.reload(&backend).await }
        });
    }

    /// From its end on nothing is sent under the policy before. Rules change in place: open connections are attested anew
    /// before their next request. Another name, configuration, platform or root is another far end, reached by new
    /// connections; exchanges that run on the old ones go on.
    async fn reload(&self, backend: &AttestedBackend) -> Result<(), Failure> {
        let route = backend.route();
        let before = &route.far.believer;
        let believer = self.trust.reopen(before)?;
        // Everything that can fail comes before anything that changes.
        let far = Far::new(route.far.uri.clone(), believer, route.far.meter.clone());
        let way = match self.sealed {
            true => Way::Sealed(Box::new(far.sealer()?)),
            false => Way::Channel(self.lazy_channel(&far).map_err(|error| Failure::during("--to", &error))?),
        };
        far.believer.ready().await;
        if !far.believer.take_over(before) {
            backend.replace(Route { way, far });
            tokio::time::sleep(UNDER_WAY).await;
            before.retire();
        }
        Ok(())
    }
}

//! What `serve` says of itself when it starts.

use std::fmt;
use std::net::SocketAddr;

use tower_attest::{Attester, Nonce, Platform};

use super::config::EffectiveConfig;
use super::redirect::Redirect;
use super::{Front, Serve, hardware};
use crate::banner::line;
use crate::failure::Failure;

/// What this machine's own report says. Nobody has verified it here.
#[derive(Debug)]
pub(crate) struct Identity {
    platform: Platform,
    measurement: [u8; 48],
    tcb: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.platform, hex::encode(self.measurement))
    }
}

/// Asks the hardware, as a client would.
pub(crate) async fn identity(attester: &Attester) -> Result<Identity, Failure> {
    let evidence = attester
        .evidence(&Nonce::from_bytes([0; 32]), None)
        .await
        .map_err(|error| Failure::during("the hardware", &error))?;
    let (measurement, tcb) = hardware::identity(&evidence.report)?;
    Ok(Identity { platform: evidence.report.platform().clone(), measurement, tcb })
}

/// On standard output, 80 columns. `listening` comes last: whoever reads it may connect.
pub(super) fn print(
    serve: &Serve,
    identity: &Identity,
    config: &EffectiveConfig,
    front: &Front,
    listening: SocketAddr,
) {
    let simulated = serve.platform.is_simulated();
    let platform = if simulated { format!("{} (simulated)", identity.platform) } else { identity.platform.to_string() };
    let measurement = hex::encode(identity.measurement);
    let (first, second) = measurement.split_at(measurement.len() / 2);
    let names: Vec<_> = serve.host_names().collect();
    line("platform", &platform);
    line("measurement", first);
    line("", second);
    line("tcb", &identity.tcb);
    line("names", &names.join(", "));
    line("config", &hex::encode(config.digest()));
    for (position, upstream) in serve.upstreams.iter().enumerate() {
        let spoken = if upstream.is_worker() { "attested".to_owned() } else { serve.upstream_protocol.to_string() };
        line(if position == 0 { "upstream" } else { "" }, &format!("{upstream} ({spoken})"));
    }
    if let Some(certificate) = front.certificate.describe() {
        line("certificate", &certificate);
    }
    if let Some(addr) = front.redirect.as_ref().and_then(Redirect::local_addr) {
        line("redirecting", &addr.to_string());
    }
    if simulated {
        tracing::warn!("simulated hardware: this server proves nothing");
    }
    let config = hex::encode(config.digest());
    tracing::info!(%platform, measurement, config, address = %listening, "serving");
    line("listening", &listening.to_string());
}

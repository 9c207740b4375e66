//! Reads the exporter of one's own end of a TLS connection, and makes the two settings that both ends share.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{ConnectionCommon, ProtocolVersion, SideData, SupportedProtocolVersion};

use crate::protocol::{ChannelBinding, EXPORTER_LABEL};

/// TLS 1.3 and nothing else: only its exporters are bound to the whole handshake (RFC 8446, section 7.5; RFC 9266).
pub(super) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// aws-lc-rs, whatever the process's default provider is.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The exporter of a connection whose handshake is complete.
///
/// # Errors
///
/// The handshake is not complete, or the connection is not TLS 1.3 (a config of the user's own may allow more).
pub(super) fn channel_binding<S: SideData>(connection: &ConnectionCommon<S>) -> Result<ChannelBinding, rustls::Error> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(rustls::Error::General(format!(
            "channel binding: expected TLS 1.3, found {:?}",
            connection.protocol_version()
        )));
    }
    let exporter = connection.export_keying_material([0; 32], EXPORTER_LABEL, None)?;
    Ok(ChannelBinding::from_tls_exporter(exporter))
}

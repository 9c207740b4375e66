//! What a CA finds when it checks that this server answers for its names: over TLS (RFC 8737) and over HTTP (RFC 8555).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use instant_acme::{Identifier, KeyAuthorization};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tower_attest::BoxError;

/// The challenges that are open. Clones share them; outside an order there are none.
#[derive(Clone, Default)]
pub(crate) struct Challenges {
    open: Arc<RwLock<Open>>,
}

#[derive(Default)]
struct Open {
    /// Key authorizations by token.
    http: HashMap<String, String>,
    /// Certificates by the name in the hello.
    tls: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// What to answer to a request for `/.well-known/acme-challenge/TOKEN`.
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).http.get(token).cloned()
    }

    /// A place for one order's challenges, which go when it is dropped.
    pub(super) fn order(&self) -> OrderChallenges {
        OrderChallenges { challenges: self.clone() }
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.open.read().unwrap_or_else(PoisonError::into_inner).tls.get(&name).cloned()
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

/// The challenges of one order. One order runs at a time.
pub(super) struct OrderChallenges {
    challenges: Challenges,
}

impl OrderChallenges {
    pub(super) fn put_http(&self, token: &str, authorization: &KeyAuthorization) {
        let mut open = self.challenges.open.write().unwrap_or_else(PoisonError::into_inner);
        open.http.insert(token.to_owned(), authorization.as_str().to_owned());
    }

    pub(super) fn put_tls(&self, identifier: &Identifier, authorization: &KeyAuthorization) -> Result<(), BoxError> {
        let (name, hello) = match identifier {
            Identifier::Dns(name) => (name.clone(), name.to_ascii_lowercase()),
            Identifier::Ip(ip) => (ip.to_string(), reverse(*ip)),
            other => return Err(format!("expected a challenge for a name or an address, found {other:?}").into()),
        };
        let key = Arc::new(certificate(name, authorization.digest().as_ref())?);
        self.challenges.open.write().unwrap_or_else(PoisonError::into_inner).tls.insert(hello, key);
        Ok(())
    }
}

impl Drop for OrderChallenges {
    fn drop(&mut self) {
        *self.challenges.open.write().unwrap_or_else(PoisonError::into_inner) = Open::default();
    }
}

/// RFC 8737, section 3: self-signed, for the one name, with the digest of the key authorization in a critical extension.
fn certificate(name: String, digest: &[u8]) -> Result<CertifiedKey, BoxError> {
    let digest: &[u8; 32] = digest.try_into()?;
    let mut params = rcgen::CertificateParams::new([name])?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    // Not `from_der`, which refuses a certificate with a critical extension that it does not know.
    let key = any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

/// An address as the hello has it (RFC 8738, section 6): its name in the reverse zone of DNS.
fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits = ip.octets().into_iter().rev().flat_map(|byte| [byte & 0xf, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_name_in_the_reverse_zone() {
        assert_eq!(reverse([192, 0, 2, 1].into()), "1.2.0.192.in-addr.arpa");
        // The example of RFC 8738, section 6.
        assert_eq!(
            reverse("2001:db8::1".parse().unwrap()),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn a_challenges_certificate_names_the_host_alone_and_has_the_digest() {
        let key = certificate("prover.example".to_owned(), &[7; 32]).unwrap();
        let der = key.end_entity_cert().unwrap();
        let expected = [&[0x04, 0x22, 0x04, 0x20][..], &[7; 32]].concat();
        assert!(der.windows(expected.len()).any(|window| window == expected));
        let name = [&[0x82, 14][..], b"prover.example"].concat();
        assert_eq!(der.windows(name.len()).filter(|window| *window == name).count(), 1);
        assert!(certificate("prover.example".to_owned(), &[7; 31]).is_err());
    }

    #[test]
    fn challenges_go_with_their_order() {
        let challenges = Challenges::default();
        let order = challenges.order();
        challenges.open.write().unwrap().http.insert("token".to_owned(), "token.thumb".to_owned());
        assert_eq!(challenges.answer("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.answer("other"), None);
        drop(order);
        assert_eq!(challenges.answer("token"), None);
    }
}

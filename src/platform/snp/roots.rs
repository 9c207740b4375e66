//! AMD's roots and intermediate certificates, pinned by embedding them.
//!
//! They are AMD's published material, as `https://kdsintf.amd.com/{vcek,vlek}/v1/{product}/cert_chain` serves it:
//! ARK (AMD root key, self-signed), ASK (signs VCEKs) and ASVK (signs VLEKs) of each product.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::cert::VekKind;
use super::tcb::Product;
use crate::der::{self, Reader};

/// The certificates that chains of one product may use.
#[derive(Debug, Clone)]
pub(super) struct ProductRoots {
    pub(super) product: Product,
    pub(super) anchor: TrustAnchor<'static>,
    pub(super) ark_validity: [SystemTime; 2],
    ask: Intermediate,
    asvk: Intermediate,
}

/// An ASK or ASVK.
#[derive(Debug, Clone)]
pub(super) struct Intermediate {
    pub(super) der: CertificateDer<'static>,
    pub(super) validity: [SystemTime; 2],
    pub(super) subject: Vec<u8>,
}

/// The roots of every product that a verifier knows.
#[derive(Debug, Clone)]
pub(super) struct Roots(Vec<ProductRoots>);

macro_rules! embedded {
    ($product:literal, $role:literal) => {
        include_bytes!(concat!("roots/", $product, "-", $role, ".der"))
    };
}

/// ARK, ASK and ASVK of each product, DER.
const AMD: [(Product, [&[u8]; 3]); 3] = [
    (Product::Milan, [embedded!("milan", "ark"), embedded!("milan", "ask"), embedded!("milan", "asvk")]),
    (Product::Genoa, [embedded!("genoa", "ark"), embedded!("genoa", "ask"), embedded!("genoa", "asvk")]),
    (Product::Turin, [embedded!("turin", "ark"), embedded!("turin", "ask"), embedded!("turin", "asvk")]),
];

impl Roots {
    /// AMD's own. Nothing else verifies real hardware.
    #[expect(clippy::expect_used, reason = "the embedded certificates are constants, and a test reads them")]
    pub(super) fn amd() -> Arc<Self> {
        static ROOTS: LazyLock<Arc<Roots>> =
            LazyLock::new(|| Arc::new(Roots::read(&AMD).expect("AMD's embedded certificates")));
        Arc::clone(&ROOTS)
    }

    /// Reads ARK, ASK and ASVK of each product; `None` if one does not parse.
    pub(super) fn read(chains: &[(Product, [&[u8]; 3])]) -> Option<Self> {
        let read = |(product, [ark, ask, asvk]): &(Product, [&[u8]; 3])| {
            let ark = CertificateDer::from(ark.to_vec());
            let (ark_validity, _) = facts(&ark)?;
            let anchor = webpki::anchor_from_trusted_cert(&ark).ok()?.to_owned();
            Some(ProductRoots {
                product: *product,
                anchor,
                ark_validity,
                ask: Intermediate::read(ask)?,
                asvk: Intermediate::read(asvk)?,
            })
        };
        chains.iter().map(read).collect::<Option<_>>().map(Self)
    }

    /// The certificates of `product`.
    pub(super) fn of(&self, product: Product) -> Option<&ProductRoots> {
        self.0.iter().find(|roots| roots.product == product)
    }

    /// The certificates whose ARK has this subject (contents of the name).
    pub(super) fn by_ark(&self, subject: &[u8]) -> Option<&ProductRoots> {
        self.0.iter().find(|roots| roots.anchor.subject.as_ref() == subject)
    }
}

impl ProductRoots {
    /// The certificate that issues VEKs of `kind`.
    pub(super) fn issuer(&self, kind: VekKind) -> &Intermediate {
        match kind {
            VekKind::Vcek => &self.ask,
            VekKind::Vlek => &self.asvk,
        }
    }

    /// The ARK's key: DER of RSAPublicKey.
    pub(super) fn ark_key(&self) -> Option<&[u8]> {
        let mut key = Reader::new(self.anchor.subject_public_key_info.as_ref());
        key.expect(der::SEQUENCE)?;
        key.expect(der::BIT_STRING)?.strip_prefix(&[0])
    }
}

impl Intermediate {
    fn read(der: &[u8]) -> Option<Self> {
        let der = CertificateDer::from(der.to_vec());
        let (validity, subject) = facts(&der)?;
        Some(Self { validity, subject, der })
    }
}

/// Validity and subject of a certificate.
fn facts(certificate: &[u8]) -> Option<([SystemTime; 2], Vec<u8>)> {
    let mut tbs = Reader::new(Reader::new(Reader::new(certificate).expect(der::SEQUENCE)?).expect(der::SEQUENCE)?);
    tbs.expect(0xa0)?;
    tbs.expect(der::INTEGER)?;
    tbs.expect(der::SEQUENCE)?;
    tbs.expect(der::SEQUENCE)?;
    let mut validity = Reader::new(tbs.expect(der::SEQUENCE)?);
    let validity = [validity.time()?, validity.time()?];
    Some((validity, tbs.expect(der::SEQUENCE)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    /// SHA-256 of the nine certificates as AMD publishes them.
    const PINNED: [(Product, [&str; 3]); 3] = [
        (
            Product::Milan,
            [
                "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
                "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
                "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
            ],
        ),
        (
            Product::Genoa,
            [
                "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
                "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
                "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
            ],
        ),
        (
            Product::Turin,
            [
                "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
                "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
                "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
            ],
        ),
    ];

    #[test]
    fn the_embedded_certificates_are_amds() {
        for ((product, chain), (expected_product, digests)) in AMD.iter().zip(PINNED) {
            assert_eq!(*product, expected_product);
            for (certificate, digest) in chain.iter().zip(digests) {
                assert_eq!(hex::encode(sha256(&[certificate])), digest, "{product}");
            }
        }
    }

    #[test]
    fn every_product_has_its_own_roots() {
        let roots = Roots::amd();
        for product in Product::ALL {
            let of = roots.of(product).unwrap();
            let name = |subject: &[u8]| String::from_utf8_lossy(subject).into_owned();
            assert!(name(&of.anchor.subject).ends_with(&format!("ARK-{product}")));
            assert!(name(&of.issuer(VekKind::Vcek).subject).ends_with(&format!("SEV-{product}")));
            assert!(name(&of.issuer(VekKind::Vlek).subject).ends_with(&format!("SEV-VLEK-{product}")));
            assert_eq!(roots.by_ark(&of.anchor.subject).unwrap().product, product);
            assert!(of.ark_key().is_some());
        }
        assert!(roots.by_ark(b"").is_none());
    }
}

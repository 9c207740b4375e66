//! The simulator's certificate authority: ARK, ASK and ASVK of each product, what they sign, and their revocation lists.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::super::cert::VekKind;
use super::super::roots::Roots;
use super::super::tcb::{Product, Tcb};
use crate::crypto::sha384;
use crate::crypto::snp::sign::{EcKey, RsaKey};
use crate::crypto::snp::{PSS_SHA384, PSS_SHA384_EXPLICIT_TRAILER};
use crate::der::write::{bit_string, element, extension, ia5, integer, sequence, time};

/// A certificate authority with the structure of AMD's and keys of its own, which everybody knows.
///
/// All values of this type are the same authority. A verifier trusts it only if made by
/// [`SnpVerifier::trusting_simulator`](super::super::SnpVerifier::trusting_simulator).
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SimulatedAmd;

/// The two encodings of RSASSA-PSS that AMD's certificates show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PssEncoding {
    /// Certificates issued up to 2024: the default trailerField is spelled out.
    ExplicitTrailer,
    /// Later ones: it is left out, as DER wants.
    #[default]
    Default,
}

/// A certificate of the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// AMD root key.
    Ark,
    /// Signs VCEKs.
    Ask,
    /// Signs VLEKs.
    Asvk,
}

/// What a VEK certificate of the simulator says. Every field may be set; the defaults are those of a genuine one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VekSpec {
    /// Whose roots sign, and how the TCB is encoded.
    pub product: Product,
    /// VCEK or VLEK.
    pub kind: VekKind,
    /// The chip id of a VCEK, or the `cspID` of a VLEK as bytes: the key derives from it.
    pub id: Vec<u8>,
    /// The security patch levels: the key derives from them.
    pub tcb: Tcb,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// How the signature algorithm is encoded.
    pub encoding: PssEncoding,
    /// `productName`.
    pub product_name: String,
    /// Extensions in place of the genuine ones.
    #[cfg(test)]
    pub(in super::super) extensions: Option<Vec<u8>>,
    /// A subjectPublicKeyInfo in place of the genuine one.
    #[cfg(test)]
    pub(in super::super) key_info: Option<Vec<u8>>,
}

struct Line {
    product: Product,
    keys: [RsaKey; 3],
    certificates: [Vec<u8>; 3],
}

static LINES: LazyLock<[Line; 3]> = LazyLock::new(|| Product::ALL.map(Line::new));
static ROOTS: LazyLock<Arc<Roots>> = LazyLock::new(|| {
    let chains = LINES.each_ref().map(|line| (line.product, line.certificates.each_ref().map(Vec::as_slice)));
    #[expect(clippy::expect_used, reason = "the simulator's own certificates, which its tests read")]
    Arc::new(Roots::read(&chains).expect("the simulator's certificates"))
});

impl SimulatedAmd {
    /// The authority.
    pub fn new() -> Self {
        Self
    }

    /// The certificate (DER) of ARK, ASK or ASVK for `product`.
    pub fn certificate(&self, product: Product, authority: Authority) -> Vec<u8> {
        line(product).certificates.each_ref().map(Vec::clone).into_iter().nth(authority.position()).unwrap_or_default()
    }

    /// The VCEK certificate (DER) of the chip `chip_id` (on Turin its first 8 bytes are used) at `tcb`.
    pub fn vcek(&self, product: Product, chip_id: &[u8; 64], tcb: Tcb) -> Vec<u8> {
        self.issue(&VekSpec::vcek(product, chip_id, tcb))
    }

    /// The VLEK certificate (DER) of a provider, for example `CN=cc-us-east-2.amazonaws.com`, at `tcb`.
    pub fn vlek(&self, product: Product, csp_id: &str, tcb: Tcb) -> Vec<u8> {
        self.issue(&VekSpec::vlek(product, csp_id, tcb))
    }

    /// A certificate as `spec` describes it, signed by the authority that its kind calls for.
    pub fn issue(&self, spec: &VekSpec) -> Vec<u8> {
        let line = line(spec.product);
        let (issuer, issuer_name, subject) = match spec.kind {
            VekKind::Vcek => (Authority::Ask, format!("SEV-{}", spec.product), "SEV-VCEK"),
            VekKind::Vlek => (Authority::Asvk, format!("SEV-VLEK-{}", spec.product), "SEV-VLEK"),
        };
        let key = spec.key();
        // secp384r1 with the uncompressed point.
        let algorithm = sequence(&[&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22]]);
        let key_info = sequence(&[&algorithm, &bit_string(key.public_key())]);
        let extensions = spec.extensions();
        #[cfg(test)]
        let key_info = spec.key_info.clone().unwrap_or(key_info);
        #[cfg(test)]
        let extensions = spec.extensions.clone().unwrap_or(extensions);
        let tbs = sequence(&[
            &[0xa0, 3, 2, 1, 2],
            &integer(0),
            &spec.encoding.algorithm(),
            &name(&issuer_name),
            &sequence(&[&time(spec.not_before), &time(spec.not_after)]),
            &name(subject),
            &key_info,
            &element(0xa3, &[&sequence(&[&extensions])]),
        ]);
        signed(&tbs, spec.encoding, line.key(issuer))
    }

    /// The revocation list (DER) of `product`'s ARK, naming `revoked`.
    pub fn crl(
        &self,
        product: Product,
        revoked: &[Authority],
        this_update: SystemTime,
        next_update: SystemTime,
    ) -> Vec<u8> {
        let encoding = PssEncoding::Default;
        let entry = |authority: &Authority| sequence(&[&integer(authority.serial(product)), &time(this_update)]);
        let entries: Vec<u8> = revoked.iter().flat_map(entry).collect();
        let entries = if entries.is_empty() { Vec::new() } else { sequence(&[&entries]) };
        let line = line(product);
        let number = extension(&[0x55, 0x1d, 0x14], false, &integer(1));
        let tbs = sequence(&[
            &integer(1),
            &encoding.algorithm(),
            &name(&format!("ARK-{product}")),
            &time(this_update),
            &time(next_update),
            &entries,
            &element(0xa0, &[&sequence(&[&authority_key_id(line.key(Authority::Ark)), &number])]),
        ]);
        signed(&tbs, encoding, line.key(Authority::Ark))
    }

    pub(in super::super) fn roots(self) -> Arc<Roots> {
        Arc::clone(&ROOTS)
    }
}

impl VekSpec {
    /// A genuine VCEK certificate.
    pub fn vcek(product: Product, chip_id: &[u8; 64], tcb: Tcb) -> Self {
        let id = chip_id.iter().copied().take(product.chip_id_len()).collect();
        let product_name = match product {
            Product::Milan => "Milan-B0",
            Product::Genoa => "Genoa",
            Product::Turin => "Turin",
        };
        Self::new(product, VekKind::Vcek, id, tcb, product_name)
    }

    /// A genuine VLEK certificate.
    pub fn vlek(product: Product, csp_id: &str, tcb: Tcb) -> Self {
        Self::new(product, VekKind::Vlek, csp_id.as_bytes().to_vec(), tcb, product.name())
    }

    fn new(product: Product, kind: VekKind, id: Vec<u8>, tcb: Tcb, product_name: &str) -> Self {
        let (not_before, not_after) = (from_2020(3), from_2020(24));
        let encoding = PssEncoding::Default;
        Self {
            product,
            kind,
            id,
            tcb,
            not_before,
            not_after,
            encoding,
            product_name: product_name.to_owned(),
            #[cfg(test)]
            extensions: None,
            #[cfg(test)]
            key_info: None,
        }
    }

    /// The key that the product's firmware would derive: one for each product, kind, chip or provider, and TCB.
    pub(super) fn key(&self) -> EcKey {
        let raw = self.tcb.encode(self.product);
        EcKey::from_scalar(sha384(&[
            b"tower-attest simulated VEK",
            self.product.name().as_bytes(),
            self.kind.to_string().as_bytes(),
            raw.as_bytes(),
            &self.id,
        ]))
    }

    /// AMD's extensions, in the order and encodings of real certificates.
    pub(in super::super) fn extensions(&self) -> Vec<u8> {
        let amd = |suffix: &[u8], value: &[u8]| {
            let oid = [&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01], suffix].concat();
            extension(&oid, false, value)
        };
        let spl = |component: u8, level: u8| amd(&[3, component], &integer(u64::from(level)));
        let tcb = self.tcb;
        let struct_version = if self.product == Product::Turin { 1 } else { 0 };
        let mut out = vec![amd(&[1], &integer(struct_version)), amd(&[2], &ia5(&self.product_name))];
        match self.product {
            Product::Milan | Product::Genoa => {
                out.extend([spl(1, tcb.bootloader), spl(2, tcb.tee), spl(4, 0), spl(5, 0), spl(6, 0), spl(7, 0)]);
                out.extend([spl(3, tcb.snp), spl(8, tcb.microcode)]);
            }
            Product::Turin => {
                out.extend([spl(9, tcb.fmc.unwrap_or_default()), spl(1, tcb.bootloader), spl(2, tcb.tee)]);
                out.extend([spl(3, tcb.snp), spl(5, 0), spl(6, 0), spl(7, 0), spl(8, tcb.microcode)]);
            }
        }
        out.push(match self.kind {
            VekKind::Vcek => amd(&[4], &self.id),
            VekKind::Vlek => amd(&[5], &element(0x16, &[&self.id])),
        });
        out.concat()
    }
}

impl PssEncoding {
    fn algorithm(self) -> Vec<u8> {
        sequence(&[match self {
            Self::ExplicitTrailer => PSS_SHA384_EXPLICIT_TRAILER.as_ref(),
            Self::Default => PSS_SHA384.as_ref(),
        }])
    }
}

impl Authority {
    fn position(self) -> usize {
        match self {
            Self::Ark => 0,
            Self::Ask => 1,
            Self::Asvk => 2,
        }
    }

    /// Serial numbers as AMD gives them: the product, then 0x0000, 0x0001 or 0x0101.
    fn serial(self, product: Product) -> u64 {
        let line = match product {
            Product::Milan => 0x01_0000,
            Product::Genoa => 0x02_0000,
            Product::Turin => 0x03_0000,
        };
        line + match self {
            Self::Ark => 0,
            Self::Ask => 0x0001,
            Self::Asvk => 0x0101,
        }
    }
}

macro_rules! keys {
    ($product:literal) => {
        [
            RsaKey::from_pkcs8(include_bytes!(concat!("keys/", $product, "-ark.pk8"))),
            RsaKey::from_pkcs8(include_bytes!(concat!("keys/", $product, "-ask.pk8"))),
            RsaKey::from_pkcs8(include_bytes!(concat!("keys/", $product, "-asvk.pk8"))),
        ]
    };
}

impl Line {
    fn new(product: Product) -> Self {
        let keys = match product {
            Product::Milan => keys!("milan"),
            Product::Genoa => keys!("genoa"),
            Product::Turin => keys!("turin"),
        };
        let [ark, ask, asvk] = &keys;
        let certificates = [
            authority_certificate(product, Authority::Ark, ark, ark),
            authority_certificate(product, Authority::Ask, ask, ark),
            authority_certificate(product, Authority::Asvk, asvk, ark),
        ];
        Self { product, keys, certificates }
    }

    fn key(&self, authority: Authority) -> &RsaKey {
        let [ark, ask, asvk] = &self.keys;
        match authority {
            Authority::Ark => ark,
            Authority::Ask => ask,
            Authority::Asvk => asvk,
        }
    }
}

fn line(product: Product) -> &'static Line {
    let [milan, genoa, turin] = &*LINES;
    match product {
        Product::Milan => milan,
        Product::Genoa => genoa,
        Product::Turin => turin,
    }
}

fn authority_certificate(product: Product, authority: Authority, key: &RsaKey, ark: &RsaKey) -> Vec<u8> {
    let subject = match authority {
        Authority::Ark => format!("ARK-{product}"),
        Authority::Ask => format!("SEV-{product}"),
        Authority::Asvk => format!("SEV-VLEK-{product}"),
    };
    let extensions = match authority {
        Authority::Ark => [
            extension(&[0x55, 0x1d, 0x0f], true, &[3, 2, 1, 0x06]),
            subject_key_id(key),
            extension(&[0x55, 0x1d, 0x13], true, &[0x30, 3, 1, 1, 0xff]),
        ]
        .concat(),
        Authority::Ask | Authority::Asvk => [
            subject_key_id(key),
            authority_key_id(ark),
            extension(&[0x55, 0x1d, 0x13], true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0]),
            extension(&[0x55, 0x1d, 0x0f], true, &[3, 2, 1, 0x04]),
        ]
        .concat(),
    };
    let algorithm = sequence(&[&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0]]);
    let tbs = sequence(&[
        &[0xa0, 3, 2, 1, 2],
        &integer(authority.serial(product)),
        &PssEncoding::ExplicitTrailer.algorithm(),
        &name(&format!("ARK-{product}")),
        &sequence(&[&time(from_2020(0)), &time(from_2020(25))]),
        &name(&subject),
        &sequence(&[&algorithm, &bit_string(key.public_key())]),
        &element(0xa3, &[&sequence(&[&extensions])]),
    ]);
    signed(&tbs, PssEncoding::ExplicitTrailer, ark)
}

fn signed(tbs: &[u8], encoding: PssEncoding, key: &RsaKey) -> Vec<u8> {
    sequence(&[tbs, &encoding.algorithm(), &bit_string(&key.sign(tbs))])
}

fn key_id(key: &RsaKey) -> Vec<u8> {
    sha384(&[key.public_key()]).into_iter().take(20).collect()
}

fn subject_key_id(key: &RsaKey) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x0e], false, &element(0x04, &[&key_id(key)]))
}

fn authority_key_id(key: &RsaKey) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x23], false, &sequence(&[&element(0x80, &[&key_id(key)])]))
}

/// A day in January or December, this many years of 365.25 days after the start of 2020.
fn from_2020(years: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800 + years * 31_557_600)
}

/// A name as AMD's certificates spell it, with this common name.
fn name(common_name: &str) -> Vec<u8> {
    let part = |attribute: u8, tag: u8, text: &str| {
        let oid = element(0x06, &[&[0x55, 0x04, attribute]]);
        element(0x31, &[&sequence(&[&oid, &element(tag, &[text.as_bytes()])])])
    };
    sequence(&[
        &part(11, 0x0c, "Engineering"),
        &part(6, 0x13, "US"),
        &part(7, 0x0c, "Santa Clara"),
        &part(8, 0x0c, "CA"),
        &part(10, 0x0c, "Advanced Micro Devices"),
        &part(3, 0x0c, common_name),
    ])
}

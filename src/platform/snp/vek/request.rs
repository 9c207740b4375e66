//! What a source is asked for, built only from fields of a report that make sense.

use std::fmt;

use super::{EndorsementError, EndorsementErrorKind};
use crate::platform::snp::{Product, RawTcb, ReportView, SigningKey};
use crate::report::Hex;
use crate::verifier::VerifyError;

/// Judges a certificate (DER) the way the verifier judges a stapled one: chain, dates, revocation, and its extensions
/// against the report.
type Check<'a> = dyn Fn(&[u8]) -> Result<(), VerifyError> + Send + Sync + 'a;

/// A request for one VCEK, with the check that its certificate must pass.
///
/// Only a verifier makes one, from a report that it has parsed.
#[derive(Clone, Copy)]
pub struct VekRequest<'a> {
    id: VekId,
    check: &'a Check<'a>,
}

impl<'a> VekRequest<'a> {
    /// The VCEK that signed `report`, by a chip of `product`. The report names its product from version 3 on; before,
    /// the caller must know it.
    ///
    /// # Errors
    ///
    /// `NotFound`, without anything being asked for: the report was not signed by a VCEK, names another product, its
    /// chip id is masked (all zero) or has bytes that the product does not, or a reserved byte of REPORTED_TCB is set.
    pub(crate) fn new(report: &ReportView, product: Product, check: &'a Check<'a>) -> Result<Self, EndorsementError> {
        if report.signing_key() != SigningKey::Vcek {
            return Err(not_found(format!(
                "expected a report signed by a VCEK, found {}: only a VCEK can be fetched, a VLEK comes from the host",
                report.signing_key()
            )));
        }
        if let Some(found) = report.product().filter(|found| *found != product) {
            return Err(not_found(format!("expected a report of {product}, found {found}")));
        }
        let id = VekId::new(product, report.chip_id(), report.reported_tcb())?;
        Ok(Self { id, check })
    }

    #[cfg(test)]
    pub(super) fn of(id: VekId, check: &'a Check<'a>) -> Self {
        Self { id, check }
    }

    /// Which certificate is wanted: the key to keep it by.
    pub fn id(&self) -> VekId {
        self.id
    }

    /// Whether `der` is the certificate that is wanted, by the verifier's own rules and at its time.
    ///
    /// # Errors
    ///
    /// `Refused`, with the verifier's refusal as source.
    pub fn check(&self, der: &[u8]) -> Result<(), EndorsementError> {
        (self.check)(der).map_err(|refusal| {
            EndorsementError::with_source(
                EndorsementErrorKind::Refused,
                format!("certificate for {}", self.id),
                refusal,
            )
        })
    }
}

impl fmt::Debug for VekRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VekRequest").field(&self.id).finish()
    }
}

/// Which VCEK: a product, a chip and the TCB that it reported.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VekId {
    product: Product,
    chip_id: [u8; 64],
    reported_tcb: RawTcb,
}

impl VekId {
    pub(super) fn new(product: Product, chip_id: [u8; 64], reported_tcb: RawTcb) -> Result<Self, EndorsementError> {
        if chip_id.iter().all(|byte| *byte == 0) {
            return Err(not_found("CHIP_ID is masked (all zero): no VCEK can be asked for, staple one".to_owned()));
        }
        let id = Self { product, chip_id, reported_tcb };
        let unused = chip_id.get(id.hwid().len()..).unwrap_or_default();
        if unused.iter().any(|byte| *byte != 0) {
            let expected = id.hwid().len();
            return Err(not_found(format!(
                "expected a CHIP_ID of {expected} bytes for {product}, found {}",
                Hex(&chip_id)
            )));
        }
        if reported_tcb.decode(product).encode(product) != reported_tcb {
            return Err(not_found(format!(
                "expected zero in the bytes of REPORTED_TCB that {product} reserves, found {}",
                Hex(reported_tcb.as_bytes())
            )));
        }
        Ok(id)
    }

    /// The product line.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The chip's identity as AMD's URLs use it: the 64 bytes of CHIP_ID, on Turin its first 8.
    pub fn hwid(&self) -> &[u8] {
        self.chip_id.get(..self.product.chip_id_len()).unwrap_or(&self.chip_id)
    }

    /// The components of REPORTED_TCB by their names in AMD's URLs (`blSPL`, `teeSPL`, `snpSPL`, `ucodeSPL`; on Turin
    /// `fmcSPL` first).
    pub fn spls(&self) -> impl Iterator<Item = (&'static str, u8)> + use<> {
        let tcb = self.reported_tcb.decode(self.product);
        let others = [("blSPL", tcb.bootloader), ("teeSPL", tcb.tee), ("snpSPL", tcb.snp), ("ucodeSPL", tcb.microcode)];
        tcb.fmc.map(|fmc| ("fmcSPL", fmc)).into_iter().chain(others)
    }
}

fn not_found(message: String) -> EndorsementError {
    EndorsementError::new(EndorsementErrorKind::NotFound, message)
}

impl fmt::Debug for VekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VekId({self})")
    }
}

impl fmt::Display for VekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VCEK of {} chip {}", self.product(), Hex(self.hwid()))?;
        self.spls().try_for_each(|(name, spl)| write!(f, " {name}={spl}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chip(significant: usize) -> [u8; 64] {
        std::array::from_fn(|i| if i < significant { 0xa0 + i as u8 % 16 } else { 0 })
    }

    fn id(product: Product, chip_id: [u8; 64], tcb: [u8; 8]) -> Result<VekId, EndorsementError> {
        VekId::new(product, chip_id, RawTcb::new(tcb))
    }

    fn refused<T: fmt::Debug>(outcome: Result<T, EndorsementError>) -> String {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::NotFound);
        error.to_string()
    }

    fn accept(_: &[u8]) -> Result<(), VerifyError> {
        Ok(())
    }

    /// A version 3 report of Milan, signed by a VCEK.
    fn report(edit: impl FnOnce(&mut [u8])) -> ReportView {
        let mut bytes = vec![0; crate::platform::snp::REPORT_LEN];
        (bytes[0], bytes[0x34]) = (3, 1);
        bytes[0x180..0x188].copy_from_slice(&[3, 0, 0, 0, 0, 0, 8, 115]);
        bytes[0x188] = 0x19;
        bytes[0x1a0..0x1e0].copy_from_slice(&chip(64));
        edit(&mut bytes);
        ReportView::parse(bytes).unwrap()
    }

    #[test]
    fn a_report_names_its_vcek() {
        let request = VekRequest::new(&report(|_| ()), Product::Milan, &accept).unwrap();
        assert_eq!(request.id(), id(Product::Milan, chip(64), [3, 0, 0, 0, 0, 0, 8, 115]).unwrap());
    }

    #[test]
    fn a_report_that_no_vcek_signed_is_refused() {
        for signing_key in [1, 2, 7] {
            let report = report(|bytes| bytes[0x48] = signing_key << 2);
            let message = refused(VekRequest::new(&report, Product::Milan, &accept));
            assert!(message.contains("signed by a VCEK"), "{message}");
        }
    }

    #[test]
    fn a_report_of_another_product_is_refused() {
        assert!(refused(VekRequest::new(&report(|_| ()), Product::Genoa, &accept)).contains("found Milan"));
        let old = report(|bytes| (bytes[0], bytes[0x188]) = (2, 0));
        assert!(VekRequest::new(&old, Product::Genoa, &accept).is_ok(), "version 2 does not name it");
    }

    #[test]
    fn a_report_with_a_masked_chip_id_is_refused() {
        let masked = report(|bytes| bytes[0x1a0..0x1e0].fill(0));
        assert!(refused(VekRequest::new(&masked, Product::Milan, &accept)).contains("masked"));
    }

    #[test]
    fn milan_and_genoa_use_the_whole_chip_id_and_four_components() {
        for product in [Product::Milan, Product::Genoa] {
            let id = id(product, chip(64), [3, 0, 0, 0, 0, 0, 8, 115]).unwrap();
            assert_eq!((id.product(), id.hwid()), (product, &chip(64)[..]));
            let spls: Vec<_> = id.spls().collect();
            assert_eq!(spls, [("blSPL", 3), ("teeSPL", 0), ("snpSPL", 8), ("ucodeSPL", 115)]);
        }
    }

    #[test]
    fn turin_uses_eight_bytes_and_five_components() {
        let id = id(Product::Turin, chip(8), [1, 2, 3, 4, 0, 0, 0, 5]).unwrap();
        assert_eq!(id.hwid(), &chip(8)[..8]);
        let spls: Vec<_> = id.spls().collect();
        assert_eq!(spls, [("fmcSPL", 1), ("blSPL", 2), ("teeSPL", 3), ("snpSPL", 4), ("ucodeSPL", 5)]);
    }

    #[test]
    fn a_long_chip_id_is_refused_for_turin() {
        assert!(refused(id(Product::Turin, chip(9), [0; 8])).contains("8 bytes"));
    }

    #[test]
    fn reserved_bytes_of_the_tcb_are_refused() {
        for product in Product::ALL {
            let reserved = if product == Product::Turin { 4..7 } else { 2..6 };
            for position in reserved {
                let mut tcb = [0; 8];
                tcb[position] = 1;
                assert!(refused(id(product, chip(8), tcb)).contains("reserves"));
            }
        }
    }

    #[test]
    fn a_refused_certificate_keeps_the_verifiers_reason() {
        let check = |_: &[u8]| Err(VerifyError::new(crate::VerifyErrorKind::Mismatch, "another chip"));
        let request = VekRequest::of(id(Product::Milan, chip(64), [0; 8]).unwrap(), &check);
        let error = request.check(b"der").unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::Refused);
        assert_eq!(VerifyError::from(error).kind(), crate::VerifyErrorKind::Mismatch);
    }
}

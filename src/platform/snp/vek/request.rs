//! What a source is asked for, built only from fields of a report that make sense.

use std::fmt;

use super::{EndorsementError, EndorsementErrorKind};
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
    /// The VCEK of the chip `chip_id` (CHIP_ID of the report, 64 bytes) at `reported_tcb` (REPORTED_TCB, 8 bytes as they
    /// stand in the report), by a chip of `product` ("Milan", "Genoa", "Turin": the names in KDS URLs).
    ///
    /// # Errors
    ///
    /// `NotFound`, without anything being fetched: the product is unknown, the chip id is masked (all zero) or has bytes
    /// that the product does not, or a reserved byte of the TCB is set.
    pub(crate) fn vcek(
        product: &str,
        chip_id: &[u8; 64],
        reported_tcb: &[u8; 8],
        check: &'a Check<'a>,
    ) -> Result<Self, EndorsementError> {
        Ok(Self { id: VekId::new(product, chip_id, reported_tcb)?, check })
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
    reported_tcb: [u8; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Product {
    Milan,
    Genoa,
    Turin,
}

impl VekId {
    pub(super) fn new(product: &str, chip_id: &[u8; 64], reported_tcb: &[u8; 8]) -> Result<Self, EndorsementError> {
        let refuse = |message: String| Err(EndorsementError::new(EndorsementErrorKind::NotFound, message));
        let product = match product {
            "Milan" => Product::Milan,
            "Genoa" => Product::Genoa,
            "Turin" => Product::Turin,
            other => return refuse(format!("expected product Milan, Genoa or Turin, found {other:?}")),
        };
        let id = Self { product, chip_id: *chip_id, reported_tcb: *reported_tcb };
        if chip_id.iter().all(|byte| *byte == 0) {
            return refuse("CHIP_ID is masked (all zero): no VCEK can be asked for, staple one".to_owned());
        }
        let unused = chip_id.get(id.hwid().len()..).unwrap_or_default();
        if unused.iter().any(|byte| *byte != 0) {
            return refuse(format!("expected a CHIP_ID of 8 bytes for Turin, found {}", Hex(chip_id)));
        }
        let [_, _, b2, b3, b4, b5, b6, _] = *reported_tcb;
        let reserved = match product {
            Product::Milan | Product::Genoa => [b2, b3, b4, b5],
            Product::Turin => [0, b4, b5, b6],
        };
        if reserved != [0; 4] {
            return refuse(format!("reserved bytes of REPORTED_TCB are set: {}", Hex(reported_tcb)));
        }
        Ok(id)
    }

    /// The product's name in AMD's URLs: `Milan`, `Genoa` or `Turin`.
    pub fn product(&self) -> &'static str {
        match self.product {
            Product::Milan => "Milan",
            Product::Genoa => "Genoa",
            Product::Turin => "Turin",
        }
    }

    /// The chip's identity as AMD's URLs use it: the 64 bytes of CHIP_ID, on Turin its first 8.
    pub fn hwid(&self) -> &[u8] {
        match self.product {
            Product::Milan | Product::Genoa => &self.chip_id,
            Product::Turin => self.chip_id.first_chunk::<8>().map_or(&[], |id| id),
        }
    }

    /// The components of REPORTED_TCB by their names in AMD's URLs (`blSPL`, `teeSPL`, `snpSPL`, `ucodeSPL`; on Turin
    /// `fmcSPL` first).
    pub fn spls(&self) -> impl Iterator<Item = (&'static str, u8)> + use<> {
        let [b0, b1, b2, b3, _, _, b6, ucode] = self.reported_tcb;
        let (fmc, [bl, tee, snp]) = match self.product {
            Product::Milan | Product::Genoa => (None, [b0, b1, b6]),
            Product::Turin => (Some(("fmcSPL", b0)), [b1, b2, b3]),
        };
        fmc.into_iter().chain([("blSPL", bl), ("teeSPL", tee), ("snpSPL", snp), ("ucodeSPL", ucode)])
    }
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

    fn refused(product: &str, chip_id: [u8; 64], tcb: [u8; 8]) -> String {
        let error = VekId::new(product, &chip_id, &tcb).unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::NotFound);
        error.to_string()
    }

    #[test]
    fn milan_and_genoa_use_the_whole_chip_id_and_four_components() {
        for product in ["Milan", "Genoa"] {
            let id = VekId::new(product, &chip(64), &[3, 0, 0, 0, 0, 0, 8, 115]).unwrap();
            assert_eq!((id.product(), id.hwid()), (product, &chip(64)[..]));
            let spls: Vec<_> = id.spls().collect();
            assert_eq!(spls, [("blSPL", 3), ("teeSPL", 0), ("snpSPL", 8), ("ucodeSPL", 115)]);
        }
    }

    #[test]
    fn turin_uses_eight_bytes_and_five_components() {
        let id = VekId::new("Turin", &chip(8), &[1, 2, 3, 4, 0, 0, 0, 5]).unwrap();
        assert_eq!(id.hwid(), &chip(8)[..8]);
        let spls: Vec<_> = id.spls().collect();
        assert_eq!(spls, [("fmcSPL", 1), ("blSPL", 2), ("teeSPL", 3), ("snpSPL", 4), ("ucodeSPL", 5)]);
    }

    #[test]
    fn a_masked_chip_id_is_refused() {
        assert!(refused("Milan", [0; 64], [0; 8]).contains("masked"));
    }

    #[test]
    fn a_long_chip_id_is_refused_for_turin() {
        assert!(refused("Turin", chip(9), [0; 8]).contains("8 bytes"));
    }

    #[test]
    fn an_unknown_product_is_refused() {
        for product in ["", "milan", "Milan-B0", "Venice", "../Milan"] {
            assert!(refused(product, chip(8), [0; 8]).contains("product"));
        }
    }

    #[test]
    fn reserved_bytes_of_the_tcb_are_refused() {
        for (product, reserved) in [("Milan", vec![2, 3, 4, 5]), ("Genoa", vec![2, 3, 4, 5]), ("Turin", vec![4, 5, 6])]
        {
            for position in reserved {
                let mut tcb = [0; 8];
                tcb[position] = 1;
                assert!(refused(product, chip(8), tcb).contains("reserved"));
            }
        }
    }

    #[test]
    fn a_refused_certificate_keeps_the_verifiers_reason() {
        let check = |_: &[u8]| Err(VerifyError::new(crate::VerifyErrorKind::Mismatch, "another chip"));
        let request = VekRequest::vcek("Milan", &chip(64), &[0; 8], &check).unwrap();
        let error = request.check(b"der").unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::Refused);
        assert_eq!(VerifyError::from(error).kind(), crate::VerifyErrorKind::Mismatch);
    }
}

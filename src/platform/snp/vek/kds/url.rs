//! The URLs of AMD's "VCEK Certificate and KDS Interface Specification" (57230), section 4.

use std::fmt::Write as _;

use crate::platform::snp::vek::VekId;
use crate::platform::snp::{Product, VekKind};
use crate::report::Hex;

/// AMD's own service.
pub(super) const AMD: &str = "https://kdsintf.amd.com";

/// `/vcek/v1/{product}/{hwid}?[fmcSPL=..&]blSPL=..&teeSPL=..&snpSPL=..&ucodeSPL=..`, the numbers in decimal.
pub(super) fn vcek(id: &VekId) -> String {
    let mut path = format!("/vcek/v1/{}/{}", id.product(), Hex(id.hwid()));
    for (position, (name, spl)) in id.spls().enumerate() {
        let separator = if position == 0 { '?' } else { '&' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{separator}{name}={spl:02}");
    }
    path
}

/// `/vcek/v1/{product}/crl`. The list is the ARK's, and so the same for VCEKs and VLEKs.
pub(super) fn crl(product: Product) -> String {
    format!("/vcek/v1/{product}/crl")
}

/// `/vcek/v1/{product}/cert_chain`, or the same for VLEKs.
pub(super) fn cert_chain(product: Product, kind: VekKind) -> String {
    let kind = match kind {
        VekKind::Vcek => "vcek",
        VekKind::Vlek => "vlek",
    };
    format!("/{kind}/v1/{product}/cert_chain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::snp::RawTcb;

    #[test]
    fn a_milan_url_has_the_whole_chip_id_and_four_components() {
        let id = VekId::new(Product::Milan, [0xab; 64], RawTcb::new([3, 0, 0, 0, 0, 0, 8, 115])).unwrap();
        let expected = format!("/vcek/v1/Milan/{}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115", "ab".repeat(64));
        assert_eq!(vcek(&id), expected);
    }

    #[test]
    fn a_turin_url_has_the_short_chip_id_and_the_fmc_first() {
        let mut chip = [0; 64];
        chip[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let id = VekId::new(Product::Turin, chip, RawTcb::new([1, 2, 3, 4, 0, 0, 0, 255])).unwrap();
        let expected = "/vcek/v1/Turin/0102030405060708?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=255";
        assert_eq!(vcek(&id), expected);
    }

    #[test]
    fn a_product_has_one_crl_and_a_chain_per_kind_of_key() {
        assert_eq!(crl(Product::Genoa), "/vcek/v1/Genoa/crl");
        assert_eq!(cert_chain(Product::Turin, VekKind::Vcek), "/vcek/v1/Turin/cert_chain");
        assert_eq!(cert_chain(Product::Milan, VekKind::Vlek), "/vlek/v1/Milan/cert_chain");
    }
}

//! Product lines of EPYC processors and their TCB versions.

use std::fmt;
use std::str::FromStr;

/// A product line: it decides which AMD root signs and how a TCB version is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Product {
    /// EPYC 7003: CPUID family 0x19, models 0x00 to 0x0F.
    Milan,
    /// EPYC 9004 and 8004 (Genoa, Bergamo, Siena): family 0x19, models 0x10 to 0x1F and 0xA0 to 0xAF.
    Genoa,
    /// EPYC 9005: family 0x1A, models 0x00 to 0x11.
    Turin,
}

impl Product {
    /// The products whose roots are pinned.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The product of a CPUID family (base and extended added) and model (extended and base joined), as the report's
    /// bytes 0x188 and 0x189 hold them. `None` for a processor whose root is not pinned here.
    pub fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// The product that a VEK certificate names: `Milan-B0` and `Milan` are Milan. The stepping after the hyphen is that
    /// of the product's first silicon, not of the chip, and is not compared.
    pub fn from_certificate_name(name: &str) -> Option<Self> {
        let line = name.split_once('-').map_or(name, |(line, _)| line);
        Self::ALL.into_iter().find(|product| product.name() == line)
    }

    /// The name as AMD's key server spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// How many leading bytes of the report's 64-byte CHIP_ID identify the chip; the rest is zero.
    pub fn chip_id_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A product name that [`Product`] does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown product {0:?}: expected Milan, Genoa or Turin")]
pub struct UnknownProduct(String);

impl FromStr for Product {
    type Err = UnknownProduct;

    /// Case does not matter.
    fn from_str(name: &str) -> Result<Self, UnknownProduct> {
        let known = Self::ALL.into_iter().find(|product| product.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| UnknownProduct(name.to_owned()))
    }
}

/// A TCB_VERSION as it stands in the report: eight bytes whose meaning depends on the product.
///
/// ```
/// use tower_attest::platform::snp::{Product, RawTcb};
///
/// let raw = RawTcb::new([4, 0, 0, 0, 0, 0, 24, 219]);
/// let tcb = raw.decode(Product::Milan);
/// assert_eq!((tcb.bootloader, tcb.snp, tcb.microcode), (4, 24, 219));
/// assert_eq!(tcb.to_string(), "bl 4, tee 0, snp 24, ucode 219");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RawTcb([u8; 8]);

impl RawTcb {
    /// The eight bytes in the report's order.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight bytes in the report's order.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// The components in the layout of `product` (AMD 58369).
    pub const fn decode(self, product: Product) -> Tcb {
        let [b0, b1, b2, b3, _, _, b6, microcode] = self.0;
        match product {
            Product::Milan | Product::Genoa => Tcb { fmc: None, bootloader: b0, tee: b1, snp: b6, microcode },
            Product::Turin => Tcb { fmc: Some(b0), bootloader: b1, tee: b2, snp: b3, microcode },
        }
    }
}

impl fmt::Debug for RawTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTcb({})", crate::report::Hex(&self.0))
    }
}

/// A TCB version, by component: the security patch level of each piece of AMD firmware.
///
/// There is no order between two of them: one may be newer in one component and older in another. [`meets`](Self::meets)
/// compares each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tcb {
    /// Firmware of the FMC; Turin and later only.
    pub fmc: Option<u8>,
    /// AMD Secure Processor bootloader.
    pub bootloader: u8,
    /// AMD Secure Processor operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores. Not comparable between steppings of Milan.
    pub microcode: u8,
}

impl Tcb {
    /// The eight bytes of the report in the layout of `product`. The FMC is left out where the product has none.
    pub const fn encode(self, product: Product) -> RawTcb {
        let fmc = match self.fmc {
            Some(fmc) => fmc,
            None => 0,
        };
        RawTcb(match product {
            Product::Milan | Product::Genoa => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            Product::Turin => [fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
        })
    }

    /// Whether every component is at least that of `floor`. A floor for the FMC is not met where there is none.
    pub fn meets(&self, floor: &Self) -> bool {
        let fmc = match (self.fmc, floor.fmc) {
            (_, None) => true,
            (Some(fmc), Some(least)) => fmc >= least,
            (None, Some(_)) => false,
        };
        fmc && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        write!(f, "bl {}, tee {}, snp {}, ucode {}", self.bootloader, self.tee, self.snp, self.microcode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuid_decides_the_product() {
        for (family, model, product) in [
            (0x19, 0x00, Some(Product::Milan)),
            (0x19, 0x0f, Some(Product::Milan)),
            (0x19, 0x10, Some(Product::Genoa)),
            (0x19, 0x1f, Some(Product::Genoa)),
            (0x19, 0x20, None),
            (0x19, 0x9f, None),
            (0x19, 0xa0, Some(Product::Genoa)),
            (0x19, 0xaf, Some(Product::Genoa)),
            (0x19, 0xb0, None),
            (0x1a, 0x00, Some(Product::Turin)),
            (0x1a, 0x11, Some(Product::Turin)),
            (0x1a, 0x12, None),
            (0x1a, 0x50, None),
            (0x17, 0x01, None),
        ] {
            assert_eq!(Product::from_cpuid(family, model), product, "{family:#x} {model:#x}");
        }
    }

    #[test]
    fn a_certificate_names_a_product_with_or_without_stepping() {
        assert_eq!(Product::from_certificate_name("Milan-B0"), Some(Product::Milan));
        assert_eq!(Product::from_certificate_name("Genoa"), Some(Product::Genoa));
        for name in ["", "milan", "MilanB0", "Venice", "Turin B0", "-Milan"] {
            assert_eq!(Product::from_certificate_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn layouts_differ_between_milan_and_turin() {
        let raw = RawTcb::new([1, 2, 3, 4, 5, 6, 7, 8]);
        let milan = Tcb { fmc: None, bootloader: 1, tee: 2, snp: 7, microcode: 8 };
        let turin = Tcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 8 };
        assert_eq!(raw.decode(Product::Milan), milan);
        assert_eq!(raw.decode(Product::Genoa), milan);
        assert_eq!(raw.decode(Product::Turin), turin);
        for product in Product::ALL {
            assert_eq!(raw.decode(product).encode(product).decode(product), raw.decode(product));
        }
    }

    #[test]
    fn one_component_below_its_floor_is_not_made_up_for_by_others() {
        let floor = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 1, microcode: 1 };
        let high = Tcb { fmc: Some(9), bootloader: 9, tee: 9, snp: 9, microcode: 9 };
        assert!(high.meets(&floor) && floor.meets(&floor));
        for low in [
            Tcb { fmc: Some(0), ..high },
            Tcb { fmc: None, ..high },
            Tcb { bootloader: 0, ..high },
            Tcb { tee: 0, ..high },
            Tcb { snp: 0, ..high },
            Tcb { microcode: 0, ..high },
        ] {
            assert!(!low.meets(&floor), "{low}");
        }
    }
}

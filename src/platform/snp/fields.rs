//! The bit fields of an attestation report, with the names that policies use for them.

use std::fmt;

/// Names of bits, in the order of the ABI: what a policy file and an error message call them.
pub type BitNames = &'static [(u32, &'static str)];

/// POLICY, report offset 0x008: what the guest's owner allowed at launch (ABI table "Guest Policy").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    /// Bit 16: simultaneous multithreading is allowed.
    pub const SMT: u64 = 1 << 16;
    /// Bit 17: reserved, always one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// Bit 18: a migration agent may be associated with the guest.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// Bit 19: the host may debug the guest, that is read and write its memory.
    pub const DEBUG: u64 = 1 << 19;
    /// Bit 20: the guest may run on one socket only.
    pub const SINGLE_SOCKET: u64 = 1 << 20;
    /// Bit 21: CXL devices may be attached.
    pub const CXL_ALLOW: u64 = 1 << 21;
    /// Bit 22: memory must be encrypted with AES-256-XTS.
    pub const MEM_AES_256_XTS: u64 = 1 << 22;
    /// Bit 23: running average power limits must be off.
    pub const RAPL_DIS: u64 = 1 << 23;
    /// Bit 24: ciphertext hiding must be on.
    pub const CIPHERTEXT_HIDING_DRAM: u64 = 1 << 24;
    /// Bit 25: guest pages must not be swapped by SNP_PAGE_MOVE, SNP_SWAP_IN and SNP_SWAP_OUT.
    pub const PAGE_SWAP_DISABLE: u64 = 1 << 25;

    /// The bits that a policy may require or forbid.
    pub const NAMES: BitNames = &[
        (16, "smt"),
        (18, "migrate-ma"),
        (19, "debug"),
        (20, "single-socket"),
        (21, "cxl"),
        (22, "mem-aes-256-xts"),
        (23, "rapl-dis"),
        (24, "ciphertext-hiding-dram"),
        (25, "page-swap-disable"),
    ];

    /// From the 64 bits of the report.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits of the report.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The least ABI version, major then minor, that the guest's owner asked for: bits 15:8 and 7:0.
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Whether the host may debug the guest. Such a guest keeps no secret from its host.
    pub const fn debug(self) -> bool {
        self.0 & Self::DEBUG != 0
    }

    /// Bits that this crate has no name for: 26 to 63.
    pub const fn unknown(self) -> u64 {
        self.0 >> 26 << 26
    }
}

impl fmt::Display for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.abi();
        write!(f, "{:#x} (ABI {major}.{minor}; set:", self.0)?;
        write_bits(f, self.0, Self::NAMES)?;
        f.write_str(")")
    }
}

/// PLATFORM_INFO, report offset 0x040: how the host is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PlatformInfo(u64);

impl PlatformInfo {
    /// Bit 0: simultaneous multithreading is on.
    pub const SMT_EN: u64 = 1;
    /// Bit 1: transparent memory encryption of the whole system is on.
    pub const TSME_EN: u64 = 1 << 1;
    /// Bit 2: memory has error correction.
    pub const ECC_EN: u64 = 1 << 2;
    /// Bit 3: running average power limits are off.
    pub const RAPL_DIS: u64 = 1 << 3;
    /// Bit 4: ciphertext hiding is on.
    pub const CIPHERTEXT_HIDING_DRAM_EN: u64 = 1 << 4;
    /// Bit 5: no memory aliases were found since the last reset: the mitigation of BadRAM (AMD-SB-3015).
    pub const ALIAS_CHECK_COMPLETE: u64 = 1 << 5;
    /// Bit 6: the I/O memory management unit's writes are protected. Seen on Turin.
    pub const IOMMU_WRITE_SAFE: u64 = 1 << 6;
    /// Bit 7: trusted I/O is on.
    pub const TIO_EN: u64 = 1 << 7;

    /// The bits that a policy may require or forbid.
    pub const NAMES: BitNames = &[
        (0, "smt"),
        (1, "tsme"),
        (2, "ecc"),
        (3, "rapl-dis"),
        (4, "ciphertext-hiding-dram"),
        (5, "alias-check-complete"),
        (6, "iommu-write-safe"),
        (7, "tio"),
    ];

    /// From the 64 bits of the report.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits of the report.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Bits that this crate has no name for: 8 to 63.
    pub const fn unknown(self) -> u64 {
        self.0 >> 8 << 8
    }
}

impl fmt::Display for PlatformInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} (set:", self.0)?;
        write_bits(f, self.0, Self::NAMES)?;
        f.write_str(")")
    }
}

fn write_bits(f: &mut fmt::Formatter<'_>, bits: u64, names: BitNames) -> fmt::Result {
    names.iter().filter(|(bit, _)| bits >> bit & 1 == 1).try_for_each(|(_, name)| write!(f, " {name}"))
}

/// Which key signed a report: bits 4:2 of KEY_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SigningKey {
    /// The chip's own key, derived from its fuses and the reported TCB.
    Vcek,
    /// A key that AMD derives for a cloud provider: it names the provider, not the chip.
    Vlek,
    /// No key: the report is not signed.
    None,
    /// A value that this crate does not know.
    Unknown(u8),
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek => f.write_str("VCEK"),
            Self::Vlek => f.write_str("VLEK"),
            Self::None => f.write_str("none"),
            Self::Unknown(value) => write!(f, "unknown ({value})"),
        }
    }
}

/// KEY_INFO, report offset 0x048.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct KeyInfo(u32);

impl KeyInfo {
    /// From the 32 bits of the report.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits of the report.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Bit 0: AUTHOR_KEY_DIGEST holds the digest of the author key.
    pub const fn author_key_en(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 1: the host masked the chip's key, so that the signature is zero.
    pub const fn mask_chip_key(self) -> bool {
        self.0 >> 1 & 1 != 0
    }

    /// Bits 4:2: which key signed.
    pub const fn signing_key(self) -> SigningKey {
        match self.0 >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            value => SigningKey::Unknown(value.to_le_bytes()[0]),
        }
    }

    /// Bits that this crate has no name for: 5 to 31.
    pub const fn unknown(self) -> u32 {
        self.0 >> 5 << 5
    }
}

/// The version of the SNP firmware: three bytes of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FirmwareVersion {
    /// Major version of the ABI.
    pub major: u8,
    /// Minor version of the ABI.
    pub minor: u8,
    /// Build number within that version.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_bit_has_a_name_and_no_other() {
        let named: u64 = GuestPolicy::NAMES.iter().map(|(bit, _)| 1 << bit).sum();
        let all = GuestPolicy::from_bits(u64::MAX);
        assert_eq!(named | all.unknown() | GuestPolicy::RESERVED_ONE | 0xffff, u64::MAX);
        assert_eq!(named & all.unknown(), 0);
        let named: u64 = PlatformInfo::NAMES.iter().map(|(bit, _)| 1 << bit).sum();
        assert_eq!(named, !PlatformInfo::from_bits(u64::MAX).unknown());
    }

    #[test]
    fn the_signing_key_is_three_bits() {
        let keys: Vec<_> = (0..8).map(|value| KeyInfo::from_bits(value << 2 | 0b11).signing_key()).collect();
        assert_eq!(keys[0], SigningKey::Vcek);
        assert_eq!(keys[1], SigningKey::Vlek);
        assert_eq!(keys[2], SigningKey::Unknown(2));
        assert_eq!(keys[6], SigningKey::Unknown(6));
        assert_eq!(keys[7], SigningKey::None);
    }
}

//! The attestation report itself: 1 184 bytes, kept as received, each field behind a typed accessor.

use std::fmt;

use bytes::Bytes;

use super::fields::{FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
use super::tcb::{Product, RawTcb};
use crate::report::Hex;
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Length of every attestation report.
pub const REPORT_LEN: usize = 0x4a0;
/// How many leading bytes of a report its signature covers.
pub const SIGNED_LEN: usize = 0x2a0;

/// Report versions that this crate reads.
///
/// Version 1 is pre-release firmware. Version 6 (ABI 1.59) is left out until real evidence of it can be tested: it brings
/// a third signing key, and a field read by the wrong table is worse than a report refused by name.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;

/// An attestation report, checked for its form and not for its truth: no signature has been verified.
///
/// Parsing copies nothing; the signature is later verified over these very bytes.
///
/// Offsets are those of the table "ATTESTATION_REPORT Structure" in AMD's SEV-SNP firmware ABI (document 56860).
///
/// ```
/// use tower_attest::platform::snp::ReportView;
///
/// let error = ReportView::parse(vec![0; 1183]).unwrap_err();
/// assert!(error.to_string().contains("1184 bytes"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ReportView {
    bytes: Bytes,
}

impl ReportView {
    /// Reads a report.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Malformed`] unless it has exactly [`REPORT_LEN`] bytes, one of [`VERSIONS`], a VMPL of 0 to 3
    /// (a host may ask for a report of its own, which says 0xFFFFFFFF), signature algorithm 1 (ECDSA P-384 with SHA-384)
    /// and zeros where the ABI reserves bytes, or bits of KEY_INFO.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, VerifyError> {
        let view = Self { bytes: bytes.into() };
        if view.bytes.len() != REPORT_LEN {
            return Err(malformed(format!("expected a report of {REPORT_LEN} bytes, found {}", view.bytes.len())));
        }
        if !VERSIONS.contains(&view.version()) {
            return Err(malformed(format!(
                "expected a report of version {} to {}, found version {}",
                VERSIONS.start(),
                VERSIONS.end(),
                view.version()
            )));
        }
        if view.vmpl() > 3 {
            return Err(malformed(format!(
                "expected a VMPL of 0 to 3, found {:#x}: the report was asked for by the host, not by a guest",
                view.vmpl()
            )));
        }
        if view.signature_algo() != 1 {
            return Err(malformed(format!(
                "expected SIGNATURE_ALGO 1 (ECDSA P-384 with SHA-384), found {}",
                view.signature_algo()
            )));
        }
        if view.key_info().unknown() != 0 {
            return Err(malformed(format!(
                "expected zero in the reserved bits 5 to 31 of KEY_INFO, found {:#x}",
                view.key_info().bits()
            )));
        }
        if let Some(offset) = view.first_reserved_byte_in_use() {
            return Err(malformed(format!(
                "expected zero at offset {offset:#x}, which version {} reserves: the firmware knows a field that this \
                 crate does not",
                view.version()
            )));
        }
        Ok(view)
    }

    fn first_reserved_byte_in_use(&self) -> Option<usize> {
        let cpuid = if self.version() < 3 { 0x188..0x18b } else { 0..0 };
        let mitigations = if self.version() < 4 { 0x1f8..0x208 } else { 0..0 };
        let always = [0x4c..0x50, 0x18b..0x1a0, 0x1eb..0x1ec, 0x1ef..0x1f0, 0x208..SIGNED_LEN];
        let mut reserved = always.into_iter().chain([cpuid, mitigations]).flatten();
        reserved.find(|at| self.bytes.get(*at).is_some_and(|byte| *byte != 0))
    }

    /// The bytes as received, all 1 184 of them.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes that the signature covers: 0x000 to 0x29F, as received.
    pub fn signed_bytes(&self) -> &[u8] {
        self.bytes.get(..SIGNED_LEN).unwrap_or_default()
    }

    /// VERSION, 0x000. It follows the firmware, not the silicon.
    pub fn version(&self) -> u32 {
        u32::from_le_bytes(self.field::<0x000, 4>())
    }

    /// GUEST_SVN, 0x004: the guest's own security version, from its ID block.
    pub fn guest_svn(&self) -> u32 {
        u32::from_le_bytes(self.field::<0x004, 4>())
    }

    /// POLICY, 0x008.
    pub fn policy(&self) -> GuestPolicy {
        GuestPolicy::from_bits(u64::from_le_bytes(self.field::<0x008, 8>()))
    }

    /// FAMILY_ID, 0x010, from the ID block.
    pub fn family_id(&self) -> [u8; 16] {
        self.field::<0x010, 16>()
    }

    /// IMAGE_ID, 0x020, from the ID block.
    pub fn image_id(&self) -> [u8; 16] {
        self.field::<0x020, 16>()
    }

    /// VMPL, 0x030: the privilege level that asked for the report; 0 is the highest.
    pub fn vmpl(&self) -> u32 {
        u32::from_le_bytes(self.field::<0x030, 4>())
    }

    /// SIGNATURE_ALGO, 0x034: 1 is ECDSA P-384 with SHA-384.
    pub fn signature_algo(&self) -> u32 {
        u32::from_le_bytes(self.field::<0x034, 4>())
    }

    /// CURRENT_TCB, 0x038: what the platform runs now.
    pub fn current_tcb(&self) -> RawTcb {
        RawTcb::new(self.field::<0x038, 8>())
    }

    /// PLATFORM_INFO, 0x040.
    pub fn platform_info(&self) -> PlatformInfo {
        PlatformInfo::from_bits(u64::from_le_bytes(self.field::<0x040, 8>()))
    }

    /// KEY_INFO, 0x048.
    pub fn key_info(&self) -> KeyInfo {
        KeyInfo::from_bits(u32::from_le_bytes(self.field::<0x048, 4>()))
    }

    /// Which key signed, from KEY_INFO.
    pub fn signing_key(&self) -> SigningKey {
        self.key_info().signing_key()
    }

    /// REPORT_DATA, 0x050: the 64 bytes that the guest gave.
    pub fn report_data(&self) -> [u8; 64] {
        self.field::<0x050, 64>()
    }

    /// MEASUREMENT, 0x090: digest of what was launched.
    pub fn measurement(&self) -> [u8; 48] {
        self.field::<0x090, 48>()
    }

    /// HOST_DATA, 0x0C0: 32 bytes that the host gave at launch; signed, not measured.
    pub fn host_data(&self) -> [u8; 32] {
        self.field::<0x0c0, 32>()
    }

    /// ID_KEY_DIGEST, 0x0E0: SHA-384 of the key that signed the ID block; zero without one.
    pub fn id_key_digest(&self) -> [u8; 48] {
        self.field::<0x0e0, 48>()
    }

    /// AUTHOR_KEY_DIGEST, 0x110: SHA-384 of the key that certified the ID key; zero without one.
    pub fn author_key_digest(&self) -> [u8; 48] {
        self.field::<0x110, 48>()
    }

    /// REPORT_ID, 0x140: differs for each launched guest.
    pub fn report_id(&self) -> [u8; 32] {
        self.field::<0x140, 32>()
    }

    /// REPORT_ID_MA, 0x160: that of the guest's migration agent; all 0xFF without one.
    pub fn report_id_ma(&self) -> [u8; 32] {
        self.field::<0x160, 32>()
    }

    /// REPORTED_TCB, 0x180: the TCB that the signing key is derived from. The host may set it lower than the truth.
    pub fn reported_tcb(&self) -> RawTcb {
        RawTcb::new(self.field::<0x180, 8>())
    }

    /// CPUID family, model and stepping, 0x188 to 0x18A; `None` before version 3.
    pub fn cpuid(&self) -> Option<[u8; 3]> {
        (self.version() >= 3).then(|| self.field::<0x188, 3>())
    }

    /// The product by the signed CPUID; `None` before version 3, or for a processor that this crate does not know.
    pub fn product(&self) -> Option<Product> {
        let [family, model, _] = self.cpuid()?;
        Product::from_cpuid(family, model)
    }

    /// CHIP_ID, 0x1A0: zero where the host masks it, and under a VLEK. On Turin only the first 8 bytes are used.
    pub fn chip_id(&self) -> [u8; 64] {
        self.field::<0x1a0, 64>()
    }

    /// COMMITTED_TCB, 0x1E0: the platform cannot roll back below it.
    pub fn committed_tcb(&self) -> RawTcb {
        RawTcb::new(self.field::<0x1e0, 8>())
    }

    /// CURRENT_BUILD, CURRENT_MINOR and CURRENT_MAJOR, 0x1E8 to 0x1EA.
    pub fn current_version(&self) -> FirmwareVersion {
        let [build, minor, major] = self.field::<0x1e8, 3>();
        FirmwareVersion { major, minor, build }
    }

    /// COMMITTED_BUILD, COMMITTED_MINOR and COMMITTED_MAJOR, 0x1EC to 0x1EE.
    pub fn committed_version(&self) -> FirmwareVersion {
        let [build, minor, major] = self.field::<0x1ec, 3>();
        FirmwareVersion { major, minor, build }
    }

    /// LAUNCH_TCB, 0x1F0: CURRENT_TCB when the guest was launched or imported.
    pub fn launch_tcb(&self) -> RawTcb {
        RawTcb::new(self.field::<0x1f0, 8>())
    }

    /// LAUNCH_MIT_VECTOR, 0x1F8: mitigations in force at launch; `None` before version 4.
    pub fn launch_mit_vector(&self) -> Option<u64> {
        (self.version() >= 4).then(|| u64::from_le_bytes(self.field::<0x1f8, 8>()))
    }

    /// CURRENT_MIT_VECTOR, 0x200: mitigations in force now; `None` before version 4.
    pub fn current_mit_vector(&self) -> Option<u64> {
        (self.version() >= 4).then(|| u64::from_le_bytes(self.field::<0x200, 8>()))
    }

    /// SIGNATURE, 0x2A0: r and s, each 72 bytes little-endian, and 368 bytes of padding. The parts are given as
    /// big-endian 48-byte numbers; `None` if any padding is not zero.
    pub(super) fn signature(&self) -> Option<([u8; 48], [u8; 48])> {
        let padding = self.field::<0x2d0, 24>().iter().chain(&self.field::<0x318, 24>()).all(|byte| *byte == 0)
            && self.field::<0x330, 368>().iter().all(|byte| *byte == 0);
        let (mut r, mut s) = (self.field::<0x2a0, 48>(), self.field::<0x2e8, 48>());
        r.reverse();
        s.reverse();
        padding.then_some((r, s))
    }

    fn field<const OFFSET: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(OFFSET + N <= REPORT_LEN, "a field ends within the report") };
        let mut field = [0; N];
        field.iter_mut().zip(self.bytes.iter().skip(OFFSET)).for_each(|(to, from)| *to = *from);
        field
    }
}

impl fmt::Debug for ReportView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportView")
            .field("version", &self.version())
            .field("product", &self.product())
            .field("measurement", &format_args!("{}", Hex(&self.measurement())))
            .finish_non_exhaustive()
    }
}

fn malformed(message: String) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests;

//! Simulated guests: every field of a report can be set, and the signature is real.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::cert::VekKind;
use super::super::fields::{FirmwareVersion, GuestPolicy, PlatformInfo};
use super::super::report::{REPORT_LEN, SIGNED_LEN};
use super::super::tcb::{Product, Tcb};
use super::authority::{SimulatedAmd, VekSpec};
use crate::provider::{ProviderError, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// A guest on a simulated processor: what its reports say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a test writes `SimulatedGuest { vmpl: 1, ..guest }`")]
pub struct SimulatedGuest {
    /// Decides CPUID, roots and the layout of TCBs.
    pub product: Product,
    /// VERSION of the report. CPUID is left out before 3, mitigation vectors before 4.
    pub version: u32,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: GuestPolicy,
    /// FAMILY_ID.
    pub family_id: [u8; 16],
    /// IMAGE_ID.
    pub image_id: [u8; 16],
    /// VMPL.
    pub vmpl: u32,
    /// PLATFORM_INFO.
    pub platform_info: PlatformInfo,
    /// MEASUREMENT.
    pub measurement: [u8; 48],
    /// HOST_DATA.
    pub host_data: [u8; 32],
    /// ID_KEY_DIGEST.
    pub id_key_digest: [u8; 48],
    /// AUTHOR_KEY_DIGEST; KEY_INFO says that it is present unless it is zero.
    pub author_key_digest: [u8; 48],
    /// REPORT_ID.
    pub report_id: [u8; 32],
    /// REPORT_ID_MA.
    pub report_id_ma: [u8; 32],
    /// CPUID family, model and stepping.
    pub cpuid: [u8; 3],
    /// The chip; on Turin the first 8 bytes count. Reports signed by a VLEK do not show it.
    pub chip_id: [u8; 64],
    /// The provider whose VLEK signs; the chip's VCEK signs where there is none.
    pub csp_id: Option<String>,
    /// REPORTED_TCB: the signing key derives from it.
    pub reported_tcb: Tcb,
    /// CURRENT_TCB.
    pub current_tcb: Tcb,
    /// COMMITTED_TCB.
    pub committed_tcb: Tcb,
    /// LAUNCH_TCB.
    pub launch_tcb: Tcb,
    /// Current and committed firmware version.
    pub firmware: FirmwareVersion,
    /// LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR.
    pub mit_vectors: [u64; 2],
}

impl SimulatedGuest {
    /// A guest as a cloud host would run it: report version 5, VMPL 0, SMT allowed, current firmware, everything else
    /// zero. Its measurement is zero too: set it.
    pub fn new(product: Product) -> Self {
        let fmc = (product == Product::Turin).then_some(1);
        let tcb = Tcb { fmc, bootloader: 10, tee: 0, snp: 27, microcode: 222 };
        Self {
            product,
            version: 5,
            guest_svn: 0,
            policy: GuestPolicy::from_bits(GuestPolicy::SMT | GuestPolicy::RESERVED_ONE),
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            platform_info: PlatformInfo::from_bits(
                PlatformInfo::SMT_EN | PlatformInfo::ECC_EN | PlatformInfo::ALIAS_CHECK_COMPLETE,
            ),
            measurement: [0; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0x1d; 32],
            report_id_ma: [0xff; 32],
            cpuid: match product {
                Product::Milan => [0x19, 0x01, 1],
                Product::Genoa => [0x19, 0x11, 1],
                Product::Turin => [0x1a, 0x02, 1],
            },
            chip_id: std::array::from_fn(|at| if at < product.chip_id_len() { 0xc5 } else { 0 }),
            csp_id: None,
            reported_tcb: tcb,
            current_tcb: tcb,
            committed_tcb: tcb,
            launch_tcb: tcb,
            firmware: FirmwareVersion { major: 1, minor: 58, build: 1 },
            mit_vectors: [0x0f; 2],
        }
    }

    /// The same guest with this measurement.
    #[must_use]
    pub fn with_measurement(self, measurement: [u8; 48]) -> Self {
        Self { measurement, ..self }
    }

    /// The same guest at this TCB, in all four places.
    #[must_use]
    pub fn with_tcb(self, tcb: Tcb) -> Self {
        Self { reported_tcb: tcb, current_tcb: tcb, committed_tcb: tcb, launch_tcb: tcb, ..self }
    }

    /// The same guest on a host whose reports a provider's VLEK signs.
    #[must_use]
    pub fn with_vlek(self, csp_id: impl Into<String>) -> Self {
        Self { csp_id: Some(csp_id.into()), ..self }
    }

    /// What the certificate of the signing key says.
    pub fn vek_spec(&self) -> VekSpec {
        match &self.csp_id {
            Some(csp_id) => VekSpec::vlek(self.product, csp_id, self.reported_tcb),
            None => VekSpec::vcek(self.product, &self.chip_id, self.reported_tcb),
        }
    }

    /// The certificate (DER) of the signing key.
    pub fn vek(&self) -> Vec<u8> {
        SimulatedAmd::new().issue(&self.vek_spec())
    }

    /// A signed report over `report_data`, 1 184 bytes.
    pub fn report(&self, report_data: &[u8; 64]) -> [u8; REPORT_LEN] {
        let mut report = [0; REPORT_LEN];
        self.fill(&mut report, report_data);
        self.sign(&mut report);
        report
    }

    /// Signs `report` again, after a test has changed it.
    pub fn sign(&self, report: &mut [u8; REPORT_LEN]) {
        let (body, area) = report.split_at_mut(SIGNED_LEN);
        let signature = self.vek_spec().key().sign(body);
        area.fill(0);
        let (r, s) = signature.split_at(48);
        for (offset, number) in [(0, r), (72, s)] {
            area.iter_mut().skip(offset).zip(number.iter().rev()).for_each(|(to, from)| *to = *from);
        }
    }

    fn fill(&self, report: &mut [u8; REPORT_LEN], report_data: &[u8; 64]) {
        let vlek = self.csp_id.is_some();
        let kind = if vlek { VekKind::Vlek } else { VekKind::Vcek };
        let author_key = u32::from(self.author_key_digest != [0; 48]);
        let key_info = author_key | if kind == VekKind::Vlek { 1 << 2 } else { 0 };
        let tcb = |tcb: Tcb| *tcb.encode(self.product).as_bytes();
        let FirmwareVersion { major, minor, build } = self.firmware;
        let firmware = [build, minor, major];
        let chip_id = if vlek { [0; 64] } else { self.chip_id };
        let cpuid = if self.version < 3 { [0; 3] } else { self.cpuid };
        let [launch_mit, current_mit] = if self.version < 4 { [0; 2] } else { self.mit_vectors };
        let fields: [(usize, &[u8]); 25] = [
            (0x000, &self.version.to_le_bytes()),
            (0x004, &self.guest_svn.to_le_bytes()),
            (0x008, &self.policy.bits().to_le_bytes()),
            (0x010, &self.family_id),
            (0x020, &self.image_id),
            (0x030, &self.vmpl.to_le_bytes()),
            (0x034, &1_u32.to_le_bytes()),
            (0x038, &tcb(self.current_tcb)),
            (0x040, &self.platform_info.bits().to_le_bytes()),
            (0x048, &key_info.to_le_bytes()),
            (0x050, report_data),
            (0x090, &self.measurement),
            (0x0c0, &self.host_data),
            (0x0e0, &self.id_key_digest),
            (0x110, &self.author_key_digest),
            (0x140, &self.report_id),
            (0x160, &self.report_id_ma),
            (0x180, &tcb(self.reported_tcb)),
            (0x188, &cpuid),
            (0x1a0, &chip_id),
            (0x1e0, &tcb(self.committed_tcb)),
            (0x1e8, &[firmware, firmware].map(|[a, b, c]| [a, b, c, 0]).concat()),
            (0x1f0, &tcb(self.launch_tcb)),
            (0x1f8, &launch_mit.to_le_bytes()),
            (0x200, &current_mit.to_le_bytes()),
        ];
        for (offset, value) in fields {
            report.iter_mut().skip(offset).zip(value).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Makes reports of a [`SimulatedGuest`], with its certificate stapled.
pub struct SimProvider {
    guest: SimulatedGuest,
    vek: Option<Bytes>,
}

impl SimProvider {
    /// Reports of `guest`.
    pub fn new(guest: SimulatedGuest) -> Self {
        let vek = Some(guest.vek().into());
        Self { guest, vek }
    }

    /// Leaves the certificate out, as a host does that fills no certificate table.
    #[must_use]
    pub fn without_vek(self) -> Self {
        Self { vek: None, ..self }
    }

    /// The guest.
    pub fn guest(&self) -> &SimulatedGuest {
        &self.guest
    }

    /// A report over any 64 bytes, as the hardware would make it.
    pub fn make(&self, report_data: &[u8; 64]) -> Report {
        let report = Report::new(Platform::SNP, self.guest.report(report_data).to_vec());
        match &self.vek {
            Some(vek) => report.with_vek(vek.clone()),
            None => report,
        }
    }
}

#[async_trait]
impl ReportProvider for SimProvider {
    fn platform(&self) -> Platform {
        Platform::SNP
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        Ok(self.make(data.as_bytes()))
    }
}

impl fmt::Debug for SimProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimProvider").field("guest", &self.guest).field("vek", &self.vek.is_some()).finish()
    }
}

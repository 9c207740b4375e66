//! What a guest must be to be trusted: the rules for reports that have proved genuine.

mod file;
mod judge;
mod list;
mod validate;

use std::collections::BTreeSet;

pub(in crate::platform) use self::file::PolicyTable;
use self::list::Bits;
use super::cert::VekKind;
use super::fields::{FirmwareVersion, GuestPolicy, PlatformInfo};
use super::tcb::{Product, Tcb};

/// Which guests are trusted. Rules add up: a report must satisfy each of them.
///
/// ```
/// use tower_attest::platform::snp::{PlatformInfo, Product, SnpPolicy, Tcb, TcbKind};
///
/// let policy = SnpPolicy::pin_named("prover 1.4", [0xab; 48])
///     .or_named("prover 1.5", [0xcd; 48])
///     .with_products([Product::Genoa])
///     .with_tcb_floor(Product::Genoa, TcbKind::ALL, Tcb { snp: 23, microcode: 84, ..Tcb::default() })
///     .require_platform_info(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN);
/// policy.validate()?;
/// # Ok::<_, tower_attest::VerifyError>(())
/// ```
///
/// # Defaults
///
/// | rule | default | wider by |
/// |---|---|---|
/// | measurement | the one that the constructor names | [`or`](Self::or), [`or_named`](Self::or_named) |
/// | products | Genoa and Turin; Milan only when named, see [`with_products`](Self::with_products) | `with_products` |
/// | signing keys | VCEK | [`allow_vlek`](Self::allow_vlek), which names the providers |
/// | VMPL | 0 | [`with_vmpls`](Self::with_vmpls) |
/// | guest policy | debug, migration agent and CXL forbidden; bits without a name forbidden | [`permit_guest_policy`](Self::permit_guest_policy), [`dangerously_permit_debug`](Self::dangerously_permit_debug) |
/// | platform info | the alias check (BadRAM, AMD-SB-3015) required; bits without a name forbidden | [`permit_platform_info`](Self::permit_platform_info) |
/// | provisional firmware | refused: CURRENT_TCB is COMMITTED_TCB | [`permit_provisional_firmware`](Self::permit_provisional_firmware) |
/// | TCB floors, firmware, guest SVN, identities, host data, chips, mitigations | no rule | |
///
/// A rule that contradicts another, or that cannot be applied to the report at hand, is an error of kind
/// [`Configuration`](crate::VerifyErrorKind::Configuration): [`validate`](Self::validate) finds the first sort at start-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpPolicy {
    measurements: Vec<Measurement>,
    products: BTreeSet<Product>,
    signing_keys: BTreeSet<VekKind>,
    csp_ids: Option<Vec<String>>,
    chip_ids: Option<Vec<Vec<u8>>>,
    vmpls: BTreeSet<u32>,
    guest_policy: Bits,
    min_abi: Option<(u8, u8)>,
    platform_info: Bits,
    min_firmware: Option<FirmwareVersion>,
    permit_provisional_firmware: bool,
    tcb_floors: Vec<TcbFloor>,
    launch_mitigations: u64,
    current_mitigations: u64,
    min_guest_svn: Option<u32>,
    family_ids: Option<Vec<[u8; 16]>>,
    image_ids: Option<Vec<[u8; 16]>>,
    id_key_digests: Option<Vec<[u8; 48]>>,
    author_key_digests: Option<Vec<[u8; 48]>>,
    host_data: Option<Vec<[u8; 32]>>,
    require_crl: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Measurement {
    value: [u8; 48],
    name: Option<String>,
}

/// Which of a report's four TCB versions a floor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcbKind {
    /// REPORTED_TCB: what the signing key is derived from. The certificate confirms it.
    Reported,
    /// COMMITTED_TCB: the platform cannot roll back below it.
    Committed,
    /// CURRENT_TCB: what the platform runs now.
    Current,
    /// LAUNCH_TCB: what the platform ran when the guest was launched.
    Launch,
}

impl TcbKind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Reported, Self::Committed, Self::Current, Self::Launch];

    fn rule(self) -> &'static str {
        match self {
            Self::Reported => "tcb-floor.reported",
            Self::Committed => "tcb-floor.committed",
            Self::Current => "tcb-floor.current",
            Self::Launch => "tcb-floor.launch",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TcbFloor {
    product: Product,
    stepping: Option<u8>,
    kind: TcbKind,
    least: Tcb,
}

impl SnpPolicy {
    /// Trusts guests launched with `measurement`: the launch digest that `sev-snp-measure` computes.
    pub fn pin(measurement: [u8; 48]) -> Self {
        Self::with_measurement(Measurement { value: measurement, name: None })
    }

    /// The same, and calls the measurement by a name that claims show.
    pub fn pin_named(name: impl Into<String>, measurement: [u8; 48]) -> Self {
        Self::with_measurement(Measurement { value: measurement, name: Some(name.into()) })
    }

    fn with_measurement(measurement: Measurement) -> Self {
        Self {
            measurements: vec![measurement],
            products: BTreeSet::from([Product::Genoa, Product::Turin]),
            signing_keys: BTreeSet::from([VekKind::Vcek]),
            csp_ids: None,
            chip_ids: None,
            vmpls: BTreeSet::from([0]),
            guest_policy: Bits {
                forbid: GuestPolicy::DEBUG
                    | GuestPolicy::MIGRATE_MA
                    | GuestPolicy::CXL_ALLOW
                    | GuestPolicy::from_bits(u64::MAX).unknown(),
                ..Bits::default()
            },
            min_abi: None,
            platform_info: Bits {
                require: PlatformInfo::ALIAS_CHECK_COMPLETE,
                forbid: PlatformInfo::from_bits(u64::MAX).unknown(),
            },
            min_firmware: None,
            permit_provisional_firmware: false,
            tcb_floors: Vec::new(),
            launch_mitigations: 0,
            current_mitigations: 0,
            min_guest_svn: None,
            family_ids: None,
            image_ids: None,
            id_key_digests: None,
            author_key_digests: None,
            host_data: None,
            require_crl: false,
        }
    }

    /// Trusts another measurement as well, for example during a roll-out.
    #[must_use]
    pub fn or(mut self, measurement: [u8; 48]) -> Self {
        self.measurements.push(Measurement { value: measurement, name: None });
        self
    }

    /// The same, and calls it by a name that claims show.
    #[must_use]
    pub fn or_named(mut self, name: impl Into<String>, measurement: [u8; 48]) -> Self {
        self.measurements.push(Measurement { value: measurement, name: Some(name.into()) });
        self
    }

    /// The products that are trusted, in place of Genoa and Turin.
    ///
    /// **Milan** is trusted only where it is named. An attack by software alone has taken the root seed of VCEKs out of a
    /// Milan chip (MilanLaunchy and BadFuse, arXiv 2605.12990): whoever has it signs reports of any content and of any
    /// TCB, so that no floor helps. CacheWarp (CVE-2023-20592, AMD-SB-3005) affects Milan too, as EntrySign
    /// (CVE-2024-56161, AMD-SB-3019) and BadRAM (CVE-2024-21944, AMD-SB-3015) affect Milan and Genoa; for these there is
    /// firmware. Name Milan together with floors for its TCB and, better, with chips that you know
    /// ([`with_chip_ids`](Self::with_chip_ids)).
    #[must_use]
    pub fn with_products(mut self, products: impl IntoIterator<Item = Product>) -> Self {
        self.products = products.into_iter().collect();
        self
    }

    /// Trusts reports signed by the VLEK of one of these cloud providers too. The names are those of the certificates,
    /// for example `CN=cc-us-east-2.amazonaws.com`.
    ///
    /// A VLEK says that the provider vouches for the machine; it does not say which machine.
    #[must_use]
    pub fn allow_vlek<S: Into<String>>(mut self, csp_ids: impl IntoIterator<Item = S>) -> Self {
        self.signing_keys.insert(VekKind::Vlek);
        self.csp_ids.get_or_insert_default().extend(csp_ids.into_iter().map(Into::into));
        self
    }

    /// Trusts reports signed by a VLEK only. Needs [`allow_vlek`](Self::allow_vlek).
    #[must_use]
    pub fn refuse_vcek(mut self) -> Self {
        self.signing_keys.remove(&VekKind::Vcek);
        self
    }

    /// Trusts these chips only: CHIP_ID, 64 bytes; 8 for Turin. Cannot stand together with VLEKs, which hide the chip.
    #[must_use]
    pub fn with_chip_ids<C: Into<Vec<u8>>>(mut self, chip_ids: impl IntoIterator<Item = C>) -> Self {
        self.chip_ids.get_or_insert_default().extend(chip_ids.into_iter().map(Into::into));
        self
    }

    /// The privilege levels that may ask for reports, in place of 0. A guest under an SVSM reports from 1 to 3.
    #[must_use]
    pub fn with_vmpls(mut self, vmpls: impl IntoIterator<Item = u32>) -> Self {
        self.vmpls = vmpls.into_iter().collect();
        self
    }

    /// Bits of POLICY that must be set, as constants of [`GuestPolicy`].
    #[must_use]
    pub fn require_guest_policy(mut self, bits: u64) -> Self {
        self.guest_policy.require |= bits;
        self
    }

    /// Bits of POLICY that must not be set, besides those that the default forbids.
    #[must_use]
    pub fn forbid_guest_policy(mut self, bits: u64) -> Self {
        self.guest_policy.forbid |= bits;
        self
    }

    /// Bits of POLICY that may be set although the default forbids them. The debug bit is not among them.
    #[must_use]
    pub fn permit_guest_policy(mut self, bits: u64) -> Self {
        self.guest_policy.forbid &= !(bits & !GuestPolicy::DEBUG);
        self
    }

    /// Trusts guests that their host may debug: it reads and writes their memory at will, so that **nothing is secret**.
    /// For development only.
    #[must_use]
    pub fn dangerously_permit_debug(mut self) -> Self {
        self.guest_policy.forbid &= !GuestPolicy::DEBUG;
        self
    }

    /// The least ABI version, major and minor, that the guest's POLICY must ask of its platform.
    #[must_use]
    pub fn with_min_abi(mut self, major: u8, minor: u8) -> Self {
        self.min_abi = Some((major, minor));
        self
    }

    /// Bits of PLATFORM_INFO that must be set, as constants of [`PlatformInfo`], besides those that the default requires.
    #[must_use]
    pub fn require_platform_info(mut self, bits: u64) -> Self {
        self.platform_info.require |= bits;
        self
    }

    /// Bits of PLATFORM_INFO that must not be set.
    #[must_use]
    pub fn forbid_platform_info(mut self, bits: u64) -> Self {
        self.platform_info.forbid |= bits;
        self
    }

    /// Bits of PLATFORM_INFO that are left to the host, although the default requires or forbids them. Reports of
    /// version 2 come from firmware without the alias check: to trust one, permit
    /// [`ALIAS_CHECK_COMPLETE`](PlatformInfo::ALIAS_CHECK_COMPLETE) here.
    #[must_use]
    pub fn permit_platform_info(mut self, bits: u64) -> Self {
        self.platform_info.require &= !bits;
        self.platform_info.forbid &= !bits;
        self
    }

    /// The least SNP firmware version, for the current and for the committed one.
    #[must_use]
    pub fn with_min_firmware(mut self, version: FirmwareVersion) -> Self {
        self.min_firmware = Some(version);
        self
    }

    /// Trusts a platform that runs firmware newer than it has committed to, and may still roll it back.
    #[must_use]
    pub fn permit_provisional_firmware(mut self) -> Self {
        self.permit_provisional_firmware = true;
        self
    }

    /// The least TCB of `product`, component by component, for the named ones of the report's four TCB versions.
    ///
    /// Once there is a floor, a report of a product without one is refused as a fault of configuration.
    #[must_use]
    pub fn with_tcb_floor(self, product: Product, kinds: impl IntoIterator<Item = TcbKind>, least: Tcb) -> Self {
        self.with_floor(product, None, kinds, least)
    }

    /// The same for one stepping, as the report's CPUID names it: microcode levels of Milan are not comparable between
    /// steppings. A stepping without a floor of its own is held to the product's.
    #[must_use]
    pub fn with_tcb_floor_of_stepping(
        self,
        product: Product,
        stepping: u8,
        kinds: impl IntoIterator<Item = TcbKind>,
        least: Tcb,
    ) -> Self {
        self.with_floor(product, Some(stepping), kinds, least)
    }

    fn with_floor(
        mut self,
        product: Product,
        stepping: Option<u8>,
        kinds: impl IntoIterator<Item = TcbKind>,
        least: Tcb,
    ) -> Self {
        self.tcb_floors.extend(kinds.into_iter().map(|kind| TcbFloor { product, stepping, kind, least }));
        self
    }

    /// Mitigations, as bits of LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR, that must have been in force at launch and must
    /// be now. AMD's bulletins say which bit stands for what. Cannot be applied to reports before version 4.
    #[must_use]
    pub fn require_mitigations(mut self, launch: u64, current: u64) -> Self {
        self.launch_mitigations |= launch;
        self.current_mitigations |= current;
        self
    }

    /// The least GUEST_SVN, which the guest's ID block sets.
    #[must_use]
    pub fn with_min_guest_svn(mut self, least: u32) -> Self {
        self.min_guest_svn = Some(least);
        self
    }

    /// Trusts these FAMILY_IDs only.
    #[must_use]
    pub fn with_family_ids(mut self, ids: impl IntoIterator<Item = [u8; 16]>) -> Self {
        self.family_ids.get_or_insert_default().extend(ids);
        self
    }

    /// Trusts these IMAGE_IDs only.
    #[must_use]
    pub fn with_image_ids(mut self, ids: impl IntoIterator<Item = [u8; 16]>) -> Self {
        self.image_ids.get_or_insert_default().extend(ids);
        self
    }

    /// Trusts guests whose ID block one of these keys signed, by SHA-384 digest.
    #[must_use]
    pub fn with_id_key_digests(mut self, digests: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.id_key_digests.get_or_insert_default().extend(digests);
        self
    }

    /// Trusts guests whose ID key one of these author keys certified, by SHA-384 digest.
    #[must_use]
    pub fn with_author_key_digests(mut self, digests: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.author_key_digests.get_or_insert_default().extend(digests);
        self
    }

    /// Trusts guests launched with one of these HOST_DATA values only. The host chooses it at launch, and it is signed.
    #[must_use]
    pub fn with_host_data(mut self, values: impl IntoIterator<Item = [u8; 32]>) -> Self {
        self.host_data.get_or_insert_default().extend(values);
        self
    }

    /// Refuses reports where no revocation list of their product is at hand.
    #[must_use]
    pub fn require_crl(mut self) -> Self {
        self.require_crl = true;
        self
    }
}

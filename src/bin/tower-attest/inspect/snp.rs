//! SEV-SNP: reports, their certificates, and the verdict on them.

use std::fmt::Display;

use bytes::Bytes;
use tower_attest::platform::snp::sim::SimulatedAmd;
use tower_attest::platform::snp::{
    CertTable, Genuineness, Product, RawTcb, ReportView, SigningKey, SnpDetails, SnpPolicy, VekCertificate,
};
use tower_attest::{Report, VerifyError, VerifyErrorKind};

use super::input::Judging;
use super::{judged_at, other};
use crate::show::{Page, Section, Verdict, time};

/// The steps of genuineness in their order.
const STEPS: [&str; 5] = [
    "form of the report",
    "signed by a VCEK or VLEK, by its own words",
    "chain to AMD's pinned root, dates, revocation",
    "certificate against report",
    "signature over the report as received",
];

/// The sections of a report, and the verdict where one is asked for.
pub(super) fn report(page: &mut Page, report: &Report, judging: &Judging) -> Result<(), String> {
    if judging.event_log.is_some() {
        return Err("--event-log: expected a TDX quote, found an SEV-SNP report, which has no RTMRs".to_owned());
    }
    let view = ReportView::parse(report.bytes().clone());
    let report = judging.endorse(report, view.as_ref().ok().map(ReportView::signing_key))?;
    let vek = report.vek().map(|der| VekCertificate::parse(der.clone()));
    let named = vek.as_ref().and_then(|vek| vek.as_ref().ok()?.product());
    match &view {
        Ok(view) => page.push(report_section(view, view.product().or(named))),
        Err(error) if judging.asked => page.push(unreadable("Report", error)),
        Err(error) => return Err(error.to_string()),
    }
    match &vek {
        Some(Ok(vek)) => page.push(vek_section(vek)),
        Some(Err(error)) => page.push(unreadable("Certificate", error)),
        None => {}
    }
    if judging.asked { judge(page, &report, judging) } else { Ok(()) }
}

/// A VCEK or VLEK certificate by itself.
pub(super) fn vek(page: &mut Page, der: &Bytes, judging: &Judging) -> Result<(), String> {
    let vek = VekCertificate::parse(der.clone()).map_err(|error| error.to_string())?;
    page.push(vek_section(&vek));
    if judging.asked {
        page.push(judged_at(judging));
        let mut section = Section::new("Genuineness");
        let step = "chain to AMD's pinned root, dates, revocation";
        match genuineness(judging)?.check_certificate(der, judging.at) {
            Ok(vek) => {
                section.pass(step);
                page.push(section);
                page.set_verdict(Verdict::accepted("a certificate that AMD issued", Some(vek.not_after())));
            }
            Err(error) => {
                section.fail(step, error.to_string());
                page.push(section);
                page.set_verdict(Verdict::refused(""));
            }
        }
    }
    Ok(())
}

/// A certificate table. Of those in it that AMD issues per chip or provider each is judged.
pub(super) fn table(page: &mut Page, bytes: &Bytes, judging: &Judging) -> Result<(), String> {
    let table = CertTable::parse(bytes).map_err(|error| error.to_string())?;
    let mut entries = Section::new("Entries");
    for entry in table.entries() {
        let kind = match entry.guid {
            CertTable::VCEK => "VCEK",
            CertTable::VLEK => "VLEK",
            CertTable::ASK => "ASK",
            CertTable::ARK => "ARK",
            _ => "unknown",
        };
        let encoding = if entry.bytes.starts_with(b"-----") { "PEM" } else { "DER" };
        entries.field(kind, format!("{} bytes ({encoding}), GUID {}", entry.bytes.len(), hex::encode(entry.guid)));
    }
    page.push(entries);
    let (mut genuine, mut judged) = (Section::new("Genuineness"), Vec::new());
    for key in [SigningKey::Vcek, SigningKey::Vlek] {
        let Some(der) = table.vek(key).map_err(|error| error.to_string())? else { continue };
        match VekCertificate::parse(der.to_vec()) {
            Ok(vek) => page.push(vek_section(&vek)),
            Err(error) => page.push(unreadable("Certificate", &error)),
        }
        if judging.asked {
            let verdict = genuineness(judging)?.check_certificate(&der, judging.at);
            let step = format!("{key}: chain to AMD's pinned root, dates, revocation");
            match &verdict {
                Ok(_) => genuine.pass(step),
                Err(error) => genuine.fail(step, error.to_string()),
            }
            judged.push(verdict.map(|vek| vek.not_after()));
        }
    }
    if judging.asked {
        page.push(judged_at(judging));
        page.push(genuine);
        let ends: Result<Vec<_>, _> = judged.into_iter().collect();
        page.set_verdict(match ends {
            Ok(ends) if ends.is_empty() => Verdict::refused("the table has neither a VCEK nor a VLEK"),
            Ok(ends) => Verdict::accepted("certificates that AMD issued", ends.into_iter().min()),
            Err(_) => Verdict::refused(""),
        });
    }
    Ok(())
}

pub(super) fn genuineness(judging: &Judging) -> Result<Genuineness, String> {
    let roots =
        if judging.simulator { Genuineness::trusting_simulator(&SimulatedAmd::new()) } else { Genuineness::amd() };
    if judging.crls.is_empty() {
        return Ok(roots);
    }
    roots.with_crls(&judging.crls).map_err(|error| format!("the CRL cannot be used: {error}"))
}

fn judge(page: &mut Page, report: &Report, judging: &Judging) -> Result<(), String> {
    page.push(judged_at(judging));
    let by = genuineness(judging)?;
    let authentic = by.authenticate(report, judging.at);
    let mut section = Section::new("Genuineness");
    section.steps(&STEPS, authentic.as_ref().err().map(|error| (failed_step(report, error), shown(error))));
    let policy = match &judging.policy {
        Some(file) => Some(file.snp().ok_or("the policy has no section [snp], and this is an SNP report")?),
        None => None,
    };
    match &authentic {
        Err(_) => {
            page.push(section);
            if policy.is_some() {
                page.push(other::not_applied());
            }
            page.set_verdict(Verdict::refused("not a genuine report"));
        }
        Ok(details) => {
            describe(&mut section, details);
            match policy {
                Some(policy) => {
                    page.push(section);
                    by_policy(page, details, policy)?;
                }
                None => {
                    by_debug(page, section, by.check(report, judging.at));
                    page.push(other::further_rules(SnpPolicy::RULES));
                }
            }
        }
    }
    Ok(())
}

fn shown(error: &VerifyError) -> &dyn Display {
    error
}

/// Which of [`STEPS`] refused.
fn failed_step(report: &Report, error: &VerifyError) -> usize {
    let signed = ReportView::parse(report.bytes().clone()).is_ok_and(|view| {
        !view.key_info().mask_chip_key() && matches!(view.signing_key(), SigningKey::Vcek | SigningKey::Vlek)
    });
    match error.kind() {
        VerifyErrorKind::Malformed | VerifyErrorKind::UnsupportedPlatform => 0,
        VerifyErrorKind::Signature if !signed => 1,
        VerifyErrorKind::Mismatch => 3,
        VerifyErrorKind::Signature => 4,
        _ => 2,
    }
}

fn describe(section: &mut Section, details: &SnpDetails) {
    let revocation = if details.revocation_checked() { "a CRL was consulted" } else { "no CRL was given" };
    section.note(format!("{}, signed by its {}; {revocation}", details.product(), details.vek_kind()));
}

fn by_policy(page: &mut Page, details: &SnpDetails, policy: &SnpPolicy) -> Result<(), String> {
    let judgement = policy.judge(details).map_err(|error| error.to_string())?;
    let mut section = Section::new("Policy");
    for rule in judgement.rules() {
        section.rule(rule.passed, rule.rule, &rule.expected, &rule.found);
    }
    if let Some(name) = judgement.measurement_name() {
        section.note(format!("the measurement is {name:?}"));
    }
    page.push(section);
    page.set_verdict(if judgement.accepted() {
        Verdict::accepted("genuine, and satisfies the policy", Some(details.valid_until()))
    } else {
        Verdict::refused("genuine, and does not satisfy the policy")
    });
    Ok(())
}

/// Without a policy, the one thing that is refused in a report that AMD hardware signed.
fn by_debug(page: &mut Page, mut section: Section, verdict: Result<SnpDetails, VerifyError>) {
    let step = "the host cannot debug the guest";
    match verdict {
        Ok(details) => {
            section.pass(step);
            page.set_verdict(Verdict::accepted("genuine (no policy given)", Some(details.valid_until())));
        }
        Err(error) => {
            section.fail(step, error.to_string());
            page.set_verdict(Verdict::refused("the host may debug the guest"));
        }
    }
    page.push(section);
}

fn unreadable(title: &'static str, error: &VerifyError) -> Section {
    let mut section = Section::new(title);
    section.note(format!("cannot be read: {error}"));
    section
}

fn report_section(view: &ReportView, product: Option<Product>) -> Section {
    let mut s = Section::new("Report");
    let tcb = |raw: RawTcb| match product {
        Some(product) => raw.decode(product).to_string(),
        None => format!("{} (of an unknown product)", hex::encode(raw.as_bytes())),
    };
    let vector = |bits: Option<u64>| bits.map_or("absent in this version".to_owned(), |bits| format!("{bits:#x}"));
    let keys = view.key_info();
    let keys = format!(
        "signed by {}, author key {}, masked {}",
        view.signing_key(),
        keys.author_key_en(),
        keys.mask_chip_key()
    );
    let cpuid = match view.cpuid() {
        Some([family, model, stepping]) => {
            let product = view.product().map_or("unknown", Product::name);
            format!("{family:#04x} {model:#04x} {stepping:#04x} ({product})")
        }
        None => "absent in this version".to_owned(),
    };
    s.note("As the guest's firmware wrote it, at the offsets of AMD 56860. Believed only if its signature verifies.");
    s.field_at("0x000", "VERSION", view.version());
    s.field_at("0x004", "GUEST_SVN", view.guest_svn());
    s.field_at("0x008", "POLICY", view.policy());
    s.field_at("0x010", "FAMILY_ID", hex::encode(view.family_id()));
    s.field_at("0x020", "IMAGE_ID", hex::encode(view.image_id()));
    s.field_at("0x030", "VMPL", view.vmpl());
    s.field_at("0x034", "SIGNATURE_ALGO", format_args!("{} (ECDSA P-384 SHA-384)", view.signature_algo()));
    s.field_at("0x038", "CURRENT_TCB", tcb(view.current_tcb()));
    s.field_at("0x040", "PLATFORM_INFO", view.platform_info());
    s.field_at("0x048", "KEY_INFO", keys);
    s.field_at("0x050", "REPORT_DATA", hex::encode(view.report_data()));
    s.field_at("0x090", "MEASUREMENT", hex::encode(view.measurement()));
    s.field_at("0x0c0", "HOST_DATA", hex::encode(view.host_data()));
    s.field_at("0x0e0", "ID_KEY_DIGEST", hex::encode(view.id_key_digest()));
    s.field_at("0x110", "AUTHOR_KEY_DIGEST", hex::encode(view.author_key_digest()));
    s.field_at("0x140", "REPORT_ID", hex::encode(view.report_id()));
    s.field_at("0x160", "REPORT_ID_MA", hex::encode(view.report_id_ma()));
    s.field_at("0x180", "REPORTED_TCB", tcb(view.reported_tcb()));
    s.field_at("0x188", "CPUID", cpuid);
    s.field_at("0x1a0", "CHIP_ID", hex::encode(view.chip_id()));
    s.field_at("0x1e0", "COMMITTED_TCB", tcb(view.committed_tcb()));
    s.field_at("0x1e8", "CURRENT version", view.current_version());
    s.field_at("0x1ec", "COMMITTED version", view.committed_version());
    s.field_at("0x1f0", "LAUNCH_TCB", tcb(view.launch_tcb()));
    s.field_at("0x1f8", "LAUNCH_MIT_VECTOR", vector(view.launch_mit_vector()));
    s.field_at("0x200", "CURRENT_MIT_VECTOR", vector(view.current_mit_vector()));
    s
}

fn vek_section(vek: &VekCertificate) -> Section {
    let mut s = Section::new("Certificate");
    s.note("As it says of itself. Believed only if it chains to AMD's root.");
    s.field("kind", vek.kind());
    s.field("productName", vek.product_name());
    if let Some(tcb) = vek.product().and_then(|product| Some(RawTcb::new(vek.tcb_bytes(product)?).decode(product))) {
        s.field("TCB", tcb);
    }
    if let Some(hwid) = vek.hwid() {
        s.field("hwID", hex::encode(hwid));
    }
    if let Some(csp_id) = vek.csp_id() {
        s.field("cspID", csp_id);
    }
    s.field("not before", time(vek.not_before()));
    s.field("not after", time(vek.not_after()));
    s
}

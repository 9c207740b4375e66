//! SEV-SNP: reports and certificates by AMD's roots alone, and the negatives that follow from each valid report.

use std::time::SystemTime;

use serde_json::{Value, json};
use tower_attest::platform::snp::{
    Genuineness, Product, REPORT_LEN, RawTcb, ReportView, SIGNED_LEN, SnpDetails, VERSIONS, VekCertificate,
};
use tower_attest::{Platform, Report, VerifyError, VerifyErrorKind};

use crate::Agreed;
use crate::manifest::Entry;

/// A report with its certificate, or a certificate alone where the case has no report.
pub(crate) fn report(entry: &Entry<'_>, entries: &[Entry<'_>]) -> Result<Agreed, String> {
    let Some(bytes) = entry.file("report") else { return certificate(entry, entries) };
    let judge = judge(entry)?;
    if let Ok(view) = ReportView::parse(bytes.clone()) {
        fields_agree(&view, entry.get("/fields"))?;
    }
    let stapled = match vek(entry) {
        Some(vek) => Report::new(Platform::SNP, bytes.clone()).with_vek(vek),
        None => Report::new(Platform::SNP, bytes.clone()),
    };
    let verdict = judge.check(&stapled, entry.time());
    expect(entry, verdict.as_ref().map(|_| ()))?;
    let Ok(details) = verdict else { return Ok(Agreed::default()) };
    extensions_agree(details.vek(), entry.get("/vek_extensions"))?;
    derived(&judge, entry, entries, &details).map(|derived| Agreed { derived })
}

/// A certificate without a report.
pub(crate) fn certificate(entry: &Entry<'_>, _: &[Entry<'_>]) -> Result<Agreed, String> {
    let vek = vek(entry).ok_or("neither report nor certificate")?;
    let verdict = judge(entry)?.check_certificate(&vek, entry.time());
    expect(entry, verdict.as_ref().map(|_| ()))?;
    verdict.map_or(Ok(()), |vek| extensions_agree(&vek, entry.get("/vek_extensions")))?;
    Ok(Agreed::default())
}

/// AMD's extensions, as another parser read them.
fn extensions_agree(vek: &VekCertificate, expected: &Value) -> Result<(), String> {
    let product = vek.product().ok_or("no product")?;
    let tcb = RawTcb::new(vek.tcb_bytes(product).ok_or("no TCB")?).decode(product);
    let read = json!({
        "productName": vek.product_name(),
        "fmcSPL": tcb.fmc, "blSPL": tcb.bootloader, "teeSPL": tcb.tee, "snpSPL": tcb.snp, "ucodeSPL": tcb.microcode,
        "hwID": vek.hwid().map(hex::encode),
        "cspID": vek.csp_id(),
    });
    for (name, found) in read.as_object().into_iter().flatten() {
        let expected = expected.get(name).unwrap_or(&Value::Null);
        if found != expected {
            return Err(format!("extension {name}: expected {expected}, found {found}"));
        }
    }
    Ok(())
}

pub fn judge(entry: &Entry<'_>) -> Result<Genuineness, String> {
    let amd = Genuineness::amd();
    match entry.file("crl") {
        Some(crl) => amd.with_crls([crl]).map_err(|error| format!("CRL: {error}")),
        None => Ok(amd),
    }
}

fn vek(entry: &Entry<'_>) -> Option<Vec<u8>> {
    entry.file("vcek").or_else(|| entry.file("vlek"))
}

/// The verdict, and the kind of refusal that the manifest's facts allow.
pub fn expect(entry: &Entry<'_>, verdict: Result<(), &VerifyError>) -> Result<(), String> {
    use VerifyErrorKind::{Endorsement, EndorsementMissing, Malformed, Mismatch, Policy, Revoked, Signature};
    let error = match (entry.expected_valid(), verdict) {
        (true, Ok(())) => return Ok(()),
        (true, Err(error)) => return Err(format!("expected valid, found: {error}")),
        (false, Ok(())) => return Err(format!("expected a refusal: {}", entry.get("/expected/why"))),
        (false, Err(error)) => error,
    };
    let known_version =
        entry.get("/report_version").as_u64().is_none_or(|v| u32::try_from(v).is_ok_and(|v| VERSIONS.contains(&v)));
    let kinds: &[VerifyErrorKind] = match entry.expected_crypto() {
        _ if !known_version => &[Malformed],
        "valid" => &[Policy],
        "invalid" => &[Endorsement, Revoked, Mismatch, Signature],
        "unverifiable" => &[EndorsementMissing],
        other => return Err(format!("unknown expected.crypto {other:?}")),
    };
    if !kinds.contains(&error.kind()) {
        return Err(format!("expected a refusal of kind {kinds:?}, found {:?}: {error}", error.kind()));
    }
    if error.kind() == Policy {
        let debug = error.failed_rules().iter().any(|rule| rule.rule == "guest-policy.debug");
        return if debug == entry.has_flag("debug") { Ok(()) } else { Err(format!("not the expected rule: {error}")) };
    }
    Ok(())
}

/// Every field that the manifest lists, as another parser read it.
fn fields_agree(view: &ReportView, fields: &Value) -> Result<(), String> {
    let policy = view.policy().bits();
    let (major, minor) = view.policy().abi();
    let raw = |tcb: RawTcb| json!(hex::encode(tcb.as_bytes()));
    let mut read = json!({
        "version": view.version(),
        "guest_svn": view.guest_svn(),
        "policy": format!("{policy:#x}"),
        "policy_bits": {
            "abi_minor": minor, "abi_major": major,
            "smt": policy >> 16 & 1 == 1, "rsvd1": policy >> 17 & 1 == 1, "migrate_ma": policy >> 18 & 1 == 1,
            "debug": view.policy().debug(), "single_socket": policy >> 20 & 1 == 1, "cxl_allow": policy >> 21 & 1 == 1,
            "mem_aes_256_xts": policy >> 22 & 1 == 1, "rapl_dis": policy >> 23 & 1 == 1,
            "ciphertext_hiding": policy >> 24 & 1 == 1, "page_swap_disable": policy >> 25 & 1 == 1,
        },
        "debug": view.policy().debug(),
        "family_id": hex::encode(view.family_id()),
        "image_id": hex::encode(view.image_id()),
        "vmpl": view.vmpl(),
        "platform_info": format!("{:#x}", view.platform_info().bits()),
        "author_key_en": view.key_info().author_key_en(),
        "mask_chip_key": view.key_info().mask_chip_key(),
        "signing_key": view.signing_key().to_string(),
        "report_data": hex::encode(view.report_data()),
        "measurement": hex::encode(view.measurement()),
        "host_data": hex::encode(view.host_data()),
        "id_key_digest": hex::encode(view.id_key_digest()),
        "author_key_digest": hex::encode(view.author_key_digest()),
        "report_id": hex::encode(view.report_id()),
        "report_id_ma": hex::encode(view.report_id_ma()),
        "chip_id": hex::encode(view.chip_id()),
        "chip_id_prefix": hex::encode(&view.chip_id()[..8]),
        "current_tcb_raw": raw(view.current_tcb()),
        "reported_tcb_raw": raw(view.reported_tcb()),
        "committed_tcb_raw": raw(view.committed_tcb()),
        "launch_tcb_raw": raw(view.launch_tcb()),
    });
    if let (Some(launch), Some(current)) = (view.launch_mit_vector(), view.current_mit_vector()) {
        read["launch_mit_vector"] = json!(format!("{launch:#x}"));
        read["current_mit_vector"] = json!(format!("{current:#x}"));
    }
    if let Some([family, model, stepping]) = view.cpuid() {
        let hex = |byte| format!("{byte:#04x}");
        read["cpuid"] = json!({"family": hex(family), "model": hex(model), "stepping": hex(stepping)});
    }
    for (name, expected) in fields.as_object().into_iter().flatten() {
        match read.get(name) {
            Some(found) if found == expected => {}
            Some(found) => return Err(format!("field {name}: expected {expected}, found {found}")),
            None if name.ends_with("_tcb") => tcb_agrees(view, name, expected)?,
            None => return Err(format!("field {name} of the manifest is not compared")),
        }
    }
    Ok(())
}

fn tcb_agrees(view: &ReportView, name: &str, expected: &Value) -> Result<(), String> {
    let raw = match name {
        "current_tcb" => view.current_tcb(),
        "reported_tcb" => view.reported_tcb(),
        "committed_tcb" => view.committed_tcb(),
        "launch_tcb" => view.launch_tcb(),
        _ => return Err(format!("unknown TCB {name}")),
    };
    // The manifest's layout tells the product where the report's version does not.
    let turin = expected.get("fmc").is_some();
    let tcb = raw.decode(view.product().unwrap_or(if turin { Product::Turin } else { Product::Milan }));
    let mut found = json!({"bl": tcb.bootloader, "tee": tcb.tee, "snp": tcb.snp, "ucode": tcb.microcode});
    if let Some(fmc) = tcb.fmc {
        found["fmc"] = json!(fmc);
    }
    if found == *expected { Ok(()) } else { Err(format!("{name}: expected {expected}, found {found}")) }
}

/// Alters a valid report in every way that must make it worthless. Returns how many ways there were.
fn derived(
    judge: &Genuineness,
    entry: &Entry<'_>,
    entries: &[Entry<'_>],
    details: &SnpDetails,
) -> Result<usize, String> {
    let (bytes, vek, now) = (details.report().bytes().to_vec(), details.vek().der().clone(), entry.time());
    let mut refused = 0;
    let mut refuse = |what: &str, bytes: Vec<u8>, vek: &[u8]| {
        refused += 1;
        let report = Report::new(Platform::SNP, bytes).with_vek(vek.to_vec());
        match judge.check(&report, now) {
            Ok(_) => Err(format!("derived negative accepted: {what}")),
            Err(error) => Ok(error.kind()),
        }
    };
    for offset in 0..REPORT_LEN {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1 << (offset % 8);
        let kind = refuse(&format!("bit {} of byte {offset:#x} flipped", offset % 8), flipped, &vek)?;
        if offset >= SIGNED_LEN && kind != VerifyErrorKind::Signature {
            return Err(format!("byte {offset:#x} of the signature: expected kind Signature, found {kind:?}"));
        }
    }
    let mut random = Random(u64::from_le_bytes(bytes[SIGNED_LEN..SIGNED_LEN + 8].try_into().unwrap()));
    for _ in 0..256 {
        let (offset, bit) = (random.below(SIGNED_LEN), random.below(8));
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1 << bit;
        refuse(&format!("bit {bit} of byte {offset:#x} flipped"), flipped, &vek)?;
    }
    for len in [0, 1, SIGNED_LEN - 1, SIGNED_LEN, REPORT_LEN - 1, REPORT_LEN + 1, 2 * REPORT_LEN] {
        let mut resized = bytes.clone();
        resized.resize(len, 0);
        refuse(&format!("resized to {len} bytes"), resized, &vek)?;
    }
    for (what, numbers) in [("r", &[0x2a0][..]), ("s", &[0x2e8]), ("r and s", &[0x2a0, 0x2e8])] {
        let mut zeroed = bytes.clone();
        numbers.iter().for_each(|at| zeroed[*at..at + 72].fill(0));
        let kind = refuse(&format!("{what} zero"), zeroed, &vek)?;
        if kind != VerifyErrorKind::Signature {
            return Err(format!("{what} zero: expected kind Signature, found {kind:?}"));
        }
    }
    for other in entries.iter().filter(|other| other.id() != entry.id() && other.kind() == entry.kind()) {
        if let Some(other_vek) = self::vek(other).filter(|other_vek| *other_vek != *vek && !same_key(other_vek, &vek)) {
            refuse(&format!("the VEK of {}", other.id()), bytes.clone(), &other_vek)?;
        }
        if let Some(other_report) = other.file("report").filter(|report| report[0x50..0x90] != bytes[0x50..0x90]) {
            let mut swapped = bytes.clone();
            swapped[0x50..0x90].copy_from_slice(&other_report[0x50..0x90]);
            let kind = refuse(&format!("the report data of {}", other.id()), swapped, &vek)?;
            if kind != VerifyErrorKind::Signature {
                return Err(format!("report data of {}: expected kind Signature, found {kind:?}", other.id()));
            }
        }
    }
    too_early_and_too_late(judge, entry, details, now)?;
    Ok(refused + 2)
}

/// AMD certifies one key again with new dates: the same key is the right VEK.
fn same_key(one: &[u8], other: &[u8]) -> bool {
    let point = |der: &[u8]| der.windows(3).position(|w| w == [0x62, 0x00, 0x04]).map(|at| der[at..at + 99].to_vec());
    point(one) == point(other)
}

fn too_early_and_too_late(
    judge: &Genuineness,
    entry: &Entry<'_>,
    details: &SnpDetails,
    now: SystemTime,
) -> Result<(), String> {
    let second = std::time::Duration::from_secs(1);
    let report = Report::new(Platform::SNP, details.report().bytes().clone()).with_vek(details.vek().der().clone());
    for time in [details.vek().not_before() - second, details.vek().not_after() + second] {
        match judge.check(&report, time) {
            Err(error) if error.kind() == VerifyErrorKind::Endorsement => {}
            verdict => return Err(format!("{}: outside its dates, found {verdict:?}", entry.id())),
        }
    }
    judge.check(&report, now).map(|_| ()).map_err(|error| format!("refused on the second look: {error}"))
}

/// xorshift64: reproducible, and good enough to pick bits.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 |= 1;
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

//! What a genuine SNP report shows, as a policy.

use tower_attest::platform::snp::{Product, SnpDetails, SnpPolicy, Tcb, VekKind};

use super::quoted;

/// The section `[snp]` that accepts this report. An error is why no policy may.
pub(super) fn section(details: &SnpDetails, name: &str) -> Result<String, String> {
    let report = details.report();
    if report.policy().debug() {
        return Err(
            "the host may debug this guest and read its memory: a policy that accepts it would protect nothing"
                .to_owned(),
        );
    }
    let product = details.product();
    let mut text = String::from("[snp]\n");
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("products = [\"{}\"]", product.name().to_ascii_lowercase()));
    match details.vek_kind() {
        VekKind::Vcek => {
            line("signing-keys = [\"vcek\"]".to_owned());
            line("# Take the mark away to accept this one machine alone.".to_owned());
            line(format!("# chip-ids = [\"{}\"]", hex::encode(details.chip_id())));
        }
        VekKind::Vlek => {
            line("signing-keys = [\"vlek\"]".to_owned());
            line(format!("csp-ids = [{}]", quoted(details.vek().csp_id().unwrap_or_default())));
        }
    }
    line(format!("vmpls = [{}]", report.vmpl()));
    if details.revocation_checked() {
        line("require-crl = true".to_owned());
    } else {
        line("# No revocation list was consulted. With one at hand (docs/SNP.md):\n# require-crl = true".to_owned());
    }
    if report.guest_svn() > 0 {
        line(format!("min-guest-svn = {}", report.guest_svn()));
    }
    let set = |value: &[u8]| value.iter().any(|byte| *byte != 0);
    for (key, about, value) in [
        ("family-ids", "FAMILY_ID, from the ID block", &report.family_id()[..]),
        ("image-ids", "IMAGE_ID, from the ID block", &report.image_id()[..]),
        ("id-key-digests", "the key that signed the ID block", &report.id_key_digest()[..]),
        ("author-key-digests", "the key that certified the ID key", &report.author_key_digest()[..]),
        ("host-data", "the host's words at launch: signed, not measured", &report.host_data()[..]),
    ] {
        if set(value) {
            line(format!("# {about}\n{key} = [\"{}\"]", hex::encode(value)));
        }
    }
    let measurement = hex::encode(report.measurement());
    let measurement = format!("\n[[snp.measurement]]\nname = {}\nvalue = \"{measurement}\"\n", quoted(name));
    let permitted = Permitted::of(details)?;
    if permitted.provisional_firmware {
        line(format!("{LOOSER}\npermit-provisional-firmware = true"));
    }
    text.push_str(&measurement);
    text.push_str(&bits("guest-policy", &permitted.guest_policy));
    text.push_str(&bits("platform-info", &permitted.platform_info));
    text.push_str(&floor(details));
    Ok(text)
}

/// Marks a rule that gives way to what was seen.
const LOOSER: &str = "# LOOSER THAN THE DEFAULT, because of what was seen:";

/// What the default rules refuse in this report.
#[derive(Debug, Default)]
struct Permitted {
    guest_policy: Vec<String>,
    platform_info: Vec<String>,
    provisional_firmware: bool,
}

impl Permitted {
    fn of(details: &SnpDetails) -> Result<Self, String> {
        let judged =
            SnpPolicy::pin(details.report().measurement()).judge(details).map_err(|error| error.to_string())?;
        let mut permitted = Self::default();
        for rule in judged.rules().iter().filter(|rule| !rule.passed) {
            // The names as the rule shows them: `set: smt, bit 30`.
            let names = || rule.found.split_once(": ").map_or("", |(_, names)| names).split(", ").map(str::to_owned);
            match rule.rule {
                "guest-policy.forbid" => permitted.guest_policy.extend(names()),
                "migration-agent" => permitted.guest_policy.push("migrate-ma".to_owned()),
                "platform-info.require" | "platform-info.forbid" => permitted.platform_info.extend(names()),
                "provisional-firmware" => permitted.provisional_firmware = true,
                _ => {}
            }
        }
        permitted.guest_policy.dedup();
        Ok(permitted)
    }
}

fn bits(table: &str, permitted: &[String]) -> String {
    if permitted.is_empty() {
        return String::new();
    }
    let names: Vec<String> = permitted.iter().map(|name| quoted(name)).collect();
    format!("\n[snp.{table}]\n{LOOSER}\npermit = [{}]\n", names.join(", "))
}

/// What runs now is the least that is accepted later.
fn floor(details: &SnpDetails) -> String {
    let product = details.product();
    let show = |tcb: Tcb| {
        let fmc = tcb.fmc.map_or(String::new(), |fmc| format!("fmc = {fmc}, "));
        let Tcb { bootloader, tee, snp, microcode, .. } = tcb;
        format!("{{ {fmc}bl = {bootloader}, tee = {tee}, snp = {snp}, ucode = {microcode} }}")
    };
    // Milan's microcode levels are not comparable between steppings.
    let stepping = match (product, details.report().cpuid()) {
        (Product::Milan, Some([_, _, stepping])) => format!("stepping = {stepping}\n"),
        _ => String::new(),
    };
    format!(
        "\n# The least firmware and microcode. Raise it as AMD's bulletins ask for; older than this is refused.\n\
         [[snp.tcb-floor]]\nproduct = \"{}\"\n{stepping}reported = {}\ncommitted = {}\ncurrent = {}\nlaunch = {}\n",
        product.name().to_ascii_lowercase(),
        show(details.reported_tcb()),
        show(details.committed_tcb()),
        show(details.current_tcb()),
        show(details.launch_tcb()),
    )
}

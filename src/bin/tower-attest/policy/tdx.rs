//! What a genuine TDX quote shows, as a policy.

use std::time::{Duration, SystemTime};

use tower_attest::platform::tdx::{TcbStatus, TdxDetails, TdxPolicy};

use super::quoted;
use crate::show::time;

/// TDATTRIBUTES bits 0 to 7: the TD is under debug.
const DEBUG: u64 = 0xff;
/// How long a TCB that is out of date stays accepted: as long as Intel's collateral lasts.
const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// The section `[tdx]` that accepts this quote at `at`. An error is why no policy may.
pub(super) fn section(details: &TdxDetails, name: &str, at: SystemTime) -> Result<String, String> {
    let body = &details.td_report;
    if body.td_attributes & DEBUG != 0 {
        return Err("the host may debug this TD and read its memory: no policy accepts it".to_owned());
    }
    let judged = TdxPolicy::pin(body.mr_td).judge(details, at).map_err(|error| error.to_string())?;
    let refused = |rule: &str| judged.rules().iter().any(|outcome| outcome.rule == rule && !outcome.passed);
    let mut text = String::from("[tdx]\n");
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line("# Older collateral does not know the newest advisories.".to_owned());
    line(format!("min-tcb-evaluation-data-number = {}", details.tcb_evaluation_data_number));
    line("# Take the mark away to accept this one machine alone.".to_owned());
    line(format!("# ppid = [\"{}\"]", hex::encode(details.platform.ppid)));
    let set = |value: &[u8; 48]| value.iter().any(|byte| *byte != 0);
    for (key, value) in
        [("mr-config-id", &body.mr_config_id), ("mr-owner", &body.mr_owner), ("mr-owner-config", &body.mr_owner_config)]
    {
        if set(value) {
            line(format!("# The host's words at launch: signed, not measured.\n{key} = \"{}\"", hex::encode(value)));
        }
    }
    if refused("mr-signer-seam") {
        line(format!("{LOOSER}\nmr-signer-seam = \"{}\"", hex::encode(body.mr_signer_seam)));
    }
    if let (true, Some(td15)) = (refused("mr-service-td"), &body.td15) {
        line(format!("{LOOSER}\nmr-service-td = \"{}\"", hex::encode(td15.mr_service_td)));
    }
    for (key, value) in [("td-attributes", body.td_attributes), ("xfam", body.xfam)] {
        if refused(key) {
            // Exactly the bits that were seen.
            line(format!("{LOOSER}\n{key} = {{ require = \"{value:#x}\", forbid = \"{:#x}\" }}", !value));
        }
    }
    text.push_str(&format!(
        "\n# MRTD is the firmware on most stacks; kernel and initrd are in RTMR1 and RTMR2. RTMR0 depends on the shape of\n\
         # the machine, and RTMR3 on what runs in it: leave out what changes between your own machines.\n\
         [[tdx.measurement]]\nname = {}\nmrtd = \"{}\"\n",
        quoted(name),
        hex::encode(body.mr_td)
    ));
    for (register, value) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(&body.rtmr) {
        text.push_str(&format!("{register} = \"{}\"\n", hex::encode(value)));
    }
    if details.tcb_status != TcbStatus::UpToDate {
        text.push_str(&accept(details, at));
    }
    Ok(text)
}

/// Marks a rule that gives way to what was seen.
const LOOSER: &str = "# LOOSER THAN THE DEFAULT, because of what was seen:";

fn accept(details: &TdxDetails, at: SystemTime) -> String {
    let advisories: Vec<String> = details.advisories.iter().map(|advisory| quoted(advisory)).collect();
    let outdated = matches!(details.tcb_status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded);
    let until = if outdated { format!("until = \"{}\"\n", time(at + GRACE)) } else { String::new() };
    format!(
        "\n{LOOSER}\n# Intel knows of these advisories about the platform. Read them, and update it.\n\
         [[tdx.accept]]\nstatus = \"{}\"\nadvisories = [{}]\n{until}",
        details.tcb_status,
        advisories.join(", "),
    )
}

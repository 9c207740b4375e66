//! `report`, and `inspect` on what it prints.

use crate::run::{Files, Run, run};

const NONCE: &str = "0707070707070707070707070707070707070707070707070707070707070707";
const OTHER: &str = "0808080808080808080808080808080808080808080808080808080808080808";

fn report(platform: &str, form: &str, output: &str) -> Run {
    let simulated = ["--platform", platform, "--insecure-no-hardware"];
    run(["report", "--nonce", NONCE, "--form", form, "--output", output].iter().chain(&simulated))
}

fn kind(run: &Run) -> String {
    run.json()[0]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn evidence_for_a_nonce_is_accepted_for_that_nonce_alone() {
    let files = Files::new();
    let output = files.write("evidence", b"");
    let output = output.to_str().unwrap();
    for platform in ["sim-snp", "sim-tdx"] {
        for form in ["json", "cbor"] {
            let made = report(platform, form, output);
            assert_eq!(made.code, 0, "{}", made.stderr);
            let judge = |nonce| run(["inspect", "--json", "--insecure-simulator", output, "--nonce", nonce]);
            let right = judge(NONCE);
            assert_eq!(right.code, 0, "{platform} {form}: {}", right.stdout);
            assert_eq!(kind(&right), "evidence");
            assert_eq!(judge(OTHER).code, 1, "{platform} {form}");
        }
    }
}

#[test]
fn the_raw_form_is_the_hardwares_report_alone() {
    let files = Files::new();
    let output = files.write("report", b"");
    let output = output.to_str().unwrap();
    for (platform, expected) in [("sim-snp", "snp-report"), ("sim-tdx", "tdx-quote"), ("mock", "mock-report")] {
        assert_eq!(report(platform, "raw", output).code, 0);
        assert_eq!(kind(&run(["inspect", "--json", output])), expected);
    }
}

#[test]
fn simulated_hardware_needs_its_flag_and_a_nonce_has_32_bytes() {
    let simulated = run(["report", "--nonce", NONCE, "--platform", "sim-snp"]);
    assert_eq!((simulated.code, simulated.stdout.as_str()), (2, ""));
    assert!(simulated.stderr.contains("--insecure-no-hardware"), "{}", simulated.stderr);
    for nonce in ["07", "", "zz", &NONCE[2..]] {
        assert_eq!(run(["report", "--nonce", nonce]).code, 2, "{nonce:?}");
    }
    assert_eq!(run(["report"]).code, 2, "whoever judges must choose the nonce");
}

//! `inspect` over the real evidence in the folder that `ATTEST_VECTORS` names. No entry is named here.

#[allow(dead_code, reason = "shared with the test of the library")]
#[path = "../vectors/manifest.rs"]
mod manifest;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use self::manifest::{Entry, Folder};
use crate::run::{Files, run};

/// What a file of this role must be recognised as. `None` for what other tools made of evidence.
fn expected_kind(entry: &Entry<'_>, role: &str) -> Option<&'static str> {
    Some(match role {
        "report" => "snp-report",
        "vcek" | "vlek" => "snp-vek",
        "ark" | "ask" | "asvk" | "tcb_signing_chain" | "pck_crl_issuer_chain" => "certificates",
        "crl" | "pck_crl" | "root_ca_crl" => "crls",
        "auxblob" => "snp-cert-table",
        "quote" if entry.kind() == "sgx" => "sgx-quote",
        "quote" | "container" | "td_quote" => "tdx-quote",
        "tdreport" => "tdreport",
        "tcb_info" => "tcb-info",
        "qe_identity" => "qe-identity",
        "hcl_report" => "azure-hcl-report",
        "tpm_quote_msg" => "tpm-quote",
        _ => return None,
    })
}

#[test]
fn every_artefact_is_recognised_by_its_content_and_shown() {
    let Some(folder) = Folder::from_environment() else {
        println!("skipped: ATTEST_VECTORS is not set");
        return;
    };
    let mut expected = BTreeMap::new();
    let mut others = 0;
    for entry in folder.entries() {
        for role in entry.get("/files").as_object().unwrap().keys() {
            match expected_kind(&entry, role) {
                Some(kind) => {
                    let (_, valid) = expected.entry(entry.path(role).unwrap()).or_insert((kind, false));
                    *valid |= entry.get("/expected/verdict") == "valid";
                }
                None => others += 1,
            }
        }
    }
    let paths: Vec<&PathBuf> = expected.keys().collect();
    for paths in paths.chunks(100) {
        let arguments = ["inspect", "--json", "--"].iter().map(OsString::from);
        let run = run(arguments.chain(paths.iter().map(OsString::from)));
        let pages = run.json();
        assert_eq!(pages.len(), paths.len());
        for (page, path) in pages.iter().zip(paths) {
            let (kind, valid) = expected[*path];
            assert_eq!(page["kind"], kind, "{}", path.display());
            if let Some(error) = page["error"].as_str() {
                assert!(!valid, "{}: {error}", path.display());
                continue;
            }
            assert!(page["verdict"].is_null(), "nothing was to be judged: {}", path.display());
            let shown = page["sections"].as_array().unwrap();
            assert!(!shown.is_empty(), "{}", path.display());
        }
    }
    println!("{} recognised, {others} not of these kinds", expected.len());
}

#[test]
fn verdicts_and_exit_codes_are_those_of_the_manifest() {
    let Some(folder) = Folder::from_environment() else {
        println!("skipped: ATTEST_VECTORS is not set");
        return;
    };
    let mut judged = 0;
    for entry in folder.entries() {
        let mut arguments: Vec<OsString> = vec!["inspect".into(), "--json".into()];
        let mut flag = |name: &str, path: Option<PathBuf>| {
            if let Some(path) = path {
                arguments.extend([name.into(), path.into()]);
            }
        };
        match entry.kind() {
            "snp" | "snp-negative" if entry.path("report").is_some() => {
                flag("--report", entry.path("report"));
                flag("--vek", entry.path("vcek").or_else(|| entry.path("vlek")));
                flag("--crl", entry.path("crl"));
            }
            "tdx" | "tdx-negative" => {
                flag("--quote", entry.path("quote"));
                flag("--collateral", entry.path("tcb_info").map(|path| path.parent().unwrap().to_owned()));
            }
            _ => continue,
        }
        let at = humantime::format_rfc3339_seconds(entry.time()).to_string();
        arguments.extend(["--at".into(), at.into()]);
        let run = run(&arguments);
        let expected = if entry.expected_valid() { 0 } else { 1 };
        assert_eq!(run.code, expected, "{}: {}", entry.id(), run.stdout);
        judged += 1;
    }
    println!("{judged} agreed");
}

#[test]
fn a_policy_made_from_real_evidence_accepts_it() {
    let Some(folder) = Folder::from_environment() else {
        println!("skipped: ATTEST_VECTORS is not set");
        return;
    };
    let files = Files::new();
    let mut agreed = 0;
    for entry in folder.entries() {
        let genuine = entry.expected_crypto() == "valid" && !entry.has_flag("debug");
        let mut by: Vec<OsString> =
            vec!["--at".into(), humantime::format_rfc3339_seconds(entry.time()).to_string().into()];
        let mut flag = |name: &str, path: Option<PathBuf>| {
            if let Some(path) = path {
                by.extend([name.into(), path.into()]);
            }
        };
        let from = match entry.kind() {
            "snp" if genuine => {
                flag("--vek", entry.path("vcek").or_else(|| entry.path("vlek")));
                flag("--crl", entry.path("crl"));
                entry.path("report")
            }
            "tdx" if genuine && entry.path("tcb_info").is_some() && entry.get("/expected/tcb_status").is_string() => {
                flag("--collateral", entry.path("tcb_info").map(|path| path.parent().unwrap().to_owned()));
                entry.path("quote")
            }
            _ => continue,
        };
        let from = OsString::from(from.unwrap());
        let new = ["policy".into(), "new".into(), "--from".into(), from.clone()];
        let written = run(new.iter().chain(&by));
        assert_eq!(written.code, 0, "{}: {}", entry.id(), written.stderr);
        let policy = files.write("policy.toml", &written.stdout);
        let inspect = ["inspect".into(), from, "--policy".into(), policy.into()];
        let judged = run(inspect.iter().chain(&by));
        assert_eq!(judged.code, 0, "{}: {}{}", entry.id(), judged.stdout, judged.stderr);
        agreed += 1;
    }
    println!("{agreed} agreed");
}

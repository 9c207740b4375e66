//! The folder of vectors and its manifest.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

/// A folder with a `manifest.json`.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    manifest: Value,
}

/// One case of the manifest.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    root: &'a Path,
    value: &'a Value,
}

impl Folder {
    /// The folder that `ATTEST_VECTORS` names; `None` if the variable is unset or empty.
    pub(crate) fn from_environment() -> Option<Self> {
        let named = std::env::var_os("ATTEST_VECTORS").filter(|value| !value.is_empty())?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(named);
        let path = root.join("manifest.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let manifest: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["format"], 1, "this test reads manifests of format 1");
        Some(Self { root, manifest })
    }

    /// Every case, in the manifest's order.
    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        let entries = self.manifest["entries"].as_array().unwrap();
        entries.iter().map(|value| Entry { root: &self.root, value }).collect()
    }
}

impl Entry<'_> {
    /// The case's name, for messages only.
    pub(crate) fn id(&self) -> &str {
        self.value["id"].as_str().unwrap()
    }

    /// Which handler judges it.
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap()
    }

    /// A field of the manifest by JSON pointer; null where it is absent.
    pub(crate) fn get(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// `expected.crypto`: `valid`, `invalid` or `unverifiable`.
    pub(crate) fn expected_crypto(&self) -> &str {
        self.get("/expected/crypto").as_str().unwrap()
    }

    /// Whether `expected.verdict` is `valid`.
    pub(crate) fn expected_valid(&self) -> bool {
        match self.get("/expected/verdict").as_str().unwrap() {
            "valid" => true,
            "invalid" => false,
            other => panic!("{}: unknown verdict {other:?}", self.id()),
        }
    }

    /// Whether `policy_flags` lists `flag`.
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.get("/policy_flags").as_array().is_some_and(|flags| flags.iter().any(|known| known == flag))
    }

    /// The clock of the case: `verification_time`, else the start of the certificate's validity, else now (for evidence
    /// without a certificate, which no clock can make valid).
    pub(crate) fn time(&self) -> SystemTime {
        let time = self.get("/verification_time").as_str().or_else(|| self.get("/vek_validity/0").as_str());
        time.map_or_else(SystemTime::now, |time| humantime::parse_rfc3339(time).unwrap())
    }

    /// Where a file is, by its role, if the case has one.
    pub(crate) fn path(&self, role: &str) -> Option<PathBuf> {
        Some(self.root.join(self.value["files"].get(role)?["path"].as_str().unwrap()))
    }

    /// The bytes of a file by its role, if the case has one. Its digest must be the manifest's.
    pub(crate) fn file(&self, role: &str) -> Option<Vec<u8>> {
        let file = self.value["files"].get(role)?;
        let path = self.path(role)?;
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        assert_eq!(hex::encode(digest), file["sha256"].as_str().unwrap(), "{} is not the manifest's", path.display());
        Some(bytes)
    }
}

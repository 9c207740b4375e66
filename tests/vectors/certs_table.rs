//! The host's certificate table: the VEK found in it verifies the report that came with it.

use tower_attest::platform::snp::{CertTable, ReportView};
use tower_attest::{Platform, Report};

use crate::Agreed;
use crate::manifest::Entry;
use crate::snp::{expect, judge};

/// A table with its report. Negatives: the table cut anywhere before the end of the certificate that is used.
pub fn table(entry: &Entry<'_>, _: &[Entry<'_>]) -> Result<Agreed, String> {
    let blob = entry.file("auxblob").ok_or("no auxblob")?;
    let bytes = entry.file("report").ok_or("no report")?;
    let view = ReportView::parse(bytes.clone()).map_err(|error| error.to_string())?;
    let parsed = CertTable::parse(&blob).map_err(|error| error.to_string())?;
    entries_agree(&parsed, &blob, entry)?;

    let vek = parsed.vek(view.signing_key()).map_err(|error| error.to_string())?.ok_or("no VEK in the table")?;
    let stapled = Report::new(Platform::SNP, bytes).with_vek(vek.clone().into_owned());
    let verdict = judge(entry)?.check(&stapled, entry.time());
    expect(entry, verdict.as_ref().map(|_| ()))?;

    let mut derived = 0;
    let end = parsed.entries().iter().map(|found| offset(&blob, found.bytes) + found.bytes.len()).max().unwrap_or(0);
    for length in 1..end {
        if CertTable::parse(&blob[..length]).is_ok() {
            return Err(format!("a table cut to {length} of {end} bytes still parses"));
        }
        derived += 1;
    }
    Ok(Agreed { derived })
}

/// The same entries, at the same places, in the same encoding as another parser found them.
fn entries_agree(parsed: &CertTable<'_>, blob: &[u8], entry: &Entry<'_>) -> Result<(), String> {
    let Some(expected) = entry.get("/verified_here/entries").as_array() else { return Ok(()) };
    let found = parsed.entries();
    if found.len() != expected.len() {
        return Err(format!("expected {} entries, found {}", expected.len(), found.len()));
    }
    for (found, expected) in found.iter().zip(expected) {
        let encoding = if found.bytes.starts_with(b"-----BEGIN") { "PEM" } else { "DER" };
        let actual = serde_json::json!({
            "guid_bytes": hex::encode(found.guid),
            "offset": offset(blob, found.bytes),
            "length": found.bytes.len(),
            "encoding": encoding,
            "name": expected["name"],
        });
        if &actual != expected {
            return Err(format!("expected entry {expected}, found {actual}"));
        }
    }
    Ok(())
}

/// Where `part` stands in `whole`.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

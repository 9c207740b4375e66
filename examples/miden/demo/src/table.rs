//! The tables, in the form in which they stand in the README.

use crate::measure::Row;
use crate::refusals::Outcome;
use crate::relay::Read;

pub fn ways(rows: &[Row]) {
    println!("| way | verdict | strength | proving call | more than plaintext, warm | share | first call | share |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let more = |more: Option<f64>| match more {
            Some(more) => format!("{:.2} ms | {:.2} %", more * 1e3, 100.0 * more / row.proving.as_secs_f64()),
            None => "– | –".to_owned(),
        };
        println!(
            "| {} | {} | {} | {:.2} s | {} | {} |",
            row.way,
            row.verdict,
            row.strength,
            row.proving.as_secs_f64(),
            more(row.warm),
            more(row.cold)
        );
    }
}

/// How many outcomes were not as expected.
pub fn refusals(outcomes: &[Outcome]) -> usize {
    println!("| attack or fault | way | outcome | the relay read |");
    println!("|---|---|---|---|");
    for Outcome { attack, way, outcome, read, expected } in outcomes {
        let surprise = if *expected { "" } else { "**NOT AS EXPECTED** " };
        let read = match read {
            None => "–".to_owned(),
            Some(Read::Nothing) => "nothing".to_owned(),
            Some(Read::Ciphertext(bytes)) => format!("{} KB, sealed", bytes / 1000),
            Some(Read::Witness) => "**the witness**".to_owned(),
        };
        println!("| {attack} | {way} | {surprise}{} | {read} |", short(outcome));
    }
    outcomes.iter().filter(|outcome| !outcome.expected).count()
}

/// Digests and measurements cut, as a cell of a table has it.
fn short(text: &str) -> String {
    let is_other = |c: char| !c.is_ascii_hexdigit();
    let cut = |piece: &str| {
        let digits = piece.trim_end_matches(is_other);
        if digits.len() < 64 { piece.to_owned() } else { piece.replace(digits, &format!("{}…", &digits[..8])) }
    };
    text.split_inclusive(is_other).map(cut).collect::<String>().replace('|', "\\|")
}

//! Shows SNP reports, TDX quotes and what belongs to them to a security reviewer: every field, every rule, the verdict.
//!
//! ```sh
//! cargo run --features cli --example inspect -- --report FILE --vek FILE [--crl FILE] [--at RFC3339] [--policy FILE]
//! cargo run --features cli --example inspect -- --quote FILE --collateral DIR [--at RFC3339] [--policy FILE]
//! ```
//!
//! It is `tower-attest inspect`, as a program of its own. Both are the same source files: what they show is for people, and
//! as a part of the library it would have to stay as it is for ever.
//!
//! Exit code: 0 accepted, or shown where nothing was to be judged; 1 refused; 2 unreadable (arguments, files, or a policy
//! or CRL that cannot be used).
#![allow(
    unreachable_pub,
    unused_imports,
    dead_code,
    reason = "the binary's modules; it uses more of them than this does"
)]

#[path = "../src/bin/tower-attest/der.rs"]
mod der;
#[path = "../src/bin/tower-attest/failure.rs"]
mod failure;
#[path = "../src/bin/tower-attest/inspect/mod.rs"]
mod inspect;
#[path = "../src/bin/tower-attest/policy_file.rs"]
mod policy_file;
#[path = "../src/bin/tower-attest/show/mod.rs"]
mod show;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(max_term_width = 80)]
struct Arguments {
    #[command(flatten)]
    inspect: inspect::Inspect,
}

fn main() -> ExitCode {
    Arguments::parse().inspect.run()
}

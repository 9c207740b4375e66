//! Generates `examples/proto/prover.rs` from `examples/proto/prover.proto` with protox instead of protoc.
//!
//! `cargo run -p codegen` writes it; `cargo test -p codegen` fails when the checked-in file is not what it would write.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs, process};

fn proto_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/proto")
}

fn generate() -> Result<String, Box<dyn Error>> {
    let descriptors = protox::compile(["prover.proto"], [proto_dir()])?;
    let out = env::temp_dir().join(format!("tower-attest-codegen-{}", process::id()));
    fs::create_dir_all(&out)?;
    let result = tonic_prost_build::configure()
        .out_dir(&out)
        .compile_fds(descriptors)
        .map_err(Box::<dyn Error>::from)
        .and_then(|()| Ok(fs::read_to_string(out.join("prover.v1.rs"))?));
    fs::remove_dir_all(&out)?;
    Ok(prettyplease::unparse(&syn::parse_file(&result?)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = proto_dir().join("prover.rs");
    fs::write(&path, generate()?)?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_code_is_current() {
        let checked_in = fs::read_to_string(proto_dir().join("prover.rs")).expect("examples/proto/prover.rs");
        assert_eq!(generate().expect("generated code"), checked_in, "run `cargo run -p codegen`");
    }
}

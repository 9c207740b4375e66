//! Tells the crate's source that it is compiled for shuttle.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(tower_attest_shuttle)");
    println!("cargo::rustc-cfg=tower_attest_shuttle");
}

//! Stand-ins for hardware that both ends of the sidecar know, for trying things out. They prove nothing, and each needs a
//! flag that begins with `--insecure`.

use tower_attest::mock::MockTee;

/// What every simulated machine says it runs: 48 bytes that read as what they are.
pub(crate) const MEASUREMENT: [u8; 48] = *b"tower-attest simulated measurement, not hardware";

/// A policy file that accepts the simulated machines' measurement. It takes a verifier that trusts the simulator, too.
pub(crate) fn policy() -> String {
    let measurement = hex::encode(MEASUREMENT);
    format!(
        "# For simulated hardware, which proves nothing: `connect` takes it with --insecure-simulator alone.\n\n\
         [[snp.measurement]]\nname = \"simulated\"\nvalue = \"{measurement}\"\n\n\
         [[tdx.measurement]]\nname = \"simulated\"\nmrtd = \"{measurement}\"\n"
    )
}

/// The mock machine. Its key comes from a seed that everybody can read here.
pub(crate) fn mock() -> MockTee {
    MockTee::from_seed(*b"tower-attest mock, not hardware.").with_measurement(MEASUREMENT)
}

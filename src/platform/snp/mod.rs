//! AMD SEV-SNP.

pub mod vek;

//! The batch tree: one hardware report for many nonces (RFC 9162, section 2.1, with SHA-384).

use super::statement::{Leaf, report_data};
use crate::crypto;
use crate::report::{Platform, ReportData};

/// The most leaves that a batch proof may speak of.
pub const MAX_BATCH: u32 = 65_536;

/// The tree over the leaves of one batch.
pub struct BatchTree {
    leaves: Vec<Leaf>,
}

impl BatchTree {
    /// # Errors
    ///
    /// [`BatchError::Size`] unless there are 1 to 65 536 leaves.
    pub fn new(leaves: Vec<Leaf>) -> Result<Self, BatchError> {
        todo!("{:?}", leaves.len())
    }

    /// REPORTDATA over this batch.
    pub fn report_data(&self, platform: &Platform) -> ReportData {
        todo!("{platform}")
    }

    /// The proof for the leaf at `index`, if there is one.
    pub fn proof(&self, index: usize) -> Option<BatchProof> {
        todo!("{index}")
    }
}

/// The way from one leaf to its batch's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProof {
    size: u32,
    index: u32,
    path: Vec<Leaf>,
}

impl BatchProof {
    /// Parses `size: u32 ‖ index: u32 ‖ sibling hashes`, big-endian, the lowest sibling first.
    ///
    /// # Errors
    ///
    /// Refuses any length that does not fit (index, size) exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        todo!("{bytes:?}")
    }

    /// The bytes that [`decode`](Self::decode) reads.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// REPORTDATA that a report must hold if `leaf` is in this batch.
    pub fn report_data(&self, platform: &Platform, leaf: &Leaf) -> ReportData {
        todo!("{platform} {leaf:?}")
    }

    /// How many nonces share the report.
    pub fn size(&self) -> u32 {
        self.size
    }
}

/// Why a batch or a batch proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not 1 to 65 536 leaves.
    #[error("batch size: expected 1 to 65536, found {0}")]
    Size(u64),
    // helper: add the others
}

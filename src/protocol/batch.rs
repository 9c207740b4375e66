//! The batch tree: one hardware report for many nonces (RFC 9162, section 2.1, with SHA-384).

use std::fmt;

use super::statement::{Leaf, report_data};
use crate::crypto;
use crate::report::{Platform, ReportData};

/// The most leaves that a batch proof may speak of.
pub const MAX_BATCH: u32 = 65_536;

const HASH: usize = size_of::<Leaf>();

/// The tree over the leaves of one batch.
///
/// Every level is computed once, so that each proof costs only the copying of its path.
pub struct BatchTree {
    size: u32,
    /// From the leaves up to the level below the root.
    levels: Vec<Vec<Leaf>>,
    root: Leaf,
}

impl BatchTree {
    /// Hashes the tree over these leaves.
    ///
    /// # Errors
    ///
    /// [`BatchError::Size`] unless there are 1 to 65 536 leaves.
    pub fn new(leaves: Vec<Leaf>) -> Result<Self, BatchError> {
        let count = leaves.len();
        let size = u32::try_from(count)
            .ok()
            .filter(|size| (1..=MAX_BATCH).contains(size))
            .ok_or(BatchError::Size(u64::try_from(count).unwrap_or(u64::MAX)))?;
        let mut levels = Vec::new();
        let mut level = leaves;
        loop {
            if let [root] = *level {
                return Ok(Self { size, levels, root });
            }
            let above = above(&level);
            levels.push(std::mem::replace(&mut level, above));
        }
    }

    /// REPORTDATA over this batch.
    pub fn report_data(&self, platform: &Platform) -> ReportData {
        report_data(platform, self.size, &self.root)
    }

    /// The proof for the leaf at `index`, if there is one.
    pub fn proof(&self, index: usize) -> Option<BatchProof> {
        let position = u32::try_from(index).ok().filter(|position| *position < self.size)?;
        let path =
            self.levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1)).copied();
        Some(BatchProof { size: self.size, index: position, path: path.collect() })
    }
}

impl fmt::Debug for BatchTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchTree").field("size", &self.size).finish_non_exhaustive()
    }
}

/// A level's odd last node goes up as it is, which is the same tree as RFC 9162's split at the largest power of two.
fn above(level: &[Leaf]) -> Vec<Leaf> {
    let (pairs, odd) = level.as_chunks();
    pairs.iter().map(|[left, right]| node(left, right)).chain(odd.iter().copied()).collect()
}

fn node(left: &Leaf, right: &Leaf) -> Leaf {
    crypto::sha384(&[&[1], left, right])
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
        let too_short = BatchError::Header(bytes.len());
        let (size, rest) = bytes.split_first_chunk().ok_or(too_short)?;
        let (index, path) = rest.split_first_chunk().ok_or(too_short)?;
        let (size, index) = (u32::from_be_bytes(*size), u32::from_be_bytes(*index));
        if !(1..=MAX_BATCH).contains(&size) {
            return Err(BatchError::Size(size.into()));
        }
        if index >= size {
            return Err(BatchError::Index { index, size });
        }
        let expected = siblings(index, size).count().saturating_mul(HASH);
        let (hashes, _) = path.as_chunks::<HASH>();
        if path.len() != expected {
            return Err(BatchError::Path { index, size, expected, found: path.len() });
        }
        Ok(Self { size, index, path: hashes.to_vec() })
    }

    /// The bytes that [`decode`](Self::decode) reads.
    pub fn encode(&self) -> Vec<u8> {
        [&self.size.to_be_bytes()[..], &self.index.to_be_bytes(), self.path.as_flattened()].concat()
    }

    /// REPORTDATA that a report must hold if `leaf` is in this batch.
    pub fn report_data(&self, platform: &Platform, leaf: &Leaf) -> ReportData {
        let root = siblings(self.index, self.size).zip(&self.path).fold(*leaf, |below, (side, sibling)| match side {
            Side::Left => node(sibling, &below),
            Side::Right => node(&below, sibling),
        });
        report_data(platform, self.size, &root)
    }

    /// How many nonces share the report.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Which of them this proof is for, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// Where a sibling stands.
#[derive(Debug, Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// The siblings on the way up from `index` in a tree of `size` leaves, the lowest first. A level on which the way is the
/// odd last node has none.
fn siblings(index: u32, size: u32) -> impl Iterator<Item = Side> {
    let level = |(index, last): (u32, u32)| (index >> 1, last >> 1);
    std::iter::successors(Some((index, size.saturating_sub(1))), move |position| Some(level(*position)))
        .take_while(|(_, last)| *last > 0)
        .filter_map(|(index, last)| match index & 1 {
            1 => Some(Side::Left),
            _ if index < last => Some(Side::Right),
            _ => None,
        })
}

/// Why a batch or a batch proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not 1 to 65 536 leaves.
    #[error("batch size: expected 1 to 65536, found {0}")]
    Size(u64),
    /// Too short for a size and an index.
    #[error("batch proof: expected at least 8 bytes, found {0}")]
    Header(usize),
    /// An index past the end of the batch.
    #[error("batch proof: expected an index below the size {size}, found {index}")]
    Index {
        /// The index.
        index: u32,
        /// The size.
        size: u32,
    },
    /// A path of another length than the one way from this leaf to the root.
    #[error("batch proof: expected a path of {expected} bytes for index {index} of {size}, found {found}")]
    Path {
        /// The index.
        index: u32,
        /// The size.
        size: u32,
        /// How many bytes are expected: 48 per sibling.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Leaf> {
        (0..count).map(|n| crypto::sha384(&[&n.to_be_bytes()])).collect()
    }

    #[test]
    fn debug_shows_the_size_alone() {
        assert_eq!(format!("{:?}", BatchTree::new(leaves(3)).unwrap()), "BatchTree { size: 3, .. }");
    }

    /// RFC 9162, section 2.1.1, as it is written there.
    fn root_by_definition(leaves: &[Leaf]) -> Leaf {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                crypto::sha384(&[&[1], &root_by_definition(left), &root_by_definition(right)])
            }
        }
    }

    /// RFC 9162, section 2.1.3.1, as it is written there.
    fn path_by_definition(index: usize, leaves: &[Leaf]) -> Vec<Leaf> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(k);
        let (mut path, other) = if index < k {
            (path_by_definition(index, left), root_by_definition(right))
        } else {
            (path_by_definition(index - k, right), root_by_definition(left))
        };
        path.push(other);
        path
    }

    #[test]
    fn roots_and_paths_are_those_of_rfc_9162() {
        for size in 1..=70 {
            let leaves = leaves(size);
            let tree = BatchTree::new(leaves.clone()).unwrap();
            assert_eq!(tree.root, root_by_definition(&leaves), "{size}");
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = tree.proof(index).unwrap();
                assert_eq!(proof.path, path_by_definition(index, &leaves), "{index} of {size}");
                assert_eq!((proof.index() as usize, proof.size() as usize), (index, size));
                assert_eq!(proof.report_data(&Platform::SNP, leaf), tree.report_data(&Platform::SNP));
                assert_eq!(BatchProof::decode(&proof.encode()), Ok(proof));
            }
        }
    }

    #[test]
    fn the_largest_batch_proves_every_leaf() {
        let leaves = leaves(65_536);
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let expected = tree.report_data(&Platform::SNP);
        for (index, leaf) in leaves.iter().enumerate().step_by(997) {
            let proof = BatchProof::decode(&tree.proof(index).unwrap().encode()).unwrap();
            assert_eq!(proof.report_data(&Platform::SNP, leaf), expected);
        }
        assert_eq!(tree.proof(65_536), None);
    }

    #[test]
    fn batches_of_none_and_of_too_many_are_refused() {
        assert_eq!(BatchTree::new(vec![]).unwrap_err(), BatchError::Size(0));
        assert_eq!(BatchTree::new(vec![[0; 48]; 65_537]).unwrap_err(), BatchError::Size(65_537));
    }

    #[test]
    fn there_is_no_proof_past_the_end() {
        let tree = BatchTree::new(leaves(5)).unwrap();
        assert!(tree.proof(4).is_some());
        for index in [5, 6, 7, usize::MAX] {
            assert_eq!(tree.proof(index), None);
        }
    }

    #[test]
    fn another_leaf_index_size_sibling_or_platform_leads_elsewhere() {
        let leaves = leaves(6);
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let expected = tree.report_data(&Platform::SNP);
        let proof = tree.proof(2).unwrap();
        let leads_elsewhere = |proof: &BatchProof, leaf: &Leaf| proof.report_data(&Platform::SNP, leaf) != expected;
        assert!(leads_elsewhere(&proof, &leaves[3]));
        assert!(leads_elsewhere(&BatchProof { index: 3, ..proof.clone() }, &leaves[2]));
        assert!(leads_elsewhere(&BatchProof { size: 5, ..proof.clone() }, &leaves[2]));
        for sibling in 0..proof.path.len() {
            let mut other = proof.clone();
            other.path[sibling][47] ^= 1;
            assert!(leads_elsewhere(&other, &leaves[2]));
        }
        assert_ne!(proof.report_data(&Platform::TDX, &leaves[2]), expected);
    }

    #[test]
    fn an_inner_node_does_not_pass_for_a_leaf() {
        let leaves = leaves(4);
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let forged = BatchProof { size: 2, index: 0, path: vec![node(&leaves[2], &leaves[3])] };
        assert_ne!(forged.report_data(&Platform::SNP, &node(&leaves[0], &leaves[1])), tree.report_data(&Platform::SNP));
    }

    #[test]
    fn only_the_exact_path_length_is_taken() {
        for size in 1..=33 {
            let tree = BatchTree::new(leaves(size)).unwrap();
            for index in 0..size {
                let bytes = tree.proof(index).unwrap().encode();
                let path = bytes.len() - 8;
                for found in (0..=path + 2 * HASH).filter(|found| *found != path) {
                    let mut other = bytes.clone();
                    other.resize(8 + found, 0);
                    let refused = BatchProof::decode(&other).unwrap_err();
                    let (index, size) = (index as u32, size as u32);
                    assert_eq!(refused, BatchError::Path { index, size, expected: path, found });
                }
            }
        }
    }

    #[test]
    fn sizes_and_indexes_out_of_range_are_refused() {
        let proof = |size: u32, index: u32| [size.to_be_bytes(), index.to_be_bytes()].concat();
        for size in [0, 65_537, u32::MAX] {
            assert_eq!(BatchProof::decode(&proof(size, 0)), Err(BatchError::Size(size.into())));
        }
        for (index, size) in [(1, 1), (2, 2), (u32::MAX, 65_536)] {
            assert_eq!(BatchProof::decode(&proof(size, index)), Err(BatchError::Index { index, size }));
        }
        let full = [proof(65_536, 65_535), vec![0; 16 * HASH]].concat();
        assert!(BatchProof::decode(&full).is_ok());
    }

    #[test]
    fn what_is_too_short_for_its_numbers_is_refused() {
        for length in 0..8 {
            assert_eq!(BatchProof::decode(&vec![0; length]), Err(BatchError::Header(length)));
        }
    }
}

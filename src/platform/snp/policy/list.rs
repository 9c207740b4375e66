//! How rules show what they accept.

use std::fmt;

use super::super::fields::BitNames;
use crate::report::Hex;

/// Bits that must be one and bits that must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bits {
    pub(super) require: u64,
    pub(super) forbid: u64,
}

/// Values separated by commas, each through a function that shows it.
pub(super) struct List<'a, T, F>(pub(super) &'a [T], pub(super) F);

impl<T, D: fmt::Display, F: Fn(&T) -> D> fmt::Display for List<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, value) in self.0.iter().enumerate() {
            write!(f, "{}{}", if position == 0 { "" } else { ", " }, (self.1)(value))?;
        }
        Ok(())
    }
}

/// Byte strings in hexadecimal, separated by commas.
pub(super) fn hex_list<const N: usize>(values: &[[u8; N]]) -> impl fmt::Display {
    let texts: Vec<String> = values.iter().map(|value| Hex(value).to_string()).collect();
    texts.join(", ")
}

/// The names of bits, separated by commas; bits without a name by number.
pub(super) struct Names(pub(super) u64, pub(super) BitNames);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for bit in (0..64).filter(|bit| self.0 >> bit & 1 == 1) {
            let comma = if first { "" } else { ", " };
            first = false;
            match self.1.iter().find(|(known, _)| *known == bit) {
                Some((_, name)) => write!(f, "{comma}{name}")?,
                None => write!(f, "{comma}bit {bit}")?,
            }
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

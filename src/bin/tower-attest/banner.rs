//! What a sidecar says of itself on standard output while it starts: lines of a label and a value, for people and scripts.

use anstyle::Style;

const LABEL: Style = Style::new().dimmed();

/// One line, of 80 columns if the value has 67.
pub(crate) fn line(label: &str, value: &str) {
    anstream::println!("{LABEL}{label:<13}{LABEL:#}{value}");
}

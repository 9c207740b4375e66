//! Pages as text: at most 80 columns, styles that anstream takes out where nobody wants them.

use std::fmt;

use anstyle::{AnsiColor, Style};

use super::{Check, Item, Outcome, Page, Section, Verdict, time};

const COLUMNS: usize = 80;
const HEADING: Style = Style::new().bold();
const NAME: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

pub(super) struct Text<'a>(pub(super) &'a Page);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        paragraph(f, HEADING, "", "", &self.0.title)?;
        paragraph(f, NAME, "  ", "  ", &self.0.source)?;
        for part in &self.0.sections {
            writeln!(f)?;
            section(f, part)?;
        }
        match &self.0.verdict {
            Some(shown) => verdict(f, shown),
            None => Ok(()),
        }
    }
}

pub(super) fn problem(about: &str, message: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ =
        paragraph(&mut text, BAD, "", "", about).and_then(|()| paragraph(&mut text, Style::new(), "  ", "  ", message));
    text.trim_end().to_owned()
}

fn section(f: &mut fmt::Formatter<'_>, section: &Section) -> fmt::Result {
    paragraph(f, HEADING, "", "", &section.title.to_uppercase())?;
    let offsets = section.items.iter().any(|item| matches!(item, Item::Field { offset: Some(_), .. }));
    let column = section.items.iter().map(|item| if let Item::Field { name, .. } = item { name.len() } else { 0 });
    let column = column.max().unwrap_or_default().max(19);
    for item in &section.items {
        match item {
            Item::Field { offset, name, value } => {
                let offset = if offsets { format!("{:<7}", offset.unwrap_or_default()) } else { String::new() };
                let (indent, name) = (format!("  {offset}"), format!("{name:<column$} "));
                let rest = " ".repeat(indent.len() + name.len());
                let mut lines = wrap(value, COLUMNS - rest.len()).into_iter();
                writeln!(f, "{NAME}{indent}{name}{NAME:#}{}", lines.next().unwrap_or_default())?;
                lines.try_for_each(|line| writeln!(f, "{rest}{line}"))?;
            }
            Item::Check(item) => check(f, item)?,
            Item::Note(note) => paragraph(f, Style::new(), "  ", "  ", note)?,
        }
    }
    Ok(())
}

fn check(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let (style, word, behind) = match check.outcome {
        Outcome::Pass => (GOOD, "pass", ""),
        Outcome::Fail => (BAD, "FAIL", ""),
        Outcome::NotReached => (NAME, "-   ", " (not reached)"),
    };
    let mut lines = wrap(&format!("{}{behind}", check.name), COLUMNS - 8).into_iter();
    writeln!(f, "  {style}{word}{style:#}  {}", lines.next().unwrap_or_default())?;
    lines.try_for_each(|line| writeln!(f, "        {line}"))?;
    match (&check.expected, &check.found) {
        (Some(expected), Some(found)) => {
            paragraph(f, Style::new(), "        expected ", "                 ", expected)?;
            paragraph(f, Style::new(), "        found    ", "                 ", found)
        }
        (Some(text), None) | (None, Some(text)) => paragraph(f, Style::new(), "        ", "        ", text),
        (None, None) => Ok(()),
    }
}

fn verdict(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    writeln!(f)?;
    let (style, word) = if verdict.accepted { (GOOD.bold(), "accepted") } else { (BAD, "REFUSED") };
    write!(f, "{HEADING}VERDICT{HEADING:#}  {style}{word}{style:#}")?;
    let mut lines = wrap(&verdict.reason, COLUMNS - 19).into_iter();
    match lines.next() {
        Some(line) if !line.is_empty() => writeln!(f, ": {line}")?,
        _ => writeln!(f)?,
    }
    lines.try_for_each(|line| writeln!(f, "  {line}"))?;
    match verdict.valid_until {
        Some(end) => writeln!(f, "  holds until {}", time(end)),
        None => Ok(()),
    }
}

/// Text between a first and a further indent.
fn paragraph(f: &mut impl fmt::Write, style: Style, first: &str, further: &str, text: &str) -> fmt::Result {
    for (position, line) in wrap(text, COLUMNS - first.len()).iter().enumerate() {
        writeln!(f, "{}{style}{line}{style:#}", if position == 0 { first } else { further })?;
    }
    Ok(())
}

/// Lines of at most `width` characters, broken at spaces where there are any; long words, such as digests, are broken
/// at an even place, between bytes.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width & !1;
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut length = 0_usize;
        for word in paragraph.split(' ') {
            let mut word: Vec<char> = harmless(word).chars().collect();
            if length > 0 {
                if length + 1 + word.len() <= width || (word.len() > width && length + 2 < width / 2) {
                    line.push(' ');
                    length += 1;
                } else {
                    lines.push(std::mem::take(&mut line));
                    length = 0;
                }
            }
            while length + word.len() > width {
                let rest = word.split_off((width - length).min(word.len()) & !1);
                line.extend(word);
                lines.push(std::mem::take(&mut line));
                (word, length) = (rest, 0);
            }
            length += word.len();
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

/// Files and servers are hostile: nothing in them may steer the terminal, or reorder what a person reads.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode())
            }
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(title: &str, section: Section) -> Page {
        let mut page = Page::new("test", title, "/a/path\u{1b}".repeat(30));
        page.push(section);
        page
    }

    fn plain(page: &Page) -> String {
        anstream::adapter::strip_str(&Text(page).to_string()).to_string()
    }

    #[test]
    fn no_line_is_longer_than_80_columns() {
        let mut section = Section::new("Report");
        section.field_at("0x1a0", "CHIP_ID", "ab".repeat(64));
        section.field("without offset", "word ".repeat(40));
        section.rule(false, "measurement", &"cd".repeat(48 * 3), &"ef".repeat(48));
        section.note("n".repeat(300));
        let mut page = page(&"t ".repeat(60), section);
        page.set_verdict(Verdict::refused("because ".repeat(20)));
        let text = plain(&page);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        let joined: String = text.split_whitespace().collect();
        assert!(joined.contains(&"ab".repeat(64)), "nothing is lost");
        assert!(joined.contains(&"cd".repeat(48 * 3)), "nothing is lost");
    }

    #[test]
    fn a_digest_is_broken_between_bytes() {
        let lines = wrap(&"0123456789".repeat(10), 51);
        assert!(lines.iter().all(|line| line.len() % 2 == 0), "{lines:?}");
    }

    #[test]
    fn text_of_a_file_cannot_steer_the_terminal() {
        let mut section = Section::new("Certificate");
        section.field("subject", "CN=\u{1b}[2Jgood\r\u{7}\u{202e}");
        section.note("\u{9b}31m");
        let text = plain(&page("\u{1b}]0;title", section));
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("\\u{1b}[2Jgood\\u{d}\\u{7}\\u{202e}"), "{text:?}");
        let text = problem("\u{1b}[5m", "\u{1b}[2J");
        assert!(!text.contains("\u{1b}[5m") && !text.contains("\u{1b}[2J"), "{text:?}");
    }

    #[test]
    fn colours_are_separate_from_words() {
        let mut section = Section::new("Checks");
        section.steps(&["one", "two", "three"], Some((1, &"no")));
        let text = Text(&page("title", section)).to_string();
        assert!(text.contains("\u{1b}["), "styled unless stripped");
        let stripped = anstream::adapter::strip_str(&text).to_string();
        assert!(stripped.contains("  pass  one\n  FAIL  two\n        no\n  -     three (not reached)\n"), "{stripped}");
    }
}

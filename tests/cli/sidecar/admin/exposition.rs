//! A strict reader of both text formats of metrics: OpenMetrics 1.0 and Prometheus 0.0.4. What it does not know, it refuses.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The samples of one answer, by name and labels in order: `name{a="b",c="d"}`.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    pub(crate) values: BTreeMap<String, f64>,
    /// The type of each family.
    pub(crate) families: HashMap<String, String>,
}

impl Samples {
    pub(crate) fn value(&self, sample: &str) -> f64 {
        *self.values.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.values))
    }

    /// 0 for a sample that nothing has moved yet.
    pub(crate) fn count(&self, sample: &str) -> f64 {
        self.values.get(sample).copied().unwrap_or_default()
    }

    pub(crate) fn of(&self, name: &str) -> usize {
        self.values.keys().filter(|sample| sample.split('{').next() == Some(name)).count()
    }
}

#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    helped: bool,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

pub(crate) fn open_metrics(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF and a line feed");
    assert!(!body.contains("# EOF"), "nothing follows the end");
    read(body, true)
}

pub(crate) fn prometheus(text: &str) -> Samples {
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "OpenMetrics alone has these");
    read(text, false)
}

fn read(text: &str, open: bool) -> Samples {
    assert!(text.is_empty() || text.ends_with('\n'), "each line is ended");
    let (mut families, mut current) = (Vec::<Family>::new(), Family::default());
    for line in text.lines() {
        assert!(!line.is_empty() && line.trim() == line && !line.contains('\r'), "{line:?}");
        let Some(meta) = line.strip_prefix("# ") else {
            assert!(!line.starts_with('#'), "a comment that says nothing: {line}");
            assert!(!current.kind.is_empty(), "the type comes before the samples: {line}");
            current.samples.push(sample(line));
            continue;
        };
        let mut words = meta.splitn(3, ' ');
        let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        assert!(is_name(name), "{line}");
        if word == "HELP" {
            families.push(std::mem::take(&mut current));
            current.name = name.to_owned();
            assert!(!rest.is_empty(), "{line}");
            current.helped = true;
            continue;
        }
        assert!(current.helped && current.name == name && current.samples.is_empty(), "out of order: {line}");
        match word {
            "TYPE" => {
                let known: &[&str] =
                    if open { &["counter", "gauge", "histogram", "info"] } else { &["counter", "gauge", "histogram"] };
                assert!(known.contains(&rest) && current.kind.is_empty(), "{line}");
                current.kind = rest.to_owned();
            }
            "UNIT" => {
                assert!(open && ["seconds", "bytes"].contains(&rest) && name.ends_with(&format!("_{rest}")), "{line}")
            }
            _ => panic!("{line}"),
        }
    }
    families.push(current);
    families.remove(0);
    let mut names = HashSet::new();
    let mut samples = Samples { values: BTreeMap::new(), families: HashMap::new() };
    for family in families {
        assert!(names.insert(family.name.clone()), "{} comes twice", family.name);
        judge(&family, open);
        for (name, labels, value) in &family.samples {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            let shown = if labels.is_empty() { name.clone() } else { format!("{name}{{{}}}", labels.join(",")) };
            assert!(samples.values.insert(shown.clone(), *value).is_none(), "{shown} comes twice");
        }
        samples.families.insert(family.name, family.kind);
    }
    samples
}

fn judge(family: &Family, open: bool) {
    let Family { name, kind, samples, .. } = family;
    assert!(!samples.is_empty() || kind == "counter" || kind == "histogram", "{name} has no sample");
    let base = if open { name.clone() } else { name.trim_end_matches("_total").to_owned() };
    let suffixes: &[&str] = match kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        other => panic!("{other}"),
    };
    assert!(open || kind != "counter" || name.ends_with("_total"), "a counter: {name}");
    for (sample, labels, value) in samples {
        let base = if kind == "counter" { &base } else { name };
        assert!(suffixes.iter().any(|suffix| *sample == format!("{base}{suffix}")), "{sample} in {name}");
        assert_eq!(labels.contains_key("le"), sample.ends_with("_bucket") && kind == "histogram", "{sample}");
        assert!(kind == "gauge" || *value >= 0.0, "{sample} {value}");
    }
    if kind == "histogram" {
        histogram(family);
    }
}

fn histogram(Family { name, samples, .. }: &Family) {
    let without = |labels: &BTreeMap<String, String>| {
        let mut labels = labels.clone();
        labels.remove("le");
        labels
    };
    let series: BTreeSet<_> = samples.iter().map(|(_, labels, _)| without(labels)).collect();
    for series in series {
        let of = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            samples
                .iter()
                .filter(|(sample, labels, _)| *sample == wanted && without(labels) == series)
                .collect::<Vec<_>>()
        };
        let buckets: Vec<_> = of("_bucket")
            .into_iter()
            .map(|(_, labels, value)| (labels["le"].parse::<f64>().unwrap(), *value))
            .collect();
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        let last = buckets.last().unwrap();
        let (count, sum) = (of("_count"), of("_sum"));
        assert_eq!((last.0, count.len(), sum.len()), (f64::INFINITY, 1, 1), "{name}");
        assert_eq!(last.1, count[0].2, "{name}");
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = quoted(after, line);
            // The two formats write the same number differently.
            let value = if label == "le" { format!("{:?}", number(&value)) } else { value };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice: {line}");
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap_or_else(|| panic!("{line}"));
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name.to_owned(), labels, number(value))
}

/// A label's value up to its quotation mark, and what follows that.
fn quoted<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => panic!("{line}"),
            },
            _ => value.push(character),
        }
    }
    panic!("{line}")
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        _ => {
            let finite = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            assert!(finite, "{text}");
            text.parse().unwrap_or_else(|_| panic!("{text}"))
        }
    }
}

fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

#[test]
fn what_is_no_metric_is_refused() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    prometheus(&format!("{head}a_total{{b=\"c\\\"\"}} 1\n"));
    for text in [
        "a_total 1\n".to_owned(),
        format!("{head}a 1\n"),
        format!("{head}a_total 1"),
        format!("{head}a_total one\n"),
        format!("{head}a_total -1\n"),
        format!("{head}a_total 1\na_total 2\n"),
        format!("{head}{head}"),
        format!("{head}a_total{{b=c}} 1\n"),
        format!("{head}a_total{{b=\"c}} 1\n"),
        format!("{head}a_total{{1b=\"c\"}} 1\n"),
        format!("{head}a_total{{b=\"c\",b=\"d\"}} 1\n"),
        "# HELP a A.\n# TYPE a gauge\n".to_owned(),
        "# TYPE a gauge\na 1\n".to_owned(),
        "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n"
            .to_owned(),
        "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n".to_owned(),
    ] {
        assert!(std::panic::catch_unwind(|| prometheus(&text)).is_err(), "{text}");
    }
}

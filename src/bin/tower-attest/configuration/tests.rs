use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use super::environment::Environment;
use super::flags::{Flag, Kind, settings};
use super::*;
use crate::{Cli, Command};

/// Runs of the parser, with the message where it stops.
struct Given {
    environment: Vec<(String, OsString)>,
    file: Option<tempfile::NamedTempFile>,
}

impl Given {
    fn nothing() -> Self {
        Self { environment: Vec::new(), file: None }
    }

    fn file(text: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Self { file: Some(file), ..Self::nothing() }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    fn arguments(&self, line: &[&str]) -> Vec<OsString> {
        let file = self.file.iter().map(|file| format!("--config-file={}", file.path().display()).into());
        ["tower-attest"].iter().chain(line).map(OsString::from).chain(file).collect()
    }

    fn environment(&self) -> Environment {
        Environment::new(self.environment.iter().cloned())
    }

    fn merged(&self, line: &[&str]) -> Vec<String> {
        let merged = merge::merge(&Cli::command(), self.arguments(line), &self.environment()).unwrap();
        merged.arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    fn parsed(&self, line: &[&str]) -> Result<(Cli, Vec<String>), String> {
        parse_from(self.arguments(line), &self.environment()).map_err(|stop| match stop {
            Stop::Clap(error, notes) => format!("{error}{}", notes.join("\n")),
            Stop::Failure(failure) => failure.to_string(),
        })
    }

    /// The whole command line as it was understood.
    fn shown(&self, line: &[&str]) -> String {
        match self.parsed(line).unwrap().0.command {
            Command::Serve(serve) => format!("{serve:?}"),
            Command::Connect(connect) => format!("{connect:?}"),
            other => format!("{other:?}"),
        }
    }

    fn refused(&self, line: &[&str]) -> String {
        self.parsed(line).map(|(cli, _)| cli).unwrap_err()
    }
}

const SERVE: [&str; 5] = ["serve", "--host", "a", "--upstream", "unix:/u"];

fn sidecars() -> [(&'static str, Vec<Flag>); 2] {
    ["serve", "connect"].map(|name| (name, settings(Cli::command().find_subcommand(name).unwrap())))
}

#[test]
fn every_flag_of_both_sidecars_can_stand_in_the_environment_and_in_the_file() {
    for (command, flags) in sidecars() {
        let own = Cli::command().find_subcommand(command).unwrap().get_arguments().count();
        let without = if command == "serve" { 3 } else { 2 };
        assert_eq!(flags.len(), own - without, "all but config-file, check and show-config");
        for flag in flags {
            let (variable, toml) = match (flag.kind, flag.is_list) {
                (Kind::Switch, _) => ("true", "true"),
                (Kind::Number, _) => ("7", "7"),
                (Kind::Text, false) => ("7", "\"7\""),
                (Kind::Text, true) => ("7, 8", "[\"7\", \"8\"]"),
            };
            let expected: &[String] = match (flag.kind, flag.is_list) {
                (Kind::Switch, _) => &[format!("--{}", flag.long)],
                (_, false) => &[format!("--{}=7", flag.long)],
                (_, true) => &[format!("--{}=7", flag.long), format!("--{}=8", flag.long)],
            };
            let environment = Given::nothing().variable(&flag.variable(), variable).merged(&[command]);
            assert_eq!(&environment[2..], expected);
            let file = Given::file(&format!("[{command}]\n{} = {toml}\n", flag.long)).merged(&[command]);
            assert_eq!(&file[3..], expected);
        }
    }
}

#[test]
fn a_flag_counts_before_the_environment_and_that_before_the_file() {
    let given = Given::file("[serve]\nmax-streams = 3\nmax-connections = 3\nconnect-timeout = \"3s\"\n")
        .variable("TOWER_ATTEST_MAX_STREAMS", "2")
        .variable("TOWER_ATTEST_MAX_CONNECTIONS", "2");
    let shown = given.shown(&[&SERVE[..], &["--max-streams", "1"]].concat());
    for part in ["max_streams: 1", "max_connections: 2", "connect_timeout: 3s", "drain_timeout: 30s"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_list_takes_the_place_of_the_one_below_it() {
    let given = Given::file("[serve]\nhost = [\"c\", \"d\"]\nupstream = \"unix:/u\"\n");
    assert!(given.shown(&["serve"]).contains("names: [c, d]"));
    assert!(given.shown(&["serve", "--host", "a"]).contains("names: [a]"));
    let given = given.variable("TOWER_ATTEST_HOST", "b, e");
    assert!(given.shown(&["serve"]).contains("names: [b, e]"));
    let one = Given::file("[serve]\nhost = \"c\"\nupstream = \"unix:/u\"\n");
    assert!(one.shown(&["serve"]).contains("names: [c]"));
}

#[test]
fn a_switch_can_be_unset_above() {
    let given = Given::file("[serve]\nsealed = true\n");
    assert!(given.shown(&SERVE).contains("sealed: true"));
    assert!(given.shown(&[&SERVE[..], &["--sealed=false"]].concat()).contains("sealed: false"));
    assert!(given.shown(&[&SERVE[..], &["--sealed=true"]].concat()).contains("sealed: true"));
    let given = given.variable("TOWER_ATTEST_SEALED", "no");
    assert!(given.shown(&SERVE).contains("sealed: false"));
    // What is unset is no longer in conflict.
    let given = Given::file("[serve]\nsealed = true\n");
    let only = [&SERVE[..], &["--sealed-only", "--sealed=false"]].concat();
    assert!(given.shown(&only).contains("sealed_only: true"));
    assert!(given.refused(&[&SERVE[..], &["--sealed", "--sealed=false"]].concat()).contains("contradict"));
    assert!(given.refused(&[&SERVE[..], &["--sealed=maybe"]].concat()).contains("--sealed"));
}

#[test]
fn what_flags_demand_of_each_other_is_demanded_of_all_sources_together() {
    assert!(Given::nothing().refused(&["serve"]).contains("--upstream <URL>"));
    let required = Given::file("[serve]\nhost = \"a\"\n").variable("TOWER_ATTEST_UPSTREAM", "unix:/u");
    required.parsed(&["serve"]).unwrap();

    let conflict = Given::file("[serve]\nsealed = true\n").variable("TOWER_ATTEST_SEALED_ONLY", "1");
    let refused = conflict.refused(&SERVE);
    assert!(refused.contains("cannot be used with"), "{refused}");
    let path = conflict.file.as_ref().unwrap().path().display().to_string();
    assert!(refused.contains(&format!("--sealed is set by {path}:2")), "{refused}");
    assert!(refused.contains("--sealed-only is set by TOWER_ATTEST_SEALED_ONLY"), "{refused}");

    let requires = Given::file("[serve]\nsimulated-policy = \"p\"\n");
    assert!(requires.refused(&SERVE).contains("--insecure-no-hardware"));
    let pem = Given::nothing().variable("TOWER_ATTEST_TLS", "pem");
    assert!(pem.refused(&SERVE).contains("--cert <FILE>"));
}

#[test]
fn a_value_that_cannot_be_is_refused_with_where_it_comes_from() {
    let given = Given::file("\n[serve]\n\ndrain-timeout = \"soon\"\n");
    let refused = given.refused(&SERVE);
    assert!(refused.contains("expected a time such as") && refused.contains("\"soon\""), "{refused}");
    assert!(refused.contains("--drain-timeout is set by ") && refused.contains(":4"), "{refused}");
    let given = Given::nothing().variable("TOWER_ATTEST_MAX_STREAMS", "0");
    assert!(given.refused(&SERVE).contains("--max-streams is set by TOWER_ATTEST_MAX_STREAMS"));
    let given = Given::file("[serve]\nupstream = \"unix:/u\"\n").variable("TOWER_ATTEST_UPSTREAM_PROTOCOL", "h9");
    let refused = given.refused(&["serve", "--host", "a"]);
    assert!(refused.contains("--upstream-protocol is set by"), "{refused}");
    assert!(!refused.contains("--upstream is set by"), "that is another flag: {refused}");
    let given = Given::nothing().variable("TOWER_ATTEST_SEALED", "maybe");
    assert!(given.refused(&SERVE).contains("TOWER_ATTEST_SEALED: expected true or false"));
}

#[test]
fn unknown_keys_are_refused_and_told_where_they_belong_or_what_they_resemble() {
    for (text, line, hint) in [
        ("[serve]\nupsteam = \"unix:/u\"", 2, "\"upsteam\" is no setting in [serve]; is \"upstream\" meant?"),
        ("[serve]\nto = \"https://a\"", 2, "it belongs in [connect]"),
        ("\nupstream = \"unix:/u\"", 2, "\"upstream\" is no setting above the tables; it belongs in [serve]"),
        ("limit = 1\nlisten = \"a\"", 1, "\"limit\" is no setting above the tables"),
        ("listen = \"a\"", 1, "it belongs in [serve] or [connect]"),
        ("[serve]\nlog = \"info\"", 2, "it belongs above the tables"),
        ("[server]\nhost = \"a\"", 1, "is \"serve\" meant?"),
        ("[connect]\nxyzzy = 1", 2, "\"xyzzy\" is no setting in [connect]"),
        ("[serve]\ncheck = true", 2, "\"check\" is no setting"),
        ("[serve]\nconfig-file = \"a\"", 2, "\"config-file\" is no setting"),
        ("[serve.limits]\nmax-streams = 1", 1, "\"limits\" is no setting in [serve]"),
    ] {
        let refused = Given::file(text).refused(&SERVE);
        assert!(refused.contains(hint) && refused.contains(&format!(":{line}: ")), "{text}: {refused}");
    }
}

#[test]
fn values_of_another_type_are_refused_with_what_was_expected_and_found() {
    for (text, problem) in [
        ("sealed = \"true\"", "sealed: expected true or false, found text"),
        ("sealed = 1", "sealed: expected true or false, found a number"),
        ("listen = 8443", "listen: expected text, found a number"),
        ("listen = [\"0.0.0.0:1\"]", "listen: expected text, found a list"),
        ("drain-timeout = 30", "drain-timeout: expected text, found a number"),
        ("max-streams = -1", "max-streams: expected a number that is not negative"),
        ("max-streams = 1.5", "max-streams: expected a number, found a number with a fraction"),
        ("max-streams = true", "max-streams: expected a number, found true"),
        ("host = [1]", "host: expected text or a list of texts, found a number"),
        ("host = {a = 1}", "host: expected text or a list of texts, found a table"),
        ("listen = 2026-01-01", "listen: expected text, found a date or time"),
    ] {
        let refused = Given::file(&format!("[serve]\n{text}\n")).refused(&SERVE);
        assert!(refused.contains(problem) && refused.contains(":2: "), "{text}: {refused}");
    }
    assert!(Given::file("serve = 1").refused(&SERVE).contains("serve: expected a table, found a number"));
    // A mistake is one wherever it stands.
    assert!(Given::file("[connect]\nto = 1").refused(&SERVE).contains("to: expected text, found a number"));
}

#[test]
fn bytes_are_numbers_or_text() {
    let given = Given::file("[serve]\nmax-body-bytes = 0x1_000\nmax-header-bytes = \"16KiB\"\n");
    let shown = given.shown(&SERVE);
    assert!(shown.contains("max_body_bytes: 4096") && shown.contains("max_header_bytes: 16384"), "{shown}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_without_showing_what_is_in_it() {
    let refused = Given::file("[serve]\nhost = \"hunter2\" \"hunter2\"\n").refused(&SERVE);
    assert!(refused.contains(":2: ") && !refused.contains("hunter2"), "{refused}");
    let missing = Given::nothing().variable("TOWER_ATTEST_CONFIG_FILE", "/nonexistent.toml");
    assert!(missing.refused(&SERVE).contains("/nonexistent.toml"));
}

#[test]
fn logging_stands_above_the_tables_and_the_file_can_be_named_by_the_environment() {
    let file = Given::file("log = \"debug\"\nlog-format = \"json\"\n");
    let path = file.file.as_ref().unwrap().path().to_str().unwrap();
    let (cli, _) = Given::nothing().variable("TOWER_ATTEST_CONFIG_FILE", path).parsed(&SERVE).unwrap();
    let shown = format!("{:?}", cli.logging);
    assert!(shown.contains("debug") && shown.contains("Json"), "{shown}");
    let (cli, _) = file.parsed(&[&["--log", "warn"], &SERVE[..]].concat()).unwrap();
    assert!(format!("{:?}", cli.logging).contains("warn"), "before the command too");
}

#[test]
fn variables_that_resemble_a_setting_are_told_and_those_of_others_are_not() {
    let given = Given::nothing()
        .variable("TOWER_ATTEST_UPSTEAM", "unix:/u")
        .variable("TOWER_ATTEST_POLICY", "a flag of the other sidecar")
        // As Kubernetes makes them for a service of this name.
        .variable("TOWER_ATTEST_SERVICE_HOST", "10.0.0.1")
        .variable("TOWER_ATTEST_SERVICE_PORT", "443")
        .variable("TOWER_ATTEST_PORT", "tcp://10.0.0.1:443")
        .variable("TOWER_ATTEST_PORT_443_TCP", "tcp://10.0.0.1:443")
        .variable("TOWER_ATTEST_LISTEN", "");
    let (_, warnings) = given.parsed(&SERVE).unwrap();
    assert_eq!(warnings, ["TOWER_ATTEST_UPSTEAM is no setting; is TOWER_ATTEST_UPSTREAM meant?"]);
}

#[test]
fn other_commands_take_nothing_from_elsewhere() {
    let given = Given::nothing().variable("TOWER_ATTEST_POLICY", "p");
    assert!(given.refused(&["verify", "https://a"]).contains("--policy <FILE>"));
    let shown = given.shown(&["verify", "https://a", "--policy", "q"]);
    assert!(shown.contains("\"q\"") && !shown.contains("\"p\""), "{shown}");
    let switch = [&["verify", "https://a", "--policy", "q"][..], &["--sealed=false"]].concat();
    assert!(given.refused(&switch).contains("--sealed"), "nor are their switches unset");
}

#[test]
fn every_command_takes_its_logging_from_the_environment_and_an_empty_variable_is_none() {
    let given = Given::nothing().variable("TOWER_ATTEST_LOG", "debug").variable("TOWER_ATTEST_LOG_FORMAT", "json");
    let empty = Given::nothing().variable("TOWER_ATTEST_LOG", "").variable("TOWER_ATTEST_LOG_FORMAT", "");
    for line in [&SERVE[..], &["doctor"], &["policy", "check", "p"], &["inspect", "--", "f"]] {
        let logging = |given: &Given, line: &[&str]| format!("{:?}", given.parsed(line).unwrap().0.logging);
        let shown = logging(&given, line);
        assert!(shown.contains("debug") && shown.contains("Json"), "{line:?}: {shown}");
        assert!(logging(&empty, line).contains("log: None"), "{line:?}");
        assert!(logging(&given, &[&["--log", "warn"], line].concat()).contains("warn"), "{line:?}");
    }
    let wrong = Given::nothing().variable("TOWER_ATTEST_LOG", "loud").refused(&["doctor"]);
    assert!(wrong.contains("--log is set by TOWER_ATTEST_LOG"), "{wrong}");
}

#[test]
fn what_the_command_line_lacks_is_not_hidden_by_what_is_added() {
    let given = Given::file("[serve]\nlisten = \"127.0.0.1:1\"\n");
    assert!(given.refused(&["serve", "--host", "a", "--upstream"]).contains("--upstream <URL>"));
    assert!(given.refused(&[&SERVE[..], &["--unknown"]].concat()).contains("--unknown"));
    assert!(given.refused(&[&SERVE[..], &["--", "more"]].concat()).contains("more"));
    // `arguments` puts the file's name at the end, where it would be no flag.
    let sealed = Given::nothing().variable("TOWER_ATTEST_SEALED", "true");
    assert!(sealed.shown(&[&SERVE[..], &["--"]].concat()).contains("sealed: true"), "no setting is lost behind it");
}

/// Every command that does something, by the words that lead to it.
fn leaves(command: &clap::Command, words: &[String], found: &mut Vec<(Vec<String>, clap::Command)>) {
    let subcommands: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if subcommands.is_empty() {
        found.push((words.to_vec(), command.clone()));
    }
    for subcommand in subcommands {
        leaves(subcommand, &[words, &[subcommand.get_name().to_owned()]].concat(), found);
    }
}

#[test]
fn every_command_has_examples_in_its_help_and_each_of_them_parses() {
    let mut commands = Vec::new();
    leaves(&Cli::command(), &[], &mut commands);
    for (words, command) in commands {
        let help = command.get_after_long_help().unwrap_or_else(|| panic!("{words:?} has examples")).to_string();
        let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{words:?} has examples"));
        let examples = examples.split("\n\n").next().unwrap().replace("\\\n", " ");
        let mut own = 0;
        for example in examples.lines() {
            let nonce = "5e".repeat(32);
            let line = example.replace("\"$(openssl rand -hex 32)\"", &nonce).replace("NONCE", &nonce);
            let line = line.split(" > ").next().unwrap();
            let line = &line[line.find("tower-attest").unwrap()..];
            let line: Vec<_> = line.split_whitespace().collect();
            let parsed = Cli::command().ignore_errors(line.contains(&"--config-file")).try_get_matches_from(&line);
            parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
            own += usize::from(words.iter().zip(&line[1..]).all(|(word, found)| word == found));
        }
        assert!(own > 0, "{words:?}");
    }
}

#[test]
fn the_definitions_of_all_flags_are_sound() {
    Cli::command().debug_assert();
    assert!(Cli::try_parse_from(["tower-attest", "completions", "bash"]).is_ok());
}

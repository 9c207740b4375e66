//! `serve --tls acme` against Pebble, a CA for tests that checks challenges as a real one does, and `--redirect`.

mod bad_days;
mod front;
mod issue;
pub(crate) mod pebble;
mod redirect;
mod renew;
mod settings;

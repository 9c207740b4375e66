//! The locks of what several tasks share, behind one name.
//!
//! `tools/shuttle` compiles this crate with shuttle's lock in place of the standard library's (and with shuttle's tokio), so
//! that a scheduler which tries many interleavings decides at each lock who runs next. The `cfg` is set by that package's
//! build script alone.

#[cfg(tower_attest_shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
pub(crate) use std::sync::PoisonError;
#[cfg(not(tower_attest_shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

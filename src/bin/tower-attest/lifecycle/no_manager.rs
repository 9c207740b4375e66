//! Where there is no service manager that wants to be told.

pub(super) fn ready(_: &str) {}

pub(super) fn reloading() {}

pub(super) fn stopping() {}

pub(super) async fn watchdog(_: impl Fn() -> bool) -> std::convert::Infallible {
    std::future::pending().await
}

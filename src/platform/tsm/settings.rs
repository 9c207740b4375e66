//! The settings that every provider over configfs-tsm has, written once.

/// Setters of a public builder that keeps a [`TsmBuilder`](super::TsmBuilder) in its field `tsm`.
macro_rules! tsm_settings {
    () => {
        /// Where configfs-tsm is mounted. Default: [`Tsm::ROOT`](crate::platform::tsm::Tsm::ROOT).
        pub fn tsm_root(mut self, root: impl Into<std::path::PathBuf>) -> Self {
            self.tsm = self.tsm.root(root);
            self
        }

        /// How to go on when the hardware or the host's service is busy, throttled or slow. Default:
        /// [`Backoff::default`](crate::platform::tsm::Backoff::default).
        pub fn backoff(mut self, backoff: crate::platform::tsm::Backoff) -> Self {
            self.tsm = self.tsm.backoff(backoff);
            self
        }

        /// How long [`open`](Self::open) may take for each device that it tries. Default 5 s.
        pub fn open_timeout(mut self, limit: std::time::Duration) -> Self {
            self.tsm = self.tsm.open_timeout(limit);
            self
        }

        /// Whose timer the pauses are. Default: the machine's, with tokio's timers.
        pub fn clock(mut self, clock: impl crate::time::Clock + 'static) -> Self {
            self.tsm = self.tsm.clock(clock);
            self
        }
    };
}

pub(in crate::platform) use tsm_settings;

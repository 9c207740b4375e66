//! The settings that every client of an endorser has, written once.

/// Setters of the public client type around an [`Endorser`](super::Endorser) in its field `endorser`.
macro_rules! endorser_settings {
    () => {
        /// Limits one call as a whole: waiting, attempts and pauses.
        #[must_use]
        pub fn with_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.endorser.timeout = timeout;
            self
        }

        /// How often one request is made; at least once.
        #[must_use]
        pub fn with_attempts(mut self, attempts: u32) -> Self {
            self.endorser.attempts = attempts.max(1);
            self
        }

        /// The longest pause after a failure, and the most that a `Retry-After` is believed.
        #[must_use]
        pub fn with_longest_pause(mut self, pause: std::time::Duration) -> Self {
            self.endorser.longest_pause = pause;
            self
        }

        /// How many requests may run at once; at least one. Further ones wait within their call's timeout.
        #[must_use]
        pub fn with_max_in_flight(mut self, requests: usize) -> Self {
            let permits = requests.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
            self.endorser.in_flight = tokio::sync::Semaphore::new(permits);
            self
        }

        /// Takes time from `clock`.
        #[must_use]
        pub fn with_clock(mut self, clock: impl $crate::time::Clock + 'static) -> Self {
            self.endorser.clock = std::sync::Arc::new(clock);
            self
        }
    };
}

pub(crate) use endorser_settings;

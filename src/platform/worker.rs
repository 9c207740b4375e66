//! One named thread per device, so that a device hung in the kernel blocks neither the async runtime nor its shutdown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as sync_mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::provider::{ProviderError, ProviderErrorKind};

/// A device that blocks while it works.
pub(crate) trait Device: Send + 'static {
    type Reply: Send + 'static;

    /// One attempt at a report over `data`.
    fn call(&mut self, data: &[u8; 64]) -> Result<Self::Reply, ProviderError>;
}

struct Job<T> {
    data: [u8; 64],
    reply: oneshot::Sender<Result<T, ProviderError>>,
}

/// A handle to the thread that owns a device. The thread ends after its present call once the handle is dropped.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    name: &'static str,
    jobs: mpsc::Sender<Job<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread, opens the device on it and waits at most `patience` until it is open.
    ///
    /// `name` is at most 15 bytes, as Linux shows no more.
    pub(crate) fn start<D: Device<Reply = T>>(
        name: &'static str,
        patience: Duration,
        open: impl FnOnce() -> Result<D, ProviderError> + Send + 'static,
    ) -> Result<Self, ProviderError> {
        // One call waits in the channel beside the one that runs; all others wait in `send` and can give up there.
        let (jobs, queue) = mpsc::channel(1);
        let (opened, outcome) = sync_mpsc::sync_channel(1);
        spawn(name, move || match open() {
            Ok(device) => {
                if opened.send(Ok(())).is_ok() {
                    serve(device, queue);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        })?;
        wait(name, patience, &outcome)?.map(|()| Self { name, jobs })
    }

    /// One call, when its turn comes. Dropping the future takes a call back that has not begun; one that has begun ends
    /// by itself and its outcome is thrown away.
    pub(crate) async fn call(&self, data: &[u8; 64]) -> Result<T, ProviderError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { data: *data, reply }).await.map_err(|_| ended(self.name))?;
        answer.await.unwrap_or_else(|_| Err(ended(self.name)))
    }
}

/// What `work` returns on a thread of its own, if it returns within `patience`. A thread that hangs is left to itself.
pub(crate) fn bounded<R: Send + 'static>(
    name: &'static str,
    patience: Duration,
    work: impl FnOnce() -> Result<R, ProviderError> + Send + 'static,
) -> Result<R, ProviderError> {
    let (sender, outcome) = sync_mpsc::sync_channel(1);
    let send = move || drop(sender.send(work()));
    spawn(name, send)?;
    wait(name, patience, &outcome)?
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), ProviderError> {
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(_detached) => Ok(()),
        Err(error) => {
            let message = format!("the thread {name} cannot be started: {error}");
            Err(ProviderError::with_source(ProviderErrorKind::Failed, message, error))
        }
    }
}

fn wait<R>(name: &'static str, patience: Duration, outcome: &sync_mpsc::Receiver<R>) -> Result<R, ProviderError> {
    outcome.recv_timeout(patience).map_err(|error| match error {
        sync_mpsc::RecvTimeoutError::Timeout => ProviderError::new(
            ProviderErrorKind::Timeout,
            format!("{name} did not end within {patience:?}: the kernel may be making another process's report"),
        ),
        sync_mpsc::RecvTimeoutError::Disconnected => ended(name),
    })
}

fn serve<D: Device>(mut device: D, mut queue: mpsc::Receiver<Job<D::Reply>>) {
    while let Some(Job { data, reply }) = queue.blocking_recv() {
        if reply.is_closed() {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| device.call(&data))).unwrap_or_else(|_| {
            Err(ProviderError::new(ProviderErrorKind::Failed, "the device's driver in this process panicked"))
        });
        drop(reply.send(outcome));
    }
}

fn ended(name: &'static str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Failed, format!("the thread {name} has ended"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    type Gate = sync_mpsc::Receiver<()>;

    struct Fake {
        calls: Arc<AtomicU32>,
        gate: Option<Gate>,
    }

    impl Device for Fake {
        type Reply = u8;

        fn call(&mut self, data: &[u8; 64]) -> Result<u8, ProviderError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            match data[0] {
                0 => panic!("a bug"),
                n => Ok(n),
            }
        }
    }

    fn start(gate: Option<Gate>) -> (Worker<u8>, Arc<AtomicU32>) {
        let calls = Arc::new(AtomicU32::new(0));
        let fake = Fake { calls: Arc::clone(&calls), gate };
        (Worker::start("fake", Duration::from_secs(60), move || Ok(fake)).unwrap(), calls)
    }

    #[tokio::test]
    async fn a_panic_in_the_device_fails_its_call_and_no_other() {
        let (worker, _) = start(None);
        let error = worker.call(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Failed);
        assert_eq!(worker.call(&[7; 64]).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_call_given_up_before_it_began_never_reaches_the_device() {
        let (open, gate) = sync_mpsc::channel();
        let (worker, calls) = start(Some(gate));
        let mut first = Box::pin(worker.call(&[1; 64]));
        assert!(is_pending(first.as_mut()).await);
        while calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let mut second = Box::pin(worker.call(&[2; 64]));
        // It is in the queue now, behind the one that runs.
        assert!(is_pending(second.as_mut()).await);
        assert_eq!(worker.jobs.capacity(), 0);
        drop(second);
        drop(open);
        assert_eq!(first.await.unwrap(), 1);
        assert_eq!(worker.call(&[3; 64]).await.unwrap(), 3);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn while_the_device_hangs_at_most_one_call_waits_in_the_queue() {
        let (open, gate) = sync_mpsc::channel();
        let (worker, calls) = start(Some(gate));
        let mut running = Box::pin(worker.call(&[1; 64]));
        assert!(is_pending(running.as_mut()).await);
        while calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            let mut waiting = Box::pin(worker.call(&[2; 64]));
            assert!(is_pending(waiting.as_mut()).await);
        }
        assert_eq!(worker.jobs.capacity(), 0);
        drop(open);
        assert_eq!(running.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_thread_and_its_device_end_with_the_handle() {
        struct Closing(sync_mpsc::Sender<Option<String>>);
        impl Device for Closing {
            type Reply = ();
            fn call(&mut self, _: &[u8; 64]) -> Result<(), ProviderError> {
                Ok(())
            }
        }
        impl Drop for Closing {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().name().map(str::to_owned));
            }
        }
        let (closing, closed) = sync_mpsc::channel();
        let worker = Worker::start("fake-named", Duration::from_secs(60), move || Ok(Closing(closing))).unwrap();
        worker.call(&[1; 64]).await.unwrap();
        assert!(closed.try_recv().is_err());
        drop(worker);
        assert_eq!(closed.recv().unwrap().as_deref(), Some("fake-named"));
    }

    #[test]
    fn opening_is_bounded_in_time() {
        let (_open, gate) = sync_mpsc::channel::<()>();
        let error = Worker::start("fake", Duration::from_millis(1), move || {
            let _ = gate.recv();
            Ok(Fake { calls: Arc::default(), gate: None })
        })
        .unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Timeout);
    }

    #[test]
    fn a_device_that_does_not_open_is_an_error_of_its_own_kind() {
        let error = Worker::<u8>::start("fake", Duration::from_secs(60), || {
            Err::<Fake, _>(ProviderError::new(ProviderErrorKind::Unsupported, "none"))
        })
        .unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
    }

    /// Polls once; whether it is still pending.
    async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}

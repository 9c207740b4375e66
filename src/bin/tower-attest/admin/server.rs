//! The listener: few connections, short ones, and the newest is served whatever the others do.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};

use super::answer::{Answers, Told};
use crate::listen::Listener;
use crate::proxy::activity::Exchanges;
use crate::proxy::limits::Limits;
use crate::proxy::server::serve_connection;
use crate::proxy::shutdown::Running;

/// Connections at once. At one more the oldest is closed: whoever holds many open must not keep a probe out.
const MAX_CONNECTIONS: usize = 32;
/// How long to wait after the system refused a connection for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// As small as they can be: a probe has some fields and no body, and idle connections go before the next scrape.
fn limits() -> Limits {
    Limits {
        max_header_bytes: 16 * 1024,
        max_body_bytes: 0,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        total_timeout: Duration::from_secs(30),
        max_connections: u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX),
        max_streams: 8,
        drain_timeout: Duration::from_secs(1),
    }
}

/// Serves until the shutdown begins, and then what is on its way.
pub(super) async fn serve(listener: Listener, told: Arc<OnceLock<Told>>, mut running: Running) {
    let limits = Arc::new(limits());
    let mut connections = Connections::default();
    let for_each = running.clone();
    let accepting = async {
        loop {
            let (told, limits, running) = (Arc::clone(&told), Arc::clone(&limits), for_each.clone());
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // That it cannot be set costs time alone.
                    let _ = stream.set_nodelay(true);
                    connections.add(connection(stream, told, limits, running));
                }),
                #[cfg(unix)]
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    connections.add(connection(stream, told, limits, running));
                }),
            };
            if let Err(error) = accepted {
                tracing::error!(%error, "admin: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = running.ending() => {}
    }
    drop(listener);
    // Those that take longer end with their tasks.
    let _ = tokio::time::timeout(limits.drain_timeout, connections.ended()).await;
}

async fn connection<I>(stream: I, told: Arc<OnceLock<Told>>, limits: Arc<Limits>, running: Running)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let exchanges = Exchanges::default();
    let answers = Answers { told, exchanges: exchanges.clone(), limits: Arc::clone(&limits) };
    serve_connection(stream, answers, exchanges, &limits, running).await;
}

/// Those that run, oldest first. They end with it.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|task| !task.is_finished());
        if self.oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(connection));
    }

    async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_when_there_are_too_many_and_those_that_ended_do_not_count() {
        let mut connections = Connections::default();
        let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..MAX_CONNECTIONS + 3 {
            let sender = sender.clone();
            connections.add(async move {
                /// Says when it is dropped.
                struct Connection(usize, tokio::sync::mpsc::UnboundedSender<usize>);
                impl Drop for Connection {
                    fn drop(&mut self) {
                        let _ = self.1.send(self.0);
                    }
                }
                let _connection = Connection(number, sender);
                std::future::pending().await
            });
            tokio::task::yield_now().await;
        }
        for expected in 0..3 {
            let gone = tokio::time::timeout(Duration::from_secs(1), ended.recv()).await;
            assert_eq!(gone, Ok(Some(expected)));
        }
        assert!(ended.try_recv().is_err());
        connections.tasks.abort_all();
        for _ in 0..MAX_CONNECTIONS {
            ended.recv().await.unwrap();
        }
        for _ in 0..2 * MAX_CONNECTIONS {
            connections.add(async {});
            tokio::task::yield_now().await;
        }
        assert!(connections.oldest_first.len() <= 1, "{}", connections.oldest_first.len());
    }
}

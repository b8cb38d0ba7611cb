//! To spawn and to join in one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::SpawnError;
use crate::task::{JoinError, JoinErrorKind, JoinHandle, joined};

pin_project! {
    /// The future of `join` of [`Spawn`](crate::Spawn), [`SpawnLocal`](crate::SpawnLocal) and
    /// [`SpawnWith`](crate::SpawnWith), and of each [in time](crate::Within).
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     assert_eq!(anteroom::spawn_local(async { 1 }).join().await.unwrap(), 1);
    /// });
    /// ```
    #[must_use = "nothing is spawned until it is awaited"]
    pub struct Join<S, T> {
        #[pin]
        spawn: S,
        handle: Option<JoinHandle<T>>,
    }

    impl<S, T> PinnedDrop for Join<S, T> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(handle) = this.project().handle.take() {
                handle.abort();
            }
        }
    }
}

impl<S, T> Join<S, T> {
    pub(super) fn new(spawn: S) -> Self {
        Self { spawn, handle: None }
    }
}

impl<S, T, E> Future for Join<S, T>
where
    S: Future<Output = Result<JoinHandle<T>, E>>,
    E: Into<SpawnError>,
{
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled again after it was ready, it polls the spawn again, which says so.
        let this = self.project();
        let handle = match this.handle {
            Some(handle) => handle,
            None => match ready!(this.spawn.poll(cx)) {
                Ok(handle) => this.handle.insert(handle),
                Err(error) => {
                    return Poll::Ready(Err(joined(JoinErrorKind::NotAdmitted(error.into().text()))));
                }
            },
        };
        let result = ready!(Pin::new(handle).poll(cx));
        *this.handle = None;
        Poll::Ready(result)
    }
}

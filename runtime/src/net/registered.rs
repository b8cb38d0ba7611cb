//! A source and its entry in the reactor.

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use mio::event::Source;

use crate::driver::reactor::{Direction, IoKey};
use crate::driver::remote::{Remote, gone};
use crate::task::WaitsFor;
use crate::{driver, task};

/// A source that the runtime watches, from when it is made until it is dropped.
#[derive(Debug)]
pub(crate) struct Registered<S: Source + AsRawFd> {
    source: S,
    key: IoKey,
    remote: Watcher,
}

/// The driver that watches it.
#[derive(Clone, Copy)]
struct Watcher {
    remote: &'static Remote,
    epoch: u32,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "epoch {}", self.epoch)
    }
}

impl<S: Source + AsRawFd> Registered<S> {
    /// Has `source` watched by the runtime that this thread is inside of.
    ///
    /// # Errors
    /// What the system says, and `Unsupported` outside a runtime.
    pub(crate) fn new(mut source: S) -> io::Result<Self> {
        let fd = source.as_raw_fd();
        driver::with(|driver| {
            let key = driver.register(&mut source, fd)?;
            Ok((key, Watcher { remote: driver.remote, epoch: driver.epoch }))
        })
        .unwrap_or_else(|| {
            let text = "a socket was made outside a runtime: make it inside Runtime::block_on";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        })
        .map(|(key, remote)| Self { source, key, remote })
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// Tries `operation` when it may work, until it does or fails. With `asked`, the bytes that were asked for, fewer than
    /// that mean that the next try would block, which saves it.
    #[inline]
    pub(crate) fn poll_io<T>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        got_all: impl Fn(&T) -> bool,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        ready!(task::spend(cx));
        let polled = driver::with_own(self.remote.remote, self.remote.epoch, |driver| {
            loop {
                let seen = ready!(driver.poll_ready(self.key, direction, cx));
                // A system call: the others of a team go on meanwhile.
                match task::outside(|| operation(&self.source)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        driver.clear(self.key, direction, seen)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(done) => {
                        if !got_all(&done) {
                            driver.clear_partial(self.key, direction, seen);
                        }
                        return Poll::Ready(Ok(done));
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        });
        task::noted(WaitsFor::IO, polled.unwrap_or_else(|| self.poll_foreign(direction, cx, operation)))
    }

    /// On another thread: try, and leave the waker with the owner if it would block.
    #[cold]
    fn poll_foreign<T>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match operation(&self.source) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Watcher { remote, epoch } = self.remote;
                    // The owner registers the file anew, which brings an edge if it is ready by then.
                    return match remote.wait(epoch, self.key, direction, cx.waker().clone()) {
                        Ok(()) => Poll::Pending,
                        Err(_) => Poll::Ready(Err(gone())),
                    };
                }
                result => return Poll::Ready(result),
            }
        }
    }
}

impl<S: Source + AsRawFd> Drop for Registered<S> {
    fn drop(&mut self) {
        let Watcher { remote, epoch } = self.remote;
        let (source, key) = (&mut self.source, self.key);
        if driver::with_own(remote, epoch, |driver| driver.deregister(key, &mut *source)).is_none() {
            remote.forget_source(epoch, key, source);
        }
    }
}

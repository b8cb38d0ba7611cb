//! A door that futures wait at until it is opened, from any thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Shut until it is opened, then open for good.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<Door>>);

#[derive(Debug, Default)]
struct Door {
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    /// A shut gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through.
    ///
    /// # Panics
    /// If a thread has panicked at it.
    pub fn open(&self) {
        let wakers = {
            let mut door = self.0.lock().unwrap();
            door.open = true;
            std::mem::take(&mut door.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready once it is open.
    pub fn wait(&self) -> Wait {
        Wait(self.clone())
    }
}

/// The future of [`Gate::wait`].
#[derive(Debug)]
#[must_use = "nothing waits until it is awaited"]
pub struct Wait(Gate);

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut door = self.0.0.lock().unwrap();
        if door.open {
            return Poll::Ready(());
        }
        door.wakers.push(waker);
        Poll::Pending
    }
}

/// A future of exactly `BYTES` bytes that never ends.
#[derive(Clone, Copy, Debug)]
pub struct Endless<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> Endless<BYTES> {
    /// One of them.
    pub const NEW: Self = Self([7; BYTES]);
}

impl<const BYTES: usize> Future for Endless<BYTES> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        assert!(self.0.iter().all(|&byte| byte == 7), "nobody else has written here");
        Poll::Pending
    }
}

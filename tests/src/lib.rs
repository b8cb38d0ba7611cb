//! What several tests share: wakers that tell what happens to them, values that tell where they are dropped, a gate.
//!
//! # What must not compile
//! A future that is not `Send` goes through `spawn_local`, so that `spawn` may hand it to any thread later:
//! ```compile_fail
//! let shared = std::rc::Rc::new(1);
//! anteroom::block_on(async {
//!     anteroom::spawn(async move { *shared }).await.unwrap();
//! });
//! ```
//! A lock's guard that is not `Send` makes the future that holds it over an `await` not `Send`:
//! ```compile_fail
//! let lock = std::sync::Arc::new(std::sync::Mutex::new(1));
//! anteroom::block_on(async {
//!     let task = async move {
//!         let guard = lock.lock().unwrap();
//!         anteroom::yield_now().await;
//!         *guard
//!     };
//!     anteroom::spawn(task).await.unwrap();
//! });
//! ```
//! A task may outlive the frame that spawned it, so it borrows nothing from there, by whichever door it comes in:
//! ```compile_fail,E0373
//! let text = String::from("borrowed");
//! let task = async { text.len() };
//! let _ = anteroom::spawn(task);
//! ```
//! ```compile_fail,E0373
//! let text = String::from("borrowed");
//! let _ = anteroom::spawn_local(async { text.len() });
//! ```
//! ```compile_fail,E0373
//! let text = String::from("borrowed");
//! let _ = anteroom::spawn_service(async { text.len() });
//! ```
//! ```compile_fail,E0373
//! let text = String::from("borrowed");
//! let _ = anteroom::spawn_blocking(|| text.len());
//! ```
//! An output goes to whoever holds the handle, on any thread:
//! ```compile_fail,E0277
//! let _ = anteroom::spawn(async { std::rc::Rc::new(1) });
//! ```
//! What `spawn_local` makes stays on its thread, the handle of an output that is not `Send` too:
//! ```compile_fail,E0277
//! anteroom::block_on(async {
//!     let handle = anteroom::spawn_local(async { std::rc::Rc::new(1) }).await.unwrap();
//!     std::thread::spawn(move || drop(handle));
//! });
//! ```
//! ```compile_fail,E0277
//! let waiting = anteroom::spawn_local(async { 1 });
//! std::thread::spawn(move || drop(waiting));
//! ```
//! A runtime stays on the thread that made it:
//! ```compile_fail,E0277
//! let runtime = anteroom::Runtime::new().unwrap();
//! std::thread::spawn(move || runtime.block_on(async {}));
//! ```
//! One with workers may be shared, and its futures of `block_on` may borrow and hold what is not `Send`; its tasks may not, since they
//! move between the workers:
//! ```
//! let (runtime, text) = (anteroom::Builder::new().build_stealing(1).unwrap(), std::rc::Rc::new(String::from("borrowed")));
//! assert_eq!(runtime.block_on(async { text.len() }), 8);
//! std::thread::spawn(move || runtime.block_on(async {})).join().unwrap();
//! ```
//! ```compile_fail
//! let (runtime, text) = (anteroom::Builder::new().build_stealing(1).unwrap(), std::rc::Rc::new(String::from("borrowed")));
//! runtime.block_on(async { anteroom::spawn(async move { text.len() }).await }).unwrap();
//! ```
//! ```compile_fail,E0597
//! let (runtime, text) = (anteroom::Builder::new().build_stealing(1).unwrap(), String::from("borrowed"));
//! runtime.block_on(async { anteroom::spawn(async { text.len() }).await }).unwrap();
//! ```
//! A waiting spawn that was polled does not move, since whoever frees a place takes the future out of it:
//! ```compile_fail,E0277
//! fn movable<T: Unpin>(_: T) {}
//! movable(anteroom::spawn(async { 1 }));
//! ```
//! The last of them, with nothing wrong in it, compiles:
//! ```
//! fn pinned<T: Future>(_: std::pin::Pin<Box<T>>) {}
//! pinned(Box::pin(anteroom::spawn(async { 1 })));
//! ```

pub mod cancel;
mod counting;
mod gate;
#[cfg(target_os = "linux")]
pub mod resident;
pub mod source;
mod tracked;
mod unordered;
mod wakers;
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

pub use counting::{Counting, allocations, bytes_live};
pub use gate::{Endless, Gate, Wait};
pub use tracked::{Drops, Tracked};
pub use unordered::Unordered;
pub use wakers::{Hooks, Wakes};
pub use watchdog::or_abort;

/// One poll with a waker that does nothing.
pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// One poll with `waker`.
pub fn poll_with<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Yields so often that the owner has looked at its inbox and its driver in between: it does every 64 polls.
pub async fn look_around() {
    for _ in 0..130 {
        anteroom::yield_now().await;
    }
}

/// Runs `future` to its end on this thread, with nothing but `park` and `unpark`: a runtime that is not anteroom's.
pub fn park_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll_with(future.as_mut(), &waker) {
            return output;
        }
        thread::park();
    }
}

/// Runs `f` on another thread, to its end.
pub fn elsewhere<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs `f` on another thread while this one's runtime goes on.
///
/// # Panics
/// If `f` panics.
pub async fn beside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let gate = Gate::new();
    let opener = gate.clone();
    let thread = thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        opener.open();
        result
    });
    gate.wait().await;
    thread.join().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs `f` on another thread and fails if it takes longer than a hang would be told from slowness by.
///
/// # Panics
/// If `f` panics, or is not done after a minute.
pub fn must_end<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(f()));
    match result.recv_timeout(Duration::from_secs(60)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => unreachable!("it sent nothing and did not panic"),
        },
    }
}

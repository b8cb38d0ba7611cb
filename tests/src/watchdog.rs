//! A deadline for a test that may hang in a way that no panic gets out of.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs `f` on this thread; if it takes longer than a hang would be told from slowness by, aborts the process with the test's name.
///
/// Other than [`must_end`](crate::must_end) it also ends what hangs while it unwinds, such as the drop of a runtime.
///
/// # Panics
/// If `f` panics.
pub fn or_abort<T>(f: impl FnOnce() -> T) -> T {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Past what the harness captures.
            let _ = writeln!(std::io::stderr().lock(), "{name}: it hangs");
            std::process::abort();
        }
    });
    let result = f();
    drop(done);
    watchdog.join().expect("the watchdog does not panic");
    result
}

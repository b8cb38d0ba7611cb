//! Ctrl-C as something to wait for.
//!
//! `signal-hook` turns SIGINT and SIGTERM into bytes in a pipe; a small thread reads them and wakes whoever
//! waits, in the runtime, through an [`event_listener::Event`]. The first signal asks for an end, a second
//! one is an end at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use event_listener::Event;

/// Notes that this process was asked to end.
#[derive(Default)]
pub(crate) struct Interrupt {
    /// The first signal, or zero.
    signal: AtomicI32,
    came: Event,
}

impl Interrupt {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// When the system refuses the handler, or the thread.
    #[cfg(unix)]
    pub(crate) fn catch() -> io::Result<Arc<Interrupt>> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let interrupt = Arc::new(Interrupt::default());
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let noted = interrupt.clone();
        // 64 KiB of stack: under an address-space limit the default of 2 MiB counts in full.
        std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
            for signal in signals.forever() {
                if noted.signal.load(Ordering::Relaxed) != 0 {
                    std::process::exit(exit_code(signal).into());
                }
                noted.set(signal);
            }
        })?;
        Ok(interrupt)
    }

    /// Where there are no such signals, nothing ever comes.
    #[cfg(not(unix))]
    pub(crate) fn catch() -> io::Result<Arc<Interrupt>> {
        Ok(Arc::default())
    }

    fn set(&self, signal: i32) {
        // Ordering: Release; pairs with the Acquire in `wait`. The Event alone would do; this does not lean
        // on it.
        self.signal.store(signal, Ordering::Release);
        self.came.notify(usize::MAX);
    }

    /// Waits for the first signal, and says which it was.
    pub(crate) async fn wait(&self) -> i32 {
        loop {
            // Listen, then look: a signal between the two is heard.
            let came = self.came.listen();
            match self.signal.load(Ordering::Acquire) {
                0 => came.await,
                signal => return signal,
            }
        }
    }
}

/// What a shell reports for a process that a signal ended.
pub(crate) fn exit_code(signal: i32) -> u8 {
    128_u8.wrapping_add(signal as u8)
}

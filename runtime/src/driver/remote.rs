//! What sockets and timers ask of their driver from other threads.
//!
//! # Problem
//! A socket and a sleep are `Send`, so safe code can poll and drop them anywhere; but the reactor and the wheel are the
//! owner's alone.
//!
//! # Idea
//! A [`Remote`] is a letter box that lives as long as the home: a timer to cancel, a source to forget, a waker for the next
//! edge. The owner empties it when its attention is called. An epoch tells whether the runtime that a resource was made by
//! is still there: if not, nothing is posted, since nobody would read it.
//!
//! # Bounds
//! One letter a timer, a source, and a source's direction: a newer one takes the place of an older.
//!
//! # Read next
//! `mod.rs`, which reads the letters.

use std::io;
use std::task::Waker;

use mio::event::Source;

use super::fired::Fired;
use super::reactor::{Direction, IoKey};
use super::wheel::TimerKey;
use crate::sync::{Mutex, lock};
use crate::task::Home;
use crate::task::home::Wakers;

/// The letter box of one home.
pub(crate) struct Remote {
    home: &'static Home,
    mail: Mutex<Mail>,
    pub(super) fired: Fired,
}

/// What was posted since the owner last looked.
#[derive(Default)]
pub(crate) struct Mail {
    epoch: u32,
    /// The driver's list of files, to take one out; `None` when there is no driver.
    registry: Option<mio::Registry>,
    pub(super) timers: Vec<TimerKey>,
    pub(super) sources: Vec<IoKey>,
    /// By [`IoKey::wait_number`].
    pub(super) waits: Wakers,
}

impl Remote {
    pub(super) fn new(home: &'static Home) -> Self {
        Self { home, mail: Mutex::new(Mail::default()), fired: Fired::new() }
    }

    /// Whose it is.
    pub(super) fn home(&self) -> &'static Home {
        self.home
    }

    /// Begins an epoch, for a driver that has just been made.
    pub(super) fn open(&self, registry: mio::Registry) -> u32 {
        let mut mail = lock(&self.mail);
        mail.epoch = mail.epoch.wrapping_add(1);
        mail.registry = Some(registry);
        self.fired.note(0);
        mail.epoch
    }

    /// Ends it; what nobody has read is returned, to be dropped unlocked.
    pub(super) fn close(&self) -> Mail {
        let mut mail = lock(&self.mail);
        let epoch = mail.epoch;
        std::mem::replace(&mut *mail, Mail { epoch, ..Mail::default() })
    }

    /// All letters; the box is empty afterwards.
    pub(super) fn take(&self) -> Mail {
        let mut mail = lock(&self.mail);
        let (epoch, registry) = (mail.epoch, mail.registry.take());
        std::mem::replace(&mut *mail, Mail { epoch, registry, ..Mail::default() })
    }

    /// Posts, if the driver of `epoch` is still there.
    fn post<T>(&self, epoch: u32, letter: impl FnOnce(&mut Mail) -> T) -> Option<T> {
        let mut mail = lock(&self.mail);
        if mail.registry.is_none() || mail.epoch != epoch {
            // Unlocked before the letter is dropped, whose waker is the caller's code.
            drop(mail);
            drop(letter);
            return None;
        }
        let posted = letter(&mut mail);
        drop(mail);
        self.home.shared.call_attention();
        Some(posted)
    }

    pub(crate) fn cancel_timer(&self, epoch: u32, key: TimerKey) {
        self.post(epoch, |mail| mail.timers.push(key));
    }

    /// Runs `f`, which names the file of a source by its number and no code of others, unless the source was forgotten on another
    /// thread since the letters were taken: its file stays open until `f` is done.
    pub(super) fn unless_forgotten(&self, key: IoKey, f: impl FnOnce()) {
        let mail = lock(&self.mail);
        if !mail.sources.contains(&key) {
            f();
        }
    }

    /// To be called before the file is closed, so that its number is not another's when the letter is read. It leaves the
    /// system's list here and now: closing it would not do, if it was duplicated.
    pub(crate) fn forget_source(&self, epoch: u32, key: IoKey, source: &mut dyn Source) {
        let waits = self.post(epoch, |mail| {
            mail.sources.push(key);
            if let Some(registry) = &mail.registry {
                // It fails only for a file that was closed behind our back.
                let _ = registry.deregister(source);
            }
            [Direction::Read, Direction::Write]
                .map(|direction| mail.waits.remove(&key.wait_number(direction)))
        });
        drop(waits);
    }

    /// Asks for `waker` to be woken when the source is next ready.
    ///
    /// # Errors
    /// If the runtime of the socket is gone.
    pub(crate) fn wait(&self, epoch: u32, key: IoKey, direction: Direction, waker: Waker) -> io::Result<()> {
        match self.post(epoch, |mail| mail.waits.insert(key.wait_number(direction), waker)) {
            Some(old) => {
                drop(old);
                Ok(())
            }
            None => Err(gone()),
        }
    }
}

/// The error of a socket that has outlived its runtime.
pub(crate) fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the runtime of this socket was dropped, and nothing watches it any more",
    )
}

//! Wakers that count, and wakers that do something when they are cloned, woken or dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    /// A waker, and what counts its wakes.
    pub fn new() -> (Waker, Arc<Wakes>) {
        let wakes = Arc::new(Wakes::default());
        (Waker::from(wakes.clone()), wakes)
    }

    /// How often it was woken until now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Hook = Mutex<Option<Box<dyn FnMut() + Send>>>;

/// What a waker of [`Hooks::waker`] does; each may panic, and may come back to whoever called it.
#[derive(Default)]
pub struct Hooks {
    clone: Hook,
    wake: Hook,
    drop: Hook,
    made: AtomicUsize,
    clones: AtomicUsize,
    wakes: AtomicUsize,
    drops: AtomicUsize,
}

impl Hooks {
    /// A waker that does nothing yet, and its hooks.
    pub fn new() -> (Waker, Arc<Hooks>) {
        let hooks = Arc::new(Hooks::default());
        (hooks.waker(), hooks)
    }

    /// One more waker with these hooks.
    pub fn waker(self: &Arc<Self>) -> Waker {
        self.made.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the functions of VTABLE count the references to the hooks as an Arc does, and an Arc of what is Send
        // and Sync may go anywhere.
        unsafe { Waker::new(Arc::into_raw(self.clone()).cast(), &VTABLE) }
    }

    /// Sets what a clone does, after it was counted.
    pub fn on_clone(&self, f: impl FnMut() + Send + 'static) {
        set(&self.clone, Box::new(f));
    }

    /// Sets what a wake does, by value or by reference.
    pub fn on_wake(&self, f: impl FnMut() + Send + 'static) {
        set(&self.wake, Box::new(f));
    }

    /// Sets what a drop does; a wake by value is also one.
    pub fn on_drop(&self, f: impl FnMut() + Send + 'static) {
        set(&self.drop, Box::new(f));
    }

    /// Does nothing any more, and drops what the hooks held.
    ///
    /// # Panics
    /// Never.
    pub fn clear(&self) {
        let old = [&self.clone, &self.wake, &self.drop].map(|hook| hook.lock().unwrap().take());
        drop(old);
    }

    /// How often it was cloned.
    pub fn clones(&self) -> usize {
        self.clones.load(Ordering::SeqCst)
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    /// How many wakers are left.
    pub fn wakers_left(&self) -> usize {
        self.made.load(Ordering::SeqCst) + self.clones() - self.drops.load(Ordering::SeqCst)
    }
}

fn set(hook: &Hook, f: Box<dyn FnMut() + Send>) {
    let old = hook.lock().unwrap().replace(f);
    drop(old);
}

/// Calls a hook with nothing locked; one that is called inside itself does nothing.
fn call(hook: &Hook) {
    let Some(f) = hook.lock().unwrap().take() else { return };
    /// Puts the hook back, also when it panics, unless it was set anew.
    struct Back<'a>(&'a Hook, Option<Box<dyn FnMut() + Send>>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            let f = self.1.take();
            let mut slot = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.is_none() {
                *slot = f;
            }
        }
    }
    let mut back = Back(hook, Some(f));
    if let Some(f) = &mut back.1 {
        f();
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// # Safety
/// `data` is the hooks' address, of which the caller holds a reference.
unsafe fn hooks<'a>(data: *const ()) -> &'a Hooks {
    // SAFETY: forwarded from the caller.
    unsafe { &*data.cast::<Hooks>() }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the caller's waker holds a reference.
    let hooks = unsafe { hooks(data) };
    call(&hooks.clone);
    hooks.clones.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as above; the new waker holds one more.
    unsafe { Arc::increment_strong_count(data.cast::<Hooks>()) };
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    /// The waker is gone after the wake, also when that panics.
    struct Gone(*const ());
    impl Drop for Gone {
        fn drop(&mut self) {
            // SAFETY: the waker that was woken by value gives its reference up.
            unsafe { drop_waker(self.0) }
        }
    }
    let gone = Gone(data);
    // SAFETY: as in `clone`.
    unsafe { wake_by_ref(gone.0) }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: as in `clone`.
    let hooks = unsafe { hooks(data) };
    hooks.wakes.fetch_add(1, Ordering::SeqCst);
    call(&hooks.wake);
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker that is dropped gives its reference up, here.
    let hooks = unsafe { Arc::from_raw(data.cast::<Hooks>()) };
    hooks.drops.fetch_add(1, Ordering::SeqCst);
    call(&hooks.drop);
}

//! The handle of a task: await it, abort it, or let it go.
//!
//! # Problem
//! A handle may be polled, aborted and dropped on any thread, before, while and after the task ends; and the output, which
//! need not be `Send`-safe to drop elsewhere, must be dropped once, on the right thread.
//!
//! # Idea
//! A handle is its header's address. On the owner thread everything is a plain step of the state word. Elsewhere the handle
//! reads the state, and once it is `Done` the output is the handle's alone; anything else it asks for through the foreign
//! word. A handle is `Send` only if its output is, so the output of a task that is not `Send` never leaves the owner.
//!
//! # Invariants
//! - [JOIN-1] From the store of `Done` until the handle's `FREE` or `Recycle` the owner does not touch the body.
//! - [JOIN-3] A handle that is dropped elsewhere asks for it while it still keeps its header from being reused, and not
//!   after: once it has asked, the header may be another task's. Whether anybody will hear is decided under a lock.
//! - [JOIN-2] A handle that waits elsewhere is woken: either the owner finds its waker with the `JOIN` bit, or the handle,
//!   looking again after it set the bit, finds `Done`.
//!
//! # Read next
//! `../spawn.rs`, where handles come from.

use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::sync::{Mutex, PoisonError};

use super::body::Cache;
use super::home::Shared;
use super::state::{Action, Event, Outcome};
use super::vtable::Payload;
use super::{ABORT, FREE, Header, Local, WaitsFor, attend, spend, waits_for, waker};
use crate::sync::{Ordering, seeded};

/// A spawned task: await it for its output.
///
/// Dropping the handle detaches the task, which goes on; [`abort`](Self::abort) ends it. A handle takes the task's output
/// and 64 bytes for as long as it is kept, whatever the size of the future was.
///
/// ```
/// anteroom::block_on(async {
///     let handle = anteroom::spawn(async { 6 * 7 }).await.unwrap();
///     assert_eq!(handle.await.unwrap(), 42);
/// });
/// ```
///
/// A finished task keeps its output until its handle takes it, so an output that holds the task's own handle is never dropped.
///
/// # Errors
/// Awaiting it gives a [`JoinError`] if the task panicked, was aborted, or its runtime was dropped first.
///
/// # Panics
/// If it is polled again after it was ready.
///
/// # Cancel safety
/// Nothing is lost: awaited by reference, it can be dropped out of a `select` and awaited again.
pub struct JoinHandle<T> {
    task: Option<&'static Header>,
    output: PhantomData<T>,
}

/// A handle has no output in it, so it may always be moved.
impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: &'static Header) -> Self {
        Self { task: Some(task), output: PhantomData }
    }

    /// What it gave, if it is done; else itself. No operation of the poll's, since nobody waits.
    pub(crate) fn try_take(mut self) -> Result<Result<T, JoinError>, Self> {
        let Some(task) = self.task.filter(|task| task.snapshot().is_done()) else { return Err(self) };
        self.task = None;
        let local = task.local();
        if let Some(local) = local {
            attend(local, task);
        }
        Ok(take(task, local))
    }

    /// Its header, on the thread of its runtime, while that is entered.
    pub(crate) fn here(&self) -> Option<&'static Header> {
        self.task.filter(|task| task.is_here())
    }

    /// Asks for the task to end: its future is dropped on the runtime's own thread, at the latest when its present poll
    /// returns. A task that is already done keeps its output.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let handle = anteroom::spawn(std::future::pending::<()>()).await.unwrap();
    ///     handle.abort();
    ///     assert!(handle.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort(&self) {
        let Some(task) = self.task else { return };
        match task.local() {
            Some(local) => task.abort_local(local),
            None if task.is_shared() => task.abort_shared(),
            None => shared(task).post(task, ABORT),
        }
    }

    /// Whether awaiting it would give the output at once.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let handle = anteroom::spawn(async {}).await.unwrap();
    ///     assert!(!handle.is_finished());
    ///     anteroom::yield_now().await;
    ///     assert!(handle.is_finished());
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.is_none_or(|task| task.snapshot().is_done())
    }

    /// What tells this task from every other that is alive or whose handle is kept; `None` once its output was taken.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let one = anteroom::spawn(async {}).await.unwrap();
    ///     let two = anteroom::spawn(async {}).await.unwrap();
    ///     assert_ne!(one.id(), two.id());
    /// });
    /// ```
    pub fn id(&self) -> Option<TaskId> {
        self.task.map(TaskId::of)
    }
}

/// What tells one task from another, for as long as either is alive or has a handle; later it may come again.
///
/// ```
/// anteroom::block_on(async {
///     let handle = anteroom::spawn(async {}).await.unwrap();
///     println!("{:?}", handle.id());
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(usize);

impl TaskId {
    pub(crate) fn of(task: &'static Header) -> Self {
        Self(waker::encode(task, task.snapshot().generation()).addr())
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({:x})", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What any thread may touch of the home of a task with a handle.
fn shared(task: &'static Header) -> &'static Shared {
    &task.home().expect("[TABLE-3] a header with a handle is not given back").shared
}

/// Takes what a finished task left; the header is still to be recycled.
///
/// # Safety
/// The task is done, its output is of type `T` and was not taken, and the caller speaks for its only handle. `local` is the
/// owner's, or `None` elsewhere.
#[inline(always)]
unsafe fn take_output<T>(task: &'static Header, local: Option<&Local>) -> Result<T, JoinError> {
    let cache = local.map(|local| &local.cache).or_else(|| task.cache_here());
    if task.snapshot().outcome() == Some(Outcome::Value) {
        // SAFETY: [JOIN-1] done with a value: the body holds the `T` that the vtable's `store` put there.
        return Ok(unsafe { task.body.take::<T>(cache) });
    }
    // SAFETY: forwarded from the caller; it holds no value.
    Err(unsafe { take_error(task, cache) })
}

/// As [`take_output`], of a task that gave no value.
///
/// # Safety
/// As there.
#[cold]
unsafe fn take_error(task: &'static Header, cache: Option<&Cache>) -> JoinError {
    if task.snapshot().outcome() == Some(Outcome::Panic) {
        // SAFETY: [JOIN-1] done with a panic: the body holds its payload.
        JoinError::panic(unsafe { task.body.take::<Payload>(cache) })
    } else {
        JoinError(JoinErrorKind::Cancelled)
    }
}

/// Takes the output of a finished task and recycles its header, on any thread.
#[inline(always)]
fn take<T>(task: &'static Header, local: Option<&Local>) -> Result<T, JoinError> {
    // SAFETY: [JOIN-1] called by the handle alone, which gives itself up with this, once `Done` was read.
    let result = unsafe { take_output::<T>(task, local) };
    match local {
        Some(local) => {
            let action = task.apply(Event::Recycle);
            debug_assert_eq!(action, Action::Recycle);
            local.table.give_back(task);
        }
        None if task.is_shared() => task.give_back_shared(),
        None => shared(task).post(task, FREE),
    }
    result
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.expect("a JoinHandle was polled after it was ready");
        let polled = match task.local() {
            // Ordering: Relaxed; the handle came here after it asked for anything, so the bits are visible.
            Some(local) if task.foreign.load(Ordering::Relaxed) == 0 => poll_local(task, local, cx),
            local => poll_rarely(task, local, cx),
        };
        if polled.is_ready() {
            self.task = None;
        }
        polled
    }
}

#[inline(always)]
fn poll_local<T>(task: &'static Header, local: &Local, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
    if task.look(Event::Join) == Action::Watch {
        task.set_joiner(cx.waker());
        local.waits_for(WaitsFor::JOIN);
        return Poll::Pending;
    }
    ready!(local.spend(cx));
    Poll::Ready(take(task, Some(local)))
}

/// As [`poll_local`], where it was elsewhere before, or is.
#[inline(never)]
fn poll_rarely<T>(
    task: &'static Header,
    local: Option<&Local>,
    cx: &Context<'_>,
) -> Poll<Result<T, JoinError>> {
    match local {
        Some(local) => {
            // What this handle asked for while it was elsewhere comes first: a waker of then must not replace the one of now.
            attend(local, task);
            poll_local(task, local, cx)
        }
        None if task.is_shared() => poll_shared(task, cx),
        None => poll_foreign(task, cx),
    }
}

/// In a team any thread may be where the task is.
#[inline(always)]
fn poll_shared<T>(task: &'static Header, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
    if !task.snapshot().is_done() && task.watch_shared(cx.waker()) {
        waits_for(if task.is_of_this_team() { WaitsFor::JOIN } else { WaitsFor::JOIN_ELSEWHERE });
        return Poll::Pending;
    }
    ready!(spend(cx));
    Poll::Ready(take(task, None))
}

#[cold]
fn poll_foreign<T>(task: &'static Header, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
    if !task.snapshot().is_done() {
        shared(task).post_join(task, cx.waker().clone());
        // [JOIN-2] Looked at again after the bit was set; the fence is in `post`'s ring, and at the end of a runtime.
        crate::sync::fence(Ordering::SeqCst);
        if seeded("join_no_second_look") || !task.snapshot().is_done() {
            waits_for(WaitsFor::JOIN_ELSEWHERE);
            return Poll::Pending;
        }
        drop(shared(task).take_join(task));
    }
    Poll::Ready(take(task, None))
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(task) = self.task {
            let_go::<T>(task);
        }
    }
}

/// The only handle of `task` is dropped.
#[inline]
fn let_go<T>(task: &'static Header) {
    match task.local() {
        Some(_) if task.foreign.load(Ordering::Relaxed) == 0 && task.let_run() => {}
        local => let_go_rarely::<T>(task, local),
    }
}

/// As [`let_go`], of a task that is done, or has something of its handle's, or is elsewhere.
#[inline(never)]
fn let_go_rarely<T>(task: &'static Header, local: Option<&Local>) {
    if let Some(local) = local {
        attend(local, task);
    }
    if !task.snapshot().is_done() {
        let is_let_go = match local {
            Some(local) => {
                task.detach_local(local);
                true
            }
            None if task.is_shared() => task.detach_shared(),
            None => shared(task).post_detach(task),
        };
        if is_let_go {
            return;
        }
    }
    // The header goes back first: the output's drop is user code, and may panic.
    let output = take::<T>(task, local);
    drop(output);
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task).finish()
    }
}

/// Why a task gave no output.
///
/// ```
/// anteroom::block_on(async {
///     let error = anteroom::spawn(async { panic!("no") }).join().await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: no");
/// });
/// ```
pub struct JoinError(JoinErrorKind);

pub(crate) enum JoinErrorKind {
    Cancelled,
    /// In a lock only to be `Sync`, which errors are expected to be.
    Panic(Mutex<Payload>),
    /// It was never admitted.
    NotAdmitted(&'static str),
}

pub(crate) fn joined(kind: JoinErrorKind) -> JoinError {
    JoinError(kind)
}

impl JoinError {
    /// Whether it was aborted, never admitted, or its runtime was dropped before it was done.
    pub fn is_cancelled(&self) -> bool {
        !self.is_panic()
    }

    /// Whether it panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, JoinErrorKind::Panic(_))
    }

    /// What it panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    /// Gives the error back if the task did not panic.
    pub fn into_panic(self) -> Result<Box<dyn std::any::Any + Send + 'static>, JoinError> {
        match self.0 {
            JoinErrorKind::Panic(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            other => Err(JoinError(other)),
        }
    }

    pub(crate) fn panic(payload: Payload) -> Self {
        JoinError(JoinErrorKind::Panic(Mutex::new(payload)))
    }

    fn text(&self) -> Option<String> {
        let JoinErrorKind::Panic(payload) = &self.0 else { return None };
        let payload = payload.lock().unwrap_or_else(PoisonError::into_inner);
        match payload.downcast_ref::<&str>() {
            Some(text) => Some((*text).to_owned()),
            None => payload.downcast_ref::<String>().cloned(),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            JoinErrorKind::Cancelled => f.write_str("JoinError::Cancelled"),
            JoinErrorKind::NotAdmitted(why) => write!(f, "JoinError::NotAdmitted({why:?})"),
            JoinErrorKind::Panic(_) => write!(f, "JoinError::Panic({:?})", self.text()),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            JoinErrorKind::Cancelled => f.write_str("the task was cancelled"),
            JoinErrorKind::NotAdmitted(why) => write!(f, "the task was never started: {why}"),
            JoinErrorKind::Panic(_) => match self.text() {
                Some(text) => write!(f, "the task panicked: {text}"),
                None => f.write_str("the task panicked"),
            },
        }
    }
}

impl std::error::Error for JoinError {}

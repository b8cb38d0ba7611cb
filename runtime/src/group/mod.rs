//! Tasks that belong together: they are joined as they end, and end together.
//!
//! # Problem
//! A task that spawns others and is cancelled, or fails, leaves them behind, detached: nobody waits for them and nobody can
//! end them. And of two kinds of work in one runtime, one can take all the room.
//!
//! # Idea
//! A [`TaskGroup`] owns the handles of its tasks. It gives the outputs in the order in which the tasks end, and dropped it
//! aborts those that are left. It may have a limit of its own, a line before the runtime's: a spawn takes a place of the group
//! first, then one of the runtime, and each task gives both back as it ends.
//!
//! Each task's future is wrapped with a [`Seat`](spawning::Seat), whose drop, whatever ended the future, gives the group's place
//! on and tells who joins. The rest is one table behind a lock, which a task meets when it comes and when it goes.
//!
//! # Bounds
//! Live tasks of the group: its limit, and the runtime's. Who waits for a place of the group, in the spawner's own frame: as
//! many as may wait for one of the runtime's (`Builder::max_waiting`). Outputs that nobody has taken: one for each task that
//! ended; who spawns for ever takes them now and then, by [`TaskGroup::try_join_next`].
//!
//! # Invariants
//! - [GROUP-1] A unit of the group's limit is in use exactly while a seat that was paid for exists, or a spawn that was given
//!   one and was not polled since.
//! - [GROUP-2] No user code runs under the lock: wakers are taken out and woken after it, outputs and futures dropped after it.
//!
//! # Rejected
//! A list of tasks through their headers: the fastest, and a second user of every link in them. A semaphore in each task: it
//! bounds the group and hides who holds its places from the runtime, which has to know when nothing can move.
//!
//! # Read next
//! `state.rs`, the table; `spawning.rs`, how a future comes in.

mod spawning;
mod state;

use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use spawning::{GroupSpawn, GroupSpawnLocal};
use state::Shared;

use crate::spawn::TrySpawnError;
use crate::task::JoinError;

/// Tasks with outputs of type `T` that belong together.
///
/// Dropped, it aborts those that are left: each is gone by the end of the runtime's next turn, wherever the group was dropped.
/// A child that waits for room then, or runs in its spawner's place, is ended by its spawn, which is woken for that and gives
/// [`SpawnError::Closed`](crate::SpawnError::Closed).
/// To let other tasks spawn into it, give them a [`handle`](Self::handle); a task that owned the group itself would keep it
/// alive from within.
///
/// A group that a task of another group has made is dropped with that task, and each keeps its own limit, besides the
/// runtime's.
///
/// ```
/// use anteroom::TaskGroup;
///
/// anteroom::block_on(async {
///     let group = TaskGroup::with_limit(10);
///     for page in 0..100 {
///         // Waits while ten of the group are live.
///         group.spawn(async move { page * 2 }).await.unwrap();
///     }
///     let mut total = 0;
///     while let Some(output) = group.join_next().await {
///         total += output.unwrap();
///     }
///     assert_eq!(total, 9_900);
/// });
/// ```
///
/// # Deadlock
/// Groups whose tasks spawn into one another, and wait, go on as with the runtime's own limit (see
/// [`spawn`](crate::spawn())), limit by limit and together: when all who hold a group's places wait for room, anywhere, or for
/// tasks, the first who waits for a place of the group and has one of the runtime runs the child in its own place. The child
/// of somebody outside of the group has no place of the group then: it runs in the stead of one that waits, so that for as
/// long as it takes the group can have as many more than its limit as there are such waiters. Of a task of another runtime
/// nothing is known but that it lives, so a group that two runtimes fill and wait for on both sides may stand still.
///
/// What a task does that another waits for is not looked at: connections that all wait for tasks of their own look stuck,
/// although those sleep. So who accepts connections into a group with a limit does it in the future of `block_on`, or in a
/// service, which have no place that a connection could run in.
pub struct TaskGroup<T: 'static> {
    shared: Arc<Shared<T>>,
}

impl<T> TaskGroup<T> {
    /// A group without a limit of its own: the runtime's is the one that holds.
    ///
    /// ```
    /// let group = anteroom::TaskGroup::<u32>::new();
    /// assert!(group.is_empty());
    /// assert_eq!(group.limit(), None);
    /// ```
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new(None)) }
    }

    /// A group of which at most `limit` tasks are live at once.
    ///
    /// ```
    /// assert_eq!(anteroom::TaskGroup::<u32>::with_limit(3).limit(), Some(3));
    /// ```
    ///
    /// # Panics
    /// If `limit` is 0: nothing would ever be spawned.
    pub fn with_limit(limit: usize) -> Self {
        assert!(limit > 0, "TaskGroup::with_limit(0): a group needs a limit of 1 at least");
        Self { shared: Arc::new(Shared::new(Some(limit))) }
    }

    /// What spawns into this group from elsewhere, such as from its own tasks, and does not keep it alive.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::new();
    ///     let handle = group.handle();
    ///     group.spawn(async move { handle.spawn(async { 1 }).await.unwrap(); 2 }).await.unwrap();
    ///     let mut outputs = group.join_all().await.unwrap();
    ///     outputs.sort();
    ///     assert_eq!(outputs, [1, 2]);
    /// });
    /// ```
    pub fn handle(&self) -> GroupHandle<T> {
        GroupHandle { shared: self.shared.clone() }
    }

    /// Waits until a task has ended, and gives its output; `None` when there is none. A spawn that still waits for room is
    /// none yet. Outputs come in the order in which the tasks end.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::new();
    ///     group.spawn(async { 1 }).await.unwrap();
    ///     assert_eq!(group.join_next().await.unwrap().unwrap(), 1);
    ///     assert!(group.join_next().await.is_none());
    /// });
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] for a task that panicked or was aborted.
    ///
    /// # Cancel safety
    /// Nothing is lost: an output that was not given yet comes with the next call. One caller at a time is woken, the one that
    /// asked last: of several, the others may sleep on, also when that one is dropped.
    pub async fn join_next(&self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// As [`join_next`](Self::join_next), for who polls by hand.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::<u8>::new();
    ///     let next = std::future::poll_fn(|cx| group.poll_join_next(cx)).await;
    ///     assert!(next.is_none());
    /// });
    /// ```
    pub fn poll_join_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.shared.poll_join_next(cx)
    }

    /// The output of a task that has ended, if there is one; so that who spawns for ever need not keep what nobody asks for.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::with_limit(10);
    ///     let mut total = 0;
    ///     for n in 0..1_000 {
    ///         group.spawn(async move { n }).await.unwrap();
    ///         while let Some(output) = group.try_join_next() {
    ///             total += output.unwrap();
    ///         }
    ///     }
    ///     total += group.join_all().await.unwrap().into_iter().sum::<u32>();
    ///     assert_eq!(total, 499_500);
    /// });
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] for a task that panicked or was aborted.
    pub fn try_join_next(&self) -> Option<Result<T, JoinError>> {
        self.shared.try_join_next()
    }

    /// Waits for all, and gives their outputs in the order in which they ended.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::new();
    ///     for n in 0..3 {
    ///         group.spawn(async move { n }).await.unwrap();
    ///     }
    ///     assert_eq!(group.join_all().await.unwrap(), [0, 1, 2]);
    /// });
    /// ```
    ///
    /// # Errors
    /// The [`JoinError`] of the first task that panicked or was aborted; the rest is aborted then, and gone when this is ready.
    ///
    /// # Cancel safety
    /// What was joined by then is lost. The tasks that are left go on.
    pub async fn join_all(&self) -> Result<Vec<T>, JoinError> {
        let mut outputs = Vec::new();
        while let Some(joined) = self.join_next().await {
            match joined {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    self.shutdown().await;
                    return Err(error);
                }
            }
        }
        Ok(outputs)
    }

    /// Asks all tasks of the group to end, as [`JoinHandle::abort`](crate::JoinHandle::abort) does; they are still to be joined.
    /// Spawns that wait for room go on to wait, and a child that runs in its spawner's place, which is no task yet, goes on.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::new();
    ///     group.spawn(std::future::pending::<()>()).await.unwrap();
    ///     group.abort_all();
    ///     assert!(group.join_next().await.unwrap().unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort_all(&self) {
        self.shared.abort_all();
    }

    /// Aborts all tasks, and those that come in while it waits, until there is none; what they gave is dropped. Who spawns into
    /// the group for ever keeps it waiting.
    ///
    /// ```
    /// anteroom::block_on(async {
    ///     let group = anteroom::TaskGroup::new();
    ///     group.spawn(std::future::pending::<()>()).await.unwrap();
    ///     group.shutdown().await;
    ///     assert!(group.is_empty());
    /// });
    /// ```
    ///
    /// # Cancel safety
    /// The tasks were asked to end by its first poll; who drops it after that only does not wait for them, and those that come
    /// in then are not aborted.
    pub async fn shutdown(&self) {
        let _who_comes_in_is_aborted = self.shared.shut_down();
        while let Some(joined) = self.join_next().await {
            drop(joined);
        }
    }

    /// How many tasks belong to it: live ones, and those that ended and were not joined yet.
    ///
    /// ```
    /// assert_eq!(anteroom::TaskGroup::<()>::new().len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there is nothing to join.
    ///
    /// ```
    /// assert!(anteroom::TaskGroup::<()>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of its tasks may be live at once; `None` without a limit of its own.
    ///
    /// ```
    /// assert_eq!(anteroom::TaskGroup::<()>::with_limit(5).limit(), Some(5));
    /// ```
    pub fn limit(&self) -> Option<usize> {
        self.shared.limit()
    }
}

impl<T, E> TaskGroup<Result<T, E>> {
    /// Waits for all, and gives what they gave, in the order in which they ended; the first error ends the rest.
    ///
    /// ```
    /// use anteroom::TaskGroup;
    /// type Error = Box<dyn std::error::Error + Send + Sync>;
    ///
    /// anteroom::block_on(async {
    ///     let group = TaskGroup::<Result<u32, Error>>::new();
    ///     group.spawn(async { Ok("7".parse()?) }).await.unwrap();
    ///     group.spawn(async { Ok("seven".parse()?) }).await.unwrap();
    ///     group.spawn(std::future::pending()).await.unwrap();
    ///     let error = group.try_join_all().await.unwrap_err();
    ///     assert_eq!(error.to_string(), "invalid digit found in string");
    ///     assert!(group.is_empty());
    /// });
    /// ```
    ///
    /// # Errors
    /// The first error of a task, or the [`JoinError`] of one that panicked or was aborted, as an `E`. The rest is aborted then,
    /// and gone when this is ready.
    ///
    /// # Cancel safety
    /// As [`join_all`](Self::join_all).
    pub async fn try_join_all(&self) -> Result<Vec<T>, E>
    where
        E: From<JoinError>,
    {
        let mut outputs = Vec::new();
        while let Some(joined) = self.join_next().await {
            match joined.unwrap_or_else(|error| Err(error.into())) {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    self.shutdown().await;
                    return Err(error);
                }
            }
        }
        Ok(outputs)
    }
}

impl<T> Default for TaskGroup<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for TaskGroup<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<T> fmt::Debug for TaskGroup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("len", &self.len()).field("limit", &self.limit()).finish()
    }
}

/// Spawns into a [`TaskGroup`] from elsewhere, and does not keep it alive.
///
/// ```
/// anteroom::block_on(async {
///     let group = anteroom::TaskGroup::new();
///     let handle = group.handle();
///     drop(group);
///     let error = handle.spawn(async { 1 }).await.unwrap_err();
///     assert_eq!(error, anteroom::SpawnError::Closed);
/// });
/// ```
pub struct GroupHandle<T: 'static> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for GroupHandle<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for GroupHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle").field("len", &self.shared.len()).finish_non_exhaustive()
    }
}

/// What a group and its handle have in common.
macro_rules! spawns {
    ($name:ident) => {
        impl<T> $name<T> {
            /// Asks for a place of the group, and then for one of the runtime; awaited, the future is a task of the group.
            /// While it waits, `future` stays where it is, as with [`spawn`](crate::spawn()).
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::with_limit(1);
            ///     group.spawn(async { 1 }).await.unwrap();
            ///     group.spawn(async { 2 }).await.unwrap(); // the first has ended by now
            ///     assert_eq!(group.len(), 2);
            /// });
            /// ```
            ///
            /// # Errors
            /// As [`spawn`](crate::spawn()); [`SpawnError::Closed`](crate::SpawnError::Closed) also when the group is gone.
            ///
            /// # Panics
            /// When polled outside a runtime.
            ///
            /// # Cancel safety
            /// As [`spawn`](crate::spawn()). A place of the group is given to whoever waits for it, not to the future, so one who
            /// is never polled again holds it until it is dropped.
            #[track_caller]
            pub fn spawn<F>(&self, future: F) -> GroupSpawn<'_, F, T>
            where
                F: Future<Output = T> + Send + 'static,
                T: Send,
            {
                GroupSpawn::new(&self.shared, future)
            }

            /// [`spawn`](Self::spawn) for a future that need not be `Send`.
            ///
            /// ```
            /// use std::rc::Rc;
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::new();
            ///     group.spawn_local(async { Rc::new(1) }).await.unwrap();
            ///     assert_eq!(*group.join_next().await.unwrap().unwrap(), 1);
            /// });
            /// ```
            ///
            /// # Errors
            /// As [`spawn`](Self::spawn).
            ///
            /// # Panics
            /// When polled outside a runtime.
            #[track_caller]
            pub fn spawn_local<F>(&self, future: F) -> GroupSpawnLocal<'_, F, T>
            where
                F: Future<Output = T> + 'static,
            {
                GroupSpawnLocal::new(&self.shared, future)
            }

            /// Spawns `future` if both the group and the runtime have room now, and otherwise gives it back.
            ///
            /// ```
            /// anteroom::block_on(async {
            ///     let group = anteroom::TaskGroup::with_limit(1);
            ///     group.try_spawn(std::future::pending::<()>()).unwrap();
            ///     assert!(group.try_spawn(std::future::pending()).unwrap_err().is_full());
            /// });
            /// ```
            ///
            /// # Errors
            /// [`TrySpawnError`], with the future.
            ///
            /// # Panics
            /// Outside a runtime.
            #[track_caller]
            pub fn try_spawn<F>(&self, future: F) -> Result<(), TrySpawnError<F>>
            where
                F: Future<Output = T> + Send + 'static,
                T: Send,
            {
                spawning::try_spawn(&self.shared, future, Location::caller())
            }
        }
    };
}

spawns!(TaskGroup);
spawns!(GroupHandle);

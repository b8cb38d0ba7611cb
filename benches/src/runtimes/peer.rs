//! What a peer does that differs from the next peer's in names alone: written once, and expanded in each one's file.
//!
//! # Problem
//! Peers spawn at once, by a call, and most of a workload is the same for all of them. A trait would make them equal where they
//! are not (what must be `Send`, what a handle gives), and each copy by hand is another chance to be unfair.
//!
//! # Idea
//! Macros without arguments, which use what the file that calls them has. It says, in this order:
//!
//! - `On`, where tasks are spawned; [`Current`] where the runtime knows that by itself; and `Handle`, what a spawn gives;
//! - `spawn`, `joined` (from what a handle gives to the task's own result) and `detach`; `sleep`;
//! - `Limit`, its semaphore in the pointer it needs, and `limit`, which makes one; `hold` and `permit`, whose permits borrow it and
//!   own it; `granted`, from what these give to the permit;
//! - `Numbers`, of which each worker takes the next;
//! - `Runtime`, and `run`, which does a workload within a spawned task.
//!
//! Since they are small functions of the same crate, the code is what one would write by hand.
//!
//! # Rules
//! - What only some runtimes have, they ask for: their `yield_now`. Only tokio has a `JoinSet`, so that is in its file.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt};

use crate::work::job;

/// The runtime is found by itself.
#[derive(Clone, Copy)]
pub(crate) struct Current;

/// The jobs polled within one task, each taken up as another ends.
pub(crate) async fn buffer_unordered(jobs: u64, limit: usize) {
    let mut done = pin!(stream::iter(0..jobs).map(job).buffer_unordered(limit));
    while done.next().await.is_some() {}
}

/// The same, written shorter.
pub(crate) async fn for_each_concurrent(jobs: u64, limit: usize) {
    stream::iter(0..jobs).for_each_concurrent(limit, job).await;
}

/// The jobs' numbers, for workers that need not be `Send`.
#[derive(Clone)]
pub(crate) struct LocalNumbers(Rc<Cell<u64>>);

impl LocalNumbers {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(0)))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

/// And for those that must be.
#[derive(Clone)]
pub(crate) struct SharedNumbers(Arc<AtomicU64>);

impl SharedNumbers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    pub(crate) fn next(&self) -> u64 {
        // Ordering: Relaxed; a number that nobody else gets is all that is asked for.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Workloads of tasks, as [`Workload`](crate::Workload) says.
macro_rules! tasks {
    () => {
        async fn sum(handles: Vec<Handle<u64>>) -> u64 {
            let mut done = 0;
            for handle in handles {
                done += joined(handle.await);
            }
            done
        }

        pub(crate) async fn spawn_join(on: On, tasks: u64) -> u64 {
            let mut done = 0;
            for number in 0..tasks {
                done += u64::from(joined(spawn(on, async move { number }).await) == number);
            }
            done
        }

        pub(crate) async fn spawn_batch(on: On, tasks: u64, at_once: u64) -> u64 {
            let mut handles = Vec::with_capacity(at_once.min(tasks) as usize);
            let mut done = 0;
            while done < tasks {
                for number in 0..at_once.min(tasks - done) {
                    handles.push(spawn(on, async move { number }));
                }
                for (number, handle) in handles.drain(..).enumerate() {
                    assert_eq!(joined(handle.await), number as u64);
                    done += 1;
                }
            }
            done
        }

        pub(crate) async fn yields(on: On, operations: u64, tasks: u64) -> u64 {
            sum((0..tasks).map(|_| spawn(on, turns(operations / tasks))).collect()).await
        }

        pub(crate) async fn ping_pong(on: On, trips: u64, pairs: u64) -> u64 {
            let mut pongs = Vec::new();
            let mut pings = Vec::new();
            for _ in 0..pairs {
                let table = Arc::new(Table::default());
                pongs.push(spawn(on, pong(table.clone(), trips / pairs)));
                pings.push(spawn(on, ping(table, trips / pairs)));
            }
            for pong in pongs {
                joined(pong.await);
            }
            sum(pings).await
        }

        pub(crate) async fn chained(on: On, tasks: u64) -> u64 {
            let end = Arc::new(Signal::default());
            link(on, tasks, end.clone());
            end.wait().await;
            tasks
        }

        fn link(on: On, left: u64, end: Arc<Signal>) {
            let next = async move {
                match left - 1 {
                    0 => end.set(),
                    left => link(on, left, end),
                }
            };
            detach(spawn(on, next));
        }

        /// In a crowd.
        pub(crate) async fn permits(on: On, operations: u64, tasks: u64) -> u64 {
            let semaphore = limit(PERMITS);
            let acquirer = || {
                let semaphore = semaphore.clone();
                async move {
                    for _ in 0..operations / tasks {
                        let _permit = granted(hold(&semaphore).await);
                        turn().await;
                    }
                    operations / tasks
                }
            };
            sum((0..tasks).map(|_| spawn(on, acquirer())).collect()).await
        }

        pub(crate) async fn timers(on: On, sleepers: u64) -> u64 {
            let sleeper = |number| async move {
                sleep(nap(number, sleepers)).await;
                1
            };
            sum((0..sleepers).map(|number| spawn(on, sleeper(number))).collect()).await
        }
    };
}

/// Workloads of one thread.
macro_rules! tasks_of_one_thread {
    () => {
        async fn spawn_join_of<const BYTES: usize>(on: On, tasks: u64) -> u64 {
            let mut done = 0;
            for _ in 0..tasks {
                done += u64::from(joined(spawn(on, Ready::<BYTES>::new()).await) == BYTES);
            }
            done
        }

        /// Alone.
        async fn permit_alone(operations: u64) -> u64 {
            let semaphore = limit(1);
            let mut done = 0;
            for _ in 0..operations {
                let _permit = granted(hold(&semaphore).await);
                done += 1;
            }
            done
        }

        async fn timer_churn(operations: u64) -> u64 {
            let mut done = 0;
            for _ in 0..operations {
                done += poll_once(sleep(NEVER)).await;
            }
            done
        }

        async fn late_sparse(on: On, samples: u64) -> u64 {
            let sleeper = |number: u64| async move {
                sleep(SHORT * number as u32 / SPARSE as u32).await;
                for _ in 0..samples / SPARSE {
                    late(SHORT, sleep).await;
                }
                samples / SPARSE
            };
            sum((0..SPARSE).map(|number| spawn(on, sleeper(number))).collect()).await
        }

        async fn late_dense(on: On, samples: u64) -> u64 {
            let sleeper = |number| async move {
                late(nap(number, samples), sleep).await;
                1
            };
            sum((0..samples).map(|number| spawn(on, sleeper(number))).collect()).await
        }

        async fn permit_then_spawn(on: On, jobs: u64, limit: Limit) {
            for number in 0..jobs {
                let permit = granted(permit(&limit).await);
                let job = async move {
                    job(number).await;
                    drop(permit);
                };
                detach(spawn(on, job));
            }
        }

        async fn permit_then_spawn_from(on: On, jobs: u64, spawners: usize, limit: Limit) {
            let spawner = |jobs| spawn(on, permit_then_spawn(on, jobs, limit.clone()));
            let spawners: Vec<_> = shares(jobs, spawners).map(spawner).collect();
            for spawner in spawners {
                joined(spawner.await);
            }
        }

        async fn spawn_then_permit(on: On, jobs: u64, limit: Limit) {
            for number in 0..jobs {
                let limit = limit.clone();
                let job = async move {
                    let _permit = granted(hold(&limit).await);
                    job(number).await;
                };
                detach(spawn(on, job));
            }
        }

        async fn workers(on: On, jobs: u64, limit: usize) {
            let numbers = Numbers::new();
            let worker = || {
                let numbers = numbers.clone();
                async move {
                    loop {
                        let number = numbers.next();
                        if number >= jobs {
                            break;
                        }
                        job(number).await;
                    }
                }
            };
            let workers: Vec<_> = (0..limit).map(|_| spawn(on, worker())).collect();
            for worker in workers {
                joined(worker.await);
            }
        }
    };
}

/// For those that have a `yield_now`.
macro_rules! own_yields {
    () => {
        pub(crate) async fn own_yields(on: On, operations: u64, tasks: u64) -> u64 {
            let yielder = || async move {
                for _ in 0..operations / tasks {
                    yield_now().await;
                }
                operations / tasks
            };
            sum((0..tasks).map(|_| spawn(on, yielder())).collect()).await
        }
    };
}

/// The rows of a workload, by what the macros above have made: whether threads may share its semaphore, and `Send` if tasks must be.
macro_rules! rows {
    (permits_are_shared: $permits_are_shared:literal $(, $send:ident)?) => {
        /// One form of the runtime: its name in the tables, and how it is built.
        #[derive(Clone, Copy)]
        struct Form {
            name: &'static str,
            build: fn() -> Runtime,
        }

        impl Form {
            /// Built once, entered for each run ([FAIR-4]), which is a task ([FAIR-3]).
            fn row<F>(self, idiom: &str, workload: impl Fn(On, u64) -> F + 'static) -> Row
            where
                F: Future<Output = u64> $(+ $send)? + 'static,
            {
                let name = if idiom.is_empty() { self.name.into() } else { format!("{}, {idiom}", self.name) };
                Row::new(name, self.build, move |runtime, operations| {
                    run(runtime, |on| workload(on, operations))
                })
            }

            fn rows(self, workload: Workload) -> Vec<Row> {
                let row = match workload {
                    Workload::SpawnJoin => self.row("", spawn_join),
                    Workload::SpawnJoinOf(bytes) => match bytes {
                        0 => self.row("", spawn_join_of::<0>),
                        64 => self.row("", spawn_join_of::<64>),
                        200 => self.row("", spawn_join_of::<200>),
                        500 => self.row("", spawn_join_of::<500>),
                        1_500 => self.row("", spawn_join_of::<1_500>),
                        bytes => unreachable!("{bytes} is none of the sizes"),
                    },
                    Workload::SpawnBatch(at_once) => {
                        self.row("", move |on, count| spawn_batch(on, count, at_once))
                    }
                    Workload::Yield(tasks) => self.row("", move |on, count| yields(on, count, tasks)),
                    Workload::PingPong(pairs) => self.row("", move |on, count| ping_pong(on, count, pairs)),
                    Workload::Chained => self.row("", chained),
                    Workload::Permit | Workload::Permits(_) if !$permits_are_shared => {
                        Row::cannot(self.name, "its semaphore never leaves its thread: see the row of such")
                    }
                    Workload::LocalPermits(_) if $permits_are_shared => {
                        Row::cannot(self.name, "it has no semaphore that never leaves its thread")
                    }
                    Workload::Permit => self.row("", |_, count| permit_alone(count)),
                    Workload::Permits(tasks) | Workload::LocalPermits(tasks) => {
                        self.row("", move |on, count| permits(on, count, tasks))
                    }
                    Workload::TimerChurn => self.row("", |_, count| timer_churn(count)),
                    Workload::Timers => self.row("", timers),
                    Workload::LateSparse => self.row("", late_sparse),
                    Workload::LateDense => self.row("", late_dense),
                    Workload::Fanout { limit: most, spawners: 1 } => return vec![
                        self.row("permit then spawn", move |on, jobs| {
                            all_jobs(jobs, permit_then_spawn(on, jobs, limit(most)))
                        }),
                        self.row("spawn then permit", move |on, jobs| {
                            all_jobs(jobs, spawn_then_permit(on, jobs, limit(most)))
                        }),
                        self.row("buffer_unordered", move |_, jobs| all_jobs(jobs, buffer_unordered(jobs, most))),
                        self.row("for_each_concurrent", move |_, jobs| {
                            all_jobs(jobs, for_each_concurrent(jobs, most))
                        }),
                        self.row("workers", move |on, jobs| all_jobs(jobs, workers(on, jobs, most))),
                    ],
                    Workload::Fanout { limit: most, spawners } => self.row("permit then spawn", move |on, jobs| {
                        all_jobs(jobs, permit_then_spawn_from(on, jobs, spawners, limit(most)))
                    }),
                };
                vec![row]
            }
        }
    };
}

pub(crate) use own_yields;
pub(crate) use rows;
pub(crate) use tasks;
pub(crate) use tasks_of_one_thread;

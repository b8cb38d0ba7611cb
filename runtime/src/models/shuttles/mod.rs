//! Shuttle's harnesses: the real code of the work-stealing mode, under many random schedules.
//!
//! `RUSTFLAGS="--cfg anteroom_shuttle" cargo test --release -p anteroom --features stealing --lib shuttle_`, or
//! `.ci/shuttle.sh 1000000` for so many schedules.
//!
//! # Problem
//! Loom tries every schedule, so that its models must be small: two or three threads and a few steps. What comes of four
//! workers, thirty tasks and a thousand steps is too much for it.
//!
//! # Idea
//! Shuttle tries some schedules of any program: half of them at random, half with random priorities that change in two places
//! (PCT, depth 3: a bug that needs three steps in a certain order is met with a known probability). Its threads are
//! switched at each access to what `sync.rs` gives out. All parts are the real ones, a worker's loop and its sleep, a guest's wait
//! and a handle's, but for the driver, in whose place stands a [`Driver`] of this file: a seat to sleep in, or none.
//!
//! What cannot be seen: an order of memory that is too weak, for shuttle's memory is that of one processor; loom sees that.
//!
//! # Time
//! It does not pass. A timed wait ends at a random moment, or, every other one, does not end by itself: who relies on the lookout
//! to find what somebody forgot to tell stands still, which is a failure.
//!
//! # To see it again
//! A failure prints a line for the environment: with `ANTEROOM_SHUTTLE=pct:<seed>:<schedules>` that harness runs these schedules
//! alone, of which the last fails. `ANTEROOM_SHUTTLE_SCHEDULES` is how many each harness runs, `ANTEROOM_SHUTTLE_SEED` where it
//! begins.
//!
//! # That it checks
//! [`canary`] seeds bugs by their names, each of which a harness must catch.
//!
//! # Bounds
//! A runtime's home is never given back, and each schedule makes a new one: see `.ci/shuttle.sh` for how many a process can run.
//!
//! # Read next
//! `rig.rs`, the parts; then a harness, say `tasks.rs`.

mod canary;
mod polls;
mod rig;
mod shutdown;
mod storm;
mod stuck;
mod tasks;

use std::cell::Cell;
use std::rc::Rc;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::clock::system_now;

/// How many schedules a harness runs when nobody says otherwise.
const SCHEDULES: u64 = 2_000;

/// How many schedules one seed is for: as many must run at most to see a failure again.
const BATCH: u64 = 250;

/// Of how many steps in a certain order the bugs are that PCT looks for.
const DEPTH: usize = 3;

/// More than any schedule here takes that goes on.
const STEPS_MAX: usize = 400_000;

/// What chooses who runs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chooser {
    Random,
    Pct,
}

/// Schedules that one seed stands for.
#[derive(Clone, Copy, Debug)]
struct Batch {
    chooser: Chooser,
    seed: u64,
    schedules: u64,
}

impl std::str::FromStr for Batch {
    type Err = String;

    /// `pct:<seed>:<schedules>`, or `random:...`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form pct:<seed>:<schedules>");
        let parts: Vec<&str> = text.split(':').collect();
        let [chooser, seed, schedules] = parts[..] else { return Err(wrong()) };
        let chooser = match chooser {
            "random" => Chooser::Random,
            "pct" => Chooser::Pct,
            _ => return Err(wrong()),
        };
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Batch { chooser, seed: number(seed)?, schedules: number(schedules)? })
    }
}

/// What a harness has run by now.
#[derive(Clone, Default)]
struct Progress {
    schedules: Rc<Cell<u64>>,
    steps: Rc<Cell<u64>>,
}

/// A scheduler that counts.
struct Counted<S> {
    inner: S,
    progress: Progress,
}

impl<S: Scheduler> Scheduler for Counted<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.inner.new_execution()?;
        self.progress.schedules.set(self.progress.schedules.get() + 1);
        Some(schedule)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.progress.steps.set(self.progress.steps.get() + 1);
        self.inner.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

impl Batch {
    /// Runs `program` under these schedules; says how to see it again, if one fails.
    fn run(self, name: &str, progress: &Progress, program: fn()) {
        /// Dropped when a schedule has failed.
        struct Failed<'a>(&'a str, Batch, u64, &'a Progress);

        impl Drop for Failed<'_> {
            fn drop(&mut self) {
                let Failed(name, Batch { chooser, seed, .. }, before, progress) = *self;
                let chooser = format!("{chooser:?}").to_lowercase();
                let schedules = progress.schedules.get() - before;
                eprintln!(
                    "{name} failed; to see it again: ANTEROOM_SHUTTLE={chooser}:{seed}:{schedules}, and run only {name}"
                );
            }
        }

        let mut config = Config::new();
        // Children that run in place lie on the stacks of their spawners.
        config.stack_size = 256 << 10;
        config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        let schedules = self.schedules as usize;
        let failed = Failed(name, self, progress.schedules.get(), progress);
        let counted = progress.clone();
        match self.chooser {
            Chooser::Random => {
                let inner = RandomScheduler::new_from_seed(self.seed, schedules);
                Runner::new(Counted { inner, progress: counted }, config).run(program);
            }
            Chooser::Pct => {
                let inner = PctScheduler::new_from_seed(self.seed, DEPTH, schedules);
                Runner::new(Counted { inner, progress: counted }, config).run(program);
            }
        }
        std::mem::forget(failed);
    }
}

/// Spreads a number's bits, so that seeds next to each other have nothing in common.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What the environment says.
fn told<T: std::str::FromStr<Err: std::fmt::Debug>>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error:?}")))
}

/// Runs `program` under as many schedules as the environment says, and prints what that took.
fn explore(name: &str, program: fn()) {
    let (progress, began) = (Progress::default(), system_now());
    match told::<Batch>("ANTEROOM_SHUTTLE") {
        Some(batch) => batch.run(name, &progress, program),
        None => {
            let schedules: u64 = told("ANTEROOM_SHUTTLE_SCHEDULES").unwrap_or(SCHEDULES);
            let start: u64 = told("ANTEROOM_SHUTTLE_SEED").unwrap_or(1);
            for number in 0..schedules.div_ceil(BATCH) {
                let chooser = if number % 2 == 0 { Chooser::Random } else { Chooser::Pct };
                let left = schedules - number * BATCH;
                let seed = mixed(mixed(start) ^ number);
                Batch { chooser, seed, schedules: left.min(BATCH) }.run(name, &progress, program);
            }
        }
    }
    let (schedules, steps) = (progress.schedules.get(), progress.steps.get());
    let seconds = began.elapsed().as_secs_f64();
    let rate = schedules as f64 / seconds;
    println!("shuttle {name}: {schedules} schedules, {steps} steps, {seconds:.1} s, {rate:.0} schedules/s");
}

/// A number below `below`, which belongs to the schedule.
fn pick(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

/// Whether something happens that does in so many of a hundred cases.
fn chance(percent: u32) -> bool {
    thread_rng().gen_ratio(percent, 100)
}

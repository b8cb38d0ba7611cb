//! The rows of the limits that are made of semaphores, or stand beside them: by number, by key, by memory, by rate.

use std::rc::Rc;

use anteroom_limiter::{
    All, Keyed, Limiter, LocalSemaphore, MemoryBudget, Paced, PacedError, Rate, RateLimit,
};

use super::*;

/// What is full when it comes and has room after its first poll; then nothing is held and nobody waits.
async fn taken<F: Future>(
    step: &Step,
    held: impl Sized,
    acquire: F,
    left: impl Fn() -> (usize, usize),
) -> bool {
    let mut held = Some(held);
    let output = step.run(acquire, |_| drop(held.take())).await;
    let done = output.is_some();
    drop((output, held));
    assert_eq!(left(), (0, 0), "{step:?}: waiting, and in use");
    done
}

pub(super) fn permit_exchanges() {
    each_step(2, Runtime::builder(), async |step| {
        let semaphore = Semaphore::new(3);
        let mut held = Some(semaphore.try_acquire_many(2).unwrap());
        let mut permit = semaphore.try_acquire().unwrap();
        let dropped = step.dropped();
        let done = step.run(permit.exchange(2), |_| drop(held.take())).await.is_some();
        let was_polled = done || step.dropped() > dropped;
        assert_eq!(permit.weight(), if done { 2 } else { usize::from(!was_polled) }, "{step:?}");
        drop(held);
        assert_eq!((semaphore.waiting(), semaphore.in_use()), (0, permit.weight()), "{step:?}");
        drop(permit);
        assert_eq!(semaphore.acquire_many(3).await.unwrap().weight(), 3);
        done
    });
}

pub(super) fn memory_exchanges() {
    each_step(2, one_place(), async |step| {
        let budget = MemoryBudget::with_gauge(1 << 20, || None);
        let mut held = Some(budget.try_acquire(800 << 10).unwrap());
        let mut permit = budget.try_acquire(4 << 10).unwrap();
        let dropped = step.dropped();
        let done = step.run(permit.exchange(500 << 10), |_| drop(held.take())).await.is_some();
        let was_polled = done || step.dropped() > dropped;
        let expected = if done { 500 << 10 } else { u64::from(!was_polled) * (4 << 10) };
        assert_eq!(permit.bytes(), expected, "{step:?}");
        drop(held);
        assert_eq!((budget.waiting(), budget.in_use()), (0, expected), "{step:?}");
        drop(permit);
        assert!(budget.try_acquire(800 << 10).is_ok());
        done
    });
}

pub(super) fn all_acquire() {
    each_step(2, one_place(), async |step| {
        // Both orders: of one it waits for the first, of the other for the second, with a permit of the first in hand.
        let [a, b] = &[Semaphore::new(2), Semaphore::new(2)];
        let left = || (a.waiting() + b.waiting(), a.in_use() + b.in_use());
        let first = taken(step, a.try_acquire_many(2), All((a, (b, 2))).acquire(), left).await;
        let second = taken(step, b.try_acquire_many(2), All((a, (b, 2))).acquire(), left).await;
        assert!(All(((a, 2), (b, 2))).try_acquire().is_ok());
        first && second
    });
}

pub(super) fn keyed_acquire() {
    each_step(2, one_place(), async |step| {
        let hosts = Keyed::new(1).max_keys(1);
        let held = hosts.try_acquire("a");
        let left = || (0, hosts.len());
        let done = taken(step, held, hosts.acquire("a"), left).await;
        assert!(hosts.try_acquire("b").is_ok(), "the key is forgotten, and its place free");
        done
    });
}

/// A leaf of two and its root of two; which of them is full differs.
async fn of_a_tree<F: Future>(step: &Step, acquire: impl Fn(&Limiter) -> F) -> bool {
    let mut done = true;
    for is_root_full in [false, true] {
        let root = Limiter::new(2);
        let (leaf, other) = (root.child(2), root.child(2));
        let held = if is_root_full { &other } else { &leaf }.try_acquire_many(2);
        let left = || {
            let levels = [root.snapshot(), leaf.snapshot(), other.snapshot()];
            (levels.iter().map(|level| level.waiting).sum(), levels.iter().map(|level| level.in_use).sum())
        };
        done &= taken(step, held, acquire(&leaf), left).await;
        assert!(leaf.try_acquire_many(2).is_ok());
    }
    done
}

pub(super) fn limiter_acquire() {
    each_step(2, one_place(), async |step| of_a_tree(step, Limiter::acquire).await);
}

pub(super) fn limiter_acquire_many() {
    each_step(2, one_place(), async |step| of_a_tree(step, |leaf| leaf.acquire_many(2)).await);
}

pub(super) fn limiter_admits() {
    each_step(2, one_place(), async |step| of_a_tree(step, |leaf| leaf.admit(async {})).await);
}

pub(super) fn what_was_admitted_runs() {
    each_step(1, one_place(), async |step| {
        let limiter = Limiter::new(2);
        let gate = Gate::new();
        let admitted = limiter.try_acquire_many(2).unwrap().attach(gate.wait());
        let done = step.run(admitted, |_| gate.open()).await.is_some();
        assert_eq!(limiter.snapshot().in_use, 0, "{step:?}");
        done
    });
}

async fn of_one_thread<F: Future>(step: &Step, acquire: impl Fn(&Rc<LocalSemaphore>) -> F) -> bool {
    let semaphore = Rc::new(LocalSemaphore::new(2));
    let held = semaphore.acquire_many_owned(2).await;
    let left = || (semaphore.snapshot().waiting, semaphore.snapshot().in_use);
    taken(step, held, acquire(&semaphore), left).await
}

pub(super) fn local_acquire() {
    each_step(2, one_place(), async |step| {
        of_one_thread(step, |semaphore| {
            let semaphore = semaphore.clone();
            async move { drop(semaphore.acquire().await.unwrap()) }
        })
        .await
    });
}

pub(super) fn local_acquire_many() {
    each_step(2, one_place(), async |step| {
        of_one_thread(step, |semaphore| {
            let semaphore = semaphore.clone();
            async move { drop(semaphore.acquire_many(2).await.unwrap()) }
        })
        .await
    });
}

pub(super) fn local_acquire_many_owned() {
    each_step(2, one_place(), async |step| {
        of_one_thread(step, |semaphore| semaphore.acquire_many_owned(2)).await
    });
}

/// Nothing is measured, so what is declared alone counts.
async fn of_a_budget<F: Future>(step: &Step, acquire: impl Fn(&MemoryBudget) -> F) -> bool {
    let budget = MemoryBudget::with_gauge(1 << 20, || None);
    let held = budget.try_acquire(1 << 20);
    let left = || (budget.waiting(), budget.in_use() as usize);
    let done = taken(step, held, acquire(&budget), left).await;
    assert!(budget.try_acquire(1 << 20).is_ok());
    done
}

pub(super) fn memory_acquire() {
    each_step(2, one_place(), async |step| of_a_budget(step, |budget| budget.acquire(5_000)).await);
}

pub(super) fn memory_acquire_typical() {
    each_step(2, one_place(), async |step| of_a_budget(step, MemoryBudget::acquire_typical).await);
}

/// One an hour, and this hour's is gone.
fn one_an_hour() -> RateLimit {
    let rate = RateLimit::new(Rate::per_hour(1), time::now());
    rate.check(time::now()).unwrap();
    rate
}

/// The slot of the one that was given up, an hour after `start`, is somebody else's; of the one that was used, the next is.
fn assert_slot(rate: &RateLimit, start: Instant, done: bool, step: &Step) {
    assert_eq!(metrics().timers, 0, "{step:?}");
    let next = rate.reserve(time::now()).unwrap().at();
    assert_eq!(next - start, if done { 2 * HOUR } else { HOUR }, "{step:?}, done: {done}");
}

/// Waits for an hour, unless it is given up.
async fn slot<T>(step: &Step, wait: impl AsyncFnOnce(&RateLimit) -> T) -> bool {
    let (start, rate) = (time::now(), one_an_hour());
    let done = step.run(wait(&rate), |_| {}).await.is_some();
    assert_slot(&rate, start, done, step);
    done
}

pub(super) fn rate_limit_waits() {
    each_step(2, paused(), async |step| slot(step, async |rate| rate.wait(&time::Timer).await).await);
    each_step(2, paused(), async |step| slot(step, async |rate| rate.wait_many(1, &time::Timer).await).await);
}

/// A place that somebody has, and gives back after the first poll. The slot is due.
async fn paced_place<T>(
    step: &Step,
    acquire: impl AsyncFnOnce(&Paced<time::Timer>) -> Result<T, PacedError>,
) -> bool {
    let rate = RateLimit::new(Rate::per_hour(1), time::now());
    let paced = Paced::new(Arc::new(Semaphore::new(1)), rate, time::Timer);
    let mut held = Some(paced.semaphore().try_acquire_owned().unwrap());
    let done = step.run(acquire(&paced), |_| drop(held.take())).await.is_some();
    drop(held);
    assert_eq!((paced.semaphore().waiting(), paced.semaphore().in_use()), (0, 0), "{step:?}");
    assert_eq!(paced.rate().check(time::now()).is_ok(), !done, "{step:?}: who has no place takes no slot");
    done
}

pub(super) fn paced_waits_for_a_place() {
    let paced = || paused().max_tasks(1);
    each_step(2, paced(), async |step| {
        paced_place(step, async |paced| paced.acquire().await.map(drop)).await
    });
    each_step(2, paced(), async |step| paced_place(step, Paced::acquire_owned).await);
}

/// A place, and a slot in an hour.
async fn paced_slot<T>(
    step: &Step,
    acquire: impl AsyncFnOnce(&Paced<time::Timer>) -> Result<T, PacedError>,
) -> bool {
    let start = time::now();
    let paced = Paced::new(Arc::new(Semaphore::new(1)), one_an_hour(), time::Timer);
    let done = step.run(acquire(&paced), |_| {}).await.is_some();
    assert_eq!((paced.semaphore().waiting(), paced.semaphore().in_use()), (0, 0), "{step:?}");
    assert_slot(paced.rate(), start, done, step);
    done
}

pub(super) fn paced_waits_for_a_slot() {
    each_step(2, paused(), async |step| {
        paced_slot(step, async |paced| paced.acquire().await.map(drop)).await
    });
    each_step(2, paused(), async |step| paced_slot(step, Paced::acquire_owned).await);
}

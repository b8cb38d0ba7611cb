//! A spawn with a time to wait: it bounds the wait for a place and nothing else, loses nothing, and disturbs nobody.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anteroom::time::{Sleep, advance, now, sleep};
use anteroom::{
    Handle, Runtime, SpawnError, SpawnTimeoutError, TaskGroup, metrics, reserve, spawn, spawn_local,
    spawn_service, spawn_with, try_spawn, waiters, yield_now,
};
use anteroom_tests::{
    Drops, Gate, Hooks, Unordered, beside, elsewhere, look_around, must_end, park_on, poll_once, poll_with,
};

const TICK: Duration = Duration::from_micros(100);
const SEC: Duration = Duration::from_secs(1);

fn paused(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).paused_clock(true).build().unwrap()
}

/// A future that counts how often one like it was polled, and holds a value that must come back as it was.
struct Counted {
    polls: Arc<AtomicUsize>,
    value: [u64; 10],
    _pinned: std::marker::PhantomPinned,
}

impl Counted {
    fn new(polls: &Arc<AtomicUsize>, value: u64) -> Self {
        Self { polls: polls.clone(), value: [value; 10], _pinned: std::marker::PhantomPinned }
    }
}

impl Future for Counted {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<u64> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        assert!(self.value.iter().all(|&value| value == self.value[0]));
        Poll::Ready(self.value[0])
    }
}

/// The time is over, and nothing is left of the wait.
fn assert_left(start: Instant, passed: Duration) {
    assert_eq!(now() - start, passed);
    let metrics = metrics();
    assert_eq!((metrics.waiting, metrics.timers, metrics.in_place), (0, 0, 0));
}

#[test]
fn who_waits_in_vain_gets_the_future_back_unpolled_and_intact() {
    paused(1).block_on(async {
        let _holder = reserve().await.unwrap();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = |value| Counted::new(&polls, value);
        for rounds in 1..4 {
            let start = now();
            let error = spawn(counted(1)).timeout(SEC * rounds).await.unwrap_err();
            assert_left(start, SEC * rounds);
            let local = spawn_local(counted(2)).timeout(SEC).await.unwrap_err();
            let made = counted(3);
            let with = spawn_with(move || made).timeout(SEC).await.unwrap_err();
            let by_handle = Handle::current().unwrap().spawn(counted(4)).timeout(SEC).await.unwrap_err();
            let heap = spawn(counted(5)).heap(1_000).deadline(now() + SEC).await.unwrap_err();
            assert_left(start, SEC * (rounds + 4));
            assert!(error.is_timed_out() && local.is_timed_out() && heap.is_timed_out());
            assert_eq!((with.reason(), by_handle.reason()), (SpawnError::TimedOut, SpawnError::TimedOut));
            assert_eq!(polls.swap(0, Ordering::SeqCst), 0);
            // And it is as good as new.
            assert_eq!(error.into_future().unwrap().await, 1);
            assert_eq!(local.into_future().unwrap().await, 2);
            assert_eq!(with.into_future().unwrap()().await, 3);
            assert_eq!(by_handle.into_future().unwrap().await, 4);
            assert_eq!(heap.into_future().unwrap().await, 5);
            assert_eq!(polls.swap(0, Ordering::SeqCst), 5);
        }
    });
}

#[test]
fn what_comes_back_and_is_not_wanted_is_dropped_once() {
    paused(1).block_on(async {
        let holder = reserve().await.unwrap();
        let drops = Drops::new();
        let job = || {
            let tracked = drops.track();
            async move { drop(tracked) }
        };
        let error = spawn(job()).timeout(SEC).await.unwrap_err();
        assert_eq!(drops.count(), 0);
        let future = error.into_future();
        assert_eq!(drops.count(), 0);
        drop(future);
        assert_eq!(drops.count(), 1);
        drop(spawn(job()).timeout(SEC).await);
        assert_eq!(drops.count(), 2);
        assert!(spawn(job()).timeout(SEC).join().await.unwrap_err().to_string().contains("no place in time"));
        assert_eq!(drops.count(), 3);
        // Where the frame lives on, it holds nothing any more.
        let mut frame = pin!(spawn(job()).timeout(SEC));
        assert!(frame.as_mut().await.unwrap_err().into_future().is_some());
        assert_eq!(drops.count(), 4);
        assert!(frame.as_mut().withdraw().is_none());
        drop(holder);
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(frame.as_mut()))).is_err(), "it was ready");
        assert_eq!((metrics().tasks_live, metrics().timers), (0, 0));
    });
}

#[test]
fn a_place_in_time_is_given_and_takes_the_timer_away() {
    paused(1).block_on(async {
        let start = now();
        // With room, there is never a timer.
        let mut at_once = pin!(spawn(async { 1 }).timeout(SEC));
        let Poll::Ready(Ok(task)) = poll_once(at_once.as_mut()) else { panic!("there is room") };
        assert_eq!(metrics().timers, 0);
        assert_eq!(task.await.unwrap(), 1);

        let holder = reserve().await.unwrap();
        let mut frame = Box::pin(spawn(async { sleep(10 * SEC).await }).timeout(SEC));
        assert!(poll_once(frame.as_mut()).is_pending());
        assert_eq!((metrics().waiting, metrics().timers), (1, 1));
        advance(SEC - TICK).await;
        drop(holder);
        let task = frame.as_mut().await.unwrap();
        assert_eq!(metrics().timers, 0, "its own is gone though the frame is there");
        yield_now().await;
        assert_eq!(metrics().timers, 1, "the task's");
        // The work is not bounded.
        task.await.unwrap();
        assert_eq!(now() - start, SEC - TICK + 10 * SEC);
        drop(frame);

        // And joined in one.
        let task = spawn(async { (sleep(10 * SEC).await, 7).1 }).timeout(SEC).join();
        assert_eq!(task.await.unwrap(), 7);
        assert_eq!((metrics().tasks_live, metrics().timers), (0, 0));
    });
}

#[test]
fn a_place_that_was_granted_wins_over_a_time_that_has_passed() {
    paused(1).block_on(async {
        let holder = reserve().await.unwrap();
        let mut first = Box::pin(spawn(async { 1 }).timeout(SEC));
        assert!(poll_once(first.as_mut()).is_pending());
        drop(holder);
        advance(2 * SEC).await;
        let Poll::Ready(Ok(task)) = poll_once(first.as_mut()) else { panic!("it was granted") };
        assert_eq!(task.await.unwrap(), 1);

        let holder = spawn(pending::<()>()).await.unwrap();
        let mut seat = Box::pin(reserve().timeout(SEC));
        assert!(poll_once(seat.as_mut()).is_pending());
        advance(2 * SEC).await;
        holder.abort();
        look_around().await;
        let Poll::Ready(Ok(place)) = poll_once(seat.as_mut()) else { panic!("it was granted") };
        assert_eq!((metrics().tasks_live, metrics().timers), (1, 0));
        drop(place);

        // Granted, and dropped before it was told: its task never was anybody's.
        let holder = reserve().await.unwrap();
        let mut dropped = Box::pin(spawn(pending::<()>()).timeout(SEC));
        assert!(poll_once(dropped.as_mut()).is_pending());
        drop(holder);
        drop(dropped);
        yield_now().await;
        assert_eq!((metrics().tasks_live, metrics().timers), (0, 0));
    });
}

#[test]
fn a_place_that_is_granted_between_the_looks_at_the_line_and_at_the_clock_wins() {
    /// Polls `frame`, lets its time pass, and polls it with another waker: the drop of the old one, which is the caller's code
    /// and the last thing that the look at the line does, frees the place.
    async fn told<F: Future>(frame: F) -> F::Output {
        let mut holder = Some(reserve().await.unwrap());
        let mut frame = pin!(frame);
        let (old, hooks) = Hooks::new();
        assert!(poll_with(frame.as_mut(), &old).is_pending());
        advance(2 * SEC).await;
        assert_eq!((metrics().tasks_live, metrics().waiting), (1, 1));
        hooks.on_drop(move || drop(holder.take()));
        let Poll::Ready(told) = poll_once(frame.as_mut()) else { panic!("its time is over") };
        hooks.clear();
        told
    }
    paused(1).block_on(async {
        assert_eq!(told(spawn(async { 1 }).timeout(SEC)).await.unwrap().await.unwrap(), 1);
        assert_eq!(told(spawn_local(async { 2 }).timeout(SEC)).await.unwrap().await.unwrap(), 2);
        assert_eq!(told(spawn_with(|| async { 3 }).timeout(SEC)).await.unwrap().await.unwrap(), 3);
        let place = told(reserve().timeout(SEC)).await.unwrap();
        assert_eq!(metrics().tasks_live, 1);
        assert_eq!(place.spawn(async { 4 }).unwrap().await.unwrap(), 4);
        let group = TaskGroup::with_limit(1);
        told(group.spawn(async { 5 }).timeout(SEC)).await.unwrap();
        assert_eq!(group.join_all().await.unwrap(), [5]);
        assert_eq!((metrics().tasks_live, metrics().waiting, metrics().timers), (0, 0, 0));
    });
}

#[test]
fn no_time_at_all_is_one_try() {
    paused(1).block_on(async {
        advance(SEC).await;
        let past = now().checked_sub(SEC / 2).unwrap();
        let start = now();
        for _ in 0..3 {
            let task = spawn(pending::<()>()).timeout(Duration::ZERO).await.expect("there is room");
            for deadline in [past, now()] {
                let mut late = pin!(spawn(async {}).deadline(deadline));
                let polled = poll_once(late.as_mut());
                assert!(matches!(&polled, Poll::Ready(Err(error)) if error.is_timed_out()), "{polled:?}");
            }
            assert!(spawn(async {}).timeout(Duration::ZERO).await.unwrap_err().is_timed_out());
            assert_eq!(reserve().deadline(past).await.unwrap_err(), SpawnError::TimedOut);
            assert_left(start, Duration::ZERO);
            task.abort();
            yield_now().await;
            drop(reserve().deadline(past).await.expect("there is room"));
        }
        // And no time that a clock could hold is for ever.
        let holder = reserve().await.unwrap();
        let mut patient = Box::pin(spawn(async { 7 }).timeout(Duration::MAX));
        assert!(poll_once(patient.as_mut()).is_pending());
        advance(3_600 * SEC).await;
        assert!(poll_once(patient.as_mut()).is_pending());
        drop(holder);
        assert_eq!(patient.await.unwrap().await.unwrap(), 7);
    });
}

#[test]
fn those_behind_keep_their_order_when_one_times_out() {
    // Each of five in turn, and two of them, leave in the middle.
    for leaves in 1..32_u32 {
        paused(1).block_on(async {
            let holder = reserve().await.unwrap();
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut frames: Unordered<_> = (0..5)
                .map(|n| {
                    let order = order.clone();
                    let patience = if leaves & 1 << n == 0 { 10 * SEC } else { SEC + TICK * n };
                    spawn(async move { order.lock().unwrap().push(n) }).timeout(patience)
                })
                .collect();
            let mut late = 0;
            let mut holder = Some(holder);
            while let Some((n, result)) = frames.next().await {
                if let Err(error) = result {
                    assert!(error.is_timed_out() && leaves & 1 << n != 0);
                    late += 1;
                    if late == leaves.count_ones() {
                        assert!(order.lock().unwrap().is_empty());
                        drop(holder.take());
                    }
                }
            }
            look_around().await;
            let expected: Vec<u32> = (0..5).filter(|n| leaves & 1 << n == 0).collect();
            assert_eq!(*order.lock().unwrap(), expected, "{leaves:b}");
            assert_eq!((metrics().tasks_live, metrics().waiting, metrics().timers), (0, 0, 0));
        });
    }
}

#[test]
fn who_asks_for_too_much_lets_those_behind_it_in_when_its_time_is_over() {
    let runtime = Runtime::builder().max_tasks(10).max_task_bytes(10_000).paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let start = now();
        let _holder = spawn(pending::<()>()).heap(5_000).await.unwrap();
        let mut large = Box::pin(spawn(async {}).heap(8_000).timeout(SEC));
        assert!(poll_once(large.as_mut()).is_pending());
        let mut small = Box::pin(spawn(pending::<()>()).heap(100));
        assert!(poll_once(small.as_mut()).is_pending(), "there is room, and it is not its turn");
        assert!(large.await.unwrap_err().is_timed_out());
        assert!(poll_once(small.as_mut()).is_ready());
        assert_left(start, SEC);
    });
}

#[test]
fn other_refusals_come_at_once_and_with_the_future() {
    let runtime =
        Runtime::builder().max_tasks(1).max_waiting(1).max_task_bytes(10_000).paused_clock(true).build();
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        let start = now();
        let huge = spawn(async { 1 }).heap(20_000).timeout(SEC).await.unwrap_err();
        assert_eq!((huge.reason(), huge.is_timed_out()), (SpawnError::ExceedsLimit, false));
        assert_eq!(huge.into_future().unwrap().await, 1);

        let _holder = spawn(pending::<()>()).await.unwrap();
        let mut waits = Box::pin(spawn(async { 2 }).timeout(SEC));
        assert!(poll_once(waits.as_mut()).is_pending());
        let second = spawn(async { 3 }).timeout(SEC).await.unwrap_err();
        assert_eq!(second.reason(), SpawnError::QueueFull);
        assert_eq!(second.into_future().unwrap().await, 3);
        assert_eq!(metrics().timers, 1);

        Handle::current().unwrap().close();
        let closed = waits.await.unwrap_err();
        assert_eq!(closed.reason(), SpawnError::Closed);
        assert_eq!(closed.into_future().unwrap().await, 2);
        assert_eq!(reserve().timeout(SEC).await.unwrap_err(), SpawnError::Closed);
        assert_left(start, Duration::ZERO);
    });
}

#[test]
fn an_error_becomes_what_callers_hold() {
    async fn short() -> Result<(), SpawnError> {
        spawn(async {}).timeout(Duration::ZERO).await?;
        Ok(())
    }
    async fn boxed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        spawn(async {}).timeout(Duration::ZERO).await?;
        Ok(())
    }
    paused(1).block_on(async {
        let _holder = reserve().await.unwrap();
        assert_eq!(short().await, Err(SpawnError::TimedOut));
        assert_eq!(boxed().await.unwrap_err().to_string(), "there was no place in time");
        let error: SpawnTimeoutError<_> = spawn(async {}).timeout(SEC).await.unwrap_err();
        assert_eq!(format!("{error:?}"), "SpawnTimeoutError(TimedOut)");
    });
}

#[test]
fn a_task_that_waits_with_a_time_is_not_stuck_until_it_is_over() {
    must_end(|| {
        // Alone in a full runtime, it could only be helped by a child in place; it helps itself.
        let runtime = paused(1);
        let (late, in_place) = runtime.block_on(async {
            let task = spawn(async {
                let start = now();
                let late = spawn(async { metrics().in_place }).timeout(SEC).await.unwrap_err();
                assert_eq!((now() - start, metrics().in_place), (SEC, 0));
                // Without a time, it is helped, and with one that ended.
                let in_place = spawn(late.into_future().unwrap()).await.unwrap().await.unwrap();
                (now() - start, in_place)
            });
            task.await.unwrap().await.unwrap()
        });
        assert_eq!((late, in_place), (SEC, 1));
        assert_eq!((runtime.metrics().tasks_live, runtime.metrics().timers), (0, 0));

        // Of two, the one that waits for ever is helped as soon as nobody waits for a time.
        let runtime = paused(2);
        runtime.block_on(async {
            let start = now();
            let gate = Gate::new();
            let (first, second) = (gate.wait(), gate.wait());
            let timed = spawn(async move {
                first.await;
                let late = spawn(async {}).timeout(SEC).await.is_err();
                let passed = now() - start;
                // It holds its place, and waits for room like the other.
                spawn(async {}).await.unwrap();
                (late, passed)
            });
            let timed = timed.await.unwrap();
            let patient = spawn(async move {
                second.await;
                spawn(async { metrics().in_place }).await.unwrap().await.unwrap();
                now() - start
            });
            let patient = patient.await.unwrap();
            gate.open();
            assert_eq!(timed.await.unwrap(), (true, SEC));
            assert_eq!(patient.await.unwrap(), SEC);
        });
    });
}

#[test]
fn a_child_that_runs_in_place_has_its_place_and_all_the_time() {
    must_end(|| {
        let runtime = paused(1);
        runtime.block_on(async {
            let task = spawn(async {
                let start = now();
                let child = spawn(async { (sleep(10 * SEC).await, metrics().in_place).1 });
                let child = child.or_in_place().timeout(SEC);
                let in_place = child.join().await.unwrap();
                (now() - start, in_place)
            });
            assert_eq!(task.await.unwrap().await.unwrap(), (10 * SEC, 1));
            assert_left(now(), Duration::ZERO);
        });

        // One that waits already, with its timer set, and whose task does not show it: what it was polled for last is a second
        // spawn, which waits for room alone. It is offered to run its child, takes the offer, and its timer goes.
        for by_group in [false, true] {
            let runtime = paused(1);
            runtime.block_on(async {
                let (gate, ended) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
                let (opened, to_end) = (gate.wait(), ended.clone());
                let task = spawn(async move {
                    let start = now();
                    let child = async move {
                        sleep(10 * SEC).await;
                        to_end.fetch_add(metrics().in_place, Ordering::SeqCst);
                    };
                    let timed: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                        if by_group {
                            let group = TaskGroup::new();
                            group.spawn(child).timeout(SEC).await.unwrap();
                            assert_eq!(group.join_all().await.unwrap(), [()]);
                        } else {
                            spawn(child).timeout(SEC).await.unwrap().await.unwrap();
                        }
                    });
                    let plain = Box::pin(async move {
                        opened.await;
                        spawn(async {}).await.unwrap().await.unwrap();
                    });
                    let mut both: Unordered<Pin<Box<dyn Future<Output = ()> + Send>>> =
                        [timed, plain].into_iter().collect();
                    while both.next().await.is_some() {}
                    now() - start
                });
                let task = task.await.unwrap();
                yield_now().await;
                assert_eq!((metrics().waiting, metrics().timers), (1, 1));
                gate.open();
                assert_eq!(task.await.unwrap(), 10 * SEC);
                assert_eq!(ended.load(Ordering::SeqCst), 1, "it was not cut short, and ran in place");
                assert_left(now(), Duration::ZERO);
            });
        }
    });
}

#[test]
fn the_place_of_a_group_and_of_the_runtime_must_both_come_in_time() {
    must_end(|| {
        // In the group's line.
        paused(10).block_on(async {
            let start = now();
            let polls = Arc::new(AtomicUsize::new(0));
            let group = TaskGroup::with_limit(1);
            let gate = Gate::new();
            let opened = gate.wait();
            group.spawn(async move { (opened.await, 1).1 }).await.unwrap();
            let error = group.spawn(Counted::new(&polls, 2)).timeout(SEC).await.unwrap_err();
            assert_left(start, SEC);
            let handle = group.handle();
            let local = handle.spawn_local(Counted::new(&polls, 3)).timeout(SEC).await.unwrap_err();
            assert_left(start, 2 * SEC);
            assert!(error.is_timed_out() && local.is_timed_out());
            assert_eq!(polls.load(Ordering::SeqCst), 0);
            assert_eq!(error.into_future().unwrap().await + local.into_future().unwrap().await, 5);
            // Who is behind comes in its turn.
            let mut second = Box::pin(group.spawn(async { 2 }).timeout(SEC));
            let mut third = Box::pin(group.spawn(async { 3 }).timeout(3 * SEC));
            assert!(poll_once(second.as_mut()).is_pending() && poll_once(third.as_mut()).is_pending());
            assert!(second.await.unwrap_err().is_timed_out());
            gate.open();
            third.await.unwrap();
            assert_eq!(group.join_all().await.unwrap(), [1, 3]);
            assert_left(start, 3 * SEC);
        });
        // In the runtime's line, with a place of the group: that comes back.
        paused(1).block_on(async {
            let start = now();
            let holder = reserve().await.unwrap();
            let group = TaskGroup::with_limit(1);
            let polls = Arc::new(AtomicUsize::new(0));
            let mut first = Box::pin(group.spawn(Counted::new(&polls, 1)).timeout(SEC));
            assert!(poll_once(first.as_mut()).is_pending());
            let mut second = Box::pin(group.spawn(async { 2 }).timeout(2 * SEC));
            assert!(poll_once(second.as_mut()).is_pending());
            assert_eq!(metrics().waiting, 1);
            let error = first.as_mut().await.unwrap_err();
            assert_eq!(error.into_future().unwrap().value, [1; 10]);
            assert!(poll_once(second.as_mut()).is_pending());
            assert_eq!(
                metrics().waiting,
                1,
                "it has got the group's place while the frame of the first is there"
            );
            drop(first);
            assert_eq!(group.len(), 0);
            drop(holder);
            second.await.unwrap();
            assert_eq!(group.join_all().await.unwrap(), [2]);
            assert_left(start, SEC);
            assert_eq!((polls.load(Ordering::SeqCst), metrics().tasks_live), (0, 0));
            // With room for both there is no timer.
            let mut at_once = pin!(group.spawn(async { 3 }).deadline(start));
            assert!(matches!(poll_once(at_once.as_mut()), Poll::Ready(Ok(()))));
            assert_eq!(metrics().timers, 0);
        });
    });
}

#[test]
fn a_group_that_ends_meanwhile_gives_the_future_back() {
    paused(1).block_on(async {
        let holder = reserve().await.unwrap();
        let start = now();
        let group = TaskGroup::with_limit(1);
        let handle = group.handle();
        let mut in_the_runtime_s = Box::pin(handle.spawn(ready(1)).timeout(SEC));
        let mut in_the_group_s = Box::pin(handle.spawn(ready(2)).timeout(SEC));
        assert!(poll_once(in_the_runtime_s.as_mut()).is_pending());
        assert!(poll_once(in_the_group_s.as_mut()).is_pending());
        drop(group);
        for (frame, value) in [(in_the_runtime_s, 1), (in_the_group_s, 2)] {
            let error = pin_any(frame).await;
            assert_eq!(error, (SpawnError::Closed, Some(value)));
        }
        assert_left(start, Duration::ZERO);
        drop(holder);
    });
}

/// The reason of what must fail, and the output of what came back.
async fn pin_any<F: Future<Output = u32>>(
    frame: impl Future<Output = Result<(), SpawnTimeoutError<F>>>,
) -> (SpawnError, Option<u32>) {
    let error = frame.await.unwrap_err();
    let reason = error.reason();
    match error.into_future() {
        Some(future) => (reason, Some(future.await)),
        None => (reason, None),
    }
}

#[test]
fn a_handle_s_spawn_is_timed_by_the_runtime_that_awaits_it() {
    must_end(|| {
        let full = paused(1);
        let handle = full.handle();
        let holder = full.block_on(async { reserve().await.unwrap() });
        let polls = Arc::new(AtomicUsize::new(0));
        // Nobody runs the other runtime: it does not answer, and the clock here goes on by itself.
        let frame = elsewhere(|| {
            let other = paused(1);
            other.block_on(async {
                let start = now();
                let late = handle.spawn(Counted::new(&polls, 1)).timeout(3_600 * SEC).await.unwrap_err();
                assert_eq!((late.reason(), now() - start), (SpawnError::TimedOut, 3_600 * SEC));
                assert_eq!(metrics().timers, 0);
                late
            })
        });
        let frame = frame.into_future().unwrap();
        assert_eq!(polls.load(Ordering::SeqCst), 0);
        full.block_on(async {
            look_around().await;
            assert!(waiters().is_empty(), "it has left the line");
            drop(holder);
            assert_eq!(spawn(frame).timeout(SEC).await.unwrap().await.unwrap(), 1);
            // It answers in time.
            let output = beside(move || {
                let other = Runtime::new().unwrap();
                other.block_on(async {
                    let task = handle.spawn(async { 2 }).timeout(60 * SEC).await.unwrap();
                    assert_eq!(metrics().timers, 0);
                    task.await.unwrap()
                })
            });
            assert_eq!(output.await, 2);
        });
        drop(full);
        // It is gone.
        paused(1).block_on(async {
            let gone = handle.spawn(async { 3 }).timeout(SEC).await.unwrap_err();
            assert_eq!(gone.reason(), SpawnError::Closed);
            assert_eq!(gone.into_future().unwrap().await, 3);
        });
    });
}

/// A frame may be polled on inside another runtime, on the very thread whose line it stands in.
#[test]
fn what_waits_in_one_runtime_may_run_out_of_time_inside_another() {
    must_end(|| {
        let (outer, inner) = (paused(1), paused(1));
        outer.block_on(async {
            let holder = reserve().await.unwrap();
            let mut frame = pin!(spawn(async { 1 }).timeout(3_600 * SEC));
            let mut place = pin!(reserve().timeout(3_600 * SEC));
            let mut granted = pin!(spawn(async { 2 }).timeout(3_600 * SEC));
            let mut behind = pin!(spawn(async { 3 }));
            assert!(poll_once(frame.as_mut()).is_pending() && poll_once(place.as_mut()).is_pending());
            assert!(poll_once(granted.as_mut()).is_pending() && poll_once(behind.as_mut()).is_pending());

            let late = inner.block_on(frame).unwrap_err();
            assert_eq!(late.reason(), SpawnError::TimedOut);
            assert_eq!(late.into_future().unwrap().await, 1);
            assert_eq!(inner.block_on(place).unwrap_err(), SpawnError::TimedOut);
            look_around().await; // the outer hears of it as if from another thread
            assert_eq!((metrics().waiting, metrics().timers), (2, 1));
            // Whoever is let in here learns of it there.
            drop(holder);
            let task = inner.block_on(granted).unwrap();
            assert_eq!(task.await.unwrap(), 2);
            assert_eq!(behind.await.unwrap().await.unwrap(), 3);
            look_around().await;
            assert_eq!((metrics().waiting, metrics().timers, metrics().tasks_live), (0, 0, 0));
        });
        inner.block_on(async { assert_eq!((metrics().timers, metrics().tasks_live), (0, 0)) });
    });
}

#[test]
fn without_a_runtime_a_time_panics_before_anything_is_asked_for_and_says_what_to_do() {
    let runtime = paused(1);
    let handle = runtime.handle();
    let drops = Drops::new();
    let tracked = drops.track();
    let by_handle = handle.spawn(async move { drop(tracked) }).timeout(SEC);
    let panic = catch_unwind(AssertUnwindSafe(|| elsewhere(|| park_on(by_handle)))).unwrap_err();
    let text = panic.downcast_ref::<&str>().unwrap();
    assert!(text.contains("outside a runtime") && text.contains("Handle::spawn_wait_timeout"), "{text}");
    assert_eq!(drops.count(), 1);
    runtime.block_on(async {
        assert!(waiters().is_empty());
        let _room = reserve().await.unwrap();
    });
    assert_eq!(runtime.metrics().tasks_live, 0);
    for own in [
        catch_unwind(|| drop(park_on(spawn(async {}).timeout(SEC)))),
        catch_unwind(|| drop(park_on(reserve().timeout(SEC)))),
    ] {
        assert!(own.unwrap_err().downcast_ref::<&str>().unwrap().contains("outside a runtime"));
    }
}

#[test]
fn a_thread_waits_for_so_long_and_has_its_future_back() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).build().unwrap();
        let handle = runtime.handle();
        let polls = Arc::new(AtomicUsize::new(0));
        let holder = runtime.block_on(async { reserve().await.unwrap() });
        // Nobody runs it, then it is full, then there is room, then it is gone.
        let wait = |timeout| elsewhere(|| handle.spawn_wait_timeout(Counted::new(&polls, 7), timeout));
        for timeout in [Duration::ZERO, 2 * TICK, 20 * TICK] {
            let start = Instant::now();
            let late = wait(timeout).unwrap_err();
            assert!(late.is_timed_out() && start.elapsed() >= timeout);
            assert_eq!(park_on(late.into_future().unwrap()), 7);
        }
        polls.store(0, Ordering::SeqCst);
        runtime.block_on(async {
            look_around().await;
            assert!(waiters().is_empty());
            let again = polls.clone();
            let late = beside(move || handle.spawn_wait_timeout(Counted::new(&again, 8), 20 * TICK))
                .await
                .unwrap_err();
            assert!(late.is_timed_out());
            look_around().await;
            assert!(waiters().is_empty());
            assert_eq!(polls.load(Ordering::SeqCst), 0);
            drop(holder);
            let task = beside(move || {
                let future = late.into_future().unwrap();
                handle.spawn_wait_timeout(future, 60 * SEC)
            });
            assert_eq!(task.await.unwrap().await.unwrap(), 8);
            // For ever, as far as a clock goes.
            let task = beside(move || handle.spawn_wait_timeout(async { 9 }, Duration::MAX)).await;
            assert_eq!(task.unwrap().await.unwrap(), 9);

            let panic =
                catch_unwind(AssertUnwindSafe(|| handle.spawn_wait_timeout(async {}, SEC))).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains("spawn_wait_timeout") && text.contains("timeout(..) instead"), "{text}");
        });
        assert_eq!(runtime.metrics().tasks_live, 0);
        drop(runtime);
        let gone = wait(60 * SEC).unwrap_err();
        assert_eq!(gone.reason(), SpawnError::Closed);
        assert_eq!(gone.into_future().unwrap().value, [7; 10]);
    });
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn a_hundred_thousand_admissions_and_timeouts_at_the_same_instants_leave_the_places_exact() {
    const JOBS: usize = if cfg!(anteroom_asan) { 10_000 } else { 100_000 };
    const PLACES: usize = 3;
    must_end(|| {
        paused(PLACES).block_on(async {
            let (drops, ran) = (Drops::new(), Arc::new(AtomicUsize::new(0)));
            let mut random = Random(1);
            let (mut in_time, mut late, mut dropped) = (0, 0, 0);
            for _ in 0..JOBS / 20 {
                let start = now();
                let batch: Vec<_> = (0..20)
                    .map(|_| {
                        let (ran, tracked) = (ran.clone(), drops.track());
                        // Whole ticks, so that most ends fall on one with a timeout.
                        let (held, patience) = (TICK * random.below(4) as u32, TICK * random.below(8) as u32);
                        let is_dropped = random.below(8) == 0;
                        let job = async move {
                            ran.fetch_add(1, Ordering::SeqCst);
                            (sleep(held).await, tracked).1
                        };
                        async move {
                            let timed = spawn(job).timeout(patience);
                            if is_dropped {
                                return Err(anteroom::time::timeout(patience / 2, timed).await.is_ok());
                            }
                            match timed.await {
                                Ok(_its_handle) => Ok(true),
                                Err(error) => {
                                    assert!(error.is_timed_out());
                                    assert_eq!(now() - start, patience);
                                    drop(error.into_future().expect("it never ran"));
                                    Ok(false)
                                }
                            }
                        }
                    })
                    .collect();
                let mut batch: Unordered<_> = batch.into_iter().collect();
                while let Some((_, told)) = batch.next().await {
                    assert!(metrics().tasks_live <= PLACES);
                    match told {
                        Ok(true) => in_time += 1,
                        Ok(false) => late += 1,
                        Err(_) => dropped += 1,
                    }
                }
            }
            sleep(SEC).await;
            assert_eq!((in_time + late + dropped, drops.count()), (JOBS, JOBS));
            let ran = ran.load(Ordering::SeqCst);
            assert!(in_time <= ran && ran <= in_time + dropped, "{ran} ran: {in_time}, {late}, {dropped}");
            assert!(in_time > JOBS / 5 && late > JOBS / 5, "{in_time} in time, {late} late");
            let metrics = metrics();
            assert_eq!((metrics.tasks_live, metrics.waiting, metrics.timers), (0, 0, 0));
            let tasks: Vec<_> = (0..PLACES).map(|_| try_spawn(pending::<()>()).unwrap()).collect();
            assert!(try_spawn(async {}).unwrap_err().is_full());
            drop(tasks);
        });
    });
}

#[test]
fn threads_that_give_up_race_with_the_owner_that_lets_them_in() {
    const THREADS: usize = 4;
    const ROUNDS: usize = if cfg!(anteroom_asan) { 300 } else { 2_000 };
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(2).build().unwrap();
        let handle = runtime.handle();
        let (ran, drops) = (Arc::new(AtomicUsize::new(0)), Drops::new());
        let left = Arc::new(AtomicUsize::new(THREADS));
        let is_over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (ran, drops, left, is_over) = (ran.clone(), drops.clone(), left.clone(), is_over.clone());
                thread::spawn(move || {
                    let mut random = Random(thread as u64);
                    let (mut in_time, mut late) = (0, 0);
                    for _ in 0..ROUNDS {
                        let (ran, tracked) = (ran.clone(), drops.track());
                        let job = async move {
                            ran.fetch_add(1, Ordering::SeqCst);
                            yield_now().await;
                            drop(tracked);
                        };
                        let timeout = Duration::from_micros(random.below(60));
                        // Half of them in a runtime of their own, half without one.
                        let told = match thread % 2 {
                            0 => handle.spawn_wait_timeout(job, timeout),
                            _ => anteroom::block_on(async { handle.spawn(job).timeout(timeout).await }),
                        };
                        match told {
                            Ok(_its_handle) => in_time += 1,
                            Err(error) => {
                                assert_eq!(error.reason(), SpawnError::TimedOut);
                                drop(error.into_future().expect("it never ran"));
                                late += 1;
                            }
                        }
                    }
                    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        is_over.store(true, Ordering::SeqCst);
                    }
                    (in_time, late)
                })
            })
            .collect();
        runtime.block_on(async {
            while !is_over.load(Ordering::SeqCst) {
                assert!(metrics().tasks_live <= 2);
                yield_now().await;
            }
        });
        let (mut in_time, mut late) = (0, 0);
        for thread in threads {
            let (of_it_in_time, of_it_late) = thread.join().unwrap();
            in_time += of_it_in_time;
            late += of_it_late;
        }
        runtime.block_on(async {
            while metrics().tasks_live > 0 {
                yield_now().await;
            }
            look_around().await;
            assert!(waiters().is_empty());
            let both = (try_spawn(ready(())).unwrap(), try_spawn(ready(())).unwrap());
            assert!(try_spawn(ready(())).unwrap_err().is_full());
            drop(both);
        });
        println!("{in_time} in time, {late} late");
        assert_eq!(in_time + late, THREADS * ROUNDS);
        assert_eq!((ran.load(Ordering::SeqCst), drops.count()), (in_time, THREADS * ROUNDS));
        assert!(late > 0, "some gave up");
    });
}

#[test]
fn a_reservation_that_is_given_up_on_another_thread_races_with_its_grant() {
    const ROUNDS: usize = if cfg!(anteroom_asan) { 200 } else { 2_000 };
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).build().unwrap();
        runtime.block_on(async {
            let (to_thread, at_thread) =
                std::sync::mpsc::channel::<Pin<Box<anteroom::Within<anteroom::Reserve>>>>();
            let done = Arc::new(AtomicUsize::new(0));
            let thread = thread::spawn({
                let done = done.clone();
                move || {
                    let other = Runtime::new().unwrap();
                    let (mut in_time, mut late) = (0, 0);
                    for mut frame in at_thread {
                        match other.block_on(frame.as_mut()) {
                            Ok(_place) => in_time += 1,
                            Err(error) => {
                                assert_eq!(error, SpawnError::TimedOut);
                                late += 1;
                            }
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    (in_time, late)
                }
            });
            let mut random = Random(1);
            for round in 0..ROUNDS {
                let holder = reserve().await.unwrap();
                let mut frame = Box::pin(reserve().timeout(Duration::from_micros(random.below(300))));
                if poll_once(frame.as_mut()).is_ready() {
                    done.fetch_add(1, Ordering::SeqCst);
                } else {
                    to_thread.send(frame).unwrap();
                }
                for _ in 0..random.below(60) {
                    yield_now().await;
                }
                drop(holder);
                while done.load(Ordering::SeqCst) <= round {
                    yield_now().await;
                }
                // Granted or not, taken or not: the place is there for the next one.
                drop(reserve().await.unwrap());
            }
            drop(to_thread);
            let (in_time, late) = thread.join().unwrap();
            println!("{in_time} in time, {late} late");
            look_around().await;
            assert_eq!((metrics().tasks_live, metrics().waiting, metrics().timers), (0, 0, 0));
        });
    });
}

#[test]
fn who_gives_up_on_another_thread_keeps_the_order_of_the_others() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).build().unwrap();
        let handle = runtime.handle();
        runtime.block_on(async {
            let holder = reserve().await.unwrap();
            let order = Arc::new(Mutex::new(Vec::new()));
            let (are_seen, have_left) = (Arc::new(AtomicBool::new(false)), Gate::new());
            let thread = thread::spawn({
                let (order, are_seen, have_left) = (order.clone(), are_seen.clone(), have_left.clone());
                move || {
                    let other = paused(1);
                    other.block_on(async {
                        let frame = |n: usize| {
                            let order = order.clone();
                            let patience = if n % 2 == 1 { SEC } else { 2 * SEC };
                            let job = async move { order.lock().unwrap().push(n) };
                            Box::pin(handle.spawn(job).timeout(patience))
                        };
                        let mut frames: Vec<_> = (0..5).map(frame).collect();
                        for frame in &mut frames {
                            assert!(poll_once(frame.as_mut()).is_pending());
                        }
                        // Not asleep, so that the clock stands.
                        while !are_seen.load(Ordering::SeqCst) {
                            yield_now().await;
                        }
                        advance(SEC).await;
                        for n in [1, 3] {
                            let Poll::Ready(Err(error)) = poll_once(frames[n].as_mut()) else {
                                panic!("{n}")
                            };
                            assert!(error.is_timed_out() && error.into_future().is_some());
                        }
                        have_left.open();
                        for n in [0, 2, 4] {
                            loop {
                                match poll_once(frames[n].as_mut()) {
                                    Poll::Ready(told) => break drop(told.unwrap()),
                                    Poll::Pending => yield_now().await,
                                }
                            }
                        }
                    });
                }
            });
            while waiters().len() < 5 {
                yield_now().await;
            }
            are_seen.store(true, Ordering::SeqCst);
            have_left.wait().await;
            drop(holder);
            while !thread.is_finished() {
                yield_now().await;
            }
            thread.join().unwrap();
            look_around().await;
            assert_eq!(*order.lock().unwrap(), [0, 2, 4]);
            assert_eq!((metrics().tasks_live, metrics().waiting), (0, 0));
        });
    });
}

#[test]
fn who_has_no_place_may_wait_for_one_with_a_time() {
    // The future of `block_on`, and a service.
    paused(1).block_on(async {
        let start = now();
        let holder = reserve().await.unwrap();
        assert!(spawn(async {}).timeout(SEC).await.unwrap_err().is_timed_out());
        let service = spawn_service(async { spawn(async {}).timeout(SEC).await.map(drop).is_err() });
        assert!(service.unwrap().await.unwrap());
        assert_left(start, 2 * SEC);
        drop(holder);
    });
}

#[test]
fn a_time_costs_its_sleep_and_only_those_who_ask_for_it() {
    fn sizes<F: Future + Send + 'static>(make: impl Fn() -> F) -> (usize, usize)
    where
        F::Output: Send + 'static,
    {
        (size_of_val(&spawn(make())), size_of_val(&spawn(make()).timeout(SEC)))
    }
    for (plain, timed) in [sizes(|| async {}), sizes(|| Counted::new(&Arc::default(), 1))] {
        assert_eq!(timed, plain + size_of::<Sleep>());
    }
}

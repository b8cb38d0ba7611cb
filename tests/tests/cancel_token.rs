//! A token asks whoever looks, wakes whoever waits, and forgets whoever has left.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use anteroom::time::{advance, now, sleep, timeout, timeout_at};
use anteroom::{CancellationToken, Cancelled, Runtime, spawn, yield_now};
use anteroom_tests::{
    Counting, Drops, Hooks, Wakes, allocations, bytes_live, elsewhere, must_end, park_on, poll_once,
    poll_with,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes are the process's: who counts them is alone.
static COUNTS: RwLock<()> = RwLock::new(());

fn counts_nothing() -> RwLockReadGuard<'static, ()> {
    COUNTS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` with what tells how many bytes more there are than at its beginning, while no other test runs.
fn counts_bytes(f: impl FnOnce(&dyn Fn() -> isize)) {
    let _alone = COUNTS.write().unwrap_or_else(PoisonError::into_inner);
    let before = bytes_live();
    f(&|| bytes_live() - before);
}

/// What the harness may allocate beside a test that counts.
const NOISE: isize = 16 << 10;

fn is_ready(cancelled: &mut Cancelled<'_>, waker: &Waker) -> bool {
    poll_with(Pin::new(cancelled), waker).is_ready()
}

#[test]
fn those_below_are_cancelled_and_nobody_else() {
    let _shared = counts_nothing();
    let root = CancellationToken::new();
    let (one, other) = (root.child_token(), root.child_token());
    let (below, beside) = (one.child_token(), other.child_token());
    one.cancel();
    assert_eq!(
        [&root, &one, &other, &below, &beside].map(CancellationToken::is_cancelled),
        [false, true, false, true, false]
    );
    // Again, and what is made of it now.
    one.cancel();
    assert!(one.child_token().is_cancelled() && one.clone().is_cancelled());
    root.cancel();
    assert!(other.is_cancelled() && beside.is_cancelled());
    assert!(!CancellationToken::default().is_cancelled(), "of another tree");
}

#[test]
fn a_child_is_reached_when_the_tokens_between_are_gone() {
    let _shared = counts_nothing();
    for children in 1..5 {
        let root = CancellationToken::new();
        let between = root.child_token();
        let lower = between.child_token();
        let below: Vec<_> = (0..children).map(|_| lower.child_token()).collect();
        let (waker, wakes) = Wakes::new();
        let mut waiting: Vec<_> = below.iter().map(CancellationToken::cancelled).collect();
        assert!(!waiting.iter_mut().any(|cancelled| is_ready(cancelled, &waker)));
        drop(lower);
        drop(between);
        // They have nothing in common any more but who is above them.
        below[0].cancel();
        assert_eq!(wakes.count(), 1);
        assert!(below[1..].iter().all(|token| !token.is_cancelled()));
        root.cancel();
        assert_eq!(wakes.count(), children);
        assert!(waiting.iter_mut().all(|cancelled| is_ready(cancelled, &waker)));
    }
}

#[test]
fn a_child_outlives_all_above_it_and_can_be_cancelled_still() {
    let _shared = counts_nothing();
    let root = CancellationToken::new();
    let (one, other) = (root.child_token(), root.child_token());
    drop(root);
    let below = one.child_token();
    one.cancel();
    assert!(below.is_cancelled() && !other.is_cancelled());
    other.cancel();
    assert!(other.is_cancelled());
}

#[test]
fn whoever_finds_a_token_cancelled_finds_all_below_it_cancelled() {
    // [CANCEL-1]
    let _shared = counts_nothing();
    for _ in 0..2_000 {
        let root = CancellationToken::new();
        let middle = root.child_token();
        let leaves = [(); 8].map(|()| middle.child_token());
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                root.cancel();
            });
            start.wait();
            while !root.is_cancelled() {
                std::hint::spin_loop();
            }
            assert!(middle.is_cancelled());
            assert!(leaves.iter().all(CancellationToken::is_cancelled));
            // And nothing is made below it that is not.
            assert!(leaves[0].child_token().is_cancelled());
        });
    }
}

#[test]
fn it_wakes_in_any_executor_and_across_threads() {
    let _shared = counts_nothing();
    must_end(|| {
        let token = CancellationToken::new();
        let runtime = Runtime::new().unwrap();
        let waiting = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut cancelled = token.cancelled();
                assert!(poll_once(Pin::new(&mut cancelled)).is_pending());
                waiting.wait();
                park_on(cancelled);
            });
            waiting.wait();
            runtime.block_on(async {
                let task = spawn(token.child_token().cancelled_owned()).await.unwrap();
                yield_now().await;
                elsewhere(|| token.cancel());
                task.await.unwrap();
                token.cancelled().await;
            });
        });
    });
}

#[test]
fn whoever_waits_is_woken_once_and_whoever_has_left_is_not() {
    // [CANCEL-2]
    let _shared = counts_nothing();
    let mut seed = 1_u32;
    for waiters in [1, 2, 3, 5, 100] {
        let token = CancellationToken::new();
        let (hooks_waker, hooks) = Hooks::new();
        let mut waiting: Vec<_> = (0..waiters).map(|_| Box::pin(token.cancelled())).collect();
        assert!(waiting.iter_mut().all(|cancelled| poll_with(cancelled.as_mut(), &hooks_waker).is_pending()));
        assert_eq!(hooks.wakers_left(), 1 + waiters);
        // Two of three leave, from anywhere, and some come anew.
        for step in 0..waiters * 2 / 3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            drop(waiting.swap_remove((seed >> 8) as usize % waiting.len()));
            if step % 4 == 0 {
                let mut new = Box::pin(token.cancelled());
                assert!(poll_with(new.as_mut(), &hooks_waker).is_pending());
                waiting.push(new);
            }
            assert_eq!(hooks.wakers_left(), 1 + waiting.len(), "dropped with its future");
        }
        token.cancel();
        assert_eq!((hooks.wakes(), hooks.wakers_left()), (waiting.len(), 1));
        token.cancel();
        assert_eq!(hooks.wakes(), waiting.len());
        assert!(waiting.iter_mut().all(|cancelled| poll_once(cancelled.as_mut()).is_ready()));
    }
}

#[test]
fn the_last_waker_counts_and_the_same_one_is_not_cloned_again() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let ((one, one_hooks), (other, other_hooks)) = (Hooks::new(), Hooks::new());
    let mut cancelled = token.cancelled();
    for _ in 0..3 {
        assert!(!is_ready(&mut cancelled, &one));
    }
    assert_eq!(one_hooks.clones(), 1);
    assert!(!is_ready(&mut cancelled, &other));
    assert_eq!(one_hooks.wakers_left(), 1, "the old one is gone");
    token.cancel();
    assert_eq!((one_hooks.wakes(), other_hooks.wakes()), (0, 1));
    assert!(is_ready(&mut cancelled, &one) && is_ready(&mut cancelled, &one), "and again");
    assert_eq!(one_hooks.clones(), 1);
}

/// Does all that can be done with a token and what is near to it.
fn meddle(token: &CancellationToken) {
    let child = token.child_token();
    assert!(poll_once(pin!(child.cancelled())).is_pending() || child.is_cancelled());
    let mut run = pin!(token.run_until(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending() || token.is_cancelled());
    child.cancel();
    drop(token.clone());
    drop(token.child_token().child_token());
}

#[test]
fn wakers_may_do_as_they_like_with_the_token_that_calls_them() {
    // [CANCEL-3], bugs.md 35
    let _shared = counts_nothing();
    must_end(|| {
        for cancels in [false, true] {
            let token = CancellationToken::new();
            let child = token.child_token();
            let (waker, hooks) = Hooks::new();
            let called = Arc::new(AtomicUsize::new(0));
            let hook = || {
                let (token, child, called) = (token.clone(), child.clone(), called.clone());
                move || {
                    called.fetch_add(1, Ordering::SeqCst);
                    meddle(&child);
                    meddle(&token);
                    if cancels {
                        token.cancel();
                    }
                }
            };
            hooks.on_clone(hook());
            hooks.on_drop(hook());
            hooks.on_wake(hook());
            let mut waiting = [&token, &child, &child].map(CancellationToken::cancelled);
            for cancelled in &mut waiting {
                assert_eq!(is_ready(cancelled, &waker), cancels, "a clone that cancels is seen");
            }
            let (other, _wakes) = Wakes::new();
            assert_eq!(is_ready(&mut waiting[0], &other), cancels);
            assert_eq!(is_ready(&mut waiting[0], &waker), cancels);
            let [_, leaves, _] = waiting;
            drop(leaves);
            child.cancel();
            token.cancel();
            assert!(called.load(Ordering::SeqCst) >= 2);
            hooks.clear();
        }
    });
}

#[test]
fn a_waker_that_panics_takes_no_other_one_with_it() {
    let _shared = counts_nothing();
    let root = CancellationToken::new();
    let child = root.child_token();
    let (good, wakes) = Wakes::new();
    let (bad, hooks) = Hooks::new();
    let mut waiting = [&root, &child, &root, &child, &root].map(CancellationToken::cancelled);
    for (cancelled, waker) in waiting.iter_mut().zip([&good, &bad, &bad, &good, &good]) {
        assert!(!is_ready(cancelled, waker));
    }
    hooks.on_wake(|| panic!("in a wake"));
    let panic = catch_unwind(AssertUnwindSafe(|| root.cancel())).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "in a wake");
    assert_eq!((hooks.wakes(), wakes.count(), hooks.wakers_left()), (2, 3, 1));
    assert!(root.is_cancelled() && child.is_cancelled());
    root.cancel();
}

#[test]
fn a_clone_or_a_drop_that_panics_leaves_the_token_whole() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let (waker, hooks) = Hooks::new();
    let mut cancelled = token.cancelled();
    hooks.on_clone(|| panic!("in a clone"));
    catch_unwind(AssertUnwindSafe(|| is_ready(&mut cancelled, &waker))).unwrap_err();
    hooks.clear();
    assert!(!is_ready(&mut cancelled, &waker));
    // Replaced by another, it panics as it goes; the other is in its place.
    hooks.on_drop(|| panic!("in a drop"));
    let (good, wakes) = Wakes::new();
    catch_unwind(AssertUnwindSafe(|| is_ready(&mut cancelled, &good))).unwrap_err();
    hooks.clear();
    let child = token.child_token();
    token.cancel();
    assert_eq!((wakes.count(), hooks.wakes()), (1, 0));
    assert!(child.is_cancelled() && is_ready(&mut cancelled, &good));
}

/// On a thread whose stack is too small for a recursion over 100,000 of anything.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    must_end(|| thread::Builder::new().stack_size(64 << 10).spawn(f).unwrap().join().unwrap());
}

fn chain(links: usize) -> Vec<CancellationToken> {
    let mut chain = vec![CancellationToken::new()];
    for _ in 0..links {
        chain.push(chain.last().unwrap().child_token());
    }
    chain
}

#[test]
fn a_chain_of_a_hundred_thousand_is_cancelled_and_dropped_without_recursion() {
    let _shared = counts_nothing();
    on_a_small_stack(|| {
        const LINKS: usize = 100_000;
        let (waker, wakes) = Wakes::new();
        let tokens = chain(LINKS);
        let mut last = tokens[LINKS].cancelled();
        assert!(!is_ready(&mut last, &waker));
        tokens[0].cancel();
        assert_eq!(wakes.count(), 1);
        assert!(tokens.iter().all(CancellationToken::is_cancelled));
        drop(last);
        drop(tokens);

        // From above, from below, and every other one first; not cancelled.
        chain(LINKS).into_iter().for_each(drop);
        chain(LINKS).into_iter().rev().for_each(drop);
        let (even, odd): (Vec<_>, Vec<_>) =
            chain(LINKS).into_iter().enumerate().partition(|(link, _)| link % 2 == 0);
        drop(even);
        odd[0].1.cancel();
        assert!(odd.iter().all(|(_, token)| token.is_cancelled()));
        drop(odd);

        // And by the last reference to all of it.
        let tokens = chain(LINKS);
        drop(tokens.last().unwrap().clone().cancelled_owned());
        drop(tokens);
    });
}

#[test]
fn a_parent_forgets_a_million_children() {
    counts_bytes(|more| {
        let parent = CancellationToken::new();
        drop(parent.child_token());
        for round in 0..1_000_000 {
            let child = parent.child_token();
            if round % 3 == 0 {
                assert!(poll_once(pin!(child.cancelled())).is_pending());
            }
            if round % 7 == 0 {
                child.cancel();
            }
            drop(child);
            if round % 100_000 == 0 {
                assert!(more() < NOISE, "{} bytes after {round}", more());
            }
        }
        assert!(more() < NOISE, "{} bytes", more());
        parent.cancel();
    });
}

#[test]
fn a_chain_forgets_all_but_its_ends() {
    // A loop that makes each token of the one before it, as a supervisor that restarts does; and some that stay on the way.
    counts_bytes(|more| {
        let root = CancellationToken::new();
        let mut token = root.child_token();
        let mut stay = Vec::new();
        for round in 0..1_000_000 {
            token = token.child_token();
            if round % 100_000 == 0 {
                stay.push(token.child_token());
            }
        }
        assert!(more() < NOISE, "{} bytes", more());
        stay.swap_remove(3);
        root.cancel();
        assert!(token.is_cancelled() && stay.iter().all(CancellationToken::is_cancelled));
    });
}

#[test]
fn what_a_burst_of_tokens_and_of_waiters_took_is_given_back() {
    counts_bytes(|more| {
        const BURST: usize = 100_000;
        let root = CancellationToken::new();
        let late = {
            let mut burst: Vec<_> = (0..BURST).map(|_| root.child_token()).collect();
            let each = (more() as usize - burst.capacity() * size_of::<CancellationToken>()) / BURST;
            println!("{each} bytes a token");
            assert!(each < 200, "{each} bytes a token");
            burst.pop()
        };
        // The one that came last is there still.
        assert!(more() < NOISE, "{} bytes", more());

        let mut waiting: Vec<_> = (0..BURST).map(|_| root.cancelled()).collect();
        let before = more();
        assert!(!waiting.iter_mut().any(|cancelled| is_ready(cancelled, Waker::noop())));
        let each = (more() - before) as usize / BURST;
        println!("{each} bytes a waiter");
        assert!(each <= 48, "{each} bytes a waiter");
        // From the front, which leaves all gaps before who stays.
        let last = waiting.pop();
        drop(waiting);
        assert!(more() < NOISE, "{} bytes", more());
        drop((last, late));
    });
}

#[test]
fn a_token_that_has_one_who_waits_costs_little_more() {
    counts_bytes(|more| {
        const TOKENS: usize = 10_000;
        let root = CancellationToken::new();
        let mut waiting: Vec<_> = (0..TOKENS).map(|_| root.child_token().cancelled_owned()).collect();
        let before = more();
        assert!(!waiting.iter_mut().any(|cancelled| is_ready(cancelled, Waker::noop())));
        assert!((more() - before) as usize <= TOKENS * 24, "{} bytes", more() - before);
        root.cancel();
        assert!(waiting.iter_mut().all(|cancelled| is_ready(cancelled, Waker::noop())));
        drop((waiting, root));
        assert!(more() < NOISE);
    });
}

/// Pending once, then ready.
async fn one_turn() {
    let mut polls = 0;
    std::future::poll_fn(|_| {
        polls += 1;
        if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

#[test]
fn a_warm_loop_over_run_until_allocates_nothing() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let work = || {
        let mut run = pin!(token.run_until(one_turn()));
        assert!(poll_once(run.as_mut()).is_pending());
        assert!(poll_once(run.as_mut()) == Poll::Ready(Some(())));
    };
    work();
    let before = allocations();
    (0..100).for_each(|_| work());
    assert_eq!(allocations() - before, 0);
}

#[test]
fn a_loop_over_what_is_always_ready_ends_when_it_is_cancelled() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let mut rounds = 0;
    while let Some(round) = park_on(token.run_until(ready(rounds))) {
        rounds = round + 1;
        assert!(rounds <= 10, "it goes on");
        if rounds == 10 {
            token.cancel();
        }
    }
    assert_eq!(rounds, 10);
    // Not even polled.
    let polled = AtomicUsize::new(0);
    let future = async { polled.fetch_add(1, Ordering::SeqCst) };
    assert_eq!(park_on(token.run_until(future)), None);
    assert_eq!(polled.load(Ordering::SeqCst), 0);
}

#[test]
fn run_until_drops_its_future_when_the_token_comes_first() {
    let _shared = counts_nothing();
    for is_polled_before in [false, true] {
        let (token, drops) = (CancellationToken::new(), Drops::new());
        let tracked = drops.track();
        let future = async {
            let _tracked = tracked;
            pending::<()>().await;
        };
        let mut run = pin!(token.clone().run_until_owned(future));
        let (waker, wakes) = Wakes::new();
        if is_polled_before {
            assert!(poll_with(run.as_mut(), &waker).is_pending());
        }
        token.cancel();
        assert_eq!((wakes.count(), drops.count()), (usize::from(is_polled_before), 0));
        assert_eq!(poll_with(run.as_mut(), &waker), Poll::Ready(None));
        assert_eq!(drops.count(), 1, "at once, not with the future around it");
        assert_eq!(poll_with(run.as_mut(), &waker), Poll::Ready(None));
    }
}

#[test]
fn an_output_that_is_ready_in_the_poll_that_cancels_is_not_lost() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let output = park_on(token.run_until(async {
        token.cancel();
        7
    }));
    assert_eq!(output, Some(7));
    // Pending in that poll, it is not polled again.
    let token = CancellationToken::new();
    let output = poll_once(pin!(token.run_until(async {
        token.cancel();
        pending::<()>().await
    })));
    assert_eq!(output, Poll::Ready(None), "without a wake in between");
}

#[test]
fn run_until_holds_its_future_once() {
    let _shared = counts_nothing();
    let token = CancellationToken::new();
    let large = || async {
        let bytes = [7_u8; 1_000];
        yield_now().await;
        bytes.len()
    };
    let alone = size_of_val(&large());
    let owned = token.clone().run_until_owned(large());
    assert!(size_of_val(&owned) <= alone + 48, "{} of {alone}", size_of_val(&owned));
    assert_eq!(anteroom::block_on(owned), Some(1_000));
}

#[test]
fn a_guard_cancels_when_its_task_is_aborted_or_panics() {
    let _shared = counts_nothing();
    must_end(|| {
        anteroom::block_on(async {
            for panics in [false, true] {
                let token = CancellationToken::new();
                let guard = token.clone().drop_guard();
                let leader = spawn(async move {
                    let _guard = guard;
                    assert!(!panics, "the leader has failed");
                    pending::<()>().await;
                });
                let leader = leader.await.unwrap();
                let follower = spawn(token.child_token().run_until_owned(pending::<()>())).await.unwrap();
                yield_now().await;
                leader.abort();
                assert_eq!(follower.await.unwrap(), None);
                assert_eq!(leader.await.unwrap_err().is_panic(), panics);
            }
        });
        let token = CancellationToken::new();
        drop(token.clone().drop_guard().disarm());
        assert!(!token.is_cancelled());
    });
}

#[test]
fn a_deadline_over_many_tasks_is_a_timeout_around_their_joins_and_a_token() {
    let _shared = counts_nothing();
    let runtime = Runtime::builder().paused_clock(true).build().unwrap();
    runtime.block_on(async {
        let (token, start) = (CancellationToken::new(), now());
        let deadline = start + Duration::from_secs(10);
        let mut handles = Vec::new();
        for seconds in [1, 5, 20, 3_600] {
            let token = token.child_token();
            handles.push(spawn(token.run_until_owned(sleep(Duration::from_secs(seconds)))).await.unwrap());
        }
        let mut ended = Vec::new();
        let all = async {
            for handle in &mut handles {
                ended.push(handle.await.unwrap());
            }
        };
        assert!(timeout_at(deadline, all).await.is_err());
        token.cancel();
        for handle in handles.drain(2..) {
            ended.push(handle.await.unwrap());
        }
        assert_eq!(ended, [Some(()), Some(()), None, None]);
        assert_eq!((now() - start).as_secs(), 10);

        // In a task: the deadline and the request, whichever comes first.
        let token = CancellationToken::new();
        let work = token.run_until(timeout(Duration::from_secs(1), pending::<()>()));
        assert!(work.await.unwrap().is_err(), "the deadline");
        let mut work = pin!(token.run_until(timeout(Duration::from_secs(1), pending::<()>())));
        assert!(poll_once(work.as_mut()).is_pending());
        token.cancel();
        assert!(work.await.is_none(), "the request");
        assert_eq!(anteroom::metrics().timers, 0, "dropped with it");
        advance(Duration::from_secs(1)).await;
    });
}

#[test]
fn whoever_waits_ends_whatever_is_made_dropped_and_cancelled_around_it() {
    let _shared = counts_nothing();
    must_end(|| {
        for round in 0..300_u32 {
            let root = CancellationToken::new();
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for thread in 0..3_u32 {
                    let (root, start) = (root.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut kept = Vec::new();
                        let mut token = root.child_token();
                        drop(root);
                        for step in 0..round % 50 {
                            token = token.child_token();
                            match (step + thread) % 4 {
                                0 => kept.push(token.child_token()),
                                1 => drop(kept.pop()),
                                2 => kept.iter().take(1).for_each(CancellationToken::cancel),
                                _ => _ = poll_once(pin!(token.cancelled())),
                            }
                        }
                        park_on(token.cancelled());
                        assert!(kept.iter().all(CancellationToken::is_cancelled));
                    });
                }
                start.wait();
                root.cancel();
            });
        }
    });
}

#[test]
fn a_frame_that_never_ends_may_be_forgotten() {
    // A `Cancelled` that is leaked keeps its entry until the token is gone, and no longer.
    let _shared = counts_nothing();
    let (waker, hooks) = Hooks::new();
    let token = CancellationToken::new();
    let child = token.child_token();
    let mut cancelled = child.cancelled();
    assert!(!is_ready(&mut cancelled, &waker));
    std::mem::forget(cancelled);
    // [CANCEL-3]: its waker may come back to the tree that its token leaves.
    hooks.on_drop({
        let token = token.clone();
        move || drop(token.child_token())
    });
    must_end(move || drop(child));
    hooks.clear();
    assert_eq!(hooks.wakers_left(), 1);
}

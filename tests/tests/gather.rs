//! `gather`, `try_gather` and `as_completed`: a bounded number of futures in one task, in order or as they end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use anteroom::{GATHER_LIMIT, as_completed, block_on, gather, try_gather, yield_now};
use anteroom_tests::{
    Counting, Drops, Gate, Hooks, Wakes, allocations, bytes_live, elsewhere, must_end, park_on, poll_once,
    poll_with,
};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a panic was with.
fn panics_with<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&'static str>().expect("a text")).to_owned(),
    }
}

/// A number that goes up and down, and how far up it was.
#[derive(Default)]
struct Level {
    now: Cell<usize>,
    peak: Cell<usize>,
}

struct Up<'a>(&'a Level);

impl Level {
    fn up(&self) -> Up<'_> {
        self.now.set(self.now.get() + 1);
        self.peak.set(self.peak.get().max(self.now.get()));
        Up(self)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
    }
}

/// Children that wait for their own gate, in the order in which the test opens them.
fn gates(count: usize) -> Vec<Gate> {
    (0..count).map(|_| Gate::new()).collect()
}

#[test]
fn results_are_in_the_items_order_whatever_order_they_come_in() {
    // Each waits for so many turns; results come all over the place.
    let turns: Vec<usize> = (0..500).map(|number| number * 7919 % 23).collect();
    let each = |(number, turns): (usize, usize)| async move {
        for _ in 0..turns {
            yield_now().await;
        }
        format!("{number}")
    };
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for limit in [1, 2, 31, 32, 33, 100, 499, 500, 501, usize::MAX] {
        let items = turns.iter().copied().enumerate();
        assert_eq!(block_on(gather(items, each).limit(limit)), expected, "limit {limit}");
    }
}

#[test]
fn it_runs_under_any_executor() {
    let each = |number: u64| async move {
        yield_now().await;
        number * 2
    };
    let expected: Vec<u64> = (0..300).map(|number| number * 2).collect();
    assert_eq!(block_on(gather(0..300, each)), expected);
    assert_eq!(park_on(gather(0..300, each)), expected);
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(tokio.block_on(gather(0..300, each)), expected);
    assert_eq!(tokio.block_on(async { tokio::spawn(gather(0..300, each)).await.unwrap() }), expected);
    let many: FuturesUnordered<_> = (0..4).map(|_| gather(0..300, each)).collect();
    assert!(park_on(many.all(|result| ready(result == expected))));
    // And in one another.
    let nested = gather(0..10, |number| gather(0..number, each).limit(3)).limit(4);
    assert_eq!(block_on(nested).concat().len(), 45);
}

#[test]
fn an_item_is_taken_only_when_its_future_may_start() {
    for limit in [1, 2, 7, 64] {
        let (taken, ended) = (Cell::new(0), Cell::new(0));
        let items = (0..1_000).inspect(|_| taken.set(taken.get() + 1));
        let each = async |number: usize| {
            let check = || assert!(taken.get() <= ended.get() + limit, "{} of {}", taken.get(), ended.get());
            check();
            for _ in 0..number % 3 {
                yield_now().await;
                check();
            }
            ended.set(ended.get() + 1);
        };
        let mut all = pin!(gather(items, each).limit(limit));
        assert_eq!(taken.get(), 0, "nothing before the first poll");
        block_on(all.as_mut());
        assert_eq!((taken.get(), ended.get()), (1_000, 1_000));
    }
}

#[test]
fn between_two_results_nothing_is_taken_or_polled() {
    let taken = Cell::new(0);
    let items = (0..100).inspect(|_| taken.set(taken.get() + 1));
    let mut results = as_completed(items, |number| async move {
        yield_now().await;
        number
    })
    .limit(10);
    for count in 1..=100 {
        assert!(block_on(results.next()).is_some());
        assert!(taken.get() <= count + 9, "{} after {count}", taken.get());
    }
    assert_eq!(block_on(results.next()), None);
    assert_eq!(block_on(results.next()), None, "and so for good");
}

#[test]
fn one_slow_item_holds_up_no_other() {
    let gate = Gate::new();
    let ended = Cell::new(0);
    let each = async |number: usize| {
        match number {
            // The first can end only after all the others.
            0 => gate.wait().await,
            _ => yield_now().await,
        }
        ended.set(ended.get() + 1);
        if ended.get() == 9_999 {
            gate.open();
        }
        number
    };
    let expected: Vec<usize> = (0..10_000).collect();
    assert_eq!(park_on(gather(0..10_000, each).limit(2)), expected);
}

#[test]
fn as_many_as_the_limit_are_live_and_never_more() {
    for (limit, items, peak) in [
        (1, 50, 1),
        (10, 1_000, 10),
        (64, 64, 64),
        (1_000, 20, 20),
        (3_000, 7_000, 3_000),
        (usize::MAX, 5_000, 5_000),
    ] {
        let level = Level::default();
        let each = async |_| {
            let up = level.up();
            yield_now().await;
            drop(up);
        };
        // A hint that says nothing, and one that says all.
        for _ in 0..2 {
            block_on(gather((0..items).filter(|_| true), each).limit(limit));
            assert_eq!(level.peak.get(), peak, "limit {limit}, {items} items");
        }
        block_on(gather(0..items, each).limit(limit));
        assert_eq!((level.peak.get(), level.now.get()), (peak, 0), "limit {limit}, {items} items");
    }
    let level = Level::default();
    let each = async |_| {
        let _up = level.up();
        yield_now().await;
    };
    block_on(gather(0..1_000, each));
    assert_eq!(level.peak.get(), GATHER_LIMIT);
}

#[test]
fn futures_borrow_from_their_callers_frame() {
    let words = vec![String::from("one"), String::from("three"), String::from("seven")];
    let not_send = Rc::new(RefCell::new(Vec::new()));
    let mut calls = 0;
    let lengths = block_on(gather(&words, |word| {
        calls += 1;
        let seen = &not_send;
        async move {
            yield_now().await;
            seen.borrow_mut().push(word.as_str());
            word.len()
        }
    }));
    assert_eq!(lengths, [3, 5, 5]);
    assert_eq!(*not_send.borrow(), ["one", "three", "seven"]);
    assert_eq!(calls, 3);
}

/// Each child is polled once to start and once a wake, however many others are live. [GATHER-4]
#[test]
fn only_who_was_woken_is_polled() {
    let polls = Rc::new(RefCell::new(vec![0; 2_000]));
    let wakers = Rc::new(RefCell::new(vec![None; 2_000]));
    let each = |number: usize| {
        let (polls, wakers) = (polls.clone(), wakers.clone());
        poll_fn(move |cx| -> Poll<()> {
            polls.borrow_mut()[number] += 1;
            wakers.borrow_mut()[number] = Some(cx.waker().clone());
            Poll::Pending
        })
    };
    let mut all = pin!(gather(0..2_000, each).limit(2_000));
    let (waker, wakes) = Wakes::new();
    while {
        let before = wakes.count();
        assert!(poll_with(all.as_mut(), &waker).is_pending());
        wakes.count() > before
    } {}
    assert_eq!(*polls.borrow(), [1; 2_000]);
    let before = wakes.count();
    for number in [0, 1, 31, 32, 1_023, 1_024, 1_500, 1_999] {
        let waker_of = wakers.borrow()[number].clone().unwrap();
        // Any number of wakes is one.
        (0..5).for_each(|_| waker_of.wake_by_ref());
    }
    assert_eq!(wakes.count(), before + 1, "the parent is woken once");
    assert!(poll_with(all.as_mut(), &waker).is_pending());
    assert_eq!(wakes.count(), before + 1, "and sleeps again");
    for (number, &polls) in polls.borrow().iter().enumerate() {
        let woken = [0, 1, 31, 32, 1_023, 1_024, 1_500, 1_999].contains(&number);
        assert_eq!(polls, 1 + usize::from(woken), "child {number}");
    }
}

#[test]
fn a_child_that_wakes_itself_lets_its_siblings_and_its_parents_neighbours_run() {
    for limit in [1, 2, 100] {
        let (spins, turns) = (Cell::new(0_usize), Cell::new(0_usize));
        let stop = Cell::new(false);
        let each = async |number: usize| {
            if number == 0 {
                while !stop.get() {
                    spins.set(spins.get() + 1);
                    yield_now().await;
                }
            } else {
                for _ in 0..100 {
                    yield_now().await;
                }
            }
        };
        let mut all = pin!(gather(0..limit, each).limit(limit));
        let (waker, wakes) = Wakes::new();
        // The caller has its turn each time that the child has.
        for _ in 0..1_000 {
            assert!(poll_with(all.as_mut(), &waker).is_pending());
            turns.set(turns.get() + 1);
            assert_eq!(wakes.count(), turns.get(), "and is woken for the next");
        }
        assert!(spins.get() >= 400 && spins.get() <= 1_000, "{} polls in 1,000 turns", spins.get());
        stop.set(true);
        let mut is_ready = false;
        for _ in 0..3 {
            is_ready |= !is_ready && poll_with(all.as_mut(), &waker).is_ready();
        }
        assert!(is_ready, "the siblings have ended meanwhile");
    }
}

#[test]
fn the_caller_has_its_turn_after_a_bounded_number_of_polls() {
    // Futures that are ready at once, without an end.
    let started = Cell::new(0);
    let mut all = pin!(gather(0_u64.., |_| {
        started.set(started.get() + 1);
        ready(())
    }));
    let (waker, wakes) = Wakes::new();
    for turns in 1..50 {
        assert!(poll_with(all.as_mut(), &waker).is_pending());
        assert_eq!((started.get(), wakes.count()), (turns * 128, turns));
    }
    // And for who takes results in a loop.
    let mut results = as_completed(0_u64.., ready);
    let cx = &mut Context::from_waker(&waker);
    let before = wakes.count();
    let in_a_row = (0..).take_while(|_| results.poll_next(cx).is_ready()).count();
    assert_eq!((in_a_row, wakes.count()), (128, before + 1));
}

#[test]
fn items_that_are_ready_at_once_do_not_starve_who_was_woken() {
    for limit in [2, 40, 1_500] {
        // All but one place are taken by children that wait for one wake; the rest are ready at once, without an end.
        let gate = Gate::new();
        let (ended, started) = (Cell::new(0), Cell::new(0));
        let each = async |number: usize| {
            started.set(started.get() + 1);
            if number + 1 < limit {
                gate.wait().await;
                ended.set(ended.get() + 1);
            }
        };
        let mut all = pin!(gather(0.., each).limit(limit));
        while started.get() < 2 * limit {
            assert!(poll_once(all.as_mut()).is_pending());
        }
        gate.open();
        // Half of the polls are theirs, at least.
        for _ in 0..2 * limit / 128 + 3 {
            assert!(poll_once(all.as_mut()).is_pending());
        }
        assert_eq!(ended.get(), limit - 1, "limit {limit}");
    }
}

#[test]
fn a_billion_items_cost_what_the_limit_costs() {
    let before = (allocations(), bytes_live());
    let started = Cell::new(0);
    let items = 0..1_000_000_000_u64;
    let mut all = Box::pin(
        gather(items, |number| {
            started.set(started.get() + 1);
            async move {
                let page = [number as u8; 256];
                pending::<()>().await;
                page.len()
            }
        })
        .limit(10),
    );
    assert!(poll_once(all.as_mut()).is_pending());
    assert_eq!(started.get(), 10);
    assert!(allocations() - before.0 <= 5, "{} allocations", allocations() - before.0);
    drop(all);
    assert_eq!(block_on(as_completed(0..1_000_000_000_u64, ready).next()), Some(0));
}

#[test]
fn a_huge_limit_costs_what_was_started() {
    for items in [0, 1, 5, 700, 1_025, 5_000] {
        let before = allocations();
        let mut bytes_max = 0;
        let start = bytes_live();
        let each = |_| {
            let mut is_first = true;
            poll_fn(move |cx| {
                if !std::mem::take(&mut is_first) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        };
        let mut all = Box::pin(gather((0..items).filter(|_| true), each).limit(usize::MAX));
        while poll_once(all.as_mut()).is_pending() {
            bytes_max = bytes_max.max(bytes_live() - start);
        }
        // Twice what is live and the first block of 1,024, which is a page table's matter, and no allocation an item.
        assert!(allocations() - before < 60, "{} allocations for {items}", allocations() - before);
        // Other tests of this binary allocate meanwhile, so this is no more than an order of magnitude.
        assert!(bytes_max < 64 << 20, "{bytes_max} bytes for {items} items");
    }
}

#[test]
fn nothing_is_allocated_for_an_item() {
    let each = |number: u32| async move {
        let page = [number as u8; 256];
        yield_now().await;
        assert_eq!(page[0], number as u8);
    };
    block_on(async {
        let of = |items: u32, limit: usize| {
            let before = allocations();
            async move {
                let mut results = as_completed(0..items, each).limit(limit);
                while results.next().await.is_some() {}
                drop(results);
                allocations() - before
            }
        };
        for limit in [1, 10, 1_000] {
            let (few, many) = (of(2_000, limit).await, of(100_000, limit).await);
            assert_eq!(few, many, "limit {limit}: 50 times as many items");
            assert!(many <= 4, "limit {limit}: {many} allocations");
        }
        let before = allocations();
        gather(0..100_000, each).limit(1_000).await;
        // And the bits of the output, which double.
        assert!(allocations() - before <= 4 + 12, "{} allocations", allocations() - before);
    });
}

#[test]
fn results_take_no_more_than_their_places() {
    let results = block_on(gather(0..1_000_u64, |number| async move { number }));
    assert!(results.capacity() < 2_000, "{}", results.capacity());
    // Values without a size and with a drop.
    let drops = Drops::new();
    let results = block_on(gather(0..100, |_| ready(drops.track())));
    assert_eq!(drops.count(), 0);
    drop(results);
    assert_eq!(drops.count(), 100);
    assert_eq!(block_on(gather(0..100, |_| ready(()))).len(), 100);
}

#[test]
fn bounds_of_the_limit_and_the_items() {
    let id = |number: u32| async move {
        yield_now().await;
        number
    };
    assert_eq!(block_on(gather([0; 0], id)), []);
    assert_eq!(block_on(gather([0; 0], id).limit(1)), []);
    assert_eq!(block_on(gather([5], id).limit(usize::MAX)), [5]);
    assert_eq!(block_on(gather([5, 6, 7], id).limit(1)), [5, 6, 7]);
    assert_eq!(block_on(gather([5, 6, 7], id).limit(100)), [5, 6, 7]);
    assert_eq!(block_on(try_gather([0; 0], |n| async move { Err::<(), _>(n) })), Ok(vec![]));
    assert_eq!(block_on(as_completed([0; 0], id).next()), None);
    for (panic, who) in [
        (panics_with(|| gather([1], id).limit(0)), "Gather"),
        (panics_with(|| try_gather([1], |_| ready(Ok::<(), ()>(()))).limit(0)), "TryGather"),
        (panics_with(|| as_completed([1], id).limit(0)), "AsCompleted"),
    ] {
        assert_eq!(panic, format!("{who}::limit: the limit must be at least 1"));
    }
    let mut begun = gather([1, 2, 3], id);
    assert!(poll_once(Pin::new(&mut begun)).is_pending());
    assert_eq!(panics_with(|| begun.limit(5)), "Gather::limit: it was polled already");
}

/// An iterator whose hint is wrong.
struct Liar(std::ops::Range<u32>, (usize, Option<usize>));

impl Iterator for Liar {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

#[test]
fn a_wrong_size_hint_costs_time_and_no_result() {
    let each = |number| async move {
        yield_now().await;
        number
    };
    for hint in [(0, Some(0)), (0, Some(3)), (usize::MAX, None), (100, Some(100)), (5_000, Some(1))] {
        let results = block_on(gather(Liar(0..200, hint), each).limit(50));
        assert_eq!(results, (0..200).collect::<Vec<_>>(), "{hint:?}");
        let mut results = as_completed(Liar(0..200, hint), each).limit(usize::MAX);
        let count = block_on(async {
            let mut count = 0;
            while results.next().await.is_some() {
                count += 1;
            }
            count
        });
        assert_eq!(count, 200, "{hint:?}");
    }
}

#[test]
fn an_iterator_is_not_asked_again_after_its_end() {
    let mut is_over = false;
    let items = std::iter::from_fn(|| {
        assert!(!std::mem::replace(&mut is_over, true), "asked again");
        None::<u32>
    });
    assert_eq!(block_on(gather(items, ready)), []);
}

#[test]
fn results_are_given_out_as_they_come() {
    let gates = gates(5);
    let mut results = as_completed(gates.iter().enumerate(), |(number, gate)| async move {
        gate.wait().await;
        number
    })
    .limit(5);
    for number in [3, 0, 4, 2, 1] {
        assert!(results.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
        gates[number].open();
        assert_eq!(park_on(results.next()), Some(number));
    }
    assert_eq!(park_on(results.next()), None);
}

#[test]
fn it_is_a_stream() {
    let mut results = as_completed(0..100_u32, |number| async move {
        yield_now().await;
        number
    })
    .limit(7);
    assert_eq!(results.size_hint(), (100, Some(100)));
    let sum = block_on(async {
        let first = StreamExt::next(&mut results).await.unwrap();
        assert_eq!(results.size_hint(), (99, Some(99)));
        first + results.by_ref().fold(0, |sum, number| async move { sum + number }).await
    });
    assert_eq!(sum, 4_950);
    assert_eq!(results.size_hint(), (0, Some(0)));
}

#[test]
fn the_first_error_ends_it() {
    for limit in [1, 3, 100] {
        let drops = Drops::new();
        let (taken, started) = (Cell::new(0), Cell::new(0));
        let items = (0..1_000).inspect(|_| taken.set(taken.get() + 1));
        let each = |number: usize| {
            started.set(started.get() + 1);
            let tracked = drops.track();
            async move {
                let _tracked = tracked;
                yield_now().await;
                match number {
                    40 => Err("forty"),
                    // Later in order, and in time.
                    _ if number > 40 => {
                        yield_now().await;
                        Err("more")
                    }
                    _ => Ok(number),
                }
            }
        };
        let mut all = Box::pin(try_gather(items, each).limit(limit));
        assert_eq!(block_on(all.as_mut()), Err("forty"));
        // The others are gone, before it is.
        assert_eq!(drops.count(), started.get(), "limit {limit}");
        assert_eq!(taken.get(), started.get());
        assert!(taken.get() <= 40 + limit, "{} items taken, limit {limit}", taken.get());
        assert_eq!(panics_with(|| poll_once(all.as_mut())), "a TryGather was polled after it was ready");
    }
    assert_eq!(block_on(try_gather(0..100, |n| ready(Ok::<_, ()>(n)))).unwrap().len(), 100);
}

#[test]
fn dropped_in_the_middle_it_drops_exactly_what_has_started() {
    for polls in 0..30 {
        let (futures, results) = (Drops::new(), Drops::new());
        let (started, ended) = (Cell::new(0), Cell::new(0));
        let each = async |number: usize| {
            started.set(started.get() + 1);
            let _here = futures.track();
            for _ in 0..number % 5 {
                yield_now().await;
            }
            ended.set(ended.get() + 1);
            results.track()
        };
        let mut all = Box::pin(gather(0..60, each).limit(10));
        let done = (0..polls).find_map(|_| match poll_once(all.as_mut()) {
            Poll::Ready(results) => Some(results),
            Poll::Pending => None,
        });
        assert_eq!((futures.count(), results.count()), (ended.get(), 0), "after {polls} polls");
        drop(all);
        assert_eq!(futures.count(), started.get(), "after {polls} polls");
        assert_eq!(results.count(), if done.is_some() { 0 } else { ended.get() }, "after {polls} polls");
        drop(done);
        assert_eq!(results.count(), ended.get());
    }
}

/// What panics, of item 5.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Iterator,
    Closure,
    FirstPoll,
    LaterPoll,
    DropAtTheEnd,
}

/// [GATHER-7]
#[test]
fn a_panic_comes_out_after_the_others_were_dropped() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 {
                panic!("DropAtTheEnd");
            }
        }
    }
    for place in [Place::Iterator, Place::Closure, Place::FirstPoll, Place::LaterPoll, Place::DropAtTheEnd] {
        let check = |at: Place, number: usize| {
            if (at, number) == (place, 5) {
                panic!("{place:?}");
            }
        };
        for limit in [1, 3, 8, 100] {
            let futures = Drops::new();
            let started = Cell::new(0);
            let make = || {
                let (futures, started) = (&futures, &started);
                let items = (0..50).inspect(move |&number| check(Place::Iterator, number));
                let each = move |number: usize| {
                    check(Place::Closure, number);
                    started.set(started.get() + 1);
                    let (tracked, bomb) =
                        (futures.track(), Bomb((place, number) == (Place::DropAtTheEnd, 5)));
                    let mut polls = 0;
                    poll_fn(move |cx| {
                        let (_tracked, _bomb) = (&tracked, &bomb);
                        check(if polls == 0 { Place::FirstPoll } else { Place::LaterPoll }, number);
                        polls += 1;
                        cx.waker().wake_by_ref();
                        if polls < 3 { Poll::Pending } else { Poll::Ready(number) }
                    })
                };
                (items, each)
            };
            let (items, each) = make();
            let mut all = Box::pin(gather(items, each).limit(limit));
            let mut poll_until_it_panics = || panics_with(|| while poll_once(all.as_mut()).is_pending() {});
            assert_eq!(poll_until_it_panics(), format!("{place:?}"));
            assert!(futures.count() == started.get(), "{place:?}, limit {limit}: all that started are gone");
            assert_eq!(poll_until_it_panics(), "a Gather was polled after it had panicked");
            drop(all);

            started.set(0);
            let (items, each) = make();
            let mut results = as_completed(items, each).limit(limit);
            let mut next = || panics_with(|| park_on(async { while results.next().await.is_some() {} }));
            assert_eq!(next(), format!("{place:?}"));
            assert_eq!(next(), "an AsCompleted was polled after it had panicked");
        }
    }
}

#[test]
fn a_child_whose_drop_panics_takes_no_other_with_it() {
    // Dropped in the middle: all are dropped, and the first panic goes on.
    let drops = Drops::new();
    let each = |number: usize| {
        let tracked = if number % 3 == 0 { drops.track_panicking() } else { drops.track() };
        async move {
            let _tracked = tracked;
            pending::<()>().await;
        }
    };
    let mut all = Box::pin(gather(0..20, each));
    assert!(poll_once(all.as_mut()).is_pending());
    assert_eq!(panics_with(|| drop(all)), "in the drop of a tracked value");
    assert_eq!(drops.count(), 20);

    // As a child panics: that panic goes on.
    let drops = Drops::new();
    let each = |number: usize| {
        // Its own would be a panic within a panic, in any code.
        let tracked = if number == 9 { drops.track() } else { drops.track_panicking() };
        async move {
            let _tracked = tracked;
            if number == 9 {
                panic_any("the first");
            }
            pending::<()>().await;
        }
    };
    assert_eq!(panics_with(|| park_on(gather(0..20, each))), "the first");
    assert_eq!(drops.count(), 10);

    // While another panic unwinds through the frame that holds it.
    let drops = Drops::new();
    let panic = panics_with(|| {
        let mut all = Box::pin(gather(0..20, |_| {
            let tracked = drops.track_panicking();
            async move {
                let _tracked = tracked;
                pending::<()>().await;
            }
        }));
        assert!(poll_once(all.as_mut()).is_pending());
        panic_any("outside");
    });
    assert_eq!(panic, "outside");
    assert_eq!(drops.count(), 20);

    // Results whose drops panic.
    let drops = Drops::new();
    let each = |number: usize| {
        let result = drops.track_panicking();
        async move {
            if number >= 10 {
                pending::<()>().await;
            }
            result
        }
    };
    let mut all = Box::pin(gather(0..20, each));
    assert!(poll_once(all.as_mut()).is_pending());
    assert_eq!(panics_with(|| drop(all)), "in the drop of a tracked value");
    assert_eq!(drops.count(), 20);
}

/// Keeps the wakers of what polls it; done when it is let.
#[derive(Clone, Default)]
struct Keeper {
    wakers: Arc<Mutex<Vec<Waker>>>,
    done: Arc<AtomicBool>,
}

impl Keeper {
    fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let keeper = self.clone();
        poll_fn(move |cx| {
            if keeper.done.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            keeper.wakers.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn take(&self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers.lock().unwrap())
    }
}

/// [GATHER-1]
#[test]
fn wakers_may_outlive_it_and_be_used_on_any_thread() {
    for limit in [1, 32, 33, 3_000] {
        let keeper = Keeper::default();
        let (parent, wakes) = Wakes::new();
        let mut all = Box::pin(gather(0..limit, |_| keeper.wait()).limit(limit));
        for _ in 0..2 * limit / 128 + 2 {
            assert!(poll_with(all.as_mut(), &parent).is_pending());
        }
        let wakers = keeper.take();
        assert_eq!(wakers.len(), limit);
        let before = wakes.count();
        // Bugs.md 28: what is left of it keeps nobody's task.
        drop(all);
        assert_eq!(Arc::strong_count(&wakes), 2, "the parent's waker is gone");
        elsewhere(|| {
            let clones = wakers.to_vec();
            clones.iter().for_each(Waker::wake_by_ref);
            clones.into_iter().for_each(Waker::wake);
            wakers.iter().for_each(Waker::wake_by_ref);
        });
        let halves = Mutex::new(wakers);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(waker) = { halves.lock().unwrap().pop() } {
                        waker.wake();
                    }
                });
            }
        });
        assert_eq!(wakes.count(), before, "nobody is woken any more");
    }
}

#[test]
fn a_waker_from_an_earlier_child_wakes_no_more_than_who_has_its_place() {
    let keeper = Keeper::default();
    let polls = Cell::new(0);
    let each = |number: usize| {
        let (keeper, polls) = (&keeper, &polls);
        let mut polled = false;
        poll_fn(move |cx| {
            if number == 0 {
                keeper.wakers.lock().unwrap().push(cx.waker().clone());
                cx.waker().wake_by_ref();
                return if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending };
            }
            polls.set(polls.get() + 1);
            Poll::Pending
        })
    };
    let mut all = pin!(gather(0..2, each).limit(1));
    for _ in 0..5 {
        assert!(poll_once(all.as_mut()).is_pending());
    }
    let before = polls.get();
    assert!(
        (1..=2).contains(&before),
        "{before} polls: one to start it, one for what its predecessor left behind"
    );
    let wakers = keeper.take();
    assert!(wakers[0].will_wake(&wakers[1]));
    elsewhere(|| wakers.into_iter().for_each(Waker::wake));
    assert!(poll_once(all.as_mut()).is_pending());
    assert_eq!(polls.get(), before + 1, "one poll for nothing");
    assert!(poll_once(all.as_mut()).is_pending());
    assert_eq!(polls.get(), before + 1);
}

/// [GATHER-3]
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let keeper = Keeper::default();
    let mut all = Box::pin(gather(0..3, |_| keeper.wait()));
    let (first, first_wakes) = Wakes::new();
    let (second, second_wakes) = Wakes::new();
    assert!(poll_with(all.as_mut(), &first).is_pending());
    assert!(poll_with(all.as_mut(), &second).is_pending());
    assert_eq!(Arc::strong_count(&first_wakes), 2, "the first is forgotten");
    for count in 1..4 {
        keeper.take().into_iter().for_each(Waker::wake);
        assert_eq!((first_wakes.count(), second_wakes.count()), (0, count));
        assert_eq!(Arc::strong_count(&second_wakes), 2, "a waker is left once, and taken by who wakes");
        assert!(poll_with(all.as_mut(), &second).is_pending());
    }
    // The same one again is not cloned.
    let (third, hooks) = Hooks::new();
    for _ in 0..5 {
        assert!(poll_with(all.as_mut(), &third).is_pending());
        assert_eq!(hooks.clones(), 1);
    }
    drop(all);
    drop(third);
    assert_eq!(hooks.wakers_left(), 0);
}

/// bugs.md 35: no user code runs while anything is held, so a waker may come back at each of its functions, or panic.
#[test]
fn a_parents_waker_may_wake_children_and_panic() {
    // Each function of the parent's waker wakes all children again.
    let keeper = Keeper::default();
    let mut all = Box::pin(gather(0..40, |_| keeper.wait()));
    let again = || {
        let wakers = keeper.wakers.clone();
        move || {
            let wakers = wakers.lock().unwrap().clone();
            wakers.iter().for_each(Waker::wake_by_ref);
        }
    };
    for _ in 0..10 {
        let (parent, hooks) = Hooks::new();
        hooks.on_clone(again());
        hooks.on_wake(again());
        hooks.on_drop(again());
        assert!(poll_with(all.as_mut(), &parent).is_pending());
        assert!(poll_with(all.as_mut(), &parent).is_pending());
        assert!(hooks.wakes() > 0, "a wake during the registration is not lost");
        keeper.take().into_iter().for_each(Waker::wake);
        hooks.clear();
    }
    // And each panics.
    for function in 0..3 {
        let (parent, hooks) = Hooks::new();
        let bomb = || panic!("in a waker");
        match function {
            0 => hooks.on_clone(bomb),
            1 => hooks.on_wake(bomb),
            _ => hooks.on_drop(bomb),
        }
        let keeper = Keeper::default();
        let mut all = Box::pin(gather(0..40, |_| keeper.wait()));
        let polled = catch_unwind(AssertUnwindSafe(|| poll_with(all.as_mut(), &parent)));
        assert_eq!(polled.is_err(), function == 0);
        for waker in keeper.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(all)));
        hooks.clear();
        drop(parent);
        assert_eq!(hooks.wakers_left(), 0, "function {function}");
    }
}

/// [GATHER-2] [GATHER-4] Every wake from elsewhere is answered by a poll, or this hangs.
#[test]
fn of_a_million_wakes_from_other_threads_none_is_lost() {
    const WAKES: usize = 1_000_000;
    must_end(|| {
        for limit in [1, 40] {
            // Each child asks a thread for a wake, and is polled for it, again and again.
            let (asked, asks) = std::sync::mpsc::channel::<(Waker, Arc<AtomicBool>)>();
            let thread = thread::spawn(move || {
                for (waker, answered) in asks {
                    answered.store(true, Ordering::Relaxed);
                    // Its Release is what shows the child the answer (bugs.md 27).
                    waker.wake();
                }
            });
            let rounds = WAKES / limit / 4;
            let each = |_| {
                let asked = asked.clone();
                let answered = Arc::new(AtomicBool::new(false));
                let mut left = rounds;
                let mut waits = false;
                poll_fn(move |cx| {
                    if waits && !answered.swap(false, Ordering::Relaxed) {
                        return Poll::Pending;
                    }
                    if left == 0 {
                        return Poll::Ready(1);
                    }
                    (left, waits) = (left - 1, true);
                    asked.send((cx.waker().clone(), answered.clone())).unwrap();
                    Poll::Pending
                })
            };
            let sum: u32 = park_on(gather(0..limit, each).limit(limit)).iter().sum();
            assert_eq!(sum as usize, limit);
            drop(asked);
            thread.join().unwrap();
        }
        // Two threads at once that wake all, a hundred in step, while it is polled all the time, and as it sleeps.
        const CHILDREN: usize = 70;
        let keeper = Keeper::default();
        let counters: Arc<Vec<AtomicUsize>> = Arc::new((0..CHILDREN).map(|_| AtomicUsize::new(0)).collect());
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let barrier = Arc::new(Barrier::new(3));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (counters, wakers, barrier) = (counters.clone(), wakers.clone(), barrier.clone());
                thread::spawn(move || {
                    barrier.wait();
                    let wakers: Vec<Waker> = wakers.lock().unwrap().clone();
                    for round in 0..3_000 {
                        for at in 0..CHILDREN {
                            let at = (at * 31 + round) % CHILDREN;
                            counters[at].fetch_add(1, Ordering::Relaxed);
                            wakers[at].wake_by_ref();
                        }
                    }
                })
            })
            .collect();
        let each = |number: usize| {
            let (counters, wakers, barrier, keeper) = (&counters, &wakers, &barrier, &keeper);
            let mut is_first = true;
            poll_fn(move |cx| {
                if std::mem::take(&mut is_first) {
                    keeper.wakers.lock().unwrap().push(cx.waker().clone());
                    if number + 1 == CHILDREN {
                        *wakers.lock().unwrap() = keeper.take();
                        barrier.wait();
                    }
                }
                // The last wake of each comes after the last count.
                match counters[number].load(Ordering::Relaxed) {
                    6_000 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
        };
        assert_eq!(park_on(gather(0..CHILDREN, each).limit(CHILDREN)).len(), CHILDREN);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn it_may_move_between_its_polls_and_to_another_thread() {
    let gate = Gate::new();
    let mut all = gather(0..10_u32, {
        let gate = gate.clone();
        move |number| {
            let gate = gate.clone();
            async move {
                // Refers to itself over an await, so a move of it would show.
                let text = number.to_string();
                let borrowed = &text;
                gate.wait().await;
                borrowed.len()
            }
        }
    });
    assert!(poll_once(Pin::new(&mut all)).is_pending());
    let mut moved = Box::new(all);
    assert!(poll_once(Pin::new(&mut *moved)).is_pending());
    let lengths = elsewhere(move || {
        gate.open();
        park_on(*moved)
    });
    assert_eq!(lengths, [1; 10]);
}

#[test]
fn it_tells_how_far_it_is() {
    let mut all = gather(0..10, |_| pending::<()>()).limit(3);
    assert!(poll_once(Pin::new(&mut all)).is_pending());
    assert_eq!(format!("{all:?}"), "Gather { limit: 3, taken: 3, live: 3, state: Taking, .. }");
}

#[test]
fn many_at_once_end_in_any_order() {
    // Gates open in an order of their own, from this thread and another, with places used again and again.
    must_end(|| {
        let open: Mutex<VecDeque<Gate>> = Mutex::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let gate = { open.lock().unwrap().pop_back() };
                    match gate {
                        Some(gate) => gate.open(),
                        None => thread::yield_now(),
                    }
                }
            });
            let each = async |number: usize| {
                let gate = Gate::new();
                open.lock().unwrap().push_back(gate.clone());
                gate.wait().await;
                number
            };
            let expected: Vec<usize> = (0..20_000).collect();
            let results = catch_unwind(AssertUnwindSafe(|| park_on(gather(0..20_000, each).limit(100))));
            stop.store(true, Ordering::SeqCst);
            assert!(results.is_ok_and(|results| results == expected));
        });
    });
}

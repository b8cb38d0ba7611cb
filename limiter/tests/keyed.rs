//! A limit for each key: as fair as one semaphore, one semaphore for one key, and nothing kept of a key that nobody uses.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Wake, Waker};
use std::thread;

use anteroom_limiter::{Keyed, KeyedAcquire, KeyedError, KeyedPermit, LimitError, TryKeyedError};
use common::{Bell, block_on, poll_once, poll_with};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn take<K: Hash + Eq>(keyed: &Keyed<K>, key: K) -> KeyedPermit<K> {
    keyed.try_acquire(key).expect("there is room")
}

#[test]
fn each_key_has_its_own_limit() {
    let keyed = Keyed::new(2);
    let permits = [take(&keyed, "a"), take(&keyed, "a"), take(&keyed, "b"), take(&keyed, "b")];
    assert_eq!(keyed.try_acquire("a").unwrap_err(), TryKeyedError::NoPermits);
    assert_eq!(keyed.try_acquire("b").unwrap_err(), TryKeyedError::NoPermits);
    assert_eq!((keyed.len(), keyed.in_use("a"), keyed.in_use("b"), keyed.in_use("c")), (2, 2, 2, 0));
    drop(permits);
    assert!(keyed.is_empty());
}

/// [KEYED-2]: by the last permit, by the last waiter, by a refusal, and by whatever order they go in.
#[test]
fn a_key_is_forgotten_the_moment_that_nobody_uses_it() {
    let keyed = Keyed::new(1);
    let permit = take(&keyed, "a");
    assert!(keyed.try_acquire("a").is_err());
    assert_eq!(keyed.len(), 1);
    let mut waiter = keyed.acquire("a");
    let mut leaver = keyed.acquire("a");
    let never_polled = keyed.acquire("b");
    assert!(poll_once(&mut waiter).is_pending() && poll_once(&mut leaver).is_pending());
    assert_eq!(keyed.len(), 1, "what was not polled has not entered");
    drop((never_polled, leaver, permit));
    assert_eq!((keyed.len(), keyed.in_use("a")), (1, 1), "granted, and not told yet");
    let Poll::Ready(Ok(permit)) = poll_once(&mut waiter) else { panic!("it was next") };
    drop(waiter);
    assert_eq!(keyed.len(), 1);
    drop(permit);
    assert!(keyed.is_empty());
}

/// [KEYED-1], [KEYED-2]: while one waits for it, the key's semaphore stays the same, whoever else goes.
#[test]
fn who_waits_keeps_the_semaphore_that_newcomers_find() {
    let keyed = Keyed::new(1);
    let mut permit = take(&keyed, "a");
    for _ in 0..10 {
        let mut next = keyed.acquire("a");
        assert!(poll_once(&mut next).is_pending());
        drop(permit);
        assert!(keyed.try_acquire("a").is_err(), "granted to the one that waited");
        let Poll::Ready(Ok(granted)) = poll_once(&mut next) else { panic!("it was next") };
        permit = granted;
    }
    drop(permit);
    assert!(keyed.is_empty());
}

/// [KEYED-3]
#[test]
fn at_the_cap_a_new_key_is_refused_and_those_in_use_are_served() {
    let keyed = Keyed::new(1).max_keys(2);
    let (a, b) = (take(&keyed, "a"), take(&keyed, "b"));
    assert_eq!(keyed.try_acquire("c").unwrap_err(), TryKeyedError::TooManyKeys);
    assert_eq!(block_on(keyed.acquire("c")).unwrap_err(), KeyedError::TooManyKeys);
    let mut waiter = keyed.acquire("a");
    assert!(poll_once(&mut waiter).is_pending());
    drop(a);
    assert!(poll_once(&mut waiter).is_ready()); // and dropped
    let c = take(&keyed, "c");
    drop((b, c));
    let keyed = keyed.max_keys(1);
    assert!(keyed.is_empty());
}

#[test]
fn the_cap_that_nobody_set_is_the_documented_one() {
    let keyed = Keyed::new(1);
    let permits: Vec<_> = (0..Keyed::<usize>::DEFAULT_MAX_KEYS).map(|key| take(&keyed, key)).collect();
    assert_eq!(keyed.try_acquire(usize::MAX).unwrap_err(), TryKeyedError::TooManyKeys);
    drop(permits);
    assert!(keyed.is_empty());
}

#[test]
fn waiters_of_one_key_are_served_in_the_order_in_which_they_came() {
    let keyed = Keyed::new(1);
    let (permit, other) = (take(&keyed, "a"), take(&keyed, "b"));
    let mut waiters: Vec<_> = (0..5).map(|_| keyed.acquire("a")).collect();
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    drop(other);
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter).is_pending()), "b is not theirs");
    drop(permit);
    for at in 0..5 {
        let ready: Vec<_> = (at..5).map(|later| poll_once(&mut waiters[later])).collect();
        assert_eq!(ready.iter().filter(|poll| poll.is_ready()).count(), 1);
        assert!(ready[0].is_ready());
    }
    drop(waiters);
    assert!(keyed.is_empty());
}

/// Dropped at every point, with somebody behind it who must be served.
#[test]
fn a_future_that_is_dropped_at_any_point_loses_nothing() {
    for point in ["unpolled", "waiting", "granted"] {
        let keyed = Keyed::new(1);
        let mut held = Some(take(&keyed, "a"));
        let mut dropped = keyed.acquire("a");
        let mut behind = keyed.acquire("a");
        if point != "unpolled" {
            assert!(poll_once(&mut dropped).is_pending());
        }
        assert!(poll_once(&mut behind).is_pending());
        if point == "granted" {
            held = None;
        }
        drop(dropped);
        drop(held);
        assert!(matches!(poll_once(&mut behind), Poll::Ready(Ok(_))), "{point}");
        assert!(keyed.is_empty(), "{point}");
    }
}

#[test]
fn close_tells_all_who_wait_and_all_who_come_whatever_their_key() {
    let keyed = Keyed::new(1);
    let permits = [take(&keyed, "a"), take(&keyed, "b")];
    let bells = [Bell::new(), Bell::new()];
    let mut waiters = [keyed.acquire("a"), keyed.acquire("b")];
    for (waiter, bell) in waiters.iter_mut().zip(&bells) {
        assert!(poll_with(waiter, &Arc::clone(bell).into()).is_pending());
    }
    keyed.close();
    keyed.close();
    assert_eq!(bells.map(|bell| bell.wakes()), [1, 1]);
    for mut waiter in waiters {
        let Poll::Ready(result) = poll_once(&mut waiter) else { panic!("it was told") };
        assert_eq!(result.unwrap_err(), KeyedError::Closed);
    }
    assert_eq!(keyed.try_acquire("a").unwrap_err(), TryKeyedError::Closed);
    assert_eq!(block_on(keyed.acquire("new")).unwrap_err(), KeyedError::Closed);
    assert!(keyed.is_closed() && keyed.clone().is_closed());
    assert_eq!((keyed.len(), keyed.in_use("a")), (2, 1));
    drop(permits);
    assert!(keyed.is_empty());
}

/// [KEYED-5]
#[test]
fn a_new_limit_is_that_of_keys_in_use_and_of_keys_to_come() {
    let keyed = Keyed::new(2);
    let _two = [take(&keyed, "a"), take(&keyed, "a")];
    let mut waiter = keyed.acquire("a");
    assert!(poll_once(&mut waiter).is_pending());
    keyed.set_limit(3).unwrap();
    let Poll::Ready(Ok(_third)) = poll_once(&mut waiter) else { panic!("there is room now") };
    keyed.set_limit(1).unwrap();
    assert_eq!(keyed.in_use("a"), 3);
    let _one = take(&keyed, "b");
    assert!(keyed.try_acquire("b").is_err());
    assert_eq!(keyed.set_limit(0).unwrap_err(), LimitError::Zero);
    assert_eq!(keyed.limit(), 1);
}

type Act = Rc<dyn Fn()>;

/// Hashes to one and the same, and does what it is told before it is hashed, compared and dropped.
struct Odd {
    name: u32,
    on_hash: Option<Act>,
    on_eq: Option<Act>,
    on_drop: Option<Act>,
}

impl Odd {
    fn new(name: u32) -> Self {
        Self { name, on_hash: None, on_eq: None, on_drop: None }
    }

    fn on_hash(mut self, act: &Act) -> Self {
        self.on_hash = Some(Rc::clone(act));
        self
    }

    fn on_eq(mut self, act: &Act) -> Self {
        self.on_eq = Some(Rc::clone(act));
        self
    }

    fn on_drop(mut self, act: &Act) -> Self {
        self.on_drop = Some(Rc::clone(act));
        self
    }
}

fn act(act: &Option<Act>) {
    if let Some(act) = act {
        act();
    }
}

impl Hash for Odd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        act(&self.on_hash);
        0.hash(state);
    }
}

impl PartialEq for Odd {
    fn eq(&self, other: &Self) -> bool {
        act(&self.on_eq);
        act(&other.on_eq);
        self.name == other.name
    }
}

impl Eq for Odd {}

impl Drop for Odd {
    fn drop(&mut self) {
        act(&self.on_drop);
    }
}

/// [KEYED-1]: keys that cannot be told apart by their hash are told apart.
#[test]
fn keys_with_one_hash_have_limits_of_their_own() {
    let keyed = Keyed::new(1);
    let mut permits: Vec<_> = (0..8).map(|name| take(&keyed, Odd::new(name))).collect();
    assert_eq!(keyed.len(), 8);
    for round in 0..8 {
        for name in 0..8 {
            let again = keyed.try_acquire(Odd::new(name));
            assert_eq!(again.is_ok(), permits.iter().all(|permit| permit.key().name != name));
            assert_eq!(keyed.in_use(&Odd::new(name)), 1);
        }
        assert_eq!(keyed.len(), 8 - round);
        drop(permits.swap_remove(round % permits.len()));
    }
    assert!(keyed.is_empty());
}

/// [KEYED-4]: whatever panics, the map is whole, nothing is locked, and the one that was there keeps its limit.
#[test]
fn a_key_that_panics_when_hashed_compared_or_dropped_changes_nothing() {
    let keyed = Keyed::new(1);
    let permit = take(&keyed, Odd::new(1));
    let panics: Act = Rc::new(|| panic!("a key"));
    for (bad, at_once) in [
        (Odd::new(1).on_hash(&panics), true),
        (Odd::new(2).on_hash(&panics), false),
        (Odd::new(1).on_eq(&panics), true),
        (Odd::new(1).on_eq(&panics), false),
        (Odd::new(2).on_eq(&panics), true),
        (Odd::new(2).on_eq(&panics), false),
        (Odd::new(1).on_drop(&panics), true),
        (Odd::new(1).on_drop(&panics), false),
    ] {
        if at_once {
            assert!(catch_unwind(AssertUnwindSafe(|| keyed.try_acquire(bad))).is_err());
        } else {
            let mut acquire = keyed.acquire(bad);
            assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut acquire))).is_err());
        }
        assert_eq!((keyed.len(), keyed.in_use(&Odd::new(1))), (1, 1));
        assert!(keyed.try_acquire(Odd::new(1)).is_err());
    }
    drop(permit);
    // One that panics as it is forgotten is forgotten.
    let permit = take(&keyed, Odd::new(3).on_drop(&panics));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(permit))).is_err());
    assert!(keyed.is_empty());
    drop(take(&keyed, Odd::new(3)));
}

/// [KEYED-4]: none of them runs under the lock.
#[test]
fn a_key_that_comes_back_when_hashed_compared_or_dropped_never_deadlocks() {
    let (keyed, calls) = (Keyed::new(1), Rc::new(Cell::new(0)));
    let comes_back: Act = Rc::new({
        let (keyed, calls) = (keyed.clone(), Rc::clone(&calls));
        let inside = Cell::new(false);
        move || {
            if inside.replace(true) {
                return; // It meets itself in there.
            }
            calls.set(calls.get() + 1);
            let _ = (keyed.try_acquire(Odd::new(7)), keyed.in_use(&Odd::new(8)), keyed.len());
            let _ = format!("{keyed:?}");
            keyed.set_limit(1).unwrap();
            inside.set(false);
        }
    });
    let odd = || Odd::new(1).on_hash(&comes_back).on_eq(&comes_back).on_drop(&comes_back);
    let permit = take(&keyed, odd());
    let mut waiter = keyed.acquire(odd());
    assert!(poll_once(&mut waiter).is_pending());
    assert!(keyed.try_acquire(odd()).is_err());
    drop((waiter, permit));
    assert!(calls.get() > 6, "{}", calls.get());
    assert!(keyed.is_empty());
}

/// Comes back into all that it may, and panics.
struct Rude(Keyed<u32>, AtomicUsize);

impl Wake for Rude {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, SeqCst);
        for key in 0..3 {
            let _ = (self.0.try_acquire(key), self.0.in_use(&key));
        }
        let _ = poll_once(&mut self.0.acquire(0));
        self.0.set_limit(self.0.limit()).unwrap();
        panic!("a waker");
    }
}

/// [KEYED-4]: and nobody else is kept from being served.
#[test]
fn a_waker_that_comes_back_and_panics_keeps_no_other_key_from_its_news() {
    for news in ["release", "limit", "close"] {
        let keyed = Keyed::new(1);
        let held = [take(&keyed, 0), take(&keyed, 1), take(&keyed, 2)];
        let rude = Arc::new(Rude(keyed.clone(), AtomicUsize::new(0)));
        let mut waiters: Vec<_> = (0..3).map(|key| keyed.acquire(key)).collect();
        for waiter in &mut waiters {
            assert!(poll_with(waiter, &Waker::from(Arc::clone(&rude))).is_pending());
        }
        let mut held = Some(held);
        let told = catch_unwind(AssertUnwindSafe(|| match news {
            "release" => drop(held.take()),
            "limit" => keyed.set_limit(2).unwrap(),
            _ => keyed.close(),
        }));
        assert!(told.is_err(), "{news}: the panic is passed on");
        assert_eq!(rude.1.load(SeqCst), 3, "{news}");
        for mut waiter in waiters {
            let Poll::Ready(result) = poll_once(&mut waiter) else { panic!("{news}: it was told") };
            assert_eq!(result.is_ok(), news != "close");
        }
        drop(held);
        assert!(keyed.is_empty(), "{news}");
    }
}

#[test]
#[should_panic(expected = "Keyed::new(0): a semaphore's limit must be at least 1")]
fn a_limit_of_zero_is_named() {
    let _ = Keyed::<u8>::new(0);
}

#[test]
#[should_panic(expected = "Keyed::max_keys(0)")]
fn a_cap_of_zero_is_named() {
    let _ = Keyed::<u8>::new(1).max_keys(0);
}

#[test]
#[should_panic(expected = "a KeyedAcquire was polled after it had resolved")]
fn a_resolved_future_says_so_when_it_is_polled_again() {
    let keyed = Keyed::new(1);
    let mut acquire = keyed.acquire(1);
    let _permit = poll_once(&mut acquire);
    let _ = poll_once(&mut acquire);
}

/// [KEYED-1], [KEYED-2] on threads: a permit of a key is the only one, however often the key comes and goes.
#[test]
fn a_hundred_thousand_races_of_last_and_first_never_give_a_key_two_permits() {
    const KEYS: usize = 3;
    let keyed = Keyed::new(1);
    let held = [(); KEYS].map(|()| AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..4_usize {
            let (keyed, held) = (&keyed, &held);
            scope.spawn(move || {
                for round in 0..25_000 {
                    let key = (seed + round * 7) % KEYS;
                    let permit = match round % 4 {
                        0 => Some(block_on(keyed.acquire(key)).unwrap()),
                        1 => keyed.try_acquire(key).ok(),
                        _ => match poll_once(&mut keyed.acquire(key)) {
                            Poll::Ready(permit) => Some(permit.unwrap()),
                            Poll::Pending => None, // dropped as it waits, or as it is granted
                        },
                    };
                    if let Some(permit) = permit {
                        assert_eq!(held[key].fetch_add(1, SeqCst), 0, "two permits of {key}");
                        held[key].fetch_sub(1, SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(keyed.is_empty());
}

/// [KEYED-5] on threads: after the last of them has returned, every key has the limit that the whole says.
#[test]
fn limits_that_are_set_at_once_end_as_one() {
    for _ in 0..200 {
        let keyed = Keyed::new(1);
        let _held: Vec<_> = (0..20).map(|key| take(&keyed, key)).collect();
        thread::scope(|scope| {
            for limit in 2..5 {
                let keyed = &keyed;
                scope.spawn(move || keyed.set_limit(limit).unwrap());
            }
        });
        let limit = keyed.limit();
        for key in 0..20 {
            let more: Vec<_> = (1..=limit).map_while(|_| keyed.try_acquire(key).ok()).collect();
            assert_eq!(more.len() + 1, limit);
        }
    }
}

/// A call, on a key or on a future or a permit, by its number modulo how many there are.
#[derive(Clone, Debug)]
enum Op {
    Try(u8),
    Acquire(u8),
    Poll(usize),
    DropFuture(usize),
    DropPermit(usize),
    SetLimit(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = any::<usize>;
    proptest::collection::vec(
        prop_oneof![
            4 => (0..5_u8).prop_map(Op::Try),
            8 => (0..5_u8).prop_map(Op::Acquire),
            12 => pick().prop_map(Op::Poll),
            6 => pick().prop_map(Op::DropFuture),
            8 => pick().prop_map(Op::DropPermit),
            2 => (1..4_usize).prop_map(Op::SetLimit),
        ],
        1..120,
    )
}

/// What one key should be: who waits, in order, and how many there are in use.
#[derive(Default)]
struct Line {
    in_use: usize,
    waiting: Vec<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [KEYED-1], [KEYED-2], [KEYED-3]
    #[test]
    fn any_sequence_of_calls_agrees_with_a_line_for_each_key(max in 1..5_usize, ops in ops()) {
        let keyed = Keyed::new(2).max_keys(max);
        let mut limit = 2;
        // By the number of its making; None before its first poll.
        let mut futures: BTreeMap<usize, (KeyedAcquire<u8>, u8, Option<bool>)> = BTreeMap::new();
        let mut permits: Vec<KeyedPermit<u8>> = Vec::new();
        let mut lines: BTreeMap<u8, Line> = BTreeMap::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Try(key) => {
                    let expected = match lines.get(&key) {
                        None if lines.len() >= max => Err(TryKeyedError::TooManyKeys),
                        Some(line) if line.in_use >= limit || !line.waiting.is_empty() => {
                            Err(TryKeyedError::NoPermits)
                        }
                        _ => Ok(()),
                    };
                    let result = keyed.try_acquire(key);
                    prop_assert_eq!(result.as_ref().map(|_| ()), expected.as_ref().map(|_| ()));
                    if let Ok(permit) = result {
                        lines.entry(key).or_default().in_use += 1;
                        permits.push(permit);
                    }
                }
                Op::Acquire(key) => {
                    futures.insert(number, (keyed.acquire(key), key, None));
                }
                Op::Poll(n) if !futures.is_empty() => {
                    let at = *futures.keys().nth(n % futures.len()).unwrap();
                    let (future, key, state) = futures.get_mut(&at).unwrap();
                    let (key, result) = (*key, poll_once(future));
                    match state {
                        Some(false) => prop_assert!(result.is_pending()),
                        None if !lines.contains_key(&key) && lines.len() >= max => {
                            prop_assert!(matches!(result, Poll::Ready(Err(KeyedError::TooManyKeys))));
                            futures.remove(&at);
                        }
                        None => {
                            let line = lines.entry(key).or_default();
                            if line.in_use >= limit || !line.waiting.is_empty() {
                                prop_assert!(result.is_pending());
                                line.waiting.push(at);
                                *state = Some(false);
                            } else {
                                let Poll::Ready(Ok(permit)) = result else {
                                    return Err(TestCaseError::fail("there was room"));
                                };
                                line.in_use += 1;
                                permits.push(permit);
                                futures.remove(&at);
                            }
                        }
                        Some(true) => {
                            let Poll::Ready(Ok(permit)) = result else {
                                return Err(TestCaseError::fail("it was granted"));
                            };
                            permits.push(permit);
                            futures.remove(&at);
                        }
                    }
                }
                Op::DropFuture(n) if !futures.is_empty() => {
                    let at = *futures.keys().nth(n % futures.len()).unwrap();
                    let (future, key, state) = futures.remove(&at).unwrap();
                    drop(future);
                    if let (Some(granted), Some(line)) = (state, lines.get_mut(&key)) {
                        line.in_use -= usize::from(granted);
                        line.waiting.retain(|&other| other != at);
                    }
                }
                Op::DropPermit(n) if !permits.is_empty() => {
                    let permit = permits.swap_remove(n % permits.len());
                    lines.get_mut(permit.key()).unwrap().in_use -= 1;
                    drop(permit);
                }
                Op::SetLimit(new) => {
                    keyed.set_limit(new).unwrap();
                    limit = new;
                }
                Op::Poll(_) | Op::DropFuture(_) | Op::DropPermit(_) => {}
            }
            for line in lines.values_mut() {
                while line.in_use < limit && !line.waiting.is_empty() {
                    line.in_use += 1;
                    futures.get_mut(&line.waiting.remove(0)).unwrap().2 = Some(true);
                }
            }
            lines.retain(|_, line| line.in_use > 0 || !line.waiting.is_empty());
            prop_assert_eq!(keyed.len(), lines.len());
            for key in 0..5 {
                prop_assert_eq!(keyed.in_use(&key), lines.get(&key).map_or(0, |line| line.in_use));
            }
        }
        drop((futures, permits));
        prop_assert!(keyed.is_empty());
    }
}

/// Its key is dropped where the last user goes, not later and not twice.
#[test]
fn a_key_is_dropped_once_and_with_its_last_user() {
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let keyed = Keyed::new(2);
    let copy = |copy| {
        let dropped = Rc::clone(&dropped);
        let note: Act = Rc::new(move || dropped.borrow_mut().push(copy));
        Odd::new(1).on_drop(&note)
    };
    let one = take(&keyed, copy(1));
    let two = take(&keyed, copy(2));
    assert_eq!(*dropped.borrow(), [2], "the key is there already");
    drop(one);
    assert_eq!(*dropped.borrow(), [2]);
    drop(two);
    assert_eq!(*dropped.borrow(), [2, 1]);
}

//! The ledger against a model so naive that it can be checked by reading: lists, and sums over them.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

/// Who has units, who waits, in order. `in_use` is not a number here but the sum of what is held.
#[derive(Default)]
struct Model {
    limit: [usize; 2],
    held: Vec<[usize; 2]>,
    /// Those who come back, who are first, and the others.
    back: Vec<(u32, [usize; 2])>,
    queue: Vec<(u32, [usize; 2])>,
    closed: bool,
}

impl Model {
    fn in_use(&self) -> [usize; 2] {
        self.held.iter().fold([0, 0], |sum, units| [sum[0] + units[0], sum[1] + units[1]])
    }

    fn fits(&self, units: [usize; 2]) -> bool {
        let in_use = self.in_use();
        (0..2).all(|d| units[d] == 0 || in_use[d] + units[d] <= self.limit[d])
    }

    /// Who comes back with more than the limit comes when nothing is in use.
    fn fits_back(&self, units: [usize; 2]) -> bool {
        let in_use = self.in_use();
        (0..2).all(|d| {
            units[d] == 0
                || in_use[d] + units[d] <= self.limit[d]
                || (units[d] > self.limit[d] && in_use[d] == 0)
        })
    }

    fn waiting(&self) -> impl Iterator<Item = &(u32, [usize; 2])> {
        self.back.iter().chain(&self.queue)
    }

    /// Takes one out, who may be in either line.
    fn cancel(&mut self, name: u32) -> Option<u32> {
        [&mut self.back, &mut self.queue].into_iter().find_map(|line| {
            let at = line.iter().position(|waiter| waiter.0 == name)?;
            Some(line.remove(at).0)
        })
    }

    fn try_acquire(&mut self, units: [usize; 2]) -> Result<(), Refusal> {
        if self.closed {
            Err(Refusal::Closed)
        } else if units[0] > self.limit[0] || units[1] > self.limit[1] {
            Err(Refusal::ExceedsLimit)
        } else if !self.fits(units) {
            Err(Refusal::Full)
        } else if self.waiting().count() > 0 {
            Err(Refusal::Queued)
        } else {
            self.held.push(units);
            Ok(())
        }
    }

    fn grant(&mut self) -> Option<([usize; 2], u32)> {
        if let Some(&(name, units)) = self.back.first() {
            return self.fits_back(units).then(|| {
                self.back.remove(0);
                self.held.push(units);
                (units, name)
            });
        }
        let &(name, units) = self.queue.first()?;
        if self.closed || !self.fits(units) {
            return None;
        }
        self.queue.remove(0);
        self.held.push(units);
        Some((units, name))
    }
}

#[derive(Clone, Debug)]
enum Op {
    TryAcquire([usize; 2]),
    Enqueue([usize; 2]),
    /// The n-th key ever made, modulo how many there are: also the stale ones.
    Cancel(usize),
    /// The n-th holding, modulo how many there are.
    Release(usize),
    SetLimit([usize; 2]),
    Charge([usize; 2]),
    /// The n-th holding is given back for a while, and comes back.
    Reenter(usize),
    Grant,
    GrantLoop,
    Close,
    Evict,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let units = || [0..6usize, 0..6usize];
    let op = prop_oneof![
        4 => units().prop_map(Op::TryAcquire),
        6 => units().prop_map(Op::Enqueue),
        4 => any::<usize>().prop_map(Op::Cancel),
        6 => any::<usize>().prop_map(Op::Release),
        3 => units().prop_map(Op::SetLimit),
        2 => units().prop_map(Op::Charge),
        5 => any::<usize>().prop_map(Op::Reenter),
        3 => Just(Op::Grant),
        5 => Just(Op::GrantLoop),
        1 => Just(Op::Close),
        1 => Just(Op::Evict),
    ];
    proptest::collection::vec(op, 1..120)
}

fn run(limit: [usize; 2], ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut ledger = Ledger::new(limit);
    let mut model = Model { limit, ..Model::default() };
    let mut keys = Vec::new(); // The waiter with name n has the n-th key.
    let (mut granted, mut backs) = (Vec::new(), Vec::new());
    for op in ops {
        match op {
            Op::TryAcquire(units) => prop_assert_eq!(ledger.try_acquire(units), model.try_acquire(units)),
            Op::Enqueue(units) if !model.closed => {
                let name = keys.len() as u32;
                keys.push(ledger.enqueue(units, name));
                model.queue.push((name, units));
            }
            Op::Cancel(n) if !keys.is_empty() => {
                let name = n % keys.len();
                let expected = model.cancel(name as u32);
                prop_assert_eq!(ledger.get_mut(keys[name]).copied(), expected);
                prop_assert_eq!(ledger.cancel(keys[name]), expected); // [LEDGER-4]
                if expected.is_none() && granted.contains(&(name as u32)) {
                    prop_assert!(ledger.was_granted(keys[name]));
                }
            }
            Op::Release(n) if !model.held.is_empty() => {
                let units = model.held.swap_remove(n % model.held.len());
                ledger.release(units);
            }
            Op::SetLimit(limit) => {
                ledger.set_limit(limit);
                model.limit = limit;
            }
            Op::Charge(units) => {
                prop_assert_eq!(ledger.charge(units), units);
                model.held.push(units);
            }
            Op::Reenter(n) if !model.held.is_empty() => {
                let units = model.held.swap_remove(n % model.held.len());
                ledger.release(units);
                let name = keys.len() as u32;
                let comes_in = model.back.is_empty() && model.fits_back(units);
                match ledger.reenter(units, name) {
                    Ok(back) => {
                        prop_assert!(comes_in && back == name);
                        model.held.push(units);
                    }
                    Err(key) => {
                        prop_assert!(!comes_in);
                        keys.push(key);
                        backs.push(name);
                        model.back.push((name, units));
                    }
                }
            }
            Op::Grant => {
                let grant = ledger.grant();
                prop_assert_eq!(grant, model.grant());
                granted.extend(grant.map(|(_, name)| name));
            }
            Op::GrantLoop => {
                while let Some((units, name)) = ledger.grant() {
                    prop_assert_eq!(model.grant(), Some((units, name)));
                    granted.push(name);
                }
                prop_assert_eq!(model.grant(), None);
            }
            Op::Close => {
                ledger.close();
                model.closed = true;
            }
            Op::Evict if model.closed => {
                let first = (!model.queue.is_empty()).then(|| model.queue.remove(0).0);
                prop_assert_eq!(ledger.evict(), first);
            }
            Op::Enqueue(_) | Op::Cancel(_) | Op::Release(_) | Op::Reenter(_) | Op::Evict => {}
        }
        check(&ledger, &model)?;
        for (name, &key) in keys.iter().enumerate() {
            let waits = model.waiting().any(|waiter| waiter.0 == name as u32);
            prop_assert_eq!(ledger.get_mut(key).is_some(), waits); // [LEDGER-4]
            if waits {
                prop_assert!(!ledger.was_granted(key));
            }
        }
    }
    let (came_back, came): (Vec<u32>, Vec<u32>) = granted.iter().partition(|name| backs.contains(name));
    prop_assert!(came_back.is_sorted() && came.is_sorted(), "[LEDGER-2]");
    Ok(())
}

/// Every observation agrees with the model.
fn check(ledger: &Ledger<u32, 2>, model: &Model) -> Result<(), TestCaseError> {
    let in_use = model.in_use();
    prop_assert_eq!(ledger.limit(), model.limit);
    prop_assert_eq!(ledger.in_use(), in_use); // [LEDGER-3]
    let available = [0, 1].map(|d| model.limit[d] as isize - in_use[d] as isize);
    prop_assert_eq!(ledger.available(), available);
    prop_assert_eq!(ledger.waiting(), model.waiting().count());
    prop_assert_eq!(ledger.is_closed(), model.closed);
    let waiters: Vec<_> = ledger.waiters().map(|(units, name)| (*name, *units)).collect();
    prop_assert!(waiters.iter().eq(model.waiting()), "{waiters:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [LEDGER-1] to [LEDGER-5]. bugs.md 2, 3, 4, 6, 7, 9, 13, 16
    #[test]
    fn any_sequence_of_operations_agrees_with_the_naive_model(limit in [0..6usize, 0..6usize], ops in ops()) {
        run(limit, ops)?;
    }
}

/// Runs the grant loop and lists who was told.
fn told<const D: usize>(ledger: &mut Ledger<&'static str, D>) -> Vec<&'static str> {
    std::iter::from_fn(|| ledger.grant().map(|(_, waiter)| waiter)).collect()
}

/// bugs.md 16: the sequence itself.
#[test]
fn a_debt_outlives_a_shrink_and_a_growth() {
    let mut ledger: Ledger<&str> = Ledger::new([5]);
    ledger.try_acquire([5]).unwrap();
    ledger.set_limit([2]);
    assert_eq!(ledger.available(), [-3]);
    let _key = ledger.enqueue([1], "next");
    ledger.set_limit([4]);
    assert_eq!(told(&mut ledger), [""; 0], "5 of 4 are in use");
    ledger.release([1]);
    assert_eq!(told(&mut ledger), [""; 0], "4 of 4 are in use");
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["next"]);
    assert_eq!(ledger.in_use(), [4]);
}

/// bugs.md 16: every sequence of up to five limits from 1 to 5, with a release after each, and someone always waiting.
#[test]
fn no_sequence_of_resizes_grants_beyond_the_limit_of_the_moment() {
    fn replay(limits: &[usize]) {
        let mut ledger = Ledger::new([5]);
        ledger.try_acquire([5]).unwrap();
        let mut expected = 5;
        for _ in 0..10 {
            let _key = ledger.enqueue([1], "unit");
        }
        for &limit in limits {
            for released in [0, 1] {
                ledger.set_limit([limit]);
                ledger.release([released]);
                while ledger.grant().is_some() {}
                // What is owed stays; what is free goes to those who wait.
                expected = limit.max(expected - released);
                assert_eq!(ledger.in_use(), [expected], "limits {limits:?}");
            }
        }
    }
    for sequence in 0..5_usize.pow(5) {
        replay(&[1, 5, 25, 125, 625].map(|place| 1 + sequence / place % 5));
    }
}

/// bugs.md 4
#[test]
fn followers_that_fit_are_granted_when_the_large_head_cancels() {
    let mut ledger = Ledger::new([4]);
    ledger.try_acquire([1]).unwrap();
    let large = ledger.enqueue([4], "large");
    let _key = ledger.enqueue([1], "first");
    let _key = ledger.enqueue([2], "second");
    let _key = ledger.enqueue([1], "third");
    assert_eq!(told(&mut ledger), [""; 0]);
    assert_eq!(ledger.cancel(large), Some("large"));
    assert_eq!(told(&mut ledger), ["first", "second"]);
}

/// bugs.md 6
#[test]
fn a_release_of_many_grants_all_that_fit() {
    let mut ledger = Ledger::new([8]);
    ledger.try_acquire([8]).unwrap();
    for waiter in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        let _key = ledger.enqueue([1], waiter);
    }
    ledger.release([8]);
    assert_eq!(told(&mut ledger), ["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert_eq!(ledger.waiting(), 1);
}

/// [LEDGER-2], bugs.md 2
#[test]
fn nobody_overtakes_a_waiter_and_nothing_outlives_it() {
    let mut ledger = Ledger::new([2]);
    ledger.try_acquire([1]).unwrap();
    let key = ledger.enqueue([2], "waits");
    assert_eq!(ledger.try_acquire([1]), Err(Refusal::Queued));
    assert_eq!(ledger.cancel(key), Some("waits"));
    assert_eq!(ledger.try_acquire([1]), Ok(()));
}

/// [LEDGER-1]
#[test]
fn dimensions_are_granted_together_or_not_at_all() {
    let mut ledger: Ledger<&str, 2> = Ledger::new([2, 100]);
    ledger.try_acquire([1, 60]).unwrap();
    assert_eq!(ledger.try_acquire([1, 60]), Err(Refusal::Full));
    assert_eq!(ledger.in_use(), [1, 60]);
    let _key = ledger.enqueue([1, 60], "large");
    ledger.release([0, 19]);
    assert_eq!(told(&mut ledger), [""; 0]);
    ledger.release([0, 1]);
    assert_eq!(told(&mut ledger), ["large"]);
    assert_eq!(ledger.in_use(), [2, 100]);
}

/// [LEDGER-1]: who asks for nothing of what is owed is not held up by the debt.
#[test]
fn a_debt_in_one_dimension_does_not_stop_who_asks_only_for_another() {
    let mut ledger: Ledger<&str, 2> = Ledger::new([2, 100]);
    ledger.try_acquire([1, 100]).unwrap();
    ledger.set_limit([2, 10]);
    assert_eq!(ledger.try_acquire([1, 1]), Err(Refusal::Full));
    assert_eq!(ledger.try_acquire([1, 0]), Ok(()));
}

#[test]
fn a_waiter_above_a_shrunken_limit_keeps_its_turn() {
    let mut ledger = Ledger::new([5]);
    ledger.try_acquire([5]).unwrap();
    let _key = ledger.enqueue([4], "large");
    let _key = ledger.enqueue([1], "small");
    ledger.set_limit([3]);
    ledger.release([5]);
    assert_eq!(told(&mut ledger), [""; 0]);
    ledger.set_limit([5]);
    assert_eq!(told(&mut ledger), ["large", "small"]);
}

/// bugs.md 15
#[test]
fn more_than_the_limit_is_refused_at_once_even_when_nothing_is_in_use() {
    let mut ledger: Ledger<&str, 2> = Ledger::new([3, 0]);
    assert_eq!(ledger.try_acquire([4, 0]), Err(Refusal::ExceedsLimit));
    assert_eq!(ledger.try_acquire([1, 1]), Err(Refusal::ExceedsLimit));
    assert_eq!(ledger.try_acquire([3, 0]), Ok(()));
}

/// [LEDGER-6], bugs.md 10
#[test]
fn the_largest_numbers_neither_wrap_nor_panic() {
    let mut ledger: Ledger<&str> = Ledger::new([usize::MAX]);
    ledger.try_acquire([usize::MAX - 1]).unwrap();
    assert_eq!(ledger.try_acquire([2]), Err(Refusal::Full));
    assert_eq!(ledger.try_acquire([usize::MAX]), Err(Refusal::Full));
    ledger.try_acquire([1]).unwrap();
    let _key = ledger.enqueue([usize::MAX], "all");
    assert_eq!(ledger.grant(), None);
    ledger.set_limit([0]);
    assert_eq!(ledger.available(), [-isize::MAX], "as near as it gets");
    ledger.release([usize::MAX]);
    assert_eq!(ledger.grant(), None);
    ledger.set_limit([usize::MAX]);
    assert_eq!(ledger.available(), [isize::MAX], "as near as it gets");
    assert_eq!(told(&mut ledger), ["all"]);
    assert_eq!(ledger.available(), [0]);
}

/// [LEDGER-3], bugs.md 14
#[test]
fn an_over_release_panics_and_changes_nothing() {
    let mut ledger: Ledger<(), 2> = Ledger::new([5, 5]);
    ledger.try_acquire([2, 3]).unwrap();
    let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ledger.release([1, 4])));
    assert!(over.is_err());
    assert_eq!(ledger.in_use(), [2, 3]);
}

/// [LEDGER-5], bugs.md 9
#[test]
fn closed_is_absorbing() {
    let mut ledger = Ledger::new([1]);
    ledger.try_acquire([1]).unwrap();
    let granted_before = ledger.enqueue([1], "granted before");
    let evicted = ledger.enqueue([1], "evicted");
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["granted before"]);
    ledger.close();
    ledger.release([1]);
    ledger.set_limit([10]);
    assert_eq!(ledger.grant(), None);
    assert_eq!(ledger.try_acquire([1]), Err(Refusal::Closed));
    assert_eq!(ledger.evict(), Some("evicted"));
    assert_eq!(ledger.evict(), None);
    assert!(ledger.was_granted(granted_before) && !ledger.was_granted(evicted));
    ledger.close();
    assert!(ledger.is_closed());
}

#[test]
#[should_panic(expected = "evict on an open ledger")]
fn an_open_ledger_evicts_nobody() {
    let _ = Ledger::<()>::new([1]).evict();
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "enqueue on a closed ledger")]
fn a_closed_ledger_takes_no_waiter() {
    let mut ledger = Ledger::new([1]);
    ledger.close();
    let _ = ledger.enqueue([1], ());
}

/// [LEDGER-4]: the place in memory is the same, the waiter is another.
#[test]
fn a_stale_key_opens_nothing() {
    let mut ledger = Ledger::new([1]);
    let stale = ledger.enqueue([1], "first");
    assert_eq!(ledger.cancel(stale), Some("first"));
    let fresh = ledger.enqueue([1], "second");
    assert_eq!(stale.index, fresh.index);
    assert_eq!(ledger.get_mut(stale), None);
    assert_eq!(ledger.cancel(stale), None);
    assert_eq!(ledger.cancel(fresh), Some("second"));
    assert_eq!(ledger.cancel(fresh), None);
}

/// The slab is all that could grow.
#[test]
fn a_warm_ledger_allocates_nothing() {
    let mut ledger = Ledger::new([1]);
    let round = |ledger: &mut Ledger<usize>| {
        let keys: Vec<Key> = (0..100).map(|waiter| ledger.enqueue([1], waiter)).collect();
        for key in keys.iter().step_by(3) {
            assert!(ledger.cancel(*key).is_some());
        }
        while ledger.grant().is_some() {
            ledger.release([1]);
        }
        ledger.waiters.capacity()
    };
    let warm = round(&mut ledger);
    for _ in 0..100 {
        assert_eq!(round(&mut ledger), warm);
    }
    ledger.trim();
    assert_eq!(ledger.waiters.capacity(), 0);
}

#[test]
fn trim_leaves_a_queue_alone() {
    let mut ledger = Ledger::new([1]);
    let key = ledger.enqueue([1], "waits");
    ledger.trim();
    assert_eq!(ledger.cancel(key), Some("waits"));
}

/// The number in the semaphore's # Bounds.
#[test]
fn a_waiter_costs_less_than_64_bytes() {
    assert!(size_of::<Entry<std::task::Waker, 1>>() < 64 - size_of::<usize>(), "the slab may add a tag");
}

#[test]
fn who_comes_back_is_served_before_all_who_have_not_begun() {
    let mut ledger = Ledger::new([2]);
    ledger.try_acquire([2]).unwrap();
    let _new = ledger.enqueue([1], "new");
    let first = ledger.reenter([1], "first back").unwrap_err();
    let _second = ledger.reenter([2], "second back").unwrap_err();
    ledger.release([2]);
    assert_eq!(told(&mut ledger), ["first back"]);
    assert!(ledger.was_granted(first));
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["second back"]);
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["new"]);
}

#[test]
fn who_leaves_from_among_those_who_come_back_leaves_the_others_in_order() {
    for leaver in 0..3 {
        let mut ledger = Ledger::new([1]);
        ledger.try_acquire([1]).unwrap();
        let names = ["a", "b", "c"];
        let keys = names.map(|name| ledger.reenter([1], name).unwrap_err());
        assert_eq!(ledger.cancel(keys[leaver]), Some(names[leaver]));
        let _new = ledger.enqueue([1], "new");
        let _last = ledger.reenter([1], "d").unwrap_err();
        let mut order = Vec::new();
        for _ in 0..4 {
            ledger.release([1]);
            order.extend(told(&mut ledger));
        }
        let mut expected: Vec<_> = names.into_iter().chain(["d", "new"]).collect();
        expected.remove(leaver);
        assert_eq!(order, expected);
    }
}

#[test]
fn a_closed_ledger_lets_in_who_was_in_and_evicts_the_others() {
    let mut ledger = Ledger::new([1]);
    ledger.try_acquire([1]).unwrap();
    let _new = ledger.enqueue([1], "new");
    let _back = ledger.reenter([1], "back").unwrap_err();
    ledger.close();
    assert_eq!(ledger.evict(), Some("new"));
    assert_eq!(ledger.evict(), None);
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["back"]);
    ledger.release([1]);
    assert_eq!(ledger.reenter([1], "at once"), Ok("at once"));
}

#[test]
fn who_comes_back_with_more_than_the_limit_comes_when_it_is_alone() {
    let mut ledger = Ledger::new([5]);
    ledger.set_limit([2]);
    ledger.try_acquire([1]).unwrap();
    let _back = ledger.reenter([5], "back").unwrap_err();
    assert_eq!(ledger.grant(), None);
    ledger.release([1]);
    assert_eq!(told(&mut ledger), ["back"]);
    assert_eq!(ledger.available(), [-3]);
}

#[test]
fn a_charge_beyond_all_numbers_takes_what_there_is() {
    let mut ledger: Ledger<()> = Ledger::new([1]);
    assert_eq!(ledger.charge([usize::MAX - 1]), [usize::MAX - 1]);
    assert_eq!(ledger.charge([2]), [1]);
    assert_eq!(ledger.available(), [-isize::MAX]);
    ledger.release([usize::MAX]);
    assert_eq!(ledger.in_use(), [0]);
}

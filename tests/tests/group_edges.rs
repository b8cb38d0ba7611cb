//! What may go wrong in a group: offers to run in place that nobody takes, frames that move between tasks, places that are
//! given while somebody leaves; and small worlds of groups, all of them.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use anteroom::{
    GroupHandle, Runtime, SpawnError, TaskGroup, metrics, spawn, spawn_service, time, try_spawn, yield_now,
};
use anteroom_tests::{Gate, Hooks, look_around, must_end, poll_once, poll_with};
use futures_util::future::join_all;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type BoxedLocal = Pin<Box<dyn Future<Output = Result<(), SpawnError>>>>;

fn runtime(tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(tasks).build().unwrap()
}

const LONG: Duration = Duration::from_secs(1_000_000);

#[test]
fn a_child_in_an_outsiders_place_may_have_children_in_the_group_while_others_sleep() {
    must_end(|| {
        runtime(10).block_on(async {
            let sleeper = spawn(time::sleep(LONG)).await.unwrap();
            let group = TaskGroup::with_limit(1);
            let outer = group.handle();
            let member = async move {
                let outsider = spawn(async move {
                    let inner = outer.clone();
                    outer.spawn(async move { inner.spawn(async {}).await.unwrap() }).await.unwrap();
                });
                outsider.await.unwrap().await.unwrap();
            };
            group.spawn(member).await.unwrap();
            assert_eq!(group.join_all().await.unwrap().len(), 3);
            sleeper.abort();
        });
    });
}

#[test]
fn an_outsider_runs_a_child_if_nothing_is_waited_for_that_would_make_room() {
    must_end(|| {
        runtime(2).block_on(async {
            let group = TaskGroup::with_limit(1);
            let gate = Gate::new();
            // Holds one of the runtime's two places for as long as the gate is shut.
            let behind = spawn(gate.wait()).await.unwrap();
            let handle = group.handle();
            let opener = gate.clone();
            let outsider =
                spawn(async move { handle.spawn(async move { opener.open() }).await }).await.unwrap();
            // Has the group's only place, and waits for the runtime's.
            let mut coming = pin!(group.spawn(async {}));
            assert!(poll_once(coming.as_mut()).is_pending());
            outsider.await.unwrap().unwrap();
            behind.await.unwrap();
            coming.await.unwrap();
            assert_eq!(group.join_all().await.unwrap().len(), 2);
        });
    });
}

#[test]
fn offers_that_many_groups_do_not_take_leave_one_for_the_last() {
    must_end(|| {
        runtime(200).block_on(async {
            let mut groups = Vec::new();
            for _ in 0..50 {
                let group = Arc::new(TaskGroup::with_limit(1));
                group.spawn(pending::<()>()).await.unwrap();
                groups.push(group.clone());
                // Polled once, and never again.
                let waits = async move {
                    let mut waiting = pin!(group.spawn(pending()));
                    assert!(poll_once(waiting.as_mut()).is_pending());
                    pending::<()>().await;
                };
                drop(spawn(waits).await.unwrap());
                yield_now().await;
            }
            let last = Arc::new(TaskGroup::with_limit(1));
            last.spawn(pending()).await.unwrap();
            let handle = last.handle();
            let takes = spawn(async move { handle.spawn(async {}).await.unwrap() }).await.unwrap();
            takes.await.unwrap();
        });
    });
}

#[test]
fn a_spawn_that_another_task_goes_on_with_is_known_by_that_task() {
    must_end(|| {
        runtime(1).block_on(async {
            let _armed = spawn_service(time::sleep(LONG)).unwrap();
            let (passed, done) = (Gate::new(), Gate::new());
            let slot: Arc<Mutex<Option<Boxed<()>>>> = Arc::default();
            let goes_on = {
                let (slot, passed, done) = (slot.clone(), passed.wait(), done.clone());
                async move {
                    passed.await;
                    let coming = slot.lock().unwrap().take().unwrap();
                    coming.await;
                    done.open();
                }
            };
            spawn(goes_on).await.unwrap();
            let group = Arc::new(TaskGroup::with_limit(1));
            let (owned, inner) = (group.clone(), group.handle());
            let mut coming: Boxed<()> = Box::pin(async move {
                // It has the group's only place, and waits for another.
                owned.spawn(async move { inner.spawn(async {}).await.unwrap() }).await.unwrap();
            });
            // Here, where there is no place to lend, and where nobody knows what is waited for.
            assert!(poll_once(Pin::new(&mut coming)).is_pending());
            *slot.lock().unwrap() = Some(coming);
            passed.open();
            yield_now().await;
            done.wait().await;
            assert_eq!(group.join_all().await.unwrap().len(), 2);
        });
    });
}

fn nest(group: GroupHandle<Result<(), SpawnError>>, deep: usize) -> Boxed<Result<(), SpawnError>> {
    Box::pin(async move {
        match deep {
            0 => Ok(()),
            _ => group.spawn(nest(group.clone(), deep - 1)).await,
        }
    })
}

fn on_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(256 << 20).spawn(f).unwrap().join().unwrap()
}

#[test]
fn a_group_nested_too_deep_says_so() {
    on_stack(|| {
        runtime(10).block_on(async {
            let group = TaskGroup::with_limit(1);
            group.spawn(nest(group.handle(), 5_000)).await.unwrap();
            let mut errors = Vec::new();
            while let Some(joined) = group.join_next().await {
                errors.extend(joined.unwrap().err());
            }
            assert_eq!(errors, [SpawnError::TooDeep]);
        });
    });
}

#[test]
fn a_child_that_would_be_one_too_many_in_place_is_refused() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(1).max_waiting(1).build().unwrap();
        runtime.block_on(async {
            let group = TaskGroup::with_limit(1);
            group.spawn(nest(group.handle(), 1)).await.unwrap();
            // The line is as long as it may be.
            let mut other = Box::pin(spawn(async {}));
            assert!(poll_once(other.as_mut()).is_pending());
            assert_eq!(group.join_next().await.unwrap().unwrap(), Err(SpawnError::QueueFull));
            other.await.unwrap();
        });
    });
}

#[test]
fn a_child_that_waits_for_room_when_its_group_is_dropped_never_runs() {
    runtime(2).block_on(async {
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let group = TaskGroup::with_limit(1);
        let handle = group.handle();
        let spawner = async move { handle.spawn(async { unreachable!("its group is gone") }).await };
        let spawner = spawn(spawner).await.unwrap();
        yield_now().await;
        assert_eq!(metrics().waiting, 1);
        drop(group);
        assert_eq!(spawner.await.unwrap(), Err::<(), _>(SpawnError::Closed));
        assert_eq!(metrics().waiting, 0);
        gate.open();
        holder.await.unwrap();
    });
}

#[test]
fn a_child_in_place_ends_with_its_group() {
    must_end(|| {
        for tasks in [1, 10] {
            runtime(tasks).block_on(async {
                let _armed = spawn_service(time::sleep(LONG)).unwrap();
                let group = TaskGroup::with_limit(1);
                let handle = group.handle();
                let gate = Gate::new();
                let (dropped, opener) = (Gate::new(), gate.clone());
                let end = scopeguard(dropped.clone());
                let parent = spawn(async move {
                    let member = handle.clone();
                    handle
                        .spawn(async move {
                            let child = async move {
                                let _end = end;
                                opener.open();
                                pending::<()>().await
                            };
                            member.spawn(child).await.unwrap();
                        })
                        .await
                });
                let parent = parent.await.unwrap();
                gate.wait().await;
                assert_eq!(metrics().in_place, if tasks == 1 { 2 } else { 1 });
                drop(group);
                dropped.wait().await;
                let _ = parent.await.unwrap();
            });
        }
    });
}

struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn scopeguard(gate: Gate) -> Opens {
    Opens(gate)
}

#[test]
fn a_shutdown_ends_what_comes_in_meanwhile() {
    must_end(|| {
        runtime(10).block_on(async {
            let group = TaskGroup::with_limit(1);
            group.spawn(pending::<()>()).await.unwrap();
            let handle = group.handle();
            let spawner = spawn(async move {
                for _ in 0..3 {
                    handle.spawn(pending()).await.unwrap();
                }
            });
            let spawner = spawner.await.unwrap();
            yield_now().await;
            group.shutdown().await;
            drop(group);
            let _ = spawner.await;
        });
    });
}

#[test]
fn a_place_that_is_given_while_the_offer_is_taken_is_not_lost() {
    must_end(|| {
        runtime(1).block_on(async {
            let group = Arc::new(TaskGroup::with_limit(1));
            let handle = group.handle();
            let child: Boxed<Result<(), SpawnError>> = Box::pin(async move { handle.spawn(async {}).await });
            let slot = Arc::new(Mutex::new(child));
            // The offer is made by way of this waker, which has the root polled before the task.
            let (first, hooks) = Hooks::new();
            let offered = Gate::new();
            let task = {
                let (slot, offered, mut first) = (slot.clone(), offered.clone(), Some(first));
                poll_fn(move |cx| {
                    let mut slot = slot.lock().unwrap();
                    let Some(first) = first.take() else { return slot.as_mut().poll(cx) };
                    let (offered, task) = (offered.clone(), cx.waker().clone());
                    hooks.on_wake(move || {
                        offered.open();
                        task.wake_by_ref();
                    });
                    poll_with(Pin::new(&mut *slot), &first).map(|_| unreachable!("the group is full"))
                })
            };
            let task = spawn(task).await.unwrap();
            // Has the group's only place, and waits for the runtime's.
            let coming: Boxed<()> = {
                let handle = group.handle();
                Box::pin(async move { handle.spawn(async {}).await.unwrap() })
            };
            let mut coming = Some(coming);
            assert!(poll_once(Pin::new(coming.as_mut().unwrap())).is_pending());
            offered.wait().await;
            // What it waits with from now on gives the group's place on when it is dropped.
            let (second, hooks) = Hooks::new();
            assert!(poll_with(Pin::new(&mut *slot.lock().unwrap()), &second).is_pending());
            drop(second);
            hooks.on_drop(move || drop(coming.take()));
            task.await.unwrap().unwrap();
            group.join_next().await.unwrap().unwrap();
            assert_eq!((group.len(), hooks.wakers_left(), metrics().in_place), (0, 0, 0));
            group.try_spawn(async {}).unwrap();
        });
    });
}

#[test]
fn forty_thousand_groups_may_wait_at_once() {
    must_end(|| {
        runtime(100_000).block_on(async {
            let groups: Vec<_> = (0..if cfg!(debug_assertions) { 40_000 } else { 100_000 })
                .map(|_| TaskGroup::with_limit(1))
                .collect();
            let mut waiting = Vec::new();
            for group in &groups {
                group.try_spawn(yield_now()).unwrap();
                let mut second = Box::pin(group.spawn(async {}));
                assert!(poll_once(second.as_mut()).is_pending());
                waiting.push(second);
            }
            for second in waiting {
                second.await.unwrap();
            }
        });
    });
}

/// Where what a node of a small world spawns a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// The runtime alone.
    Plain,
    /// A group of its own, of limit 1.
    Own,
    /// One of two groups that all nodes share.
    First,
    Second,
}

/// How a node of a small world waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// For each child before the next is spawned.
    OneByOne,
    /// For all at the end; the shared groups' are let go.
    AtTheEnd,
    /// It spawns them all at once.
    AtOnce,
}

const WHERES: [Where; 4] = [Where::Plain, Where::Own, Where::First, Where::Second];
const WAITS: [Waits; 3] = [Waits::OneByOne, Waits::AtTheEnd, Waits::AtOnce];

struct World {
    /// Of each node: its parent, into what that spawns it, and how it waits.
    nodes: Vec<(usize, Where, Waits)>,
    tasks: usize,
    shared: [GroupHandle<()>; 2],
    limit: usize,
    live: [AtomicUsize; 2],
    ended: AtomicUsize,
    end: Gate,
}

struct Counted(Arc<World>, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        let Counted(world, node) = self;
        match world.nodes[*node].1 {
            Where::First => drop(world.live[0].fetch_sub(1, Ordering::SeqCst)),
            Where::Second => drop(world.live[1].fetch_sub(1, Ordering::SeqCst)),
            Where::Plain | Where::Own => {}
        }
        if world.ended.fetch_add(1, Ordering::SeqCst) + 1 == world.nodes.len() {
            world.end.open();
        }
    }
}

fn node(world: Arc<World>, number: usize) -> Boxed<()> {
    Box::pin(async move {
        let shared = match world.nodes[number].1 {
            Where::First => Some(0),
            Where::Second => Some(1),
            Where::Plain | Where::Own => None,
        };
        if let Some(live) = shared.map(|shared| world.live[shared].fetch_add(1, Ordering::SeqCst) + 1) {
            assert!(live <= world.limit + metrics().in_place);
        }
        let _counted = Counted(world.clone(), number);
        assert!(metrics().tasks_live <= world.tasks);
        let waits = world.nodes[number].2;
        let own = TaskGroup::with_limit(1);
        let handles = Mutex::new(Vec::new());
        let start = async |child: usize| {
            let future = node(world.clone(), child);
            match world.nodes[child].1 {
                Where::Plain => {
                    let handle = spawn(future).await.unwrap();
                    match waits {
                        Waits::AtTheEnd => handles.lock().unwrap().push(handle),
                        Waits::OneByOne | Waits::AtOnce => handle.await.unwrap(),
                    }
                }
                Where::Own => {
                    own.spawn(future).await.unwrap();
                    if waits == Waits::OneByOne {
                        own.join_next().await.unwrap().unwrap();
                    }
                }
                Where::First => world.shared[0].spawn(future).await.unwrap(),
                Where::Second => world.shared[1].spawn(future).await.unwrap(),
            }
        };
        let children = (number + 1..world.nodes.len()).filter(|&child| world.nodes[child].0 == number);
        if waits == Waits::AtOnce {
            join_all(children.map(&start)).await;
        } else {
            for child in children {
                start(child).await;
            }
        }
        for handle in handles.into_inner().unwrap() {
            handle.await.unwrap();
        }
        own.join_all().await.unwrap();
    })
}

/// Every world of so many nodes: each node's parent is one before it.
fn worlds(nodes: usize) -> Vec<Vec<(usize, Where, Waits)>> {
    let mut worlds = vec![vec![(0, Where::Plain, Waits::AtTheEnd)]];
    for number in 1..nodes {
        let grown = worlds.into_iter().flat_map(|world| {
            let last = world.last().unwrap().0;
            // In the order of their parents, so that each tree is there once.
            (last..number).flat_map(move |parent| {
                let world = world.clone();
                WHERES.into_iter().map(move |into| {
                    let mut world = world.clone();
                    world.push((parent, into, Waits::AtTheEnd));
                    world
                })
            })
        });
        worlds = grown.collect();
    }
    // The ways to wait, of those who have children.
    for number in 0..nodes {
        let all = worlds.into_iter().flat_map(|world| {
            let has_children = (number + 1..nodes).any(|child| world[child].0 == number);
            let ways = if has_children { &WAITS[..] } else { &WAITS[..1] };
            ways.iter().map(move |&waits| {
                let mut world = world.clone();
                world[number].2 = waits;
                world
            })
        });
        worlds = all.collect();
    }
    worlds
}

#[test]
fn every_small_world_of_groups_ends_at_every_limit() {
    // One in eight of those of five.
    let nodes_max = if cfg!(debug_assertions) { 4 } else { 5 };
    let now = Arc::new(Mutex::new(String::new()));
    let shown = now.clone();
    let played = std::panic::catch_unwind(move || {
        must_end(move || {
            let mut played = 0;
            for tasks in 1..=3 {
                let runtime = runtime(tasks);
                for nodes in (1..=nodes_max)
                    .flat_map(|nodes| worlds(nodes).into_iter().step_by(if nodes == 5 { 8 } else { 1 }))
                {
                    for (limit, is_armed) in [(1, false), (1, true), (2, false), (2, true)] {
                        *now.lock().unwrap() = format!("{tasks}, {limit}, {is_armed}: {nodes:?}");
                        play(&runtime, nodes.clone(), tasks, limit, is_armed);
                        played += 1;
                    }
                }
            }
            played
        })
    });
    // A node alone; two, with 4 edges and 3 ways to wait; three in two trees, with 16, and 3 and 9; and so on.
    let worlds = [1, 12, 192, 3_648, 76_800 / 8][..nodes_max].iter().sum::<usize>();
    match played {
        Ok(played) => assert_eq!(played, 12 * worlds),
        Err(panic) => {
            eprintln!("the world was {}", shown.lock().unwrap());
            std::panic::resume_unwind(panic)
        }
    }
}

fn play(runtime: &Runtime, nodes: Vec<(usize, Where, Waits)>, tasks: usize, limit: usize, is_armed: bool) {
    runtime.block_on(async {
        let sleeper = is_armed.then(|| spawn_service(time::sleep(LONG)).unwrap());
        let groups = [TaskGroup::with_limit(limit), TaskGroup::with_limit(limit)];
        let world = Arc::new(World {
            nodes,
            tasks,
            shared: [groups[0].handle(), groups[1].handle()],
            limit,
            live: Default::default(),
            ended: AtomicUsize::new(0),
            end: Gate::new(),
        });
        spawn(node(world.clone(), 0)).join().await.unwrap();
        world.end.wait().await;
        for group in groups {
            group.join_all().await.unwrap();
            // All its places are there again.
            let mut held: Vec<_> = (0..limit).map(|_| Box::pin(group.spawn(pending()))).collect();
            assert!(held.iter_mut().all(|one| poll_once(one.as_mut()).is_ready() || metrics().waiting > 0));
            let waiting = metrics().waiting;
            assert!(poll_once(pin!(group.spawn(pending()))).is_pending());
            assert_eq!(metrics().waiting, waiting, "it waits for the group");
        }
        if let Some(sleeper) = sleeper {
            sleeper.abort();
            assert!(sleeper.await.unwrap_err().is_cancelled());
        }
        yield_now().await;
        yield_now().await;
        assert!(world.live.iter().all(|live| live.load(Ordering::SeqCst) == 0));
    });
    let metrics = runtime.metrics();
    assert_eq!((metrics.tasks_live, metrics.task_bytes, metrics.waiting, metrics.in_place), (0, 0, 0, 0));
}

/// The numbers of a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

/// A future that counts itself from its first poll until it is gone.
struct Job {
    gate: anteroom_tests::Wait,
    live: Arc<AtomicUsize>,
    is_polled: bool,
    panics: bool,
}

impl Future for Job {
    type Output = Box<u8>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<u8>> {
        if !std::mem::replace(&mut self.is_polled, true) {
            self.live.fetch_add(1, Ordering::SeqCst);
        }
        match Pin::new(&mut self.gate).poll(cx) {
            Poll::Ready(()) if self.panics => std::panic::resume_unwind(Box::new("no")),
            polled => polled.map(|()| Box::new(1)),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.is_polled {
            self.live.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One group's life in random steps, with nothing left of it.
async fn random_life(numbers: &mut Numbers, limit: usize) {
    let mut group = Some(TaskGroup::with_limit(limit));
    let handle = group.as_ref().unwrap().handle();
    let live = Arc::new(AtomicUsize::new(0));
    let mut gates = Vec::new();
    let mut waiting: Vec<BoxedLocal> = Vec::new();
    let mut others = Vec::new();
    for _ in 0..1_000 {
        let mut job = |numbers: &mut Numbers| {
            let gate = Gate::new();
            let wait = gate.wait();
            gates.push(gate);
            Job { gate: wait, live: live.clone(), is_polled: false, panics: numbers.below(9) == 0 }
        };
        match numbers.below(16) {
            0..=2 if waiting.len() < 10 => {
                let (handle, job) = (handle.clone(), job(numbers));
                waiting.push(match numbers.below(2) {
                    0 => Box::pin(async move { handle.spawn(job).await }),
                    _ => Box::pin(async move { handle.spawn_local(job).heap(100).await }),
                });
            }
            3 => drop(handle.try_spawn(job(numbers))),
            4 => others.extend(try_spawn(job(numbers)).ok()),
            5..=7 if !waiting.is_empty() => {
                let at = numbers.below(waiting.len());
                if poll_once(Pin::new(&mut waiting[at])).is_ready() {
                    drop(waiting.swap_remove(at));
                }
            }
            8 if !waiting.is_empty() => drop(waiting.swap_remove(numbers.below(waiting.len()))),
            9 | 10 if !gates.is_empty() => gates.swap_remove(numbers.below(gates.len())).open(),
            11 | 12 => {
                if let Some(group) = &group {
                    drop(poll_once(pin!(group.join_next())));
                }
            }
            13 => others.clear(),
            14 if numbers.below(20) == 0 => group.iter().for_each(TaskGroup::abort_all),
            15 if numbers.below(150) == 0 => drop(group.take()),
            _ => yield_now().await,
        }
        assert!(metrics().tasks_live <= 4);
        // Those that were not of the group are at most as many as the runtime's limit.
        assert!(live.load(Ordering::SeqCst) <= 4);
    }
    // The waiting first: what they were given goes back.
    match numbers.below(3) {
        0 => waiting.clear(),
        1 => drop(group.take()),
        _ => {}
    }
    gates.iter().for_each(Gate::open);
    while let Some(group) = &group {
        waiting.retain_mut(|one| poll_once(Pin::new(one)).is_pending());
        if waiting.is_empty()
            && poll_once(pin!(group.join_next())).map(|joined| joined.is_none()) == Poll::Ready(true)
        {
            break;
        }
        yield_now().await;
    }
    drop((waiting, others));
    look_around().await;
    assert_eq!((live.load(Ordering::SeqCst), metrics().tasks_live, metrics().waiting), (0, 0, 0));
    if let Some(group) = group {
        assert!(group.is_empty());
        let mut all: Vec<_> = (0..limit).map(|_| Box::pin(group.spawn(pending()))).collect();
        assert!(all.iter_mut().all(|one| poll_once(one.as_mut()).is_ready()), "all its places are there");
        assert!(poll_once(pin!(group.spawn(pending()))).is_pending());
    }
    look_around().await;
}

#[test]
fn random_steps_keep_the_limits_and_leave_nothing() {
    let lives = if cfg!(debug_assertions) { 100 } else { 3_000 };
    for limit in 1..=3 {
        let runtime = runtime(4);
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15 + limit as u64);
        let mut headers = 0;
        for life in 0..lives {
            runtime.block_on(random_life(&mut numbers, limit));
            let metrics = runtime.metrics();
            assert_eq!((metrics.tasks_live, metrics.task_bytes, metrics.waiting), (0, 0, 0), "life {life}");
            if life == 0 {
                headers = metrics.headers;
            }
            assert_eq!(metrics.headers, headers, "life {life}");
        }
    }
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn a_future_may_use_its_group_and_drop_it_while_it_is_dropped() {
    must_end(|| {
        for tasks in [1, 5] {
            for way in 0..3 {
                runtime(tasks).block_on(async {
                    let dropped = Arc::new(AtomicUsize::new(0));
                    let group = Arc::new(TaskGroup::with_limit(2));
                    let handle = group.handle();
                    let job = |owned: Arc<TaskGroup<()>>| {
                        let (handle, dropped) = (handle.clone(), dropped.clone());
                        let mut owned = Some(owned);
                        let guard = OnDrop(move || {
                            let group = owned.take().unwrap();
                            group.abort_all();
                            let _ = (group.len(), format!("{group:?}"), group.try_spawn(async {}));
                            let _ = poll_once(pin!(group.join_next()));
                            let _ = poll_once(pin!(group.spawn(pending())));
                            drop(group);
                            let _ = handle.try_spawn(pending());
                            dropped.fetch_add(1, Ordering::SeqCst);
                            if way == 2 {
                                std::panic::resume_unwind(Box::new("no"));
                            }
                        });
                        async move {
                            let _guard = guard;
                            yield_now().await;
                            if way == 1 {
                                pending::<()>().await;
                            }
                        }
                    };
                    let first = group.spawn(job(group.clone()));
                    first.await.unwrap();
                    yield_now().await;
                    let mut second = Box::pin(handle.spawn(job(group.clone())));
                    let _ = poll_once(second.as_mut());
                    group.abort_all();
                    drop(group);
                    look_around().await;
                    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(second)));
                    drop(panic);
                    look_around().await;
                    assert_eq!(dropped.load(Ordering::SeqCst), 2);
                    assert!(handle.try_spawn(async {}).unwrap_err().is_closed());
                    look_around().await;
                    assert_eq!((metrics().tasks_live, metrics().waiting, metrics().in_place), (0, 0, 0));
                });
            }
        }
    });
}

#[test]
fn outputs_whose_drop_panics_do_not_keep_the_others() {
    struct Bad(Arc<AtomicUsize>);
    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("no"));
        }
    }
    runtime(5).block_on(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let group = TaskGroup::new();
        for _ in 0..3 {
            let bad = Bad(dropped.clone());
            group.spawn(async move { bad }).await.unwrap();
        }
        look_around().await;
        drop(group);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        look_around().await;
        assert_eq!(metrics().headers, 1);
    });
}

#[test]
fn a_group_outlives_its_runtime_and_its_waiting_spawns_too() {
    let group = Arc::new(TaskGroup::with_limit(2));
    let first = runtime(2);
    let mut in_line = Box::pin(group.spawn(async {}));
    let mut at_group = Box::pin(group.spawn(async {}));
    first.block_on(async {
        group.spawn(pending()).await.unwrap();
        let _other = try_spawn(pending::<()>()).unwrap();
        assert!(poll_once(in_line.as_mut()).is_pending());
        assert!(poll_once(at_group.as_mut()).is_pending());
        assert_eq!(metrics().waiting, 1);
    });
    drop(first);
    let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll_once(at_group.as_mut())));
    assert!(outside.is_err());
    runtime(2).block_on(async {
        assert_eq!(in_line.await, Err(SpawnError::Closed));
        at_group.await.unwrap();
        assert!(group.join_next().await.unwrap().unwrap_err().is_cancelled());
        group.join_next().await.unwrap().unwrap();
        assert!(group.join_next().await.is_none());
    });
}

#[test]
fn a_group_s_place_comes_back_from_whoever_is_refused() {
    let runtime = Runtime::builder().max_tasks(1).max_task_bytes(1 << 20).max_waiting(1).build().unwrap();
    runtime.block_on(async {
        let group = TaskGroup::with_limit(1);
        assert_eq!(group.spawn(async {}).heap(2 << 20).await, Err(SpawnError::ExceedsLimit));
        let holder = try_spawn(pending::<()>()).unwrap();
        let mut line = Box::pin(spawn(pending::<()>()));
        assert!(poll_once(line.as_mut()).is_pending());
        // It is kept, with its future in it.
        let mut refused = Box::pin(group.spawn(async {}));
        assert_eq!(poll_once(refused.as_mut()), Poll::Ready(Err(SpawnError::QueueFull)));
        drop(line);
        let mut next = Box::pin(group.spawn(pending()));
        assert!(poll_once(next.as_mut()).is_pending());
        assert_eq!(metrics().waiting, 1, "it has the group's place");
        let mut waits = Box::pin(group.spawn(async {}));
        assert!(poll_once(waits.as_mut()).is_pending());
        assert_eq!(
            group.spawn(async {}).await,
            Err(SpawnError::QueueFull),
            "as many wait for the group as may"
        );
        drop((next, waits));
        holder.abort();
        group.spawn(async {}).await.unwrap();
    });
}

#[test]
fn a_group_of_two_runtimes_on_two_threads_keeps_its_limit() {
    must_end(|| {
        let group = Arc::new(TaskGroup::with_limit(3));
        let (live, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs = if cfg!(debug_assertions) { 3_000 } else { 30_000 };
        let threads = [1, 2].map(|tasks| {
            let (group, live, peak) = (group.clone(), live.clone(), peak.clone());
            std::thread::spawn(move || {
                runtime(tasks).block_on(async {
                    let mut joined = 0;
                    for number in 0..jobs {
                        let (live, peak) = (live.clone(), peak.clone());
                        let job = async move {
                            peak.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            let _gone = OnDrop(|| _ = live.fetch_sub(1, Ordering::SeqCst));
                            if number % 3 == 0 {
                                yield_now().await;
                            }
                        };
                        match number % 5 {
                            // Polled once and let go, wherever it is by then.
                            0 => drop(poll_once(pin!(group.spawn(pending())))),
                            _ => group.spawn(job).await.unwrap(),
                        }
                        if number % 5 == 0 {
                            group.abort_all();
                        }
                        if number % 2 == 0 {
                            let next = poll_once(pin!(group.join_next()));
                            joined += usize::from(matches!(next, Poll::Ready(Some(_))));
                        }
                    }
                    look_around().await;
                    joined
                })
            })
        });
        assert!(threads.map(|thread| thread.join().unwrap()).into_iter().all(|joined| joined > 0));
        assert_eq!(live.load(Ordering::SeqCst), 0);
        assert!((1..=3).contains(&peak.load(Ordering::SeqCst)));
        runtime(5).block_on(async {
            group.shutdown().await;
            for _ in 0..3 {
                group.try_spawn(pending()).unwrap();
            }
            assert!(group.try_spawn(pending()).unwrap_err().is_full());
        });
    });
}

//! Spawning into a full limit does not deadlock with several workers either: when nothing else moves, a child runs in its
//! spawner's place, one at a time.

#![allow(
    clippy::async_yields_async,
    clippy::type_complexity,
    reason = "handles go from one block_on to another"
)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use anteroom::{
    Builder, JoinHandle, SpawnError, StealingRuntime, TaskGroup, gather, reserve, spawn, spawn_blocking,
    spawn_with, time, yield_now,
};
use anteroom_tests::{Drops, must_end, or_abort};
use futures_util::future::{join, join_all};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn runtime(tasks: usize, workers: usize) -> StealingRuntime {
    Builder::new().max_tasks(tasks).in_place_stack(16 << 20).build_stealing(workers).unwrap()
}

/// Until nothing of what it ran is left, which is soon after the last join.
fn settled(runtime: &StealingRuntime) {
    loop {
        let metrics = runtime.metrics();
        if (metrics.tasks_live, metrics.waiting, metrics.in_place, metrics.task_bytes) == (0, 0, 0, 0) {
            return;
        }
        std::thread::yield_now();
    }
}

fn depth(left: usize) -> Boxed<usize> {
    Box::pin(async move {
        if left == 0 {
            return 0;
        }
        match left % 4 {
            0 => yield_now().await,
            1 => time::sleep(Duration::from_micros(50)).await,
            _ => {}
        }
        let child = spawn(depth(left - 1)).await.unwrap();
        child.await.unwrap() + 1
    })
}

#[test]
fn recursion_a_hundred_deep_ends_at_limits_1_2_and_3_on_any_number_of_workers() {
    // bugs.md 19
    or_abort(|| {
        for workers in 1..=4 {
            for tasks in 1..=3 {
                let runtime = runtime(tasks, workers);
                for _ in 0..5 {
                    assert_eq!(runtime.block_on(spawn(depth(100)).join()).unwrap(), 100);
                    settled(&runtime);
                }
                // By a future of block_on, which holds no place; and two at once.
                assert_eq!(runtime.block_on(depth(50)), 50);
                let both = join(spawn(depth(40)).join(), spawn(depth(60)).join());
                let (one, two) = runtime.block_on(both);
                assert_eq!((one.unwrap(), two.unwrap()), (40, 60));
                settled(&runtime);
                assert!(runtime.metrics().tasks_live_peak <= tasks);
            }
        }
    });
}

#[test]
fn two_children_joined_at_once_are_never_both_in_their_spawners_place() {
    // bugs.md 20
    or_abort(|| {
        for workers in 1..=4 {
            let runtime = runtime(1, workers);
            for round in 0..100 {
                let (inside, faults) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let child = |n: usize| {
                    let (inside, faults) = (inside.clone(), faults.clone());
                    async move {
                        faults.fetch_add(inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                        for _ in 0..round % 4 {
                            yield_now().await;
                        }
                        if round % 7 == 0 {
                            time::sleep(Duration::from_micros(100)).await;
                        }
                        inside.fetch_sub(1, Ordering::SeqCst);
                        n
                    }
                };
                let (one, two, three) = (child(1), child(2), child(3));
                let parent = async move {
                    let all = join_all([
                        Box::pin(spawn(one).join()) as Boxed<_>,
                        Box::pin(spawn(two).join()),
                        Box::pin(spawn(three).or_in_place().join()),
                    ]);
                    all.await.into_iter().map(Result::unwrap).sum::<usize>()
                };
                assert_eq!(runtime.block_on(spawn(parent).join()).unwrap(), 6);
                assert_eq!(faults.load(Ordering::SeqCst), 0);
            }
            settled(&runtime);
        }
    });
}

#[test]
fn groups_with_limits_of_their_own_do_not_deadlock_one_inside_the_other() {
    fn nested(left: usize, limit: usize) -> Boxed<usize> {
        Box::pin(async move {
            if left == 0 {
                return 1;
            }
            let group = TaskGroup::with_limit(limit);
            for _ in 0..2 {
                group.spawn(nested(left - 1, limit)).await.unwrap();
            }
            let mut sum = 1;
            while let Some(child) = group.join_next().await {
                sum += child.unwrap();
            }
            sum
        })
    }
    or_abort(|| {
        for workers in 1..=4 {
            for tasks in 1..=3 {
                let runtime = runtime(tasks, workers);
                for limit in 1..=2 {
                    for _ in 0..5 {
                        assert_eq!(runtime.block_on(spawn(nested(4, limit)).join()).unwrap(), 31);
                        settled(&runtime);
                    }
                }
            }
        }
    });
}

#[test]
fn tasks_of_one_group_that_spawn_into_it_do_not_deadlock() {
    fn child(group: anteroom::GroupHandle<()>, left: usize, ended: Arc<AtomicUsize>) -> Boxed<()> {
        Box::pin(async move {
            if left > 0 {
                group.spawn(child(group.clone(), left - 1, ended.clone())).await.unwrap();
                group.spawn(child(group.clone(), left - 1, ended.clone())).await.unwrap();
            }
            ended.fetch_add(1, Ordering::SeqCst);
        })
    }
    or_abort(|| {
        for workers in 1..=4 {
            for (tasks, limit) in [(1, 1), (2, 1), (1, 2), (3, 2), (10, 1)] {
                let runtime = runtime(tasks, workers);
                for _ in 0..5 {
                    let ended = Arc::new(AtomicUsize::new(0));
                    runtime.block_on(async {
                        let group = TaskGroup::with_limit(limit);
                        group.spawn(child(group.handle(), 4, ended.clone())).await.unwrap();
                        while let Some(child) = group.join_next().await {
                            child.unwrap();
                        }
                    });
                    assert_eq!(ended.load(Ordering::SeqCst), 31);
                    settled(&runtime);
                }
            }
        }
    });
}

#[test]
fn a_parent_that_is_aborted_on_another_worker_takes_its_child_in_place_with_it() {
    or_abort(|| {
        for workers in 2..=4 {
            let runtime = runtime(1, workers);
            for round in 0..200_u32 {
                let drops = Drops::new();
                let noted = drops.track();
                runtime.block_on(async {
                    let parent = spawn(async move {
                        let child = spawn(async move {
                            let _noted = noted;
                            loop {
                                yield_now().await;
                            }
                        });
                        child.join().await.unwrap()
                    })
                    .await
                    .unwrap();
                    for _ in 0..round % 8 {
                        yield_now().await;
                    }
                    if round % 3 == 0 {
                        time::sleep(Duration::from_micros(u64::from(round) * 5)).await;
                    }
                    parent.abort();
                    assert!(parent.await.unwrap_err().is_cancelled());
                });
                settled(&runtime);
                // The child was in its parent's place, or in the place itself when the parent waited in vain.
                assert_eq!(drops.count(), 1);
            }
        }
    });
}

/// How a node starts its children.
#[derive(Clone, Copy, Debug)]
enum Style {
    OneByOne,
    AllThenJoin,
    AllAtOnce,
    Detach,
    Group(usize),
    /// Within itself, a few at once.
    Gather(usize),
    AbortThem,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    Yield(usize),
    Sleep(u64),
    Block,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Spawn,
    With,
    InPlace,
    Timeout,
    Reserve,
}

#[derive(Clone, Debug)]
struct Node {
    children: Vec<usize>,
    style: Style,
    step: Step,
    way: Way,
}

/// A program, and what has happened in it.
struct World {
    nodes: Vec<Node>,
    limit: usize,
    /// Of each node, how many futures there are, and how many children run in its place.
    futures: Vec<AtomicUsize>,
    lent: Vec<AtomicUsize>,
    /// How many have a place of their own.
    own: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

thread_local! {
    /// The nodes that are being polled on this thread, the outermost first.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A node's future, which notes in whose poll it is polled.
struct Watched {
    world: Arc<World>,
    number: usize,
    /// Whether it was polled, and then in whose place it is, if not in its own.
    host: Option<Option<usize>>,
    future: Boxed<()>,
}

impl Watched {
    fn new(world: &Arc<World>, number: usize) -> Self {
        world.futures[number].fetch_add(1, Ordering::SeqCst);
        Watched { world: world.clone(), number, host: None, future: run(world.clone(), number) }
    }
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let host = POLLED.with(|polled| polled.borrow().last().copied());
        let fault = match this.host {
            Some(before) if before != host => Some(format!("{} moved to {host:?}", this.number)),
            Some(_) => None,
            None => {
                this.host = Some(host);
                match host {
                    None if this.world.own.fetch_add(1, Ordering::SeqCst) >= this.world.limit => {
                        Some(format!("{} is one too many", this.number))
                    }
                    Some(host) if this.world.lent[host].fetch_add(1, Ordering::SeqCst) > 0 => {
                        Some(format!("two in the place of {host}"))
                    }
                    _ => None,
                }
            }
        };
        this.world.faults.lock().unwrap().extend(fault);
        POLLED.with(|polled| polled.borrow_mut().push(this.number));
        let polled = this.future.as_mut().poll(cx);
        POLLED.with(|polled| polled.borrow_mut().pop());
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        match self.host {
            Some(Some(host)) => self.world.lent[host].fetch_sub(1, Ordering::SeqCst),
            Some(None) => self.world.own.fetch_sub(1, Ordering::SeqCst),
            None => 0,
        };
        self.world.futures[self.number].fetch_sub(1, Ordering::SeqCst);
    }
}

async fn start(world: Arc<World>, number: usize) -> Result<JoinHandle<()>, SpawnError> {
    let way = world.nodes[number].way;
    let child = Watched::new(&world, number);
    match way {
        Way::Spawn => spawn(child).await,
        Way::With => spawn_with(move || child).await,
        Way::InPlace => spawn(child).or_in_place().await,
        Way::Timeout => match spawn(child).timeout(Duration::from_micros(300)).await {
            Ok(handle) => Ok(handle),
            Err(late) => spawn(late.into_future().unwrap()).await,
        },
        // Nobody's place may be lent to who wants no more than a place, so it gives up in time.
        Way::Reserve => match reserve().timeout(Duration::from_micros(300)).await {
            Ok(place) => Ok(place.spawn(child).unwrap()),
            Err(_) => spawn(child).await,
        },
    }
}

fn run(world: Arc<World>, number: usize) -> Boxed<()> {
    Box::pin(async move {
        let Node { children, style, step, .. } = world.nodes[number].clone();
        match step {
            Step::Nothing => {}
            Step::Yield(times) => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
            Step::Sleep(micros) => time::sleep(Duration::from_micros(micros)).await,
            Step::Block => spawn_blocking(|| ()).await.unwrap(),
        }
        let start_one = |child| start(world.clone(), child);
        match style {
            Style::OneByOne => {
                for child in children {
                    start_one(child).await.unwrap().await.unwrap();
                }
            }
            Style::AllThenJoin => {
                let mut handles = Vec::new();
                for child in children {
                    handles.push(start_one(child).await.unwrap());
                }
                for handle in handles {
                    handle.await.unwrap();
                }
            }
            Style::AllAtOnce => {
                let joins = children.into_iter().map(|child| {
                    let world = world.clone();
                    Box::pin(async move { start(world, child).await.unwrap().await.unwrap() })
                });
                join_all(joins).await;
            }
            Style::Detach => {
                for child in children {
                    drop(start_one(child).await.unwrap());
                }
            }
            Style::Group(limit) => {
                let group = TaskGroup::with_limit(limit);
                for child in children {
                    group.spawn(Watched::new(&world, child)).await.unwrap();
                }
                while let Some(child) = group.join_next().await {
                    child.unwrap();
                }
            }
            Style::Gather(limit) => {
                let join = |child| {
                    let world = world.clone();
                    async move { start(world, child).await.unwrap().await.unwrap() }
                };
                let done = gather(children, join).limit(limit).await;
                drop(done);
            }
            Style::AbortThem => {
                for child in children {
                    let handle = start_one(child).await.unwrap();
                    yield_now().await;
                    handle.abort();
                    let _ = handle.await;
                }
            }
        }
    })
}

/// The same numbers each time for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// A tree of up to 16 nodes, each of which does something else.
fn random_tree(seed: u64) -> Vec<Node> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let _ = random.below(2);
    let count = 1 + random.below(16);
    let mut nodes: Vec<Node> = (0..count)
        .map(|_| Node {
            children: Vec::new(),
            style: match random.below(10) {
                0 | 1 => Style::OneByOne,
                2 | 3 => Style::AllThenJoin,
                4 | 5 => Style::AllAtOnce,
                6 => Style::Detach,
                7 => Style::Group(1 + random.below(3)),
                8 => Style::Gather(1 + random.below(3)),
                _ => Style::AbortThem,
            },
            step: match random.below(8) {
                0 => Step::Yield(1 + random.below(3)),
                1 => Step::Sleep(random.below(300) as u64),
                2 => Step::Block,
                _ => Step::Nothing,
            },
            way: match random.below(8) {
                0 => Way::With,
                1 => Way::InPlace,
                2 => Way::Timeout,
                3 => Way::Reserve,
                _ => Way::Spawn,
            },
        })
        .collect();
    for number in 1..count {
        // Deep ones and wide ones.
        let back = 1 + random.below(if seed % 2 == 0 { 2 } else { number }).min(number - 1);
        nodes[number - back].children.push(number);
    }
    nodes
}

fn play(runtime: &StealingRuntime, seed: u64, limit: usize) {
    let nodes = random_tree(seed);
    let zeros = || nodes.iter().map(|_| AtomicUsize::new(0)).collect();
    let world = Arc::new(World {
        limit,
        futures: zeros(),
        lent: zeros(),
        own: AtomicUsize::new(0),
        faults: Mutex::new(Vec::new()),
        nodes,
    });
    let root = Watched::new(&world, 0);
    if seed % 3 == 0 {
        runtime.handle().spawn_wait(root).map(|root| runtime.block_on(root)).unwrap().unwrap();
    } else {
        runtime.block_on(spawn(root).join()).unwrap();
    }
    settled(runtime);
    // Those that were let go may have been dropped a moment after their place was given back.
    while world.futures.iter().any(|futures| futures.load(Ordering::SeqCst) > 0) {
        std::thread::yield_now();
    }
    assert_eq!(*world.faults.lock().unwrap(), [""; 0]);
    assert_eq!(world.own.load(Ordering::SeqCst), 0);
    assert!(world.lent.iter().all(|lent| lent.load(Ordering::SeqCst) == 0));
}

/// Plays programs, several at once, and says which it was that failed.
fn play_random(workers: usize, limit: usize, seeds: std::ops::Range<u64>) {
    let now = Arc::new(Mutex::new(0));
    let playing = now.clone();
    let played = catch_unwind(AssertUnwindSafe(|| {
        must_end(move || {
            let runtime = runtime(limit, workers);
            for seed in seeds {
                *playing.lock().unwrap() = seed;
                play(&runtime, seed, limit);
            }
        })
    }));
    if let Err(panic) = played {
        let seed = *now.lock().unwrap();
        eprintln!("{workers} workers, limit {limit}, seed {seed}: {:#?}", random_tree(seed));
        resume_unwind(panic);
    }
}

#[test]
fn every_random_tree_ends_and_keeps_the_limit_on_one_worker() {
    for limit in 1..=4 {
        play_random(1, limit, 0..500);
    }
}

#[test]
fn every_random_tree_ends_and_keeps_the_limit_on_two_workers() {
    for limit in 1..=4 {
        play_random(2, limit, 0..1_000);
    }
}

#[test]
fn every_random_tree_ends_and_keeps_the_limit_on_three_workers() {
    for limit in 1..=4 {
        play_random(3, limit, 1_000..1_500);
    }
}

#[test]
fn every_random_tree_ends_and_keeps_the_limit_on_four_workers() {
    for limit in 1..=4 {
        play_random(4, limit, 2_000..2_500);
    }
}

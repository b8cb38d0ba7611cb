//! Trees of tasks larger than the limit: every small one there is, and a large one. All of them end, the limit holds at each
//! step, and no place has two children in it at once.
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anteroom::{JoinHandle, Runtime, SpawnError, metrics, spawn, spawn_local, spawn_with, time, yield_now};
use anteroom_tests::must_end;
use futures_util::future::join_all;

/// How a node starts its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Each when the one before has ended.
    OneByOne,
    /// All, each when the one before was admitted; then it joins them.
    AllThenJoin,
    /// It spawns and joins all of them at once.
    AllAtOnce,
    /// It lets them go.
    Detach,
}

/// What a node does before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Yield,
    Sleep,
}

const STYLES: [Style; 4] = [Style::OneByOne, Style::AllThenJoin, Style::AllAtOnce, Style::Detach];
const STEPS: [Step; 3] = [Step::Nothing, Step::Yield, Step::Sleep];

#[derive(Clone, Debug)]
struct Node {
    children: Vec<usize>,
    style: Style,
    step: Step,
}

/// A program, and what has happened in it.
struct World {
    nodes: Vec<Node>,
    limit: usize,
    or_in_place: bool,
    /// Which of the three ways to spawn its first node uses.
    way: usize,
    /// How many nodes were begun, how many have ended, and how many are in their spawner's place.
    begun: AtomicUsize,
    ended: AtomicUsize,
    in_place: AtomicUsize,
    /// For each node, how many children run in its place, each of them one frame further in.
    lent: Vec<AtomicUsize>,
    done: Mutex<Option<Waker>>,
}

thread_local! {
    /// The nodes that are being polled on this thread, the outermost first.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl World {
    fn new(nodes: Vec<Node>, limit: usize, or_in_place: bool, way: usize) -> Arc<Self> {
        let lent = nodes.iter().map(|_| AtomicUsize::new(0)).collect();
        Arc::new(World {
            nodes,
            limit,
            or_in_place,
            way,
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            in_place: AtomicUsize::new(0),
            lent,
            done: Mutex::new(None),
        })
    }

    fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }

    /// Ready when every node has ended, of whom nobody may have the handle.
    async fn end(&self) {
        std::future::poll_fn(|cx| {
            if World::count(&self.ended) == self.nodes.len() {
                return Poll::Ready(());
            }
            *self.done.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A node's future, which notes in whose poll it is polled.
struct Watched {
    world: Arc<World>,
    number: usize,
    /// Whether it was polled, and then in whose place it is, if not in its own.
    host: Option<Option<usize>>,
    future: Pin<Box<dyn Future<Output = usize> + Send>>,
}

fn watched(world: &Arc<World>, number: usize) -> Watched {
    let future = Box::pin(run(world.clone(), number));
    Watched { world: world.clone(), number, host: None, future }
}

impl Future for Watched {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let this = &mut *self;
        let host = POLLED.with(|polled| polled.borrow().last().copied());
        if this.host.is_none() {
            this.host = Some(host);
            this.world.begun.fetch_add(1, Ordering::SeqCst);
            if let Some(host) = host {
                this.world.in_place.fetch_add(1, Ordering::SeqCst);
                let others = this.world.lent[host].fetch_add(1, Ordering::SeqCst);
                assert_eq!(others, 0, "{} runs in the place of {host}, where another runs", this.number);
            }
        }
        assert_eq!(this.host, Some(host), "it is polled where it was first");
        let metrics = metrics();
        assert!(metrics.tasks_live <= this.world.limit);
        assert_eq!(metrics.in_place, World::count(&this.world.in_place));
        POLLED.with(|polled| polled.borrow_mut().push(this.number));
        let polled = this.future.as_mut().poll(cx);
        POLLED.with(|polled| polled.borrow_mut().pop());
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(Some(host)) = self.host {
            self.world.lent[host].fetch_sub(1, Ordering::SeqCst);
            self.world.in_place.fetch_sub(1, Ordering::SeqCst);
        }
        self.world.ended.fetch_add(1, Ordering::SeqCst);
        if let Some(waker) = self.world.done.lock().unwrap().take() {
            waker.wake();
        }
    }
}

/// One of the ways to spawn a node, by its number.
async fn start(world: Arc<World>, number: usize) -> Result<JoinHandle<usize>, SpawnError> {
    let child = watched(&world, number);
    match ((world.way + number) % 3, world.or_in_place) {
        (0, false) => spawn(child).await,
        (0, true) => spawn(child).or_in_place().await,
        (1, false) => spawn_with(move || child).await,
        (1, true) => spawn_with(move || child).or_in_place().await,
        (_, false) => Box::pin(spawn(child)).await,
        (_, true) => Box::pin(spawn(child).or_in_place()).await,
    }
}

/// How many nodes ended below and with `number`, of those that it has waited for.
async fn run(world: Arc<World>, number: usize) -> usize {
    let Node { children, style, step } = world.nodes[number].clone();
    match step {
        Step::Nothing => {}
        Step::Yield => yield_now().await,
        Step::Sleep => time::sleep(Duration::from_millis(1)).await,
    }
    let mut sum = 1;
    match style {
        Style::OneByOne => {
            for child in children {
                sum += start(world.clone(), child).await.unwrap().await.unwrap();
            }
        }
        Style::AllThenJoin => {
            let mut handles = Vec::new();
            for child in children {
                handles.push(start(world.clone(), child).await.unwrap());
            }
            for handle in handles {
                sum += handle.await.unwrap();
            }
        }
        Style::AllAtOnce => {
            let joins = children.into_iter().map(|child| {
                let world = world.clone();
                async move { start(world, child).await.unwrap().await.unwrap() }
            });
            sum += join_all(joins).await.into_iter().sum::<usize>();
        }
        Style::Detach => {
            for child in children {
                drop(start(world.clone(), child).await.unwrap());
            }
        }
    }
    sum
}

/// Runs a program to its end, whose first node is 0; its output.
fn play(runtime: &Runtime, world: &Arc<World>) -> usize {
    let output = runtime.block_on(async {
        let output = spawn_local(watched(world, 0)).join().await.unwrap();
        world.end().await;
        // What is woken by the end of the last is over, too.
        yield_now().await;
        output
    });
    let metrics = runtime.metrics();
    assert_eq!((metrics.tasks_live, metrics.task_bytes, metrics.waiting, metrics.in_place), (0, 0, 0, 0));
    assert_eq!(
        (World::count(&world.begun), World::count(&world.ended)),
        (world.nodes.len(), world.nodes.len())
    );
    assert!(world.lent.iter().all(|lent| World::count(lent) == 0));
    output
}

/// Every ordered tree of so many nodes, as each node's children; node 0 is the root.
fn trees(nodes: usize) -> Vec<Vec<Vec<usize>>> {
    // Node n's parent is on the path from the root to node n - 1: each tree once, its nodes in the order of a walk.
    let mut trees = vec![(vec![Vec::new()], vec![0])];
    for number in 1..nodes {
        let grown = trees.into_iter().flat_map(|(children, path): (Vec<Vec<usize>>, Vec<usize>)| {
            (1..=path.len()).map(move |depth| {
                let (mut children, mut path) = (children.clone(), path[..depth].to_vec());
                children[path[depth - 1]].push(number);
                children.push(Vec::new());
                path.push(number);
                (children, path)
            })
        });
        trees = grown.collect();
    }
    trees.into_iter().map(|(children, _)| children).collect()
}

/// All ways to choose one of `choices` for each of `nodes`.
fn choices<T: Copy>(nodes: usize, choices: &[T]) -> impl Iterator<Item = Vec<T>> {
    (0..choices.len().pow(nodes as u32)).map(move |mut number| {
        let one = |_| {
            let chosen = choices[number % choices.len()];
            number /= choices.len();
            chosen
        };
        (0..nodes).map(one).collect()
    })
}

/// All programs over trees of so many nodes; with each node's own step, or one for all.
fn programs(nodes: usize, own_steps: bool) -> impl Iterator<Item = Vec<Node>> {
    let steps: Vec<Vec<Step>> = match own_steps {
        true => choices(nodes, &STEPS).collect(),
        false => STEPS.iter().map(|&step| vec![step; nodes]).collect(),
    };
    trees(nodes).into_iter().flat_map(move |tree| {
        let inner: Vec<usize> = (0..nodes).filter(|&number| !tree[number].is_empty()).collect();
        let steps = steps.clone();
        choices(inner.len(), &STYLES).flat_map(move |styles| {
            let (tree, inner) = (tree.clone(), inner.clone());
            steps.clone().into_iter().map(move |steps| {
                let node = |number: usize| {
                    let at = inner.iter().position(|&one| one == number);
                    Node {
                        children: tree[number].clone(),
                        style: at.map_or(Style::Detach, |at| styles[at]),
                        step: steps[number],
                    }
                };
                (0..nodes).map(node).collect()
            })
        })
    })
}

/// Plays all of `programs` at all limits from 1 to 4, and says how many there were.
fn play_all(programs: impl Iterator<Item = Vec<Node>> + Send + 'static) -> usize {
    let now = Arc::new(Mutex::new(String::new()));
    let played = catch_unwind(AssertUnwindSafe({
        let now = now.clone();
        || {
            must_end(move || {
                let build = |limit| Runtime::builder().max_tasks(limit).paused_clock(true).build().unwrap();
                let runtimes: Vec<(usize, Runtime)> = (1..=4).map(|limit| (limit, build(limit))).collect();
                let mut played = 0;
                for nodes in programs {
                    for ((limit, runtime), or_in_place) in
                        runtimes.iter().flat_map(|one| [(one, false), (one, true)])
                    {
                        let world = World::new(nodes.clone(), *limit, or_in_place, played % 3);
                        {
                            use std::fmt::Write;
                            let mut now = now.lock().unwrap();
                            now.clear();
                            write!(now, "limit {limit}, or_in_place {or_in_place}, {nodes:?}").unwrap();
                        }
                        play(runtime, &world);
                        played += 1;
                    }
                }
                played
            })
        }
    }));
    played.unwrap_or_else(|panic| {
        eprintln!("the program was: {}", now.lock().unwrap());
        resume_unwind(panic)
    })
}

#[test]
fn every_small_tree_ends_at_every_limit_with_a_step_of_each_node_s_own() {
    let nodes_max = if cfg!(debug_assertions) { 3 } else { 4 };
    let played: usize = (1..=nodes_max).map(|nodes| play_all(programs(nodes, true))).sum();
    // 8 times: one node does 3 things; two in 4 styles 9; three, in two trees of 16 and 4 programs, 27; ...
    assert_eq!(played, 8 * if cfg!(debug_assertions) { 3 + 36 + 540 } else { 3 + 36 + 540 + 9_396 });
}

#[test]
fn every_tree_of_up_to_six_ends_at_every_limit() {
    let nodes_max = if cfg!(debug_assertions) { 4 } else { 6 };
    let played: usize = (1..=nodes_max).map(|nodes| play_all(programs(nodes, false))).sum();
    let programs: usize = [1, 4, 20, 116, 740, 5_028][..nodes_max].iter().sum();
    assert_eq!(played, 8 * 3 * programs);
}

/// So many nodes, each with up to `wide` children, in layers.
fn full_tree(nodes: usize, wide: usize, style: Style) -> Vec<Node> {
    let children = |number: usize| (number * wide + 1..=number * wide + wide).filter(|&child| child < nodes);
    let node = |number| Node { children: children(number).collect(), style, step: Step::Nothing };
    (0..nodes).map(node).collect()
}

#[test]
fn a_hundred_thousand_nodes_end_at_limit_8() {
    const NODES: usize = 100_000;
    let styles = [(2, Style::AllAtOnce), (10, Style::AllThenJoin), (3, Style::OneByOne)];
    // Each of them takes seconds where nothing is optimised.
    for (wide, style) in styles.into_iter().take(if cfg!(debug_assertions) { 1 } else { 3 }) {
        must_end(move || {
            let runtime = Runtime::builder().max_tasks(8).build().unwrap();
            let world = World::new(full_tree(NODES, wide, style), 8, false, 0);
            assert_eq!(play(&runtime, &world), NODES);
            assert_eq!(runtime.metrics().tasks_live_peak, 8);
        });
    }
}

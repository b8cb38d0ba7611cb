//! Rule 4, over several workers: whatever waits for its children ends at any limit, since where nothing else can run a child runs
//! in its parent's place.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::thread;

use super::rig::{Rig, block_on, dawdle};
use super::tasks::Mailbox;
use super::{explore, pick};
use crate::spawn;
use crate::wait::wait;

/// How deep a tree is at most.
const DEPTH: usize = 3;

/// A task that waits for its children.
#[derive(Debug)]
struct Tree {
    children: Vec<Tree>,
    waits: Waits,
}

/// How a task waits for its children.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// For each before it has the next.
    OneByOne,
    /// For all, when it has them.
    Together,
    /// For a letter of each, and nobody but they knows that it waits for them.
    ByLetter,
}

impl Tree {
    /// Each has fewer children than `below`.
    fn grow(depth: usize, below: usize) -> Tree {
        let children = if depth == 0 { 0 } else { pick(below) };
        let waits = [Waits::OneByOne, Waits::Together, Waits::ByLetter][pick(3)];
        Tree { children: (0..children).map(|_| Tree::grow(depth - 1, below)).collect(), waits }
    }

    fn nodes(&self) -> usize {
        1 + self.children.iter().map(Tree::nodes).sum::<usize>()
    }

    /// How many there were, counted by who ran.
    fn run(self, ran: Arc<AtomicUsize>) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move {
            ran.fetch_add(1, Ordering::Relaxed);
            dawdle(2).await;
            let (mut nodes, mut handles) = (1, Vec::new());
            let letters: Arc<Mailbox> = Arc::default();
            let mut sent = 0;
            for child in self.children {
                let child_nodes = child.nodes();
                let child = child.run(ran.clone());
                match self.waits {
                    Waits::OneByOne => nodes += spawn(child).await.unwrap().await.unwrap(),
                    Waits::Together => handles.push(spawn(child).await.unwrap()),
                    Waits::ByLetter => {
                        let letters = letters.clone();
                        let child = async move {
                            assert_eq!(child.await, child_nodes);
                            letters.put();
                        };
                        drop(spawn(child).await.unwrap());
                        (nodes, sent) = (nodes + child_nodes, sent + 1);
                    }
                }
            }
            letters.take(sent).await;
            for handle in handles {
                nodes += handle.await.unwrap();
            }
            nodes
        })
    }
}

pub(super) fn trees() {
    let (workers, limit) = (2 + pick(2), 1 + pick(3));
    let rig = Rig::new(workers, limit);
    let (team, handle) = (rig.team(), rig.handle());
    let ran = Arc::new(AtomicUsize::new(0));
    let plant = || {
        let tree = Tree::grow(DEPTH, 2 + pick(3));
        (tree.nodes(), tree.run(ran.clone()))
    };
    let (here, guest, elsewhere) = (plant(), plant(), plant());
    let all = here.0 + guest.0 + elsewhere.0;
    let guest = thread::spawn(move || {
        // It waits for a place itself, and then for its task.
        let nodes = block_on(team, async { spawn(guest.1).await.unwrap().await.unwrap() });
        assert_eq!(nodes, guest.0);
    });
    let elsewhere = thread::spawn(move || {
        let task = wait(pin!(handle.spawn(elsewhere.1)), None).unwrap().unwrap();
        assert_eq!(wait(pin!(task), None).unwrap().unwrap(), elsewhere.0);
    });
    // Its children are spawned by the guest's own future.
    assert_eq!(rig.block_on(here.1), here.0);
    guest.join().unwrap();
    elsewhere.join().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), all);
    assert!(rig.drain() <= limit);
}

#[test]
fn shuttle_trees_of_tasks_that_wait_for_their_children_end_at_any_limit() {
    // Rule 4; [IDLE-1], since who is the last to sleep makes the offers.
    explore("shuttle_trees_of_tasks_that_wait_for_their_children_end_at_any_limit", trees);
}

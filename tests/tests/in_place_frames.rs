//! Frames whose child runs in place, away from where they began: in another task, on another thread, in another runtime, and
//! after their runtime.
use std::future::{pending, poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use anteroom::{JoinHandle, Runtime, Spawn, SpawnError, metrics, spawn, spawn_local, yield_now};
use anteroom_tests::{
    Drops, Gate, Tracked, Wakes, beside, elsewhere, look_around, must_end, poll_once, poll_with,
};

fn runtime(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).build().unwrap()
}

/// A child that runs until its gate is opened.
struct Child {
    wait: anteroom_tests::Wait,
    _tracked: Tracked,
}

impl Future for Child {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<usize> {
        Pin::new(&mut self.wait).poll(cx).map(|()| 7)
    }
}

type Frame = Pin<Box<Spawn<Child>>>;
type Slot<T> = Arc<Mutex<Option<T>>>;

/// Polls it once, with the waker of who awaits this.
async fn begin<F: Future>(mut frame: Pin<&mut F>) {
    let polled = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
}

/// Spawns a task that begins to run a child in its place, leaves the frame to the caller, and lives on until it is aborted.
async fn lend(drops: &Drops, gate: &Gate) -> (JoinHandle<()>, Frame) {
    let slot: Slot<Frame> = Slot::default();
    let child = Child { wait: gate.wait(), _tracked: drops.track() };
    let spawner = {
        let slot = slot.clone();
        async move {
            while metrics().tasks_live < metrics().tasks_max {
                yield_now().await;
            }
            let mut frame = Box::pin(spawn(child).or_in_place());
            begin(frame.as_mut()).await;
            *slot.lock().unwrap() = Some(frame);
            pending::<()>().await;
        }
    };
    let spawner = spawn(spawner).await.unwrap();
    yield_now().await;
    yield_now().await;
    assert_eq!(metrics().in_place, 1);
    let frame = slot.lock().unwrap().take().unwrap();
    (spawner, frame)
}

/// As [`lend`], in a runtime with one place, from outside of it.
fn lend_in(runtime: &Runtime, drops: &Drops) -> (JoinHandle<()>, Frame) {
    runtime.block_on(lend(drops, &Gate::new()))
}

/// Whether a place of this full runtime, whose only task is idle, can be lent: a task tries.
fn can_lend(runtime: &Runtime, spawner: &JoinHandle<()>) -> bool {
    runtime.block_on(async {
        spawner.abort();
        yield_now().await;
        let again = spawn(spawn(ready(5)).or_in_place().join()).await.unwrap();
        again.await.unwrap().unwrap() == 5 && metrics().in_place == 0
    })
}

#[test]
fn a_frame_polled_by_another_task_goes_on_there() {
    must_end(|| {
        let (runtime, drops, gate) = (runtime(2), Drops::new(), Gate::new());
        runtime.block_on(async {
            let slot: Slot<Frame> = Slot::default();
            let taker = {
                let slot = slot.clone();
                let open = gate.wait();
                async move {
                    open.await;
                    let frame = slot.lock().unwrap().take().unwrap();
                    frame.await.unwrap().await.unwrap()
                }
            };
            let taker = spawn(taker).await.unwrap();
            let rest = Gate::new();
            let (spawner, frame) = lend(&drops, &rest).await;
            // Its spawner ends before it.
            spawner.abort();
            assert!(spawner.await.unwrap_err().is_cancelled());
            *slot.lock().unwrap() = Some(frame);
            gate.open();
            yield_now().await;
            assert_eq!((metrics().in_place, drops.count()), (1, 0));
            rest.open();
            assert_eq!(taker.await.unwrap(), 7);
            assert_eq!((metrics().in_place, metrics().tasks_live, drops.count()), (0, 0, 1));
        });
    });
}

#[test]
fn a_frame_polled_on_another_thread_ends_there_and_the_place_is_lent_anew() {
    // [PLACE-1] [PLACE-2]
    let (runtime, drops) = (runtime(1), Drops::new());
    let (spawner, mut frame) = lend_in(&runtime, &drops);
    let there = elsewhere(|| {
        let Poll::Ready(Err(SpawnError::Closed)) = poll_once(frame.as_mut()) else { panic!("it runs here") };
        thread::current().id()
    });
    assert_eq!(drops.threads(), [there]);
    drop(frame);
    runtime.block_on(async {
        // The same task's place, without its end.
        assert_eq!((metrics().in_place, metrics().tasks_live), (0, 1));
    });
    assert!(can_lend(&runtime, &spawner));
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_frame_dropped_on_another_thread_gives_its_spawners_place_back_to_lend() {
    // [PLACE-1] [PLACE-2]
    must_end(|| {
        let (runtime, drops) = (runtime(1), Drops::new());
        runtime.block_on(async {
            let (first, second) = (drops.track(), Arc::new(Mutex::new(None)));
            let slot = second.clone();
            let spawner = spawn(async move {
                let child = async move {
                    let _tracked = first;
                    pending::<()>().await;
                };
                let mut frame = Box::pin(spawn(child).or_in_place());
                begin(frame.as_mut()).await;
                let there = beside(move || {
                    drop(frame);
                    thread::current().id()
                });
                *slot.lock().unwrap() = Some(there.await);
                look_around().await;
                assert_eq!(metrics().in_place, 0);
                spawn(async { metrics().in_place }).or_in_place().join().await.unwrap()
            });
            assert_eq!(spawner.await.unwrap().await.unwrap(), 1);
            assert_eq!(drops.threads(), [second.lock().unwrap().unwrap()]);
        });
    });
}

#[test]
fn a_frame_survives_its_runtime_and_ends_where_it_is_polled_or_dropped() {
    for polled in [false, true] {
        let (runtime, drops) = (runtime(1), Drops::new());
        let (spawner, mut frame) = lend_in(&runtime, &drops);
        drop(runtime);
        assert!(spawner.is_finished());
        assert_eq!(drops.count(), 0);
        if polled {
            assert!(matches!(poll_once(frame.as_mut()), Poll::Ready(Err(SpawnError::Closed))));
            assert_eq!(drops.count(), 1);
        }
        drop(frame);
        assert_eq!(drops.count(), 1);
    }
}

#[test]
fn a_frame_of_an_earlier_runtime_lends_nothing_of_the_next_with_its_home() {
    // [PLACE-2]: the later runtime has the home, the headers and the nodes of the earlier.
    for polled in [false, true] {
        let drops = Drops::new();
        let earlier = runtime(1);
        let (spawner, mut frame) = lend_in(&earlier, &drops);
        drop((earlier, spawner));
        let later = runtime(1);
        let (spawner, own) = lend_in(&later, &drops);
        later.block_on(async {
            assert_eq!(metrics().in_place, 1);
            if polled {
                let (waker, _) = Wakes::new();
                let ended = poll_with(frame.as_mut(), &waker);
                assert!(matches!(ended, Poll::Ready(Err(SpawnError::Closed))));
            }
            drop(frame);
            assert_eq!((metrics().in_place, drops.count()), (1, 1));
        });
        // The later one's own is as it was.
        drop(own);
        later.block_on(yield_now());
        assert_eq!((later.metrics().in_place, drops.count()), (0, 2));
        assert!(can_lend(&later, &spawner));
    }
}

#[test]
fn a_frame_ends_when_it_is_polled_in_a_runtime_inside_of_its_own() {
    // [PLACE-1]
    for polled in [false, true] {
        let (outer, drops) = (runtime(1), Drops::new());
        let (spawner, mut frame) = lend_in(&outer, &drops);
        outer.block_on(async {
            let inner = runtime(1);
            inner.block_on(async {
                if polled {
                    let ended = poll_once(frame.as_mut());
                    assert!(matches!(ended, Poll::Ready(Err(SpawnError::Closed))));
                }
                drop(frame);
                assert_eq!((drops.count(), metrics().in_place), (1, 0));
            });
            drop(inner);
            // It was given back by way of the desk.
            look_around().await;
            assert_eq!(metrics().in_place, 0);
        });
        assert!(can_lend(&outer, &spawner));
    }
}

#[test]
fn a_child_in_place_may_run_a_runtime_in_which_children_run_in_place() {
    must_end(|| {
        let outer = runtime(1);
        let child = async {
            assert_eq!(metrics().in_place, 1);
            let deep = runtime(1).block_on(async {
                let task = async {
                    let child = async { spawn(async { metrics().in_place }).join().await.unwrap() };
                    spawn(child).join().await.unwrap()
                };
                spawn(task).await.unwrap().await.unwrap()
            });
            assert_eq!(deep, 2);
            // And here it goes on where it was.
            assert_eq!(spawn(async { metrics().in_place }).join().await.unwrap(), 2);
        };
        outer.block_on(spawn(spawn(child).join()).join()).unwrap().unwrap();
        assert_eq!(outer.metrics().in_place, 0);
    });
}

#[test]
fn a_local_frame_polled_in_a_runtime_inside_of_its_own_takes_no_offer_there() {
    must_end(|| {
        let outer = runtime(1);
        outer.block_on(async {
            let task = async {
                let mut frame = Box::pin(spawn_local(async { metrics().in_place }));
                begin(frame.as_mut()).await;
                runtime(1).block_on(async {
                    assert!(poll_once(frame.as_mut()).is_pending());
                    yield_now().await;
                    assert!(poll_once(frame.as_mut()).is_pending());
                });
                // Here it is offered, and takes it.
                frame.await.unwrap().await.unwrap()
            };
            assert_eq!(spawn_local(task).join().await.unwrap(), 1);
        });
    });
}

#[test]
fn a_spawn_that_began_elsewhere_runs_in_the_place_of_the_task_that_awaits_it() {
    // Also when that task polls it before the owner has taken it from the desk to the line.
    must_end(|| {
        let runtime = runtime(1);
        let handle = runtime.handle();
        for is_in_line in [true, false] {
            let gate = Gate::new();
            runtime.block_on(async {
                let slot: Slot<Pin<Box<Spawn<_>>>> = Slot::default();
                let task = {
                    let (open, slot) = (gate.wait(), slot.clone());
                    async move {
                        open.await;
                        let frame = slot.lock().unwrap().take().unwrap();
                        frame.await.unwrap().await.unwrap()
                    }
                };
                let task = spawn(task).await.unwrap();
                // Polled on another thread first: its node is the desk's.
                let mut frame = Box::pin(handle.spawn(async { metrics().in_place }));
                let frame = elsewhere(move || {
                    assert!(poll_once(frame.as_mut()).is_pending());
                    frame
                });
                if is_in_line {
                    look_around().await;
                    assert_eq!(metrics().waiting, 1);
                }
                *slot.lock().unwrap() = Some(frame);
                gate.open();
                assert_eq!(task.await.unwrap(), 1);
                assert_eq!((metrics().in_place, metrics().waiting), (0, 0));
            });
        }
    });
}

#[test]
fn offers_to_frames_that_leave_and_others_that_begin_elsewhere_do_not_meet() {
    // [PLACE-2]: a node of the desk is offered to, given back, and taken anew by a thread, all at once; the sanitizer looks on.
    must_end(|| {
        let runtime = runtime(1);
        let handle = runtime.handle();
        let other = {
            thread::spawn(move || {
                let mut turns = 0;
                loop {
                    let mut frame = Box::pin(handle.spawn(ready(1)));
                    match poll_once(frame.as_mut()) {
                        Poll::Pending => turns += 1,
                        Poll::Ready(Err(SpawnError::Closed)) => return turns,
                        Poll::Ready(other) => drop(other),
                    }
                }
            })
        };
        runtime.block_on(async {
            let task = async move {
                for _ in 0..200 {
                    let mut frame = Box::pin(handle.spawn(ready(2)));
                    let frame = beside(move || {
                        assert!(poll_once(frame.as_mut()).is_pending());
                        frame
                    });
                    let mut frame = Some(frame.await);
                    let mut is_parked = false;
                    poll_fn(|cx| match &mut frame {
                        // Nobody else will wake it: the next poll is for the offer, and it leaves.
                        Some(frame) if !is_parked => {
                            is_parked = true;
                            assert!(frame.as_mut().poll(cx).is_pending());
                            Poll::Pending
                        }
                        _ => {
                            frame = None;
                            Poll::Ready(())
                        }
                    })
                    .await;
                    // The owner goes to sleep, and looks after the offer that fell.
                    beside(|| ()).await;
                }
            };
            spawn(task).join().await.unwrap();
        });
        drop(runtime);
        assert!(other.join().unwrap() > 0);
    });
}

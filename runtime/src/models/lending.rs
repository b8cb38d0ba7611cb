//! Loom models of an offer to run a child in its spawner's place, while the frame of that child is on another thread.
//!
//! # What is checked
//! The owner takes the waker out of a frame that waits, to tell it of the offer, just when that frame is polled or dropped
//! elsewhere; and a child that runs in place is ended elsewhere. What the node notes of lending is the owner's alone, also
//! when the node itself has gone back to the desk and is used anew ([PLACE-2]): its cells are loom's, which fail a model in
//! which two threads are at one of them.

use super::*;

type Frame = Pin<Box<Spawn<std::future::Ready<usize>>>>;

/// Where a frame goes from hand to hand; no step of any protocol.
type Slot = StdArc<std::sync::Mutex<Option<Frame>>>;

fn in_slot(slot: &Slot) -> Option<Frame> {
    slot.lock().unwrap().take()
}

/// One place, whose task has polled a spawn once, and never again; the spawn, which is parked there and may be offered to.
fn rig_with_a_frame() -> (Rig, JoinHandle<()>, Frame) {
    let rig = Rig::new(1);
    let slot = Slot::default();
    let (holder, frame) = rig.block_on({
        let slot = slot.clone();
        async move {
            let spawner = {
                let slot = slot.clone();
                poll_fn(move |cx| {
                    let mut frame = Box::pin(spawn(std::future::ready(3)));
                    assert!(frame.as_mut().poll(cx).is_pending());
                    *slot.lock().unwrap() = Some(frame);
                    Poll::Ready(())
                })
            };
            let holder = try_spawn(async move {
                spawner.await;
                std::future::pending::<()>().await;
            });
            let holder = holder.unwrap();
            crate::yield_now().await;
            (holder, in_slot(&slot).expect("it was polled"))
        }
    });
    (rig, holder, frame)
}

#[test]
fn loom_offer_against_a_frame_polled_elsewhere() {
    // [WAIT-2]: the offer takes the old waker or the new one; and whatever it takes, the next to be left there is told.
    model_of_three(|| {
        let (rig, holder, mut frame) = rig_with_a_frame();
        let bell = Bell::new();
        let slot = Slot::default();
        rig.run_against({
            let (bell, slot) = (bell.clone(), slot.clone());
            move || {
                let waker = Waker::from(bell);
                assert!(frame.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                *slot.lock().unwrap() = Some(frame);
            }
        });
        let frame = in_slot(&slot).expect("it was polled");
        let other = thread::spawn(move || {
            // Rung for the offer, or not: in the end for the place.
            drop(wait_for_at(frame, &bell).unwrap());
        });
        rig.block_on(async { holder.abort() });
        rig.settle();
        other.join().unwrap();
        rig.settle();
        assert_eq!(rig.admission.counts().tasks_live, 0);
        rig.shut_down();
    });
}

/// Waits first, since `future` was polled with `bell`'s waker, and then as [`wait_for`].
fn wait_for_at<F: Future>(mut future: Pin<Box<F>>, bell: &StdArc<Bell>) -> F::Output {
    let waker = Waker::from(bell.clone());
    loop {
        bell.wait();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
}

#[test]
fn loom_offer_against_a_frame_dropped_elsewhere() {
    // [WAIT-2] [WAIT-3] [PLACE-2]
    model_of_three(|| {
        let (rig, holder, frame) = rig_with_a_frame();
        rig.run_against(move || drop(frame));
        rig.block_on(async { holder.abort() });
        rig.settle();
        let counts = rig.admission.counts();
        assert_eq!((counts.tasks_live, counts.waiting, counts.in_place), (0, 0, 0));
        rig.shut_down();
    });
}

#[test]
fn loom_shutdown_against_a_child_in_place_dropped_elsewhere() {
    // [PLACE-1] [PLACE-2]
    model_of_three(|| {
        let (rig, holder, frame) = rig_with_a_child_in_place();
        let other = thread::spawn(move || drop(frame));
        rig.shut_down();
        other.join().unwrap();
        drop(holder);
    });
}

type Forever = Pin<Box<Spawn<std::future::Pending<()>>>>;

/// One place, whose task has begun to run a child there, and the frame of that child.
fn rig_with_a_child_in_place() -> (Rig, JoinHandle<()>, Forever) {
    let rig = Rig::new(1);
    let slot = StdArc::new(std::sync::Mutex::new(None));
    let (holder, frame) = rig.block_on({
        let slot = slot.clone();
        async move {
            let spawner = {
                let slot = slot.clone();
                poll_fn(move |cx| {
                    let frame: Forever = Box::pin(spawn(std::future::pending()).or_in_place());
                    let mut frame = frame;
                    assert!(frame.as_mut().poll(cx).is_pending());
                    *slot.lock().unwrap() = Some(frame);
                    Poll::Ready(())
                })
            };
            let holder = try_spawn(async move {
                spawner.await;
                std::future::pending::<()>().await;
            });
            let holder = holder.unwrap();
            crate::yield_now().await;
            let frame = slot.lock().unwrap().take().expect("it was polled");
            (holder, frame)
        }
    });
    assert_eq!(rig.admission.counts().in_place, 1);
    (rig, holder, frame)
}

#[test]
fn loom_a_child_in_place_dropped_elsewhere_against_the_end_of_its_spawner() {
    // [PLACE-1] [PLACE-2] [DESK-3]: whoever is first, no lending is left over, and the node is used again.
    model_of_three(|| {
        let (rig, holder, frame) = rig_with_a_child_in_place();
        let other = thread::spawn(move || drop(frame));
        rig.block_on(async { holder.abort() });
        rig.block_on(crate::yield_now());
        other.join().unwrap();
        rig.settle();
        let counts = rig.admission.counts();
        assert_eq!((counts.tasks_live, counts.in_place), (0, 0));
        rig.shut_down();
    });
}

#[test]
fn loom_a_child_in_place_polled_elsewhere_ends_there() {
    // [PLACE-1]
    model_of_three(|| {
        let (rig, holder, mut frame) = rig_with_a_child_in_place();
        rig.run_against(move || {
            let polled = poll_once(frame.as_mut());
            assert!(matches!(polled, Poll::Ready(Err(crate::SpawnError::Closed))));
        });
        rig.settle();
        assert_eq!(rig.admission.counts().in_place, 0);
        rig.block_on(async { holder.abort() });
        rig.settle();
        rig.shut_down();
    });
}

#[test]
fn loom_a_node_that_was_offered_is_used_anew_elsewhere() {
    // [PLACE-2]: the offer falls when the frame leaves, and the owner looks at its node no more.
    model_of_three(|| {
        let rig = Rig::new(1);
        let door = rig.admission.door();
        let slot = Slot::default();
        let woken = StdArc::new(std::sync::Mutex::new(None::<Waker>));
        // Polls what is in the slot once; woken for the offer, drops it.
        let spawner = {
            let (slot, woken) = (slot.clone(), woken.clone());
            let mut polled = None;
            poll_fn(move |cx| {
                *woken.lock().unwrap() = Some(cx.waker().clone());
                if polled.take().is_none() {
                    if let Some(mut frame) = in_slot(&slot) {
                        assert!(frame.as_mut().poll(cx).is_pending());
                        polled = Some(frame);
                    }
                }
                Poll::Pending::<()>
            })
        };
        let (holder, waiting) = rig.block_on(async move {
            let holder = try_spawn(spawner).unwrap();
            crate::yield_now().await;
            let mut waiting = Box::pin(spawn(std::future::ready(3)));
            assert!(poll_once(waiting.as_mut()).is_pending());
            (holder, waiting)
        });
        let mut frame = spawn_at(door, 5);
        assert!(poll_once(frame.as_mut()).is_pending(), "at the desk");
        *slot.lock().unwrap() = Some(frame);
        woken.lock().unwrap().take().expect("it was polled").wake();
        rig.run_against(move || {
            // The node that the owner gave back, if it has by now.
            let mut frame = spawn_at(door, 6);
            assert!(poll_once(frame.as_mut()).is_pending());
            drop(frame);
        });
        drop(waiting);
        rig.block_on(async { holder.abort() });
        rig.settle();
        rig.shut_down();
    });
}

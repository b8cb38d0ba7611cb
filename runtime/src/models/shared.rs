//! Loom models of what several threads can do to one task of a team, whose state all of them move.
//!
//! # What is checked
//! Each future has a cell of loom's that its polls touch and that nothing else orders: two polls at once, or one that does not
//! see what the one before did, fail a model ([`Reader`]). A lost wake is a task that is not done in the end, or a deadlock.
//!
//! # That it checks
//! With `ANTEROOM_BUG=...` a model must fail for each of: `shared_wake_skips` (a wake that changes nothing is no
//! read-modify-write), `shared_done_relaxed` (the end is published without what the task did), `shared_join_no_second_look`
//! (a handle that has written its waker too late waits all the same).

use std::sync::Mutex as StdMutex;

use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::team::{Rig, Sitting, Told, counts, end, output};
use super::*;

/// Ready when the data, read without any order of its own, is at least `at_least`; from its first poll on its waker is to be
/// had, for wakes from anywhere.
struct Reader {
    data: Arc<AtomicUsize>,
    at_least: usize,
    /// Its poller's alone.
    polls: Cell<usize>,
    /// Not seen by loom: no step of any protocol.
    waker: StdArc<StdMutex<Option<Waker>>>,
    is_over: bool,
}

impl Reader {
    fn new(data: &Arc<AtomicUsize>, at_least: usize) -> Self {
        let data = data.clone();
        Reader { data, at_least, polls: Cell::new(0), waker: StdArc::default(), is_over: false }
    }
}

impl Future for Reader {
    type Output = Arc<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<usize>> {
        assert!(!std::mem::replace(&mut self.is_over, false), "polled after it was ready");
        self.polls.set(self.polls.get() + 1);
        if self.polls.get() == 1 {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
        }
        match self.data.load(Ordering::Relaxed) {
            seen if seen >= self.at_least => {
                self.is_over = true;
                Poll::Ready(Arc::new(seen))
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.polls.set(self.polls.get() + 1);
    }
}

/// A task that was polled once and waits for the data to be `at_least`, and its waker.
fn waiting(worker: &Sitting, data: &Arc<AtomicUsize>, at_least: usize) -> (JoinHandle<Arc<usize>>, Waker) {
    let reader = Reader::new(data, at_least);
    let waker = reader.waker.clone();
    let handle = try_spawn(reader).unwrap();
    assert!(worker.step());
    let waker = waker.lock().unwrap().take().expect("it was polled");
    (handle, waker)
}

fn data() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(0))
}

/// One worker on this thread.
fn alone() -> (Rig, Sitting) {
    let rig = Rig::new(1, 2);
    let worker = Sitting::worker(rig.team(), 0);
    (rig, worker)
}

#[test]
fn loom_shared_wake_against_run() {
    // [SHARED-1] [SHARED-2], bugs.md 36
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        waker.wake_by_ref();
        let other = thread::spawn({
            let data = data.clone();
            move || {
                data.store(1, Ordering::Relaxed);
                waker.wake();
            }
        });
        worker.settle();
        other.join().unwrap();
        worker.settle();
        assert_eq!(*output(handle), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_second_wake_publishes_what_was_written_before_it() {
    // bugs.md 27: merged into the other's wake or not, each is seen.
    model_of_three(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 2);
        let others = [waker.clone(), waker].map(|waker| {
            let data = data.clone();
            thread::spawn(move || {
                data.fetch_add(1, Ordering::Relaxed);
                waker.wake_by_ref();
            })
        });
        worker.settle();
        for other in others {
            other.join().unwrap();
        }
        worker.settle();
        assert_eq!(*output(handle), 2);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_wake_that_finds_it_scheduled_publishes_too() {
    // bugs.md 27, with two threads and no bound.
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        waker.wake_by_ref();
        let other = thread::spawn({
            let data = data.clone();
            move || {
                data.store(1, Ordering::Relaxed);
                waker.wake_by_ref();
            }
        });
        worker.settle();
        // Not by the join of the thread, which would order everything.
        let is_done = handle.is_finished();
        let seen = data.load(Ordering::Relaxed);
        other.join().unwrap();
        worker.settle();
        assert!(!is_done || seen == 1);
        assert_eq!(*output(handle), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_one_task_is_polled_by_two_workers_in_turn() {
    // [SHARED-2] [TASK-2]: by a steal, or by a wake on the other worker; what one poll did the next one sees.
    model_of_three(|| {
        let rig = Rig::new(2, 2);
        let team = rig.team();
        let (worker, data) = (Sitting::worker(team, 0), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        waker.wake_by_ref();
        let other = thread::spawn({
            let data = data.clone();
            move || {
                let worker = Sitting::worker(team, 1);
                worker.step();
                data.store(1, Ordering::Relaxed);
                waker.wake();
                worker.step();
            }
        });
        worker.step();
        other.join().unwrap();
        worker.settle();
        assert_eq!(*output(handle), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_wake_against_the_end() {
    // [SHARED-3]: with a handle, the task is done; without, its header is free before the wake comes or after it.
    for has_handle in [true, false] {
        model(move || {
            let ((rig, worker), data) = (alone(), data());
            let (handle, waker) = waiting(&worker, &data, 1);
            data.store(1, Ordering::Relaxed);
            waker.wake_by_ref();
            let handle = Some(handle).filter(|_| has_handle);
            let other = thread::spawn(move || waker.wake());
            worker.settle();
            other.join().unwrap();
            worker.settle();
            if let Some(handle) = handle {
                assert_eq!(*output(handle), 1);
            }
            assert_eq!(counts().tasks_live, 0);
            drop(worker);
            rig.shut_down();
        });
    }
}

#[test]
fn loom_shared_abort_against_the_end() {
    // Whoever was first, it ends once, and the place comes back.
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let other = thread::spawn(move || {
            handle.abort();
            handle
        });
        worker.settle();
        let handle = other.join().unwrap();
        worker.settle();
        let Poll::Ready(_either) = poll_once(pin!(handle)) else { panic!("it was not told to end") };
        assert_eq!(counts().tasks_live, 0);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_abort_against_a_wake() {
    // Both want to schedule it, one does.
    model_of_three(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        let others = [thread::spawn(move || waker.wake()), thread::spawn(move || handle.abort())];
        worker.settle();
        for other in others {
            other.join().unwrap();
        }
        worker.settle();
        assert_eq!(counts().tasks_live, 0);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_handle_dropped_against_the_end() {
    // [JOIN-1]: the output is dropped once, by whoever has it; loom tells of one that is not.
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        let kept = Arc::new(());
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let second = try_spawn({
            let kept = kept.clone();
            async move { kept }
        });
        let other = thread::spawn(move || drop((handle, second)));
        worker.settle();
        other.join().unwrap();
        worker.settle();
        assert_eq!(counts().tasks_live, 0);
        assert_eq!(Arc::strong_count(&kept), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_handle_dropped_by_a_worker_against_the_end() {
    // The same where the header, free, is taken anew under the key at once.
    model_of_three(|| {
        let rig = Rig::new(2, 2);
        let team = rig.team();
        let (worker, data) = (Sitting::worker(team, 0), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let other = thread::spawn(move || {
            let worker = Sitting::worker(team, 1);
            drop(handle);
            let next = try_spawn(async {}).ok();
            drop(worker);
            next
        });
        worker.step();
        let next = other.join().unwrap();
        worker.settle();
        output(next.expect("there are two places"));
        assert_eq!(counts().tasks_live, 0);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_join_elsewhere_against_the_end() {
    // [JOIN-2], and what the task did is seen with its output: by a thread that waits, with another's waker.
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let other = thread::spawn(move || *wait_for(handle).unwrap());
        worker.settle();
        assert_eq!(other.join().unwrap(), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_joiners_waker_changed_against_the_end() {
    // [JOIN-2]: another's waker in the place of another's; the last is told, and all are let go.
    model_of_three(|| {
        let ((rig, worker), data) = (alone(), data());
        let (mut handle, waker) = waiting(&worker, &data, 1);
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let told = Told::new();
        let other = thread::spawn({
            let told = told.clone();
            move || {
                let first = Waker::from(told);
                let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&first));
                match polled {
                    Poll::Ready(output) => *output.unwrap(),
                    Poll::Pending => *wait_for(handle).unwrap(),
                }
            }
        });
        worker.settle();
        assert_eq!(other.join().unwrap(), 1);
        assert!(told.times() <= 1);
        assert_eq!(StdArc::strong_count(&told), 1);
        drop(worker);
        rig.shut_down();
    });
}

/// A task that joins another, with its own waker and another's in turn, in so many polls that it asks for itself.
struct Joins {
    of: Option<JoinHandle<Arc<usize>>>,
    told: StdArc<Told>,
    polls: Cell<usize>,
    others: [bool; 2],
}

impl Future for Joins {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let at = self.polls.get();
        self.polls.set(at + 1);
        let told = Waker::from(self.told.clone());
        let is_others = self.others.get(at).copied();
        let waker = if is_others == Some(true) { &told } else { cx.waker() };
        let of = self.of.as_mut().expect("polled after it was ready");
        match Pin::new(of).poll(&mut Context::from_waker(waker)) {
            Poll::Ready(output) => {
                self.of = None;
                Poll::Ready(*output.unwrap())
            }
            Poll::Pending => {
                if is_others.is_some() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

#[test]
fn loom_shared_joining_task_changes_its_waker_against_the_end() {
    // [JOIN-2]: a waker of ours after another's, and the other way round.
    for others in [[true, false], [false, true]] {
        model_of_three(move || {
            let rig = Rig::new(2, 2);
            let team = rig.team();
            let (worker, data, told) = (Sitting::worker(team, 0), data(), Told::new());
            let (handle, waker) = waiting(&worker, &data, 1);
            data.store(1, Ordering::Relaxed);
            let joins = Joins { of: Some(handle), told: told.clone(), polls: Cell::new(0), others };
            let joining = try_spawn(joins).unwrap();
            let other = thread::spawn(move || {
                let worker = Sitting::worker(team, 1);
                waker.wake();
                worker.step();
            });
            worker.step();
            worker.step();
            worker.step();
            other.join().unwrap();
            worker.settle();
            assert_eq!(output(joining), 1);
            assert_eq!(StdArc::strong_count(&told), 1);
            drop(worker);
            rig.shut_down();
        });
    }
}

#[test]
fn loom_shared_stale_wake_against_a_header_used_anew() {
    // [SHARED-4]: given back by its handle elsewhere, taken in and handed out under the key, woken by what it was before, and
    // by what it is. No newer wake is lost to the older.
    model_of_three(|| {
        let ((rig, worker), data) = (alone(), data());
        let (first, stale) = waiting(&worker, &data, 0);
        let other_header = try_spawn(async { 1 }).unwrap();
        worker.settle();
        let other = thread::spawn(move || {
            // Both headers of the table are taken until this.
            drop(first);
            stale.wake();
        });
        let second = Arc::new(AtomicUsize::new(0));
        let (handle, waker) = waiting(&worker, &second, 1);
        let waking = thread::spawn({
            let second = second.clone();
            move || {
                second.store(1, Ordering::Relaxed);
                waker.wake();
            }
        });
        worker.settle();
        other.join().unwrap();
        waking.join().unwrap();
        worker.settle();
        assert_eq!(*output(handle), 1);
        assert_eq!(output(other_header), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_two_headers_given_back_elsewhere_come_back() {
    // Two threads push to the list, while it is taken.
    model_of_three(|| {
        let (rig, worker) = alone();
        let handles = [1, 2].map(|n| try_spawn(async move { n }).unwrap());
        worker.settle();
        let others = handles.map(|handle| thread::spawn(move || output(handle)));
        let next = try_spawn(async { 3 }).unwrap();
        let sum = others.into_iter().map(|other| other.join().unwrap()).sum::<i32>();
        worker.settle();
        assert_eq!(sum + output(next), 6);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_header_used_anew_by_who_joined_it() {
    // [SHARED-3]: the joiner may be through before who ended the task is done with it.
    model_of_three(|| {
        let rig = Rig::new(2, 2);
        let team = rig.team();
        let (worker, data) = (Sitting::worker(team, 0), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        let other_header = try_spawn(async { 1 }).unwrap();
        worker.settle();
        data.store(1, Ordering::Relaxed);
        waker.wake();
        let other = thread::spawn(move || {
            assert_eq!(*wait_for(handle).unwrap(), 1);
            let worker = Sitting::worker(team, 1);
            let mut next = try_spawn(async { 2 }).unwrap();
            let told = Told::new();
            let waker = Waker::from(told.clone());
            let polled = Pin::new(&mut next).poll(&mut Context::from_waker(&waker));
            worker.settle();
            (polled.is_pending().then_some(next), told)
        });
        worker.settle();
        let (next, told) = other.join().unwrap();
        worker.settle();
        assert_eq!((told.times(), StdArc::strong_count(&told)), (usize::from(next.is_some()), 1));
        assert_eq!(next.map_or(2, output), 2);
        assert_eq!(output(other_header), 1);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_wake_against_shutdown_and_after_it() {
    // bugs.md 23
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        drop((handle, worker));
        let other = thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        });
        rig.shut_down();
        other.join().unwrap();
    });
}

#[test]
fn loom_shared_join_against_shutdown() {
    // [JOIN-2]
    model(|| {
        let ((rig, worker), data) = (alone(), data());
        let (handle, waker) = waiting(&worker, &data, 1);
        drop(worker);
        let team = rig.team();
        let other = thread::spawn(move || wait_for(handle).is_err());
        end(team);
        assert!(other.join().unwrap());
        drop(waker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_handle_dropped_against_shutdown() {
    // [JOIN-1]
    model(|| {
        let (rig, worker) = alone();
        let kept = Arc::new(());
        let handle = try_spawn({
            let kept = kept.clone();
            async move { kept }
        });
        drop(worker);
        let other = thread::spawn(move || drop(handle));
        end(rig.team());
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_two_ends_at_once_free_two_headers() {
    // [SHARED-4]: two workers end a task each that nobody has a handle of.
    model_of_three(|| {
        let rig = Rig::new(2, 2);
        let team = rig.team();
        let worker = Sitting::worker(team, 0);
        drop([(); 2].map(|()| try_spawn(async {}).unwrap()));
        let other = thread::spawn(move || {
            Sitting::worker(team, 1).step();
        });
        worker.step();
        other.join().unwrap();
        worker.settle();
        assert_eq!(counts().tasks_live, 0);
        drop(worker);
        rig.shut_down();
    });
}

#[test]
fn loom_shared_overflow_against_a_steal() {
    // More than a ring holds: what makes room for the next is found by all, and each task runs once.
    model_of_three(|| {
        let rig = Rig::new(2, 4);
        let team = rig.team();
        let (worker, data) = (Sitting::worker(team, 0), data());
        let handles = [(); 2].map(|()| try_spawn(Reader::new(&data, 0)).unwrap());
        let other = thread::spawn(move || {
            let worker = Sitting::worker(team, 1);
            worker.step();
        });
        let more = [(); 2].map(|()| try_spawn(Reader::new(&data, 0)).unwrap());
        worker.settle();
        other.join().unwrap();
        worker.settle();
        for handle in handles.into_iter().chain(more) {
            assert_eq!(*output(handle), 0);
        }
        drop(worker);
        rig.shut_down();
    });
}

//! Everything at once, in an order that nobody chose: whatever is done to spawns, handles, wakers and timers, here and on
//! another thread, what was made is dropped once, the bounds hold at every step, and nothing is left.

use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use anteroom::time::Sleep;
use anteroom::{
    JoinHandle, Runtime, Spawn, SpawnError, SpawnLocal, metrics, spawn, spawn_local, time, try_spawn,
    yield_now,
};
use anteroom_tests::{Drops, Hooks, Tracked, look_around, must_end, poll_once, poll_with};

/// Of four actors; with five places sometimes the bytes are what is short.
const BYTES_MAX: usize = 4 * size_of::<Actor>();

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// One of `of`, taken out.
    fn take<T>(&mut self, of: &mut Vec<T>) -> Option<T> {
        if of.is_empty() { None } else { Some(of.swap_remove(self.below(of.len()))) }
    }
}

/// Does as it was told at each poll, and leaves its waker where others find it.
struct Actor {
    script: Vec<usize>,
    sleep: Option<Pin<Box<Sleep>>>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    output: Option<Tracked>,
    bytes: [u8; 64],
}

impl Future for Actor {
    type Output = Tracked;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Tracked> {
        assert_eq!(self.bytes, [7; 64]);
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.script.pop() {
                None => return Poll::Ready(self.output.take().expect("it is ready once")),
                Some(0) => cx.waker().wake_by_ref(),
                Some(1) => {
                    let mut wakers = self.wakers.lock().unwrap();
                    wakers.push(cx.waker().clone());
                    // Somebody may wake it, or nobody ever.
                    if wakers.len() > 50 {
                        wakers.remove(0).wake();
                    }
                }
                Some(2) => std::panic::resume_unwind(Box::new("told to")),
                Some(micros) => {
                    self.sleep = Some(Box::pin(time::sleep(Duration::from_micros(micros as u64))));
                    continue;
                }
            }
            return Poll::Pending;
        }
    }
}

/// What the play is about.
struct Stage {
    random: Random,
    drops: Drops,
    made: usize,
    wakers: Arc<Mutex<Vec<Waker>>>,
    frames: Vec<Pin<Box<Spawn<Actor>>>>,
    local_frames: Vec<Pin<Box<SpawnLocal<Actor>>>>,
    handles: Vec<JoinHandle<Tracked>>,
}

/// What another thread may have.
enum Prop {
    Frame(Pin<Box<Spawn<Actor>>>),
    Handle(JoinHandle<Tracked>),
    Waker(Waker),
}

impl Stage {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            drops: Drops::new(),
            made: 0,
            wakers: Arc::default(),
            frames: Vec::new(),
            local_frames: Vec::new(),
            handles: Vec::new(),
        }
    }

    fn actor(&mut self) -> Actor {
        self.made += 1;
        let steps = self.random.below(4);
        let script = (0..steps).map(|_| [0, 0, 1, 2, 50, 100, 1_000, 77_777][self.random.below(8)]).collect();
        let output = Some(self.drops.track());
        Actor { script, sleep: None, wakers: self.wakers.clone(), output, bytes: [7; 64] }
    }

    async fn step(&mut self, to_other: &mpsc::Sender<Prop>, waker: &Waker) {
        match self.random.below(14) {
            0 | 1 => {
                // First polled here: elsewhere, outside of a runtime, it would have none to ask.
                let mut frame = Box::pin(spawn(self.actor()));
                match poll_once(frame.as_mut()) {
                    Poll::Ready(handle) => self.handles.push(handle.unwrap()),
                    Poll::Pending => self.frames.push(frame),
                }
            }
            2 => {
                let frame = Box::pin(spawn_local(self.actor()));
                self.local_frames.push(frame);
            }
            3 => match try_spawn(self.actor()) {
                Ok(handle) => self.handles.push(handle),
                Err(error) => assert!(error.is_full() || error.is_queued()),
            },
            4 | 5 => {
                if let Some(mut frame) = self.random.take(&mut self.frames) {
                    match poll_with(frame.as_mut(), waker) {
                        Poll::Ready(handle) => self.handles.push(handle.unwrap()),
                        Poll::Pending if self.random.below(4) == 0 => drop(frame.as_mut().withdraw()),
                        Poll::Pending => self.frames.push(frame),
                    }
                }
            }
            6 => {
                if let Some(mut frame) = self.random.take(&mut self.local_frames) {
                    match poll_with(frame.as_mut(), waker) {
                        Poll::Ready(handle) => self.handles.push(handle.unwrap()),
                        Poll::Pending => self.local_frames.push(frame),
                    }
                }
            }
            7 => {
                drop(self.random.take(&mut self.frames));
                drop(self.random.take(&mut self.local_frames));
            }
            8 => {
                if let Some(mut handle) = self.random.take(&mut self.handles) {
                    match self.random.below(4) {
                        0 => handle.abort(),
                        1 => drop(handle),
                        _ => {
                            if poll_with(Pin::new(&mut handle), waker).is_pending() {
                                self.handles.push(handle);
                            }
                        }
                    }
                }
            }
            9 => {
                let mut wakers = std::mem::take(&mut *self.wakers.lock().unwrap());
                if let Some(waker) = self.random.take(&mut wakers) {
                    waker.wake();
                }
                self.wakers.lock().unwrap().append(&mut wakers);
            }
            10 => {
                let prop = match self.random.below(3) {
                    0 => self.random.take(&mut self.frames).map(Prop::Frame),
                    1 => self.random.take(&mut self.handles).map(Prop::Handle),
                    _ => self.wakers.lock().unwrap().pop().map(Prop::Waker),
                };
                if let Some(prop) = prop {
                    to_other.send(prop).unwrap();
                }
            }
            11 => time::advance(Duration::from_micros(self.random.below(2_000) as u64)).await,
            _ => yield_now().await,
        }
        let now = metrics();
        assert!(now.tasks_live <= now.tasks_max && now.task_bytes <= BYTES_MAX, "{now:?}");
        assert!(now.headers <= now.tasks_live + self.handles.len() + 1 + self.made, "{now:?}");
    }
}

/// What the other thread does with what it gets.
fn other(props: mpsc::Receiver<Prop>, seed: u64) {
    let mut random = Random(seed);
    let (waker, _hooks) = Hooks::new();
    for prop in props {
        match (prop, random.below(4)) {
            (Prop::Frame(mut frame), 0 | 1) => match poll_with(frame.as_mut(), &waker) {
                Poll::Ready(Ok(handle)) => handle.abort(),
                Poll::Ready(Err(error)) => assert_eq!(error, SpawnError::Closed),
                Poll::Pending => drop(frame),
            },
            (Prop::Frame(mut frame), 2) => drop(frame.as_mut().withdraw()),
            (Prop::Handle(mut handle), 0 | 1) => {
                let _ = poll_with(Pin::new(&mut handle), &waker);
                let _ = handle.is_finished();
            }
            (Prop::Handle(handle), 2) => handle.abort(),
            (Prop::Waker(waker), 0 | 1) => waker.wake(),
            (Prop::Waker(waker), 2) => drop(waker.clone()),
            (_, _) => {}
        }
    }
}

#[test]
fn whatever_is_done_nothing_is_lost_and_nothing_is_left() {
    must_end(|| {
        let seeds = if cfg!(debug_assertions) { 200 } else { 1_000 };
        for seed in 0..seeds {
            let (to_other, props) = mpsc::channel();
            let far = thread::spawn(move || other(props, seed));
            let builder = Runtime::builder().paused_clock(true).max_task_bytes(BYTES_MAX);
            let runtime = builder.max_tasks(1 + seed as usize % 5).build().unwrap();
            let (waker, hooks) = Hooks::new();
            let mut stage = Stage::new(seed);
            runtime.block_on(async {
                for _ in 0..1_000 {
                    stage.step(&to_other, &waker).await;
                }
            });
            let ends_first = seed % 2 == 0;
            if ends_first {
                drop(runtime);
                drop(to_other);
                far.join().unwrap();
                anteroom::block_on(look_around());
            } else {
                drop(to_other);
                far.join().unwrap();
                drop(runtime);
            }
            let Stage { drops, made, frames, local_frames, handles, wakers, .. } = stage;
            drop((frames, local_frames, handles, wakers));
            assert_eq!(drops.count(), made, "seed {seed}: each is dropped once");
            drop(waker);
            assert_eq!(hooks.wakers_left(), 0, "seed {seed}: no waker is kept");
        }
    });
}

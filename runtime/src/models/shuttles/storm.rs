//! A storm of spawners at a small limit: never more are live than may be, those who wait come in in their order, those who leave
//! take nothing with them, and all places come back.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use shuttle::thread;

use super::rig::{Rig, block_on, dawdle, line};
use super::{chance, explore, pick};
use crate::wait::wait;
use crate::{JoinHandle, Spawn, spawn, spawn_service};

const WORKERS: usize = 3;

/// How many spawns each spawner makes.
const SPAWNS: usize = 6;

/// Which part of the waiting spawns is dropped, in percent.
const DROPPED: u32 = 30;

/// What all spawners share. No step of the runtime is taken with its lock, which is std's.
struct Storm {
    limit: usize,
    live: AtomicUsize,
    seen: Mutex<Seen>,
}

/// The line, as it was last seen. Spawns are told apart by the bytes that they declare.
#[derive(Default)]
struct Seen {
    spawns: usize,
    line: Vec<usize>,
    /// Who has left, or is about to.
    gone: Vec<usize>,
}

/// Live from its first poll to its drop.
struct Live(Arc<Storm>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn child(storm: Arc<Storm>) -> usize {
    let before = storm.live.fetch_add(1, Ordering::Relaxed);
    let live = Live(storm);
    assert!(before < live.0.limit, "one more is live than may be");
    dawdle(4).await;
    7
}

impl Storm {
    /// Compares the line with what it was: whoever came in was before all who wait still. This thread is of the team.
    fn look_at_line(&self) {
        line(|now| {
            let mut seen = self.seen.lock().unwrap();
            let mut stays = false;
            for spawn in &seen.line {
                if now.contains(spawn) {
                    stays = true;
                } else {
                    assert!(
                        !stays || seen.gone.contains(spawn),
                        "{spawn} of {:?} was let in before its turn: {now:?}",
                        seen.line
                    );
                }
            }
            let stayed = |line: &[usize], other: &[usize]| -> Vec<usize> {
                line.iter().copied().filter(|spawn| other.contains(spawn)).collect()
            };
            assert_eq!(stayed(&seen.line, &now), stayed(&now, &seen.line), "who waits keeps its turn");
            seen.line = now;
        });
    }

    /// One spawner: what it spawns it joins, detaches or aborts, or gives up while it waits.
    async fn spawner<S: Future<Output = usize>>(
        self: Arc<Self>,
        spawn: impl Fn(S) -> Spawn<S>,
        child: fn(Arc<Storm>) -> S,
    ) {
        for _ in 0..SPAWNS {
            let number = {
                let mut seen = self.seen.lock().unwrap();
                seen.spawns += 1;
                seen.spawns
            };
            // The line tells of the bytes in all, of which those of the future are the same for all.
            let mut frame = Box::pin(spawn(child(self.clone())).heap(number));
            let bytes = size_of::<S>() + number;
            let mut polls_left = chance(DROPPED).then(|| pick(6));
            let got: Option<JoinHandle<usize>> = poll_fn(|cx| {
                if let Poll::Ready(got) = frame.as_mut().poll(cx) {
                    return Poll::Ready(Some(got.expect("it is open, and may wait")));
                }
                self.look_at_line();
                match &mut polls_left {
                    None => {}
                    Some(0) => return Poll::Ready(None),
                    Some(left) => {
                        *left -= 1;
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Pending
            })
            .await;
            match got {
                None => {
                    self.seen.lock().unwrap().gone.push(bytes);
                    drop(frame);
                }
                Some(handle) => match pick(4) {
                    0 => drop(handle),
                    1 => handle.abort(),
                    _ => assert_eq!(handle.await.unwrap(), 7),
                },
            }
        }
    }
}

pub(super) fn storms() {
    let limit = 1 + pick(3);
    let rig = Rig::new(WORKERS, limit);
    let (team, handle) = (rig.team(), rig.handle());
    let storm = Arc::new(Storm { limit, live: AtomicUsize::new(0), seen: Mutex::default() });
    let elsewhere = thread::spawn({
        let storm = storm.clone();
        move || wait(std::pin::pin!(storm.spawner(|future| handle.spawn(future), child)), None).unwrap()
    });
    let guest = thread::spawn({
        let storm = storm.clone();
        move || block_on(team, storm.spawner(spawn, child))
    });
    rig.block_on(async {
        // Services: they hold no place of those that they ask for.
        let spawners = [(); 2].map(|()| spawn_service(storm.clone().spawner(spawn, child)).unwrap());
        for spawner in spawners {
            spawner.await.unwrap();
        }
    });
    elsewhere.join().unwrap();
    guest.join().unwrap();
    assert!(rig.drain() <= limit, "a statistic of the runtime's own");
    assert_eq!(storm.live.load(Ordering::Relaxed), 0);
}

#[test]
fn shuttle_a_storm_of_spawns_keeps_the_limit_and_the_order() {
    // [ADMIT-2] [ADMIT-3] [WAIT-2] [DESK-2] [SPAWN-2], bugs.md 7
    explore("shuttle_a_storm_of_spawns_keeps_the_limit_and_the_order", storms);
}

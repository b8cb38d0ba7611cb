//! Who holds a place, since when and on what it waits; and who waits for one.

use std::net::TcpStream as StdStream;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anteroom::net::TcpListener;
use anteroom::time::{sleep, timeout};
use anteroom::{
    Handle, Holder, Runtime, holders, metrics, reserve, spawn, spawn_blocking, spawn_local, spawn_service,
    spawn_with, try_spawn, waiters, yield_now,
};
use anteroom_tests::{Endless, Gate, elsewhere, look_around, must_end, park_on, poll_once};

const SEC: Duration = Duration::from_secs(1);
/// What a holder's age is told to.
const STEP: Duration = Duration::from_millis(17);

fn paused(max_tasks: usize) -> Runtime {
    Runtime::builder().max_tasks(max_tasks).paused_clock(true).build().unwrap()
}

/// Lets so much time pass, and the loop notice it.
async fn pass(time: Duration) {
    sleep(time).await;
    look_around().await;
}

fn of_line(line: u32) -> Holder {
    let found = holders();
    let mut found = found.iter().filter(|holder| holder.site().unwrap().line() == line);
    let holder = *found.next().unwrap_or_else(|| panic!("nobody from line {line}"));
    assert_eq!(holder.site().unwrap().file(), file!());
    holder
}

#[test]
fn each_holder_tells_what_its_last_poll_ran_into() {
    paused(20).block_on(async {
        let gate = Gate::new();
        let (_pending, unknown) = (spawn(gate.wait()).await.unwrap(), line!());
        let (_sleep, timer) = (spawn(sleep(3_600 * SEC)).await.unwrap(), line!());
        let other = try_spawn(std::future::pending::<()>()).unwrap();
        let (_joins, join) = (spawn(async { other.await.is_ok() }).await.unwrap(), line!());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_accepts, io) = (spawn(async move { listener.accept().await.is_ok() }).await.unwrap(), line!());
        let (sender, receiver) = mpsc::channel::<()>();
        let job = spawn_blocking(move || receiver.recv().is_err());
        let (blocks, blocking) = (spawn(job).await.unwrap(), line!());
        let many = async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            timeout(3_600 * SEC, listener.accept()).await.is_ok()
        };
        let (_many, mixed) = (spawn(many).await.unwrap(), line!());
        let changes = async move {
            yield_now().await;
            sleep(SEC).await;
            std::future::pending::<()>().await;
        };
        let (_changes, changing) = (spawn_local(changes).await.unwrap(), line!());
        let filler: Vec<_> = std::iter::from_fn(|| try_spawn(std::future::pending::<()>()).ok()).collect();
        let spawner = async { drop(spawn(async {}).await) };
        let (_service, admission) = (spawn_service(spawner).unwrap(), line!());
        assert!(of_line(timer).is_ready() && of_line(timer).waits_for().unknown(), "it was not polled yet");
        look_around().await;
        for (line, text) in [
            (unknown, "something else"),
            (timer, "a timer"),
            (join, "a task"),
            (io, "I/O"),
            (blocking, "a blocking job"),
            (mixed, "a timer or I/O"),
            (changing, "a timer"),
            (admission, "a place"),
        ] {
            let holder = of_line(line);
            assert_eq!(holder.waits_for().to_string(), text, "{holder:?}");
            assert_eq!((holder.is_ready(), holder.is_service()), (false, line == admission));
        }
        let on = of_line(mixed).waits_for();
        assert!(on.timer() && on.io() && !on.join() && !on.blocking() && !on.admission() && !on.unknown());
        assert_eq!(of_line(timer).bytes(), size_of_val(&sleep(SEC)));
        // What it ran into before says nothing of now.
        // A paused clock stands still while a job runs.
        drop(sender);
        assert!(blocks.await.unwrap().unwrap());
        sleep(2 * SEC).await;
        assert!(of_line(changing).waits_for().unknown());
        drop((StdStream::connect(address).unwrap(), filler));
    });
}

#[test]
fn a_holder_tells_since_when_it_is_there() {
    paused(10).block_on(async {
        let (_old, line_old) = (spawn(std::future::pending::<()>()).await.unwrap(), line!());
        pass(10 * SEC).await;
        let (_new, line_new) = (spawn(std::future::pending::<()>()).await.unwrap(), line!());
        pass(3_600 * SEC).await;
        let ages = [of_line(line_old).held(), of_line(line_new).held()];
        for (age, expected) in ages.into_iter().zip([3_610 * SEC, 3_600 * SEC]) {
            assert!(age + STEP >= expected && age <= expected + STEP, "{age:?} for {expected:?}");
        }
    });
    // The next runtime in that home has a clock of its own.
    for _ in 0..3 {
        paused(10).block_on(async {
            let _now = spawn(std::future::pending::<()>()).await.unwrap();
            pass(SEC).await;
            assert!(holders()[0].held() <= SEC + STEP && holders()[0].held() + STEP >= SEC);
            pass(1_000 * SEC).await;
        });
    }
}

#[test]
fn a_holder_tells_since_when_it_is_there_right_after_a_sleep() {
    paused(10).block_on(async {
        let _task = spawn(std::future::pending::<()>()).await.unwrap();
        sleep(10 * SEC).await;
        assert!(holders()[0].held() + STEP >= 10 * SEC, "{:?}", holders()[0].held());
    });
}

#[test]
fn who_comes_from_elsewhere_is_there_since_it_came() {
    // A home that is used again, and calls of block_on with time in between.
    for _ in 0..3 {
        let runtime = paused(1);
        let handle = runtime.handle();
        let mut first = Box::pin(handle.spawn(std::future::pending::<()>()));
        let mut second = Box::pin(handle.spawn(async {}));
        elsewhere(|| {
            assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending())
        });
        runtime.block_on(async {
            pass(SEC).await;
            let (held, waits) = (holders()[0].held(), waiters()[0].waits());
            assert!(held + STEP >= SEC && held <= SEC + STEP, "{held:?}");
            assert!(waits <= SEC + STEP && waits + STEP >= SEC, "{waits:?}");
            pass(100 * SEC).await;
        });
    }
}

#[test]
fn the_text_of_holders_is_exact() {
    paused(2_000).block_on(async {
        assert_eq!(holders().to_string(), "0/2,000");
        let place = reserve().await.unwrap();
        assert_eq!(holders().to_string(), "1/2,000: 1 reserved");
        let line = line!() + 2;
        for _ in 0..1_001 {
            drop(spawn(sleep(9 * SEC)).await.unwrap());
        }
        let file = file!();
        assert_eq!(
            holders().to_string(),
            format!("1,002/2,000: 1,001 from {file}:{line} running, 1 reserved")
        );
        yield_now().await;
        let service = spawn_service(std::future::pending::<()>()).unwrap();
        for _ in 0..2 {
            drop(spawn_with(std::future::pending::<()>).await.unwrap());
        }
        yield_now().await;
        let two = line!() - 3;
        drop(spawn(async {}).await.unwrap());
        let one = line!() - 1;
        assert_eq!(
            holders().to_string(),
            format!(
                "1,005/2,000: 1,001 from {file}:{line} on a timer, 2 from {file}:{two} on something else, \
                 1 from {file}:{one} running, 1 reserved"
            )
        );
        assert_eq!((holders().len(), holders().reserved()), (1_005, 1), "the service is in the list");
        drop(place);
        sleep(10 * SEC).await;
        assert_eq!(holders().to_string(), format!("2/2,000: 2 from {file}:{two} on something else"));
        service.abort();
    });
}

#[test]
fn waiters_are_told_in_order_with_what_they_ask_for() {
    let runtime = paused(1);
    let handle = runtime.handle();
    runtime.block_on(async {
        assert_eq!(waiters().to_string(), "nobody waits");
        let gate = Gate::new();
        let holder = spawn(gate.wait()).await.unwrap();
        let (mut first, line_first) = (Box::pin(spawn(Endless::<100>::NEW).heap(23)), line!());
        assert!(poll_once(first.as_mut()).is_pending());
        pass(SEC).await;
        let (mut second, line_second) = (Box::pin(handle.spawn(Endless::<7>::NEW)), line!());
        elsewhere(|| assert!(poll_once(second.as_mut()).is_pending()));
        let (mut third, line_third) = (Box::pin(reserve().bytes(50)), line!());
        assert!(poll_once(third.as_mut()).is_pending());
        pass(SEC / 2).await;
        let list = waiters();
        let told: Vec<_> = list.iter().map(|w| (w.site().line(), w.bytes(), w.site().file())).collect();
        let file = file!();
        assert_eq!(told, [(line_first, 123, file), (line_second, 7, file), (line_third, 50, file)]);
        assert_eq!(list.to_string(), format!("3 wait; the head, from {file}:{line_first}, has waited 1.5 s"));
        for (waiting, expected) in list.iter().zip([SEC * 3 / 2, SEC / 2, SEC / 2]) {
            let waits = waiting.waits();
            assert!(waits >= expected - STEP && waits <= expected + STEP, "{waits:?} for {expected:?}");
        }
        // Who has just arrived is there too, though the owner was not polled in between.
        let mut fourth = Box::pin(handle.spawn(async {}));
        elsewhere(|| assert!(poll_once(fourth.as_mut()).is_pending()));
        assert_eq!(waiters().len(), 4);
        elsewhere(|| drop(fourth));
        drop(first);
        look_around().await;
        assert_eq!(waiters().len(), 2);
        assert!(waiters().to_string().starts_with("2 wait; the head, from "));
        gate.open();
        holder.await.unwrap();
        second.await.unwrap().abort();
        third.await.unwrap().spawn(Endless::<50>::NEW).unwrap().abort();
        yield_now().await;
        assert!(waiters().is_empty() && holders().is_empty());
    });
}

#[test]
fn a_reservation_that_is_spent_is_from_where_it_was_spent() {
    paused(2).block_on(async {
        let place = reserve().bytes(500).await.unwrap();
        let (task, line) = (place.spawn(Endless::<10>::NEW).unwrap(), line!());
        assert_eq!((of_line(line).bytes(), holders().reserved()), (500, 0));
        assert_eq!(Some(of_line(line).id()), task.id());
    });
}

#[test]
fn holders_are_asked_from_inside_of_everything() {
    struct Look(usize);
    impl Drop for Look {
        fn drop(&mut self) {
            let found = holders();
            assert_eq!((found.len(), found.reserved()), (self.0, 0));
            assert!(found.to_string().starts_with(&self.0.to_string()));
            assert!(waiters().len() <= 1);
        }
    }
    let runtime = paused(1);
    runtime.block_on(async {
        let look = Look(1);
        let task = spawn(async move {
            let _look = look;
            assert!(holders()[0].is_ready(), "it is being polled");
            std::future::pending::<()>().await;
        });
        let task = task.await.unwrap();
        yield_now().await;
        let mut waits = Box::pin(spawn(async { drop(Look(1)) }));
        assert!(poll_once(waits.as_mut()).is_pending());
        task.abort();
        waits.await.unwrap().await.unwrap();
        // In a waker, and in the drop at the end of the runtime.
        let look = Look(1);
        drop(spawn(async move { (std::future::pending::<()>().await, look).0 }).await.unwrap());
    });
    drop(runtime);
    assert!(std::panic::catch_unwind(holders).is_err() && std::panic::catch_unwind(waiters).is_err());
}

#[test]
fn another_thread_sees_the_same() {
    must_end(|| {
        let runtime = Runtime::builder().max_tasks(3).build().unwrap();
        let handle = runtime.handle();
        runtime.block_on(async {
            let _tasks = [
                spawn(sleep(3_600 * SEC)).await.unwrap(),
                spawn(std::future::pending::<()>()).await.unwrap(),
            ];
            let _place = reserve().await.unwrap();
            let mut waits = pin!(spawn(async {}));
            assert!(poll_once(waits.as_mut()).is_pending());
            look_around().await;
            let gate = Gate::new();
            let opener = gate.clone();
            let asking = thread::spawn(move || {
                let inside = anteroom::block_on(async move {
                    assert!(Handle::current().is_some());
                    (handle.holders().await.unwrap(), handle.waiters().await.unwrap())
                });
                let outside = (park_on(handle.holders()).unwrap(), handle.waiters().wait(50 * SEC).unwrap());
                opener.open();
                [inside, outside]
            });
            gate.wait().await;
            for (held, waiting) in asking.join().unwrap() {
                assert_eq!(held.to_string(), holders().to_string());
                assert_eq!((held.len(), held.reserved(), waiting.len()), (2, 1, 1));
                assert_eq!(waiting[0].site(), waiters()[0].site());
            }
            assert_eq!(metrics().waiting, 1);
        });
    });
}

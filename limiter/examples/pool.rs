//! A pool: permits that carry a value. Connections are made when they are needed, used again, and never more than the limit.
//!
//! ```sh
//! cargo run -p anteroom-limiter --example pool
//! ```
//!
//! All of the waiting is the semaphore's: its order, its cancel safety, its close. What is left for the pool is where the
//! values lie while nobody has them.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use anteroom_limiter::{AcquireError, OwnedPermit, Semaphore};

/// At most so many values of `T`, in use and idle together.
pub struct Pool<T> {
    permits: Arc<Semaphore>,
    /// Never more than there are permits that nobody holds: who takes a value has a permit, and puts it back before that.
    idle: Arc<Mutex<Vec<T>>>,
}

impl<T> Pool<T> {
    /// An empty pool of at most `limit` values.
    pub fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), idle: Arc::default() }
    }

    /// The value that was used last, or a new one from `connect`; waits its turn if all are in use. Dropped at any point,
    /// it loses nothing: what is not given out is in the pool, or was never made.
    pub async fn get<E: From<AcquireError>>(
        &self,
        connect: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Pooled<T>, E> {
        let permit = self.permits.acquire_owned().await?;
        let idle = lock(&self.idle).pop(); // The lock is given up before `connect`.
        let value = match idle {
            Some(value) => value,
            None => connect().await?,
        };
        Ok(Pooled { value: Some(value), idle: Arc::clone(&self.idle), _permit: permit })
    }
}

/// A value that goes back when this is dropped.
pub struct Pooled<T> {
    value: Option<T>,
    idle: Arc<Mutex<Vec<T>>>,
    /// Dropped after `drop` has put the value back, so who is next finds it.
    _permit: OwnedPermit,
}

impl<T> Pooled<T> {
    /// Takes a broken one out for good: the next one is connected anew.
    pub fn discard(mut self) -> T {
        self.value.take().expect("it is there until this or the drop")
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until discard or the drop")
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until discard or the drop")
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            lock(&self.idle).push(value);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that breaks at its third request, and counts how many of it there are.
struct Connection {
    server: Arc<Mutex<Server>>,
    requests: usize,
}

/// What the other side sees.
#[derive(Debug, Default, PartialEq)]
struct Server {
    open: usize,
    open_max: usize,
    opened: usize,
    requests: usize,
}

impl Connection {
    fn open(server: &Arc<Mutex<Server>>) -> Self {
        let mut seen = lock(server);
        seen.open += 1;
        seen.opened += 1;
        seen.open_max = seen.open_max.max(seen.open);
        drop(seen);
        Self { server: Arc::clone(server), requests: 0 }
    }

    async fn request(&mut self) -> Result<(), &'static str> {
        tokio::task::yield_now().await; // stands for the network
        if self.requests == 3 {
            return Err("the connection is broken");
        }
        self.requests += 1;
        lock(&self.server).requests += 1;
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.server).open -= 1;
    }
}

/// Until it is answered, with as many connections as that takes.
async fn ask(pool: &Pool<Connection>, server: &Arc<Mutex<Server>>) -> Result<(), AcquireError> {
    loop {
        let mut connection = pool.get(async || Ok::<_, AcquireError>(Connection::open(server))).await?;
        match connection.request().await {
            Ok(()) => return Ok(()),
            Err(_) => drop(connection.discard()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (pool, server) = (Arc::new(Pool::new(4)), Arc::new(Mutex::new(Server::default())));
    runtime.block_on(async {
        let (pool, server) = (&pool, &server);
        let clients: Vec<_> = (0..300)
            .map(|_| {
                let (pool, server) = (Arc::clone(pool), Arc::clone(server));
                tokio::spawn(async move { ask(&pool, &server).await })
            })
            .collect();
        for client in clients {
            client.await??;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let seen = lock(&server);
    println!(
        "{} requests over {} connections, {} of them at once",
        seen.requests, seen.opened, seen.open_max
    );
    assert_eq!((seen.requests, seen.open_max), (300, 4));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Made = Result<u32, AcquireError>;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn get(pool: &Pool<u32>, new: u32) -> Pooled<u32> {
        match poll(pin!(pool.get(async || Made::Ok(new)))) {
            Poll::Ready(Ok(value)) => value,
            _ => panic!("there is room"),
        }
    }

    #[test]
    fn the_example_runs() {
        main().unwrap();
    }

    #[test]
    fn what_goes_back_is_used_again_and_what_is_broken_is_not() {
        let pool = Pool::new(2);
        drop(get(&pool, 1));
        let one = get(&pool, 2);
        assert_eq!(*one, 1);
        assert_eq!(one.discard(), 1);
        assert_eq!(*get(&pool, 3), 3);
    }

    #[test]
    fn those_who_wait_are_served_in_order_and_one_who_leaves_loses_nothing() {
        let pool = Pool::new(1);
        let only = get(&pool, 1);
        let mut first = Box::pin(pool.get(async || Made::Ok(2)));
        let mut second = Box::pin(pool.get(async || Made::Ok(3)));
        let mut third = Box::pin(pool.get(async || Made::Ok(4)));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(only);
        drop(first); // it was granted
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(Ok(value)) = poll(second.as_mut()) else { panic!("it is next") };
        assert_eq!(*value, 1);
        drop(value);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn who_leaves_while_it_connects_gives_its_place_on() {
        let pool = Pool::new(1);
        let mut connecting = Box::pin(pool.get(async || pending::<Made>().await));
        assert!(poll(connecting.as_mut()).is_pending());
        assert_eq!(pool.permits.in_use(), 1);
        drop(connecting);
        assert_eq!(*get(&pool, 1), 1);
    }
}

//! A limit for each key: at most so many at once to one host, for one user, on one file.
//!
//! # Problem
//!
//! A map from keys to semaphores grows with every key that was ever seen. Whoever removes an entry that "nobody uses" must
//! know that nobody is about to: between the look and the removal a newcomer finds the semaphore, the next one finds none
//! and makes a second, and the host has two limits.
//!
//! # Idea
//!
//! The map counts who uses a key, permits and waiting futures alike. A [`Member`] is one of them: made under the map's lock,
//! by whoever comes; given back under the same lock, and the last takes the key out in that very instant.
//!
//! ```text
//!   acquire:  hash ─► lock { find or insert; users += 1 } ─► equal? ─► the key's own semaphore, as anybody's
//!   drop:     units back to the semaphore ─► lock { users -= 1; 0? take it out } ─► drop the key
//! ```
//!
//! The lock is never held together with a semaphore's, and nothing of `K` runs under it. The hash is computed before, and an
//! entry stands under its hash and a serial number, so the map compares integers. Whether two keys with the same 64 bits
//! are the same is asked after the lock was given up, with the candidate held by a member of its own; if they are not, the
//! search goes on behind that candidate's number.
//!
//! # Invariants
//!
//! - `[KEYED-1]` At any time there is at most one semaphore for a key, and whoever holds or awaits a permit of that key does
//!   so at that one.
//! - `[KEYED-2]` A key is in the map exactly while it has a member, and each permit and each future that has entered is one.
//! - `[KEYED-3]` There are never more keys than `max_keys` says, except those that were there when it was lowered.
//! - `[KEYED-4]` No `Hash`, `Eq` or `Drop` of `K` and no waker runs under the map's lock, so none can come back to it, and
//!   one that panics leaves the map whole.
//! - `[KEYED-5]` When no `set_limit` is under way, every key has the newest limit.
//!
//! # Rejected
//!
//! - *Weak references, swept now and then.* A key that is gone costs memory until somebody comes to sweep, and the sweep is
//!   a pause under the lock.
//! - *A `HashMap` of `K`.* It hashes again when it grows, under the lock, and a `Hash` that panics there loses entries. It
//!   also keeps the room of the most keys that there ever were.
//! - *The least recently used key makes room for a new one.* It has permits out, or it would not be there.
//! - *A limit of its own for one key.* It would have to outlive the key, so that memory follows what was ever said.
//!
//! # Read next
//!
//! [`crate::all`], several semaphores at once.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::acquire::Acquire;
use crate::error::{AcquireError, LimitError, TryAcquireError};
use crate::permit::OwnedPermit;
use crate::semaphore::Semaphore;
use crate::sync::{Mutex, lock, seeded};
use crate::wake::Panics;

/// A limit for each key, for as long as the key is in use.
///
/// A clone is the same limits. Each key is served as a [`Semaphore`] serves: first in, first out, and nothing is lost when a
/// future is dropped. Keys do not wait for each other.
///
/// ```
/// use anteroom_limiter::{Keyed, KeyedError};
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
/// #         Poll::Ready(output) => output,
/// #         Poll::Pending => unreachable!("there is room"),
/// #     }
/// # }
///
/// # block_on(async {
/// let hosts = Keyed::new(2).max_keys(10_000); // two requests to each host, and at most so many hosts
///
/// let one = hosts.acquire("example.org").await?;
/// let two = hosts.acquire("example.org").await?;
/// assert!(hosts.try_acquire("example.org").is_err());
/// let other = hosts.acquire("example.net").await?; // has its own two
/// assert_eq!((hosts.len(), hosts.in_use("example.org")), (2, 2));
///
/// drop((one, two));
/// assert_eq!(hosts.len(), 1); // forgotten at once
/// # drop(other);
/// # Ok::<(), KeyedError>(())
/// # }).unwrap();
/// ```
///
/// # Bounds
///
/// At most [`DEFAULT_MAX_KEYS`](Self::DEFAULT_MAX_KEYS) keys, or what [`max_keys`](Self::max_keys) says; one more is
/// refused. A key costs two allocations and an entry in a tree, while a permit of it is out or somebody waits for one, and
/// nothing after: of all keys that ever were, one empty node of that tree is left. How many may wait for one key is the caller's to bound.
///
/// All keys share one lock, for a search in that tree when a permit is asked for and one when it is given back.
///
/// # Keys
///
/// `Hash` and `Eq` of `K` are called under no lock: they may use this very `Keyed`. If one panics, the call that needed it
/// panics, and nothing has changed. They must agree with each other, as for any map; if they do not, a key may have as many
/// semaphores as it has hashes.
pub struct Keyed<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    hasher: RandomState,
    keys: Mutex<Keys<K>>,
}

/// What the lock protects.
struct Keys<K> {
    live: BTreeMap<Place, Live<K>>,
    serial_last: u64,
    max: usize,
    limit: usize,
    /// Counts the changes of `limit`.
    limit_version: u64,
    closed: bool,
}

/// The hash of a key, and a number that no other entry ever had.
type Place = (u64, u64);

struct Live<K> {
    entry: Arc<Entry<K>>,
    /// How many members there are [KEYED-2].
    users: usize,
}

struct Entry<K> {
    key: K,
    place: Place,
    semaphore: Arc<Semaphore>,
}

/// One user of a key, who keeps it in the map [KEYED-2].
struct Member<K> {
    shared: Arc<Shared<K>>,
    entry: Arc<Entry<K>>,
}

/// Why [`Keyed::acquire`] ended without a permit.
///
/// ```
/// use anteroom_limiter::KeyedError;
///
/// assert_eq!(KeyedError::TooManyKeys.to_string(), "as many keys are in use as may be, and this is none of them");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyedError {
    /// The key is not in use, and [`max_keys`](Keyed::max_keys) others are.
    TooManyKeys,
    /// The whole was closed, before the request or while it waited.
    Closed,
}

/// Why [`Keyed::try_acquire`] took nothing.
///
/// ```
/// use anteroom_limiter::{Keyed, TryKeyedError};
///
/// let hosts = Keyed::new(1);
/// let _permit = hosts.try_acquire("example.org").unwrap();
/// assert_eq!(hosts.try_acquire("example.org").unwrap_err(), TryKeyedError::NoPermits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryKeyedError {
    /// Not now: the key has no permit left, or others wait for it already.
    NoPermits,
    /// The key is not in use, and [`max_keys`](Keyed::max_keys) others are.
    TooManyKeys,
    /// The whole is closed, for good.
    Closed,
}

/// One permit of one key, in use until this is dropped. It keeps the key in the [`Keyed`] and may go where it likes.
///
/// ```
/// use anteroom_limiter::Keyed;
///
/// let hosts = Keyed::new(1);
/// let permit = hosts.try_acquire("example.org").unwrap();
/// assert_eq!(permit.key(), &"example.org");
/// ```
///
/// # Panics
///
/// As [`Permit`](crate::Permit): its drop passes on what a waiter's waker panics with. If it was the key's last user, its
/// drop may be where the key itself is dropped.
#[must_use = "dropped at once, it limits nothing"]
pub struct KeyedPermit<K> {
    // In this order: the units go back while the key is still there.
    _permit: OwnedPermit,
    member: Member<K>,
}

/// Resolves to a [`KeyedPermit`]. Made by [`Keyed::acquire`].
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Waker};
/// use anteroom_limiter::Keyed;
///
/// let hosts = Keyed::new(1);
/// let first = hosts.try_acquire("example.org").unwrap();
/// let mut second = pin!(hosts.acquire("example.org"));
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(second.as_mut().poll(&mut cx).is_pending());
/// drop(first);
/// assert_eq!(hosts.len(), 1); // who waits keeps the key
/// assert!(second.as_mut().poll(&mut cx).is_ready());
/// ```
///
/// # Panics
///
/// If it is polled after it has resolved.
#[must_use = "nothing is acquired until this is awaited"]
pub struct KeyedAcquire<K> {
    state: State<K>,
}

enum State<K> {
    New { shared: Arc<Shared<K>>, key: K },
    // In this order: the place in the queue is left while the key is still there.
    Entered { acquire: Acquire<Arc<Semaphore>>, member: Member<K> },
    Resolved,
}

impl<K> Keyed<K> {
    /// How many keys may be in use at once if [`max_keys`](Self::max_keys) says nothing: 65,536.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// assert_eq!(Keyed::<u32>::DEFAULT_MAX_KEYS, 65_536);
    /// ```
    pub const DEFAULT_MAX_KEYS: usize = 65_536;

    /// At most `limit_per_key` permits of each key.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// let hosts: Keyed<String> = Keyed::new(2);
    /// assert_eq!((hosts.limit(), hosts.len()), (2, 0));
    /// ```
    ///
    /// # Panics
    ///
    /// If the limit is zero or more than [`Semaphore::MAX_PERMITS`]. [`try_new`](Self::try_new) is for one that comes from a
    /// user.
    #[must_use]
    #[track_caller]
    pub fn new(limit_per_key: usize) -> Self {
        Self::try_new(limit_per_key).unwrap_or_else(|error| panic!("Keyed::new({limit_per_key}): {error}"))
    }

    /// At most `limit_per_key` permits of each key, or why that cannot be.
    ///
    /// ```
    /// # use anteroom_limiter::{Keyed, LimitError};
    /// assert_eq!(Keyed::<u8>::try_new(0).unwrap_err(), LimitError::Zero);
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if the limit is zero or more than [`Semaphore::MAX_PERMITS`].
    pub fn try_new(limit_per_key: usize) -> Result<Self, LimitError> {
        let limit = checked(limit_per_key)?;
        let keys = Keys {
            live: BTreeMap::new(),
            serial_last: 0,
            max: Self::DEFAULT_MAX_KEYS,
            limit,
            limit_version: 0,
            closed: false,
        };
        Ok(Self { shared: Arc::new(Shared { hasher: RandomState::new(), keys: Mutex::new(keys) }) })
    }

    /// How many keys may be in use at once, for all clones. Keys that are in use stay so if there are more.
    ///
    /// ```
    /// # use anteroom_limiter::{Keyed, TryKeyedError};
    /// let hosts = Keyed::new(2).max_keys(1);
    /// let _permit = hosts.try_acquire("example.org").unwrap();
    /// assert_eq!(hosts.try_acquire("example.net").unwrap_err(), TryKeyedError::TooManyKeys);
    /// assert!(hosts.try_acquire("example.org").is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// If `max` is zero, which would refuse everybody.
    #[must_use]
    #[track_caller]
    pub fn max_keys(self, max: usize) -> Self {
        assert!(max > 0, "Keyed::max_keys(0): nobody would ever be served");
        lock(&self.shared.keys).max = max;
        self
    }

    /// How many keys are in use: have a permit out, or somebody who waits for one.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// let hosts = Keyed::new(2);
    /// let _permit = hosts.try_acquire("example.org");
    /// assert_eq!(hosts.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.keys).live.len()
    }

    /// Whether no key is in use.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// assert!(Keyed::<u8>::new(2).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many permits of each key there may be at once.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// assert_eq!(Keyed::<u8>::new(2).limit(), 2);
    /// ```
    #[must_use]
    pub fn limit(&self) -> usize {
        lock(&self.shared.keys).limit
    }

    /// Changes the limit of every key, those in use and those to come, as [`Semaphore::set_limit`] does.
    ///
    /// One key after the other; a key that comes meanwhile has the new limit. When this returns, all have this limit, unless
    /// somebody else sets another one at the same time: of two at once, the newer holds when both have returned.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// let hosts = Keyed::new(1);
    /// let _one = hosts.try_acquire("example.org").unwrap();
    /// hosts.set_limit(2)?;
    /// assert!(hosts.try_acquire("example.org").is_ok());
    /// # Ok::<(), anteroom_limiter::LimitError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitError`], if `limit` is zero or more than [`Semaphore::MAX_PERMITS`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all keys were served.
    pub fn set_limit(&self, limit: usize) -> Result<(), LimitError> {
        let limit = checked(limit)?;
        let mut keys = lock(&self.shared.keys);
        keys.limit = limit;
        keys.limit_version += 1;
        let mut version = keys.limit_version;
        drop(keys);
        let (mut panics, mut last) = (Panics::new(), None);
        loop {
            let keys = lock(&self.shared.keys);
            if version != keys.limit_version && !seeded("keyed_keeps_an_old_limit") {
                // Somebody has set another, and was perhaps done with the key that was just set to ours. So all again, with
                // theirs: whoever is the last to write to a semaphore sees after it that its limit is the newest [KEYED-5].
                (version, last) = (keys.limit_version, None);
            }
            let (limit, next) = (keys.limit, keys.after(last));
            drop(keys);
            let Some((place, semaphore)) = next else { break };
            panics.call(|| semaphore.set_limit(limit).expect("it was checked"));
            last = Some(place);
        }
        panics.finish();
        Ok(())
    }

    /// Ends admission for good: all who wait and all who come, whatever their key, are told
    /// [`Closed`](KeyedError::Closed). Permits stay valid until they are dropped.
    ///
    /// ```
    /// # use anteroom_limiter::{Keyed, TryKeyedError};
    /// let hosts = Keyed::new(1);
    /// hosts.close();
    /// assert_eq!(hosts.try_acquire("example.org").unwrap_err(), TryKeyedError::Closed);
    /// ```
    ///
    /// # Panics
    ///
    /// If a waiter's waker panics, with its panic, after all waiters were told.
    pub fn close(&self) {
        lock(&self.shared.keys).closed = true; // No key comes from now on.
        let (mut panics, mut last) = (Panics::new(), None);
        loop {
            let next = lock(&self.shared.keys).after(last);
            let Some((place, semaphore)) = next else { break };
            panics.call(|| semaphore.close());
            last = Some(place);
        }
        panics.finish();
    }

    /// Whether [`close`](Self::close) was called.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// assert!(!Keyed::<u8>::new(1).is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.shared.keys).closed
    }
}

impl<K: Hash + Eq> Keyed<K> {
    /// Waits for one permit of `key`.
    ///
    /// ```
    /// use anteroom_limiter::{Keyed, KeyedError};
    /// # async fn download(_page: &str) {}
    ///
    /// async fn fetch(hosts: &Keyed<String>, host: &str, page: &str) -> Result<(), KeyedError> {
    ///     let _permit = hosts.acquire(host.to_owned()).await?;
    ///     download(page).await; // at most so many of these at once from one host
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`KeyedError::TooManyKeys`] at once, if `key` is not in use and as many others are as may be. [`KeyedError::Closed`]
    /// if the whole is closed, now or while this waits.
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`]: nothing is lost. It enters at its first poll, and keeps the key in use from there on.
    ///
    /// # Deadlock
    ///
    /// As [`Semaphore::acquire`], for each key. Whoever holds a permit of one key and waits for one of another must not meet
    /// somebody who does it the other way round.
    pub fn acquire(&self, key: K) -> KeyedAcquire<K> {
        KeyedAcquire { state: State::New { shared: Arc::clone(&self.shared), key } }
    }

    /// Takes one permit of `key` if it has one and nobody waits for it.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// let users = Keyed::new(1);
    /// assert!(users.try_acquire(7).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryKeyedError`], at once.
    pub fn try_acquire(&self, key: K) -> Result<KeyedPermit<K>, TryKeyedError> {
        let member = Member::enter(&self.shared, key).map_err(|error| match error {
            KeyedError::TooManyKeys => TryKeyedError::TooManyKeys,
            KeyedError::Closed => TryKeyedError::Closed,
        })?;
        match member.entry.semaphore.try_acquire_owned() {
            Ok(permit) => Ok(KeyedPermit { _permit: permit, member }),
            Err(TryAcquireError::Closed) => Err(TryKeyedError::Closed),
            // One is never more than the limit.
            Err(TryAcquireError::NoPermits | TryAcquireError::ExceedsLimit) => Err(TryKeyedError::NoPermits),
        }
    }

    /// How many permits of `key` there are; none if it is not in use.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// let hosts = Keyed::new(2);
    /// let _permit = hosts.try_acquire("example.org".to_owned());
    /// assert_eq!((hosts.in_use("example.org"), hosts.in_use("example.net")), (1, 0));
    /// ```
    #[must_use]
    pub fn in_use<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let hash = self.shared.hasher.hash_one(key);
        let mut from = 0;
        loop {
            let candidate = lock(&self.shared.keys).candidate(hash, from).map(|live| Arc::clone(&live.entry));
            match candidate {
                None => return 0,
                Some(entry) if entry.key.borrow() == key => return entry.semaphore.in_use(),
                Some(entry) => from = entry.place.1 + 1,
            }
        }
    }
}

impl<K> Keys<K> {
    /// The first entry with this hash and a number of at least `from`.
    fn candidate(&mut self, hash: u64, from: u64) -> Option<&mut Live<K>> {
        self.live.range_mut((hash, from)..=(hash, u64::MAX)).next().map(|(_, live)| live)
    }

    /// The first entry behind that place. What comes and goes meanwhile may be missed, and nothing else.
    fn after(&self, place: Option<Place>) -> Option<(Place, Arc<Semaphore>)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let (&place, live) = self.live.range((from, Bound::Unbounded)).next()?;
        Some((place, Arc::clone(&live.entry.semaphore)))
    }
}

impl<K> Member<K> {
    /// Becomes a user of `key`, which is made if need be.
    fn enter(shared: &Arc<Shared<K>>, key: K) -> Result<Self, KeyedError>
    where
        K: Hash + Eq,
    {
        let hash = shared.hasher.hash_one(&key); // [KEYED-4]
        let mut key = Some(key); // Dropped after the lock, if it is not put into the map.
        let mut from = 0;
        loop {
            let member = Self::enter_from(shared, hash, from, &mut key)?;
            // One with the same hash, or its own entry, into which it went. If it panics, the member goes as any does.
            if key.as_ref().is_none_or(|key| member.entry.key == *key) {
                // Here and not at the end: if it panics there, nobody would drop the member that is being returned.
                drop(key);
                return Ok(member);
            }
            from = member.entry.place.1 + 1;
        }
    }

    /// Becomes a user of the first entry with this hash and a number of at least `from`; or, if there is none, of a new one.
    ///
    /// Numbers rise, so that if there is none now, the key is nowhere: all smaller numbers were looked at [KEYED-1].
    fn enter_from(
        shared: &Arc<Shared<K>>,
        hash: u64,
        from: u64,
        key: &mut Option<K>,
    ) -> Result<Self, KeyedError> {
        let mut keys = lock(&shared.keys);
        if keys.closed {
            return Err(KeyedError::Closed);
        }
        let is_full = keys.live.len() >= keys.max;
        let entry = match keys.candidate(hash, from) {
            Some(live) => {
                live.users += 1; // [KEYED-2]
                Arc::clone(&live.entry)
            }
            None if is_full => return Err(KeyedError::TooManyKeys), // [KEYED-3]
            None => {
                keys.serial_last += 1; // At one a nanosecond, not for 584 years.
                let place = (hash, keys.serial_last);
                let key = key.take().expect("it goes into the map once");
                let semaphore = Arc::new(Semaphore::new(keys.limit));
                let entry = Arc::new(Entry { key, place, semaphore });
                keys.live.insert(place, Live { entry: Arc::clone(&entry), users: 1 });
                entry
            }
        };
        drop(keys);
        Ok(Self { shared: Arc::clone(shared), entry })
    }
}

impl<K> Drop for Member<K> {
    fn drop(&mut self) {
        let mut keys = lock(&self.shared.keys);
        let live = keys.live.get_mut(&self.entry.place).expect("[KEYED-2] a member's key is in the map");
        live.users -= 1;
        let is_idle = live.users == 0;
        if seeded("keyed_forgets_early") {
            drop(keys); // Looks, and then forgets without another look.
            keys = lock(&self.shared.keys);
        }
        let forgotten = if is_idle { keys.live.remove(&self.entry.place) } else { None };
        drop(keys);
        drop(forgotten); // [KEYED-4] And the key itself with the last reference: ours, or that of who looks at it.
    }
}

impl<K: Hash + Eq> Future for KeyedAcquire<K> {
    type Output = Result<KeyedPermit<K>, KeyedError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = &mut self.get_mut().state;
        if let State::New { .. } = state {
            let State::New { shared, key } = std::mem::replace(state, State::Resolved) else {
                unreachable!()
            };
            let member = match Member::enter(&shared, key) {
                Ok(member) => member,
                Err(error) => return Poll::Ready(Err(error)),
            };
            *state = State::Entered { acquire: member.entry.semaphore.acquire_owned(), member };
        }
        let State::Entered { acquire, .. } = state else {
            panic!("a KeyedAcquire was polled after it had resolved")
        };
        let Poll::Ready(result) = Pin::new(acquire).poll(cx) else { return Poll::Pending };
        let State::Entered { member, .. } = std::mem::replace(state, State::Resolved) else { unreachable!() };
        Poll::Ready(match result {
            Ok(permit) => Ok(KeyedPermit { _permit: permit, member }),
            Err(error) => {
                debug_assert_eq!(error, AcquireError::Closed, "one is never more than the limit");
                Err(KeyedError::Closed)
            }
        })
    }
}

/// Nothing in it is ever pinned: the key is moved into the map.
impl<K> Unpin for KeyedAcquire<K> {}

impl<K> KeyedPermit<K> {
    /// The key that it is a permit of.
    ///
    /// ```
    /// # use anteroom_limiter::Keyed;
    /// assert_eq!(Keyed::new(1).try_acquire("example.org").unwrap().key(), &"example.org");
    /// ```
    #[must_use]
    pub fn key(&self) -> &K {
        &self.member.entry.key
    }
}

impl<K> Clone for Keyed<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = lock(&self.shared.keys);
        let (limit, live, closed) = (keys.limit, keys.live.len(), keys.closed);
        drop(keys);
        f.debug_struct("Keyed")
            .field("limit", &limit)
            .field("len", &live)
            .field("closed", &closed)
            .finish_non_exhaustive()
    }
}

impl<K: fmt::Debug> fmt::Debug for KeyedPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedPermit").field("key", self.key()).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug> fmt::Debug for KeyedAcquire<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, state) = match &self.state {
            State::New { key, .. } => (Some(key), "new"),
            State::Entered { member, .. } => (Some(&member.entry.key), "queued"),
            State::Resolved => (None, "resolved"),
        };
        f.debug_struct("KeyedAcquire").field("key", &key).field("state", &state).finish()
    }
}

impl fmt::Display for KeyedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyedError::TooManyKeys => TOO_MANY_KEYS,
            KeyedError::Closed => CLOSED,
        })
    }
}

impl fmt::Display for TryKeyedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryKeyedError::NoPermits => "the key has no permit left, or others wait for it already",
            TryKeyedError::TooManyKeys => TOO_MANY_KEYS,
            TryKeyedError::Closed => CLOSED,
        })
    }
}

impl Error for KeyedError {}
impl Error for TryKeyedError {}

const TOO_MANY_KEYS: &str = "as many keys are in use as may be, and this is none of them";
const CLOSED: &str = "the limits are closed";

fn checked(limit: usize) -> Result<usize, LimitError> {
    Semaphore::try_new(limit).map(|_| limit)
}

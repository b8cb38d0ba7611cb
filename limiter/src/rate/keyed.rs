//! A rate for each key: each client, each address, each account its own.
//!
//! # Problem
//!
//! The keys come from outside, so there is no end of them: a map that only grows is a leak that strangers can open. And a
//! lock around all of them is one that everybody waits for.
//!
//! # Idea
//!
//! What is to be remembered of a key is one number ([`crate::rate`]), and nothing once its rate is full again: a key that is
//! forgotten then, and a new one, are the same. So idle keys are swept out, a few with each key that is new:
//!
//! ```text
//!   key ──hash──┬─ some bits ─► one of many shards: a lock, and a map of a thousand keys or less
//!               └─ others ────► within the map
//!
//!   known     move its number                                                      (almost always)
//!   new       sweep the shard whose turn it is; its own, if that would have to grow
//!             if there are as many keys as may be, sweep its own, and up to 8 more in turn, until there is room
//! ```
//!
//! So an idle key is forgotten after as many new ones as there are shards, or sooner. A shard is small, so a sweep costs
//! a thousand looks at numbers at most (for more than thirty million keys it is larger); and each shard knows before which
//! time none of its keys is idle, so while all are busy, it costs a look at one number. No call ever goes through all keys but [`KeyedRate::sweep`].
//!
//! A key is hashed once, before the lock, and its hash is kept beside it, so a map that grows asks nobody.
//!
//! # Bounds
//!
//! At most `max_keys` keys. Each takes its own size and 17 bytes, in tables that are made at least 2/5 full: for a `u64` 64
//! bytes at most, once there are enough of them. The shards are there from the beginning, at less than a byte for each
//! of `max_keys`.
//!
//! # Invariants
//!
//! - `[KEYRATE-1]` There are never more keys than may be.
//! - `[KEYRATE-2]` A key is forgotten only when it is full again, and a new one in its shard begins no earlier than that: also
//!   if the clock steps back, nobody gains by being forgotten.
//! - `[KEYRATE-3]` `Hash` and `Clone` of a key run under no lock, `Eq` in look-ups only, while nothing is half done, and how many keys
//!   were forgotten is counted when a shard is unlocked, however that comes about. If they panic, all is as before.
//!
//! # Rejected
//!
//! - *A list of the keys by age*: two links a key, more than what they link.
//! - *A thread, or a timer, that sweeps*: the limiter has neither.
//! - *Forgetting the one that is idle longest, when all are busy.* Then whoever makes up keys gets everybody else's
//!   forgotten, and the limit with them. A new key is refused instead.
//! - *`remove(key)`.* The way around its own rate.
//!
//! # Read next
//!
//! [`crate::rate`], the number of each.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use crate::rate::{NEVER, NotYet, Rate, since};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock, seeded};

/// Keys that a shard is made for.
const KEYS_PER_SHARD: usize = 512;
/// How many shards besides its own a new key has swept, at most, when there are as many keys as may be.
const SHARDS_SWEPT: usize = 8;
const MAX_SHARDS: usize = 1 << 16;

/// A [`Rate`] for each key, of as many keys at once as you say.
///
/// A key is remembered while some of its burst is used, and forgotten some time after. What that bounds is memory: with
/// `max_keys` that are all in use, a new one is refused, not an old one forgotten.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Instant;
/// use anteroom_limiter::{KeyedRate, Rate};
///
/// let start = Instant::now();
/// let logins = KeyedRate::<IpAddr>::new(Rate::per_minute(5).burst(3), 100_000, start);
///
/// let (one, another) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
/// assert_eq!((0..10).filter(|_| logins.check_key(&one, start).is_ok()).count(), 3);
/// assert!(logins.check_key(&another, start).is_ok());
/// ```
///
/// # Bounds
///
/// At most `max_keys` keys, each at its own size and 17 bytes in tables that are made at least 2/5 full: a million of `u64`
/// take at most 64 bytes each. A call looks at one key; if the key is new, at up to some thousand more; if there
/// are `max_keys`, at up to some ten thousand. Beyond thirty million keys, that grows as their number does.
///
/// # Panics
///
/// If `Hash`, `Eq` or `Clone` of a key panics, that passes on, and all is as before. `Eq` and `Drop` run under a lock: a key that
/// calls back into its own `KeyedRate` there deadlocks.
pub struct KeyedRate<K, S = RandomState> {
    shards: Box<[Line<Mutex<Shard<K>>>]>,
    rate: Rate,
    epoch: Instant,
    max_keys: u64,
    /// How many keys there are, and those that are about to be.
    keys: AtomicU64,
    /// The shard that is swept next for somebody else's key.
    hand: AtomicU64,
    hasher: S,
}

/// Why [`check_key`](KeyedRate::check_key) said no.
///
/// ```
/// use std::time::Instant;
/// use anteroom_limiter::{KeyedRate, KeyedRateError, Rate};
///
/// let now = Instant::now();
/// let limit = KeyedRate::new(Rate::per_second(1), 1, now);
/// assert_eq!(limit.check_key(&"a", now), Ok(()));
/// assert!(matches!(limit.check_key(&"a", now), Err(KeyedRateError::NotYet(_))));
/// assert_eq!(limit.check_key(&"b", now), Err(KeyedRateError::TooManyKeys));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyedRateError {
    /// This key's rate is used up.
    NotYet(NotYet),
    /// The key is new, there are as many as may be, and none that is idle was found among some thousands of them, or all.
    /// Of two calls at once with one new key, the one may be told so for the place that the other is about to fill.
    TooManyKeys,
}

/// A cache line of its own, so that to lock a shard costs one and no other shard's.
#[repr(align(64))]
struct Line<T>(T);

/// Some of the keys.
struct Shard<K> {
    /// For each key the place of its next free slot.
    taken: HashMap<Hashed<K>, u64, Kept>,
    /// No key is idle before the present reaches this place.
    idle_from: u64,
    /// New keys begin here: no earlier than where any was forgotten [KEYRATE-2].
    begin: u64,
}

impl<K: Hash + Eq + Clone> KeyedRate<K> {
    /// `rate` for each of at most `max_keys` keys, on a clock that now says `now`.
    ///
    /// ```
    /// use std::time::Instant;
    /// use anteroom_limiter::{KeyedRate, Rate};
    ///
    /// let limit = KeyedRate::<String>::new(Rate::per_hour(10), 1_000, Instant::now());
    /// assert!(limit.is_empty());
    /// ```
    ///
    /// # Panics
    ///
    /// If `max_keys` is zero.
    #[must_use]
    #[track_caller]
    pub fn new(rate: Rate, max_keys: usize, now: Instant) -> Self {
        Self::with_hasher(rate, max_keys, now, RandomState::new())
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> KeyedRate<K, S> {
    /// As [`new`](KeyedRate::new), with another hasher than std's. If keys come from strangers, it must be one that they
    /// cannot foresee.
    ///
    /// ```
    /// use std::hash::RandomState;
    /// use std::time::Instant;
    /// use anteroom_limiter::{KeyedRate, Rate};
    ///
    /// let limit = KeyedRate::with_hasher(Rate::per_hour(10), 1_000, Instant::now(), RandomState::new());
    /// assert!(limit.check_key(&7, Instant::now()).is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// If `max_keys` is zero.
    #[must_use]
    #[track_caller]
    pub fn with_hasher(rate: Rate, max_keys: usize, now: Instant, hasher: S) -> Self {
        assert!(max_keys > 0, "KeyedRate: max_keys must be at least 1");
        let shards = (max_keys / KEYS_PER_SHARD).clamp(1, MAX_SHARDS).next_power_of_two();
        let shard = |_| Shard { taken: HashMap::with_hasher(Kept), idle_from: NEVER, begin: 0 };
        Self {
            shards: (0..shards).map(shard).map(|shard| Line(Mutex::new(shard))).collect(),
            rate,
            epoch: now,
            max_keys: max_keys as u64,
            keys: AtomicU64::new(0),
            hand: AtomicU64::new(0),
            hasher,
        }
    }

    /// Takes a slot of `key`'s, if one is due at `now`. A key that is new is cloned.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{KeyedRate, KeyedRateError, Rate};
    ///
    /// let now = Instant::now();
    /// let limit = KeyedRate::new(Rate::per_second(5), 1_000, now);
    /// assert!(limit.check_key(&"alice", now).is_ok());
    /// assert!(limit.check_key(&"bob", now).is_ok());
    /// let Err(KeyedRateError::NotYet(not_yet)) = limit.check_key(&"bob", now) else { panic!() };
    /// assert_eq!(not_yet.retry_after(), Duration::from_millis(200));
    /// ```
    ///
    /// # Errors
    ///
    /// [`KeyedRateError`]. Nothing has changed for any key then.
    pub fn check_key(&self, key: &K, now: Instant) -> Result<(), KeyedRateError> {
        let t = since(self.epoch, now);
        let hash = scatter(self.hasher.hash_one(key)); // [KEYRATE-3] Before the lock.
        let shard = self.shard_of(hash);
        if let Some(taken) = lock(shard).taken.get_mut(&Asked { hash, key } as &dyn View<K>) {
            return self.take(taken, t, now);
        }
        self.check_new(key, hash, t, now)
    }

    /// How many keys are remembered: those that are in use, and some that no longer are.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{KeyedRate, Rate};
    /// let now = Instant::now();
    /// let limit = KeyedRate::new(Rate::per_second(5), 1_000, now);
    /// limit.check_key(&"alice", now).unwrap();
    /// assert_eq!(limit.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        // Ordering: Relaxed; a statistic.
        self.keys.load(Ordering::Relaxed) as usize // At most max_keys, which is one.
    }

    /// Whether no key is remembered.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use anteroom_limiter::{KeyedRate, Rate};
    /// assert!(KeyedRate::<u64>::new(Rate::per_second(5), 1_000, Instant::now()).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all keys that are idle at `now`, and gives back the memory that they took: how many they were.
    ///
    /// Nobody has to call it. It is for whoever knows that many are gone, and goes through all keys, a shard at a time.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use anteroom_limiter::{KeyedRate, Rate};
    ///
    /// let now = Instant::now();
    /// let limit = KeyedRate::new(Rate::per_second(5), 1_000, now);
    /// for client in 0..100 {
    ///     limit.check_key(&client, now).unwrap();
    /// }
    /// assert_eq!(limit.sweep(now), 0);
    /// assert_eq!(limit.sweep(now + Duration::from_millis(200)), 100);
    /// ```
    pub fn sweep(&self, now: Instant) -> usize {
        let low = self.rate.low(since(self.epoch, now));
        let mut forgotten = 0;
        for number in 0..self.shards.len() as u64 {
            let mut shard = self.open(number << 32);
            shard.sweep(low);
            forgotten += shard.counted - shard.taken.len();
            shard.taken.shrink_to_fit(); // Not by its capacity, which does not count what forgotten keys left behind.
        }
        forgotten
    }

    #[inline]
    fn take(&self, taken: &mut u64, t: u64, now: Instant) -> Result<(), KeyedRateError> {
        match self.rate.take(*taken, t, 1) {
            Ok(next) => {
                *taken = next;
                Ok(())
            }
            Err(place) => Err(KeyedRateError::NotYet(NotYet::new(&self.rate, self.epoch, now, place))),
        }
    }

    /// The key was not there a moment ago.
    #[cold]
    fn check_new(&self, key: &K, hash: u64, t: u64, now: Instant) -> Result<(), KeyedRateError> {
        let low = self.rate.low(t);
        self.sweep_next(low);
        let room =
            Room::take(self).or_else(|| self.make_room(hash, low)).ok_or(KeyedRateError::TooManyKeys)?;
        let new = Hashed { hash, key: key.clone() }; // [KEYRATE-3] No lock is held.
        let mut shard = self.open(hash);
        if shard.taken.len() == shard.taken.capacity() {
            shard.grow(low);
        }
        if let Some(taken) = shard.taken.get_mut(&Asked { hash, key } as &dyn View<K>) {
            return self.take(taken, t, now); // Somebody else was faster.
        }
        let mut taken = shard.begin; // [KEYRATE-2]
        self.take(&mut taken, t, now)?;
        shard.idle_from = shard.idle_from.min(taken);
        shard.taken.insert(new, taken);
        room.settle(&mut shard); // [KEYRATE-1]
        Ok(())
    }

    /// Sweeps the next shard in turn.
    fn sweep_next(&self, low: u64) {
        let hand = change(&self.hand, |hand| Some(hand.wrapping_add(1 << 32)));
        self.open(hand.unwrap_or(0)).sweep(low);
    }

    /// There are as many keys as may be: room for one more, if an idle one is found.
    fn make_room(&self, hash: u64, low: u64) -> Option<Room<'_>> {
        self.open(hash).sweep(low);
        Room::take(self).or_else(|| {
            (0..SHARDS_SWEPT).find_map(|_| {
                self.sweep_next(low);
                Room::take(self)
            })
        })
    }

    /// The bits are neither those that tell a place in a map, its low ones, nor those of its tags, its high ones.
    #[inline]
    fn shard_of(&self, hash: u64) -> &Mutex<Shard<K>> {
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)].0
    }

    /// Locks the shard of `hash`.
    fn open(&self, hash: u64) -> Open<'_, K> {
        let shard = lock(self.shard_of(hash));
        Open { keys: &self.keys, counted: shard.taken.len(), shard }
    }
}

/// A shard that is locked. When it is unlocked, the keys that it has forgotten are no longer counted [KEYRATE-3].
struct Open<'a, K> {
    keys: &'a AtomicU64,
    /// How many of its keys are counted.
    counted: usize,
    shard: MutexGuard<'a, Shard<K>>,
}

impl<K> Drop for Open<'_, K> {
    fn drop(&mut self) {
        let forgotten = (self.counted - self.shard.taken.len()) as u64;
        if forgotten > 0 {
            change(self.keys, |keys| Some(keys - forgotten));
        }
    }
}

impl<K> Deref for Open<'_, K> {
    type Target = Shard<K>;

    fn deref(&self) -> &Shard<K> {
        &self.shard
    }
}

impl<K> DerefMut for Open<'_, K> {
    fn deref_mut(&mut self) -> &mut Shard<K> {
        &mut self.shard
    }
}

/// A key that may come, and is counted already; not for long, if it does not come [KEYRATE-1].
struct Room<'a>(&'a AtomicU64);

impl<'a> Room<'a> {
    fn take<K, S>(limit: &'a KeyedRate<K, S>) -> Option<Self> {
        let is_room = |keys| (keys < limit.max_keys).then_some(keys + 1);
        change(&limit.keys, is_room).map(|_| Self(&limit.keys))
    }

    /// The key has come, into this shard.
    fn settle<K>(self, shard: &mut Open<'_, K>) {
        shard.counted += 1;
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        change(self.0, |keys| Some(keys - 1));
    }
}

/// Moves a word by `step`, if that gives a value: the one before.
fn change(word: &AtomicU64, step: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    // Ordering: Relaxed; counts, which say nothing of any other memory.
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if seeded("rate_keys_plain") {
            word.store(step(seen)?, Ordering::Relaxed);
            return Some(seen);
        }
        match word.compare_exchange_weak(seen, step(seen)?, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(before) => return Some(before),
            Err(now) => seen = now,
        }
    }
}

impl<K> Shard<K> {
    /// Forgets those that are idle when the present is at `low`.
    fn sweep(&mut self, low: u64) {
        if low < self.idle_from {
            return;
        }
        let Self { taken, idle_from, begin } = self;
        *idle_from = 0; // A key's drop may panic: then this is looked through again.
        let mut first = NEVER;
        taken.retain(|_, &mut taken| {
            let is_idle = taken <= low;
            if is_idle {
                *begin = taken.max(*begin); // [KEYRATE-2]
            } else {
                first = first.min(taken);
            }
            !is_idle
        });
        *idle_from = first;
    }

    /// Makes room in a map that is full: by a sweep if that is enough for a while, else in a new map.
    fn grow(&mut self, low: u64) {
        self.sweep(low);
        let len = self.taken.len();
        let enough = len + len / 16 + 1; // So a sweep, or a move, costs each that is new 16 others at most.
        if self.taken.capacity() < enough {
            // Not by `reserve`, which doubles a map that is full of what was forgotten.
            let mut taken = HashMap::with_capacity_and_hasher(enough, Kept);
            taken.extend(self.taken.drain()); // [KEYRATE-3] No code of the key's runs.
            self.taken = taken;
        }
    }
}

/// A key, and its hash, so that the map never asks for it.
struct Hashed<K> {
    hash: u64,
    key: K,
}

/// A key that is looked for.
struct Asked<'a, K> {
    hash: u64,
    key: &'a K,
}

/// What both are to the map: it looks for the one by the other.
trait View<K> {
    fn hash(&self) -> u64;
    fn key(&self) -> &K;
}

impl<K> View<K> for Hashed<K> {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn key(&self) -> &K {
        &self.key
    }
}

impl<K> View<K> for Asked<'_, K> {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn key(&self) -> &K {
        self.key
    }
}

impl<'a, K: 'a> Borrow<dyn View<K> + 'a> for Hashed<K> {
    #[inline]
    fn borrow(&self) -> &(dyn View<K> + 'a) {
        self
    }
}

impl<K> Hash for dyn View<K> + '_ {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(View::hash(self));
    }
}

impl<K> Hash for Hashed<K> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Eq> PartialEq for dyn View<K> + '_ {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        View::hash(self) == View::hash(other) && self.key() == other.key()
    }
}

/// Each is itself only. Whoever looks for one compares views; what is put into a map was looked for before, so there is none
/// to compare it with, and a map that is moved has to ask no key [KEYRATE-3].
impl<K> PartialEq for Hashed<K> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl<K: Eq> Eq for dyn View<K> + '_ {}
impl<K> Eq for Hashed<K> {}

/// Gives back the hash that it is given.
#[derive(Clone, Copy)]
struct Kept;

struct KeptHasher(u64);

impl BuildHasher for Kept {
    type Hasher = KeptHasher;

    #[inline]
    fn build_hasher(&self) -> KeptHasher {
        KeptHasher(0)
    }
}

impl Hasher for KeptHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a hash is a u64");
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Spreads what a hasher of the caller's gives over all bits: a shard is told by some, a place in its map by others.
#[inline]
fn scatter(hash: u64) -> u64 {
    let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

impl<K, S> fmt::Debug for KeyedRate<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRate")
            .field("rate", &self.rate)
            .field("keys", &self.keys.load(Ordering::Relaxed)) // Ordering: Relaxed; a statistic.
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for KeyedRateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyedRateError::NotYet(not_yet) => not_yet.fmt(f),
            KeyedRateError::TooManyKeys => f.write_str("as many keys are in use as may be"),
        }
    }
}

impl Error for KeyedRateError {}

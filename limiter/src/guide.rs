// The page is a file of its own, so that it reads as a page too. Here its fragments are compiled and run with the doc tests.
#![doc = include_str!("../docs/which-limit.md")]
//!
//! # The names above
//!
//! [`Semaphore`](crate::Semaphore), [`LocalSemaphore`](crate::LocalSemaphore), [`Permit`](crate::Permit);
//! [`Limiter`](crate::Limiter); [`Rate`](crate::Rate), [`RateLimit`](crate::RateLimit), [`SlidingWindow`](crate::SlidingWindow),
//! [`Paced`](crate::Paced); [`Keyed`](crate::Keyed), [`KeyedRate`](crate::KeyedRate); [`MemoryBudget`](crate::MemoryBudget);
//! [`All`](crate::All); [`Timer`](crate::Timer).

//! What several examples share.

/// The code blocks of the README, as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Those of the README of the crate `anteroom`.
#[cfg(doctest)]
#[doc = include_str!("../../runtime/README.md")]
struct RuntimeReadme;

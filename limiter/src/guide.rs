// The page is a file of its own, so that it reads as a page too. Here its fragments are compiled and run with the doc tests.
#![doc = include_str!("../docs/which-limit.md")]

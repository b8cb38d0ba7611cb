// The page is a file of its own, so that it reads as a page too; in this crate's folder, so that it is packaged with it. Here its
// fragments are compiled and run with the doc tests.
#![doc = include_str!("../docs/lessons.md")]

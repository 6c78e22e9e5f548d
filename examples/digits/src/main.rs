//! Digits.

fn main() {}

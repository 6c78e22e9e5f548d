//! Tradewind.

fn main() {}

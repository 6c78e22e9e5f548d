//! The program that the tests' process runtime re-executes.

fn main() {}

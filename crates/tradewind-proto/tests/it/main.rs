//! What pages say about the protocol, and what the contracts must agree with, is what the code computes.
#![cfg(test)]

mod economics;
mod golden;
mod page;

//! What pages say about the protocol is what the code computes.
#![cfg(test)]

mod economics;
mod page;

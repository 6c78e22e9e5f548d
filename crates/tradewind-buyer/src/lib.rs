//! The buyer.

//! Evidence of trusted execution: public samples, their tampered copies, and chains that are made here.

#![cfg(test)]

mod hostile;
mod made;
mod sample;
mod samples;
mod tampered;

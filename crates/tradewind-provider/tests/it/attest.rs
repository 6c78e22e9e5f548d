#![cfg(test)]
//! A device and its watchers: over the mesh, after crashes, and with engines that fail, dawdle or cheat.

mod crash;
mod device;
mod hostile;
mod mesh;
mod schedule;
mod walks;

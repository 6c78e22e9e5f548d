//! How the allocator treats memory that was freed.

/// From this size on, in bytes, a block is a mapping of its own. A key's derivation takes 8 MiB, a frame of the mesh up to 1 MiB.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// Has large blocks go back to the system as soon as they are freed. By itself glibc takes the first one that is freed as a
/// sign that more will follow, and keeps them all for good: a node that rests would hold what it needed only to start.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the allocator's own call; it takes two numbers")
)]
pub(crate) fn return_large_blocks() {
    // It fails only for an option or a size that glibc does not know; then memory stays as it was.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

//! What goes on, told on stderr.

use std::fmt;
use std::io::Write as _;

/// Says what is being measured. Nobody may be reading.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

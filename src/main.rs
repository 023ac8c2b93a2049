//! The `hooktide` command: arguments in, exit code out.

fn main() {}

//! The kubectl plugin. Everything is in the library's `plugin`.

fn main() -> std::process::ExitCode {
    compaction_operator::plugin::main()
}

//! `ferrule`, installed also as `kubectl-ferrule`.

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}

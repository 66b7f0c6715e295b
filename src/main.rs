//! The `yizhai` program. See [`yizhai::cli`].

fn main() -> std::process::ExitCode {
    yizhai::cli::main()
}

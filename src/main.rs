//! The `yizhai` program: see [`yizhai::cli`].

fn main() -> std::process::ExitCode {
    yizhai::cli::main()
}

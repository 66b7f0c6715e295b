//! Runs a kernel's source on the CPU: starts the program that `emulate.cc` and `emulator.h` are.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Runs `kernel` on a grid `(x, y)` of blocks of `threads`, and leaves in the arguments, in the order of the kernel's
/// parameters, what it left there. Its threads run forwards and then, on the same input, backwards: the result is the same,
/// or the kernel forgot a barrier.
pub(crate) fn run(kernel: &str, (x, y): (usize, usize), threads: usize, arguments: &mut [Vec<u8>]) {
    let [forwards, backwards] = [0, 1].map(|backwards| {
        let mut input = words(&[x, y, threads, backwards, arguments.len()].map(|n| n as u32));
        for argument in &*arguments {
            input.extend((argument.len() as u32).to_le_bytes());
            input.extend(argument);
        }
        let mut child = Command::new(program())
            .arg(kernel)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the emulator does not start: {error}"));
        let mut stdin = child.stdin.take().expect("it is piped");
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("the emulator ends");
        writer.join().expect("no panic").expect("the emulator reads its input");
        assert!(output.status.success(), "{kernel}: {}", output.status);
        output.stdout
    });
    assert!(forwards == backwards, "{kernel} depends on the order of its threads");
    let mut rest = &forwards[..];
    for argument in arguments {
        let (mine, after) = rest.split_at(argument.len());
        argument.copy_from_slice(mine);
        rest = after;
    }
}

/// The program, compiled once.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = PathBuf::from(env!("OUT_DIR")).join(format!("emulate-{}", std::process::id()));
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let status = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-o"])
            .arg(&program)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernels/cuda/emulate.cc"))
            .status()
            .unwrap_or_else(|error| panic!("this test needs a C++ compiler ({compiler}): {error}"));
        assert!(status.success(), "{compiler}: {status}");
        program
    })
}

/// Floats as a kernel sees them.
pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Whole numbers as a kernel sees them.
pub(crate) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// What [`words`] made bytes of.
pub(crate) fn to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// What [`floats`] made bytes of.
pub(crate) fn to_floats(bytes: &[u8]) -> Vec<f32> {
    to_words(bytes).into_iter().map(f32::from_bits).collect()
}

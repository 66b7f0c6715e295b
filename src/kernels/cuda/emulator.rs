//! Runs the source of a CUDA kernel on the CPU, by means of a program built from `emulate.cc` and `emulator.h`. Called by the
//! tests of `model` and `engine`.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Runs `kernel` on a grid of `(x, y)` blocks of `threads` threads. `arguments` are in the order of the kernel's parameters
/// and contain its output afterwards.
///
/// # Panics
/// If the result differs when the threads run in the opposite order, which means that the kernel lacks a barrier.
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
            .unwrap_or_else(|error| panic!("failed to start the emulator: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("failed to wait for the emulator");
        writer.join().expect("the writer does not panic").expect("the emulator reads its input");
        assert!(output.status.success(), "{kernel}: {}", output.status);
        output.stdout
    });
    assert!(forwards == backwards, "{kernel} depends on the order of its threads");
    let mut rest = &forwards[..];
    for argument in arguments {
        let (bytes, remainder) = rest.split_at(argument.len());
        argument.copy_from_slice(bytes);
        rest = remainder;
    }
}

/// Compiles the program once and returns its path.
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
            .unwrap_or_else(|error| panic!("this test requires a C++ compiler ({compiler}): {error}"));
        assert!(status.success(), "{compiler}: {status}");
        program
    })
}

/// Encodes floats as an argument of a kernel.
pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Encodes integers as an argument of a kernel.
pub(crate) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Decodes integers that [`words`] encoded.
pub(crate) fn to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// Decodes floats that [`floats`] encoded.
pub(crate) fn to_floats(bytes: &[u8]) -> Vec<f32> {
    to_words(bytes).into_iter().map(f32::from_bits).collect()
}

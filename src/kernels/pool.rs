//! The threads of the kernels: a few workers that stay awake between the ~200 products of a step, because waking a
//! sleeping thread costs more than a small product. Work is cut into chunks that the threads take one by one, so a
//! thread that another process has pushed off its core delays one chunk, not half of the work.
//!
//! Called by every kernel of this module; knows nothing about what a chunk computes. A panic in a chunk is carried to
//! the caller.

#![allow(unsafe_code)] // a job lives on the caller's stack while the workers run it

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker stays awake: longer than the gaps inside a step, shorter than anyone would notice.
const SPIN: Duration = Duration::from_micros(150);

/// A fixed set of threads that run chunks of work. [`Pool::run`] takes the calling thread as one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held while a job runs: one at a time.
    running: Mutex<()>,
}

struct Worker {
    thread: Thread,
    asleep: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// A job: what to do with the chunk of a number. Lives on the stack of the `run` that made it.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    finished: AtomicU32,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Shared {
    /// High half: chunks of the current job; low half: the next one to take. A thread that takes a number below the
    /// high half owns that chunk, and the job cannot end before the chunk is counted as finished.
    ticket: AtomicU64,
    job: AtomicPtr<Job<'static>>,
    stop: AtomicBool,
}

impl Pool {
    /// A pool of `threads`, the caller of `run` included; 0 means one for each CPU that this process may use.
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads).map_while(|i| Worker::spawn(i, &shared)).collect();
        Self { shared, workers, running: Mutex::new(()) }
    }

    /// Threads that work on a job, the caller included. Fewer than were asked for if the system refused some.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(0)` to `work(chunks - 1)`, each once, in any order and on any thread, and returns when all are done.
    ///
    /// Called while another `run` of the same pool is in progress, it does the work on the calling thread.
    ///
    /// # Panics
    /// With the first panic of `work`, after all chunks have ended.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        let total = u32::try_from(chunks).expect("a job has fewer than 2^32 chunks");
        let guard = if total < 2 || self.workers.is_empty() { None } else { self.running.try_lock().ok() };
        let Some(_guard) = guard else {
            return (0..chunks).for_each(work);
        };
        let job = Job { work, finished: AtomicU32::new(0), panic: Mutex::new(None) };
        self.shared.job.store((&raw const job).cast_mut().cast(), Ordering::SeqCst);
        self.shared.ticket.store(u64::from(total) << 32, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.asleep.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        self.shared.take_chunks();
        // Every chunk is taken; the others' last ones may still run.
        let mut spins = 0u32;
        while job.finished.load(Ordering::Acquire) != total {
            spins += 1;
            if spins.is_multiple_of(1024) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = job.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            drop(_guard);
            resume_unwind(panic);
        }
    }

    /// Runs `work(start, part)` over `data` cut into parts of `len` elements (the last may be shorter).
    pub(super) fn run_parts<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        work: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let (parts, total) = (data.len().div_ceil(len), data.len());
        let shared = SharedMut::new(data);
        self.run(parts, &|part| {
            let start = part * len;
            // SAFETY: parts do not overlap, and `run` hands each number to one thread, once.
            let slice = unsafe { shared.slice(start, len.min(total - start)) };
            work(start, slice);
        });
    }
}

impl Shared {
    /// Takes and runs chunks until none is left.
    fn take_chunks(&self) {
        loop {
            let ticket = self.ticket.load(Ordering::SeqCst);
            if ticket as u32 >= (ticket >> 32) as u32 {
                return;
            }
            let ticket = self.ticket.fetch_add(1, Ordering::SeqCst);
            let (chunk, total) = (ticket as u32, (ticket >> 32) as u32);
            if chunk >= total {
                return;
            }
            // SAFETY: this thread owns a chunk that is not yet counted as finished, and `run` neither returns nor
            // replaces the job before `finished` reaches the total. So the pointer is that of the ticket's job, and
            // the job is alive until the `fetch_add` below, after which it is not touched.
            let job = unsafe { &*self.job.load(Ordering::SeqCst) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(chunk as usize))) {
                let mut first = job.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
            job.finished.fetch_add(1, Ordering::Release);
        }
    }
}

impl Worker {
    fn spawn(index: usize, shared: &Arc<Shared>) -> Option<Self> {
        let asleep = Arc::new(AtomicBool::new(false));
        let (theirs, shared) = (Arc::clone(&asleep), Arc::clone(shared));
        let builder = thread::Builder::new().name(format!("kernels-{index}"));
        let handle = builder.spawn(move || Self::serve(&shared, &theirs)).ok()?;
        Some(Self { thread: handle.thread().clone(), asleep, handle: Some(handle) })
    }

    fn serve(shared: &Shared, asleep: &AtomicBool) {
        let has_work = || {
            let ticket = shared.ticket.load(Ordering::SeqCst);
            (ticket as u32) < (ticket >> 32) as u32
        };
        while !shared.stop.load(Ordering::SeqCst) {
            shared.take_chunks();
            let idle_since = Instant::now();
            while !has_work() && !shared.stop.load(Ordering::SeqCst) {
                if idle_since.elapsed() < SPIN {
                    (0..32).for_each(|_| std::hint::spin_loop());
                    continue;
                }
                // The flag is up before the last look at the ticket, and `run` looks at the flag after it has set
                // the ticket: one of the two sees the other, so no wake-up is lost.
                asleep.store(true, Ordering::SeqCst);
                if !has_work() && !shared.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                let _ = handle.join(); // a worker catches the panics of its chunks and ends only here
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// A slice that the chunks of a job write at the same time, each in its own places.
pub(super) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose parts go to other threads, which `T: Send` allows; keeping the parts apart is the
// contract of `slice`.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// # Safety
    /// No element of the part may be in another part that is alive.
    #[allow(clippy::mut_from_ref)] // the point of the type
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside of the slice");
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise, alive for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads);
            for chunks in [0, 1, 2, 3, 17, 100] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(chunks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {chunks} chunks"
                );
            }
        }
    }

    #[test]
    fn many_jobs_in_a_row_and_after_a_sleep() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        let rounds = if cfg!(miri) { 20 } else { 2000 };
        for round in 0..rounds {
            pool.run(4, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            if round == rounds / 2 {
                thread::sleep(3 * SPIN);
            }
        }
        assert_eq!(sum.into_inner(), rounds * 6);
    }

    #[test]
    fn a_job_inside_a_job_runs_on_its_thread() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        pool.run(3, &|_| {
            pool.run(5, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != 5, "chunk five"))));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }

    #[test]
    fn parts_cover_the_slice() {
        let pool = Pool::new(2);
        let mut data = vec![0usize; 103];
        pool.run_parts(&mut data, 10, &|start, part| {
            part.iter_mut().enumerate().for_each(|(i, x)| *x = start + i);
        });
        assert!(data.iter().enumerate().all(|(i, &x)| i == x));
    }
}

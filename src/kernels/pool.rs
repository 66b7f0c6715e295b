//! The threads of the kernels: a fixed set that keeps spinning between the roughly 200 products of a step, because waking
//! a sleeping thread takes longer than a small product. Threads take the tasks of a job one by one, so that a preempted
//! thread delays one task instead of half of the job.
//!
//! All kernels run on it. A panic in a task is propagated to the caller.

#![allow(unsafe_code)] // a job lives on the caller's stack while the other threads run it

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// The time that an idle thread spins before it sleeps: longer than the pauses within a step.
const SPIN: Duration = Duration::from_micros(150);

/// A fixed set of threads that run the tasks of one job at a time. The thread that calls [`Pool::run`] is one of them.
pub struct Pool {
    state: Arc<PoolState>,
    threads: Vec<PoolThread>,
    /// Held while a job runs.
    running: Mutex<()>,
}

struct PoolThread {
    thread: Thread,
    asleep: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// A job: a function of the task's index. Lives on the stack of [`Pool::run`].
struct PoolJob<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    finished: AtomicU32,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct PoolState {
    /// High half: the number of tasks of the current job; low half: the next task. A thread that takes a number below
    /// the high half owns that task, and the job cannot end before the task is counted as finished.
    ticket: AtomicU64,
    job: AtomicPtr<PoolJob<'static>>,
    stop: AtomicBool,
}

impl Pool {
    /// Creates a pool of `threads`, including the caller of `run`; 0 means one for each CPU available to the process.
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let state = Arc::new(PoolState {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            stop: AtomicBool::new(false),
        });
        let threads = (1..threads).map_while(|i| PoolThread::spawn(i, &state)).collect();
        Self { state, threads, running: Mutex::new(()) }
    }

    /// Returns the number of threads, including the caller of `run`. It is lower than requested if the operating system
    /// failed to start some.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, in any order and on any thread, and returns when all have finished.
    ///
    /// If another `run` of the same pool is in progress, the calling thread runs all tasks.
    ///
    /// # Panics
    /// If a task panics: with the first panic, after all tasks have ended.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let total = u32::try_from(tasks).expect("a job has fewer than 2^32 tasks");
        let guard = if total < 2 || self.threads.is_empty() { None } else { self.running.try_lock().ok() };
        let Some(_guard) = guard else {
            return (0..tasks).for_each(task);
        };
        let job = PoolJob { task, finished: AtomicU32::new(0), panic: Mutex::new(None) };
        self.state.job.store((&raw const job).cast_mut().cast(), Ordering::SeqCst);
        self.state.ticket.store(u64::from(total) << 32, Ordering::SeqCst);
        for thread in &self.threads {
            if thread.asleep.load(Ordering::SeqCst) {
                thread.thread.unpark();
            }
        }
        self.state.run_tasks();
        // All tasks are taken; the last ones may still be running on other threads.
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

    /// Splits `data` into slices of `len` elements (the last may be shorter) and runs `task(start, slice)` for each.
    pub(super) fn run_slices<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        task: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let (tasks, total) = (data.len().div_ceil(len), data.len());
        let shared = SharedMut::new(data);
        self.run(tasks, &|index| {
            let start = index * len;
            // SAFETY: the slices do not overlap, and `run` passes each index to one thread, once.
            let slice = unsafe { shared.slice(start, len.min(total - start)) };
            task(start, slice);
        });
    }
}

impl PoolState {
    /// Takes and runs tasks until none is left.
    fn run_tasks(&self) {
        loop {
            let ticket = self.ticket.load(Ordering::SeqCst);
            if ticket as u32 >= (ticket >> 32) as u32 {
                return;
            }
            let ticket = self.ticket.fetch_add(1, Ordering::SeqCst);
            let (task, total) = (ticket as u32, (ticket >> 32) as u32);
            if task >= total {
                return;
            }
            // SAFETY: this thread owns a task that is not yet counted as finished, and `run` neither returns nor
            // replaces the job before `finished` reaches the total. So the pointer is that of the ticket's job, and
            // the job is alive until the `fetch_add` below, after which it is not touched.
            let job = unsafe { &*self.job.load(Ordering::SeqCst) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.task)(task as usize))) {
                let mut first = job.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
            job.finished.fetch_add(1, Ordering::Release);
        }
    }
}

impl PoolThread {
    fn spawn(index: usize, state: &Arc<PoolState>) -> Option<Self> {
        let asleep = Arc::new(AtomicBool::new(false));
        let (asleep_flag, state) = (Arc::clone(&asleep), Arc::clone(state));
        let builder = thread::Builder::new().name(format!("kernels-{index}"));
        let handle = builder.spawn(move || Self::serve(&state, &asleep_flag)).ok()?;
        Some(Self { thread: handle.thread().clone(), asleep, handle: Some(handle) })
    }

    /// Runs tasks until the pool is dropped.
    fn serve(state: &PoolState, asleep: &AtomicBool) {
        let has_tasks = || {
            let ticket = state.ticket.load(Ordering::SeqCst);
            (ticket as u32) < (ticket >> 32) as u32
        };
        while !state.stop.load(Ordering::SeqCst) {
            state.run_tasks();
            let idle_since = Instant::now();
            while !has_tasks() && !state.stop.load(Ordering::SeqCst) {
                if idle_since.elapsed() < SPIN {
                    (0..32).for_each(|_| std::hint::spin_loop());
                    continue;
                }
                // This thread sets the flag before it checks the ticket once more, and `run` reads the flag after it
                // has set the ticket: one of the two sees the other's store, so no wake-up is lost.
                asleep.store(true, Ordering::SeqCst);
                if !has_tasks() && !state.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for thread in &mut self.threads {
            thread.thread.unpark();
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join(); // cannot fail: a thread catches the panics of its tasks
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// A slice that the tasks of a job write concurrently, each its own elements.
pub(super) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` of which other threads get subslices, which `T: Send` allows; that these are disjoint is
// the contract of `slice`.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// Returns `len` elements from `start`.
    ///
    /// # Safety
    /// The elements must not be in another subslice that is alive.
    #[allow(clippy::mut_from_ref)] // the point of the type
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "subslice out of bounds");
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise, alive for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn runs_every_task_once() {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 17, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn runs_many_jobs_in_a_row_and_after_its_threads_slept() {
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
    fn runs_a_nested_job_on_the_calling_thread() {
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
    fn propagates_a_panic_to_the_caller_and_stays_usable() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != 5, "task five"))));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }

    #[test]
    fn run_slices_covers_the_data() {
        let pool = Pool::new(2);
        let mut data = vec![0usize; 103];
        pool.run_slices(&mut data, 10, &|start, slice| {
            slice.iter_mut().enumerate().for_each(|(i, x)| *x = start + i);
        });
        assert!(data.iter().enumerate().all(|(i, &x)| i == x));
    }
}

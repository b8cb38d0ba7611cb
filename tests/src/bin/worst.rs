//! A runtime at every limit at once, held against what it said beforehand: `tests/worst_case.rs` runs it.
//!
//! What is measured is the process, so what belongs to this program is made, and touched, before the baseline is taken: the
//! frames of spawners, sleeps and questions, the sockets and their peers, the lists of handles, the other thread. What comes
//! after it is the runtime's: what tasks allocate is declared, and counts.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn main() {
    worst::main();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod worst {
    use std::hint::black_box;
    use std::net;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::pin::Pin;
    use std::sync::{Arc, Barrier, Condvar, Mutex};
    use std::task::{Context, Poll, Waker};
    use std::thread;
    use std::time::Duration;

    use anteroom::net::TcpStream;
    use anteroom::time::{Sleep, sleep};
    use anteroom::{
        Ask, AskError, Blocking, Handle, JoinHandle, Metrics, Runtime, Spawn, SpawnError, WorstCase, metrics,
        spawn, spawn_service, try_spawn, try_spawn_blocking, yield_now,
    };
    use anteroom_tests::resident::{forget_peak, read_program, resident, resident_peak};
    use anteroom_tests::{Gate, Wakes, poll_once, poll_with};

    const TASKS: usize = 2_000;
    const SERVICES: usize = 16;
    const TASK_BYTES: usize = 8 << 20;
    const WAITING: usize = 1_000;
    const FOREIGN: usize = 200;
    const TIMERS: usize = 5_000;
    const SOCKETS: usize = 3_000;
    const THREADS: usize = 4;
    const QUEUE: usize = 64;
    const STACK_BYTES: usize = 256 << 10;
    const QUESTIONS: usize = 64;
    const CACHE_BYTES_MAX: usize = 1 << 20;
    const FAR: Duration = Duration::from_secs(3_600);

    type Nothing = std::future::Ready<()>;
    /// A frame that is filled when there is a runtime.
    type Later = Option<Spawn<Nothing>>;
    /// Spawns a task that declares so much; how many bytes it takes.
    type SpawnOne = fn(usize, &mut Vec<JoinHandle<()>>) -> usize;
    /// What the other thread leaves, and the part that it belongs to.
    type Leave = (fn(&Stage), &'static str);

    /// What the frames, the sockets and the other thread's part of the program need, made before the baseline.
    struct Stage {
        frames: Mutex<Vec<Pin<Box<Spawn<Nothing>>>>>,
        frames_elsewhere: Mutex<Vec<Pin<Box<Later>>>>,
        questions: Mutex<Vec<Option<Ask<Metrics>>>>,
        sleeps: Mutex<Vec<Sleep>>,
        plain: Mutex<Vec<net::TcpStream>>,
        streams: Mutex<Vec<TcpStream>>,
        handles: Mutex<Vec<JoinHandle<()>>>,
        jobs: Mutex<Vec<Blocking<()>>>,
        handle: Mutex<Option<Handle>>,
        /// Between this thread and the other.
        turn: Barrier,
        running: Mutex<Running>,
        bell: Condvar,
    }

    /// Jobs that have touched their stack, until they may end.
    #[derive(Default)]
    struct Running {
        jobs: usize,
        may_end: bool,
    }

    /// An empty list whose memory is in use.
    fn touched<T>(capacity: usize) -> Vec<T> {
        let mut list = Vec::<T>::with_capacity(capacity);
        for place in list.spare_capacity_mut() {
            // The memory alone; nothing of it counts as there.
            place.write_zeroes();
        }
        list
    }

    trait WriteZeroes {
        fn write_zeroes(&mut self);
    }

    impl<T> WriteZeroes for std::mem::MaybeUninit<T> {
        fn write_zeroes(&mut self) {
            *self = std::mem::MaybeUninit::zeroed();
            black_box(self);
        }
    }

    /// Two ends of a connection that no peer's process is needed for, with the least of buffers.
    fn pair() -> (net::TcpStream, OwnedFd) {
        let mut ends = [0; 2];
        // SAFETY: a system call that writes two numbers into a local.
        let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        let least: libc::c_int = 1;
        let (at, length) = ((&raw const least).cast(), size_of_val(&least) as libc::socklen_t);
        // SAFETY: a system call that reads a local of the length that it is told.
        let _as_it_is = unsafe { libc::setsockopt(ends[0], libc::SOL_SOCKET, libc::SO_SNDBUF, at, length) };
        // SAFETY: an open file of which this is the only owner.
        let [one, other] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        (one.into(), other)
    }

    /// As many sockets as the system's limit has room for, with two files each; the limit is raised as far as may be.
    fn sockets_max() -> usize {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a system call that writes into a local.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: a system call that reads a local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        SOCKETS.min((limit.rlim_cur as usize).saturating_sub(100) / 2)
    }

    /// A task of `20 + N` bytes, rounded up to eight, that holds what it declared, and never ends.
    struct Work<const N: usize> {
        heap: Box<[u8]>,
        declared: u32,
        fill: [u8; N],
    }

    impl<const N: usize> Future for Work<N> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            let declared = self.declared as usize;
            if self.heap.len() != declared {
                self.heap = vec![7; declared].into();
            }
            assert!(self.fill.iter().all(|&byte| byte == 7));
            Poll::Pending
        }
    }

    /// Spawns one task with `declared` bytes of its own; how many bytes that are.
    fn work<const N: usize>(declared: usize, handles: &mut Vec<JoinHandle<()>>) -> usize {
        let work = Work { heap: Box::default(), declared: declared as u32, fill: [7; N] };
        let bytes = size_of_val(&work) + declared;
        handles.push(spawn(work).heap(declared).try_now().expect("there is room"));
        bytes
    }

    /// Sizes that waste the most of their class, each just over the next smaller one. One class is left out, which an
    /// earlier generation has left in the cache: 768.
    const SIZES: [(usize, SpawnOne); 16] = [
        (24, work::<4>),
        (40, work::<20>),
        (56, work::<36>),
        (72, work::<52>),
        (104, work::<84>),
        (136, work::<116>),
        (200, work::<180>),
        (264, work::<244>),
        (392, work::<372>),
        (776, work::<756>),
        (1_032, work::<1_012>),
        (1_544, work::<1_524>),
        (2_056, work::<2_036>),
        (3_080, work::<3_060>),
        (4_104, work::<4_084>),
        (6_000, work::<5_980>),
    ];

    /// Uses this thread's stack down to the last pages, which what comes after needs.
    fn touch_stack() {
        const LEFT: usize = 16 << 10;
        fn deeper(end: usize) {
            let mut frame = [7_u8; 512];
            if black_box(&mut frame).as_ptr().addr() > end {
                deeper(end);
            }
            black_box(&mut frame);
        }
        let here = 0_u8;
        let end = lowest_address().unwrap_or_else(|| (&raw const here).addr() - STACK_BYTES / 2);
        deeper(end + LEFT);
    }

    /// Where this thread's stack ends.
    fn lowest_address() -> Option<usize> {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: it names this very thread.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: it fills the attributes in, or says that it did not.
        if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } != 0 {
            return None;
        }
        let (mut lowest, mut bytes) = (std::ptr::null_mut(), 0);
        // SAFETY: the attributes were filled in.
        let got =
            unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut bytes) };
        // SAFETY: as above; they are not used again.
        unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
        (got == 0).then(|| lowest.addr())
    }

    /// Bytes that the system's allocator has given out, what it adds itself included.
    fn allocated() -> usize {
        // SAFETY: it takes nothing, and returns plain numbers.
        let info = unsafe { libc::mallinfo2() };
        info.uordblks + info.hblkhd
    }

    /// What each part of the table has been seen to take.
    struct Tally {
        worst: WorstCase,
        parts: Vec<(&'static str, usize)>,
        allocated: usize,
        resident: usize,
    }

    impl Tally {
        fn new(worst: WorstCase) -> Self {
            let parts = worst.parts().map(|part| (part.name, 0)).collect();
            Self { worst, parts, allocated: allocated(), resident: resident() }
        }

        /// What came since the last call is `name`'s.
        fn add(&mut self, name: &str) {
            let (allocated, resident) = (allocated(), resident());
            // Stacks are no allocation.
            let more = match name {
                "blocking stacks" => resident.saturating_sub(self.resident),
                _ => allocated.saturating_sub(self.allocated),
            };
            let part = self.parts.iter_mut().find(|part| part.0 == name);
            part.unwrap_or_else(|| panic!("no part is named {name}")).1 += more;
            self.allocated = allocated;
            self.resident = resident;
        }

        /// What came since the last call is not the runtime's.
        fn skip(&mut self) {
            (self.allocated, self.resident) = (allocated(), resident());
        }

        fn check(&self) {
            println!("{:<28}{:>16}{:>16}", "part", "at most", "seen");
            for (part, (name, seen)) in self.worst.parts().zip(&self.parts) {
                let most = part.bytes.expect("every bound is set");
                println!("{name:<28}{most:>16}{seen:>16}");
            }
            for (part, (name, seen)) in self.worst.parts().zip(&self.parts) {
                assert!(Some(*seen) <= part.bytes, "{name} took {seen} bytes");
            }
        }
    }

    pub(crate) fn main() {
        let sockets = sockets_max();
        let (plain, _peers): (Vec<_>, Vec<_>) = (0..=sockets).map(|_| pair()).unzip();
        let ready = || std::future::ready(());
        let stage = Arc::new(Stage {
            frames: Mutex::new((0..=WAITING).map(|_| Box::pin(spawn(ready()))).collect()),
            frames_elsewhere: Mutex::new((0..=FOREIGN).map(|_| Box::pin(None)).collect()),
            questions: Mutex::new((0..=QUESTIONS).map(|_| None).collect()),
            sleeps: Mutex::new((0..=TIMERS).map(|_| sleep(FAR)).collect()),
            plain: Mutex::new(plain),
            streams: Mutex::new(touched(sockets + 1)),
            handles: Mutex::new(touched(TASKS + SERVICES)),
            jobs: Mutex::new(touched(THREADS + QUEUE)),
            handle: Mutex::new(None),
            turn: Barrier::new(2),
            running: Mutex::new(Running::default()),
            bell: Condvar::new(),
        });
        let other = thread::spawn({
            let stage = stage.clone();
            move || elsewhere(&stage)
        });
        stage.turn.wait();

        let builder = Runtime::builder()
            .max_tasks(TASKS)
            .max_task_bytes(TASK_BYTES)
            .service_tasks(SERVICES)
            .max_waiting(WAITING)
            .max_foreign(FOREIGN)
            .max_timers(TIMERS)
            .max_sockets(sockets)
            .blocking_threads(THREADS)
            .blocking_queue(QUEUE)
            .blocking_stack_size(STACK_BYTES);
        let worst = builder.worst_case();
        let total = worst.total().expect("every bound is set");
        println!("{worst}\n");
        let mut tally = Tally::new(worst);
        read_program();
        let has_peak = forget_peak();
        tally.skip();
        let start = resident();
        let runtime = builder.build().unwrap();
        tally.add("the rest");
        runtime.block_on(to_every_limit(&stage, &mut tally, sockets));
        let (end, peak) = (resident() - start, resident_peak().saturating_sub(start));
        tally.check();
        println!("{:<28}{total:>16}{end:>16}  resident", "total");
        println!("{:<28}{total:>16}{peak:>16}  resident", "total, at its peak");
        assert!(end <= total, "{end} bytes are resident");
        assert!(!has_peak || peak <= total, "{peak} bytes were resident");
        assert!(end > total / 2, "{end} bytes: was it at its limits?");

        stage.running.lock().unwrap().may_end = true;
        stage.bell.notify_all();
        stage.turn.wait();
        other.join().unwrap();
        stage.frames.lock().unwrap().clear();
        drop(runtime);
    }

    async fn to_every_limit(stage: &Arc<Stage>, tally: &mut Tally, sockets: usize) {
        let (waker, wakes) = Wakes::new();
        *stage.handle.lock().unwrap() = Handle::current();
        tally.skip();

        spawn_empty(&mut stage.handles.lock().unwrap(), 0);
        tally.add("task headers");
        end_all(stage).await;
        spawn_empty(&mut stage.handles.lock().unwrap(), 1);
        tally.add("declared bytes");
        end_all(stage).await;
        tally.skip();
        fill_the_cache().await;
        tally.add("free blocks kept");
        spawn_all(&mut stage.handles.lock().unwrap());
        look_at_all().await;
        tally.add("task bytes");

        for n in 0..TIMERS {
            afresh(n).await;
            assert!(poll_once(Pin::new(&mut stage.sleeps.lock().unwrap()[n])).is_pending());
        }
        assert_eq!(metrics().timers, TIMERS);
        tally.add("timers");
        let woken = wakes.count();
        assert!(poll_with(Pin::new(&mut stage.sleeps.lock().unwrap()[TIMERS]), &waker).is_pending());
        assert_eq!(wakes.count(), woken + 1, "one more sleep asks again");
        assert_eq!(metrics().timers, TIMERS);

        {
            let mut streams = stage.streams.lock().unwrap();
            let mut plain = stage.plain.lock().unwrap();
            while streams.len() < sockets {
                streams.push(TcpStream::from_std(plain.pop().unwrap()).unwrap());
            }
            assert_eq!(metrics().io_sources, sockets);
            tally.add("sockets");
            assert!(TcpStream::from_std(plain.pop().unwrap()).is_err(), "one more socket");
        }
        for n in 0..sockets {
            afresh(n).await;
            wait_both_ways(&stage.streams.lock().unwrap()[n]);
        }
        tally.add("sockets");

        {
            let mut jobs = stage.jobs.lock().unwrap();
            for _ in 0..THREADS + QUEUE {
                let stage = stage.clone();
                jobs.push(try_spawn_blocking(move || stage.run_job()).expect("there is room"));
            }
        }
        while stage.running.lock().unwrap().jobs < THREADS {
            yield_now().await;
        }
        assert_eq!((metrics().blocking_jobs, metrics().blocking_threads), (THREADS + QUEUE, THREADS));
        assert!(try_spawn_blocking(|| ()).unwrap_err().is_full(), "one more job");
        // The jobs are in it: they are small beside the stacks, and the threads allocate too.
        tally.add("blocking stacks");

        for frame in &mut stage.frames.lock().unwrap()[..WAITING] {
            assert!(poll_once(frame.as_mut()).is_pending());
        }
        assert_eq!(metrics().waiting, WAITING);
        let refused = poll_once(stage.frames.lock().unwrap()[WAITING].as_mut());
        assert!(matches!(refused, Poll::Ready(Err(SpawnError::QueueFull))), "one more spawner");
        // From here on in one poll: nobody looks at what the other thread leaves.
        for (_, part) in ELSEWHERE {
            stage.turn.wait();
            stage.turn.wait();
            tally.add(part);
        }

        let metrics = metrics();
        assert_eq!((metrics.tasks_live, metrics.task_bytes), (TASKS, TASK_BYTES));
        assert_eq!((metrics.services_live, metrics.waiting), (SERVICES, WAITING));
        assert_eq!((metrics.timers, metrics.io_sources), (TIMERS, sockets));
        assert_eq!((metrics.blocking_jobs, metrics.blocking_threads), (THREADS + QUEUE, THREADS));
        assert_eq!(metrics.headers, TASKS + SERVICES + 1);
        assert!(metrics.cache_bytes > CACHE_BYTES_MAX - 1_024, "{} bytes kept", metrics.cache_bytes);
        assert!(try_spawn(ready_task()).unwrap_err().is_full(), "one more task");
        assert!(spawn_service(ready_task()).unwrap_err().is_full(), "one more service");
    }

    fn ready_task() -> Nothing {
        std::future::ready(())
    }

    /// Tasks of a class of their own that come and go, and leave as much in the cache as may be.
    async fn fill_the_cache() {
        let gate = Gate::new();
        for _ in 0..TASKS {
            let (wait, fill) = (gate.wait(), [7_u8; 600]);
            drop(try_spawn(async move { (wait.await, fill).1[99] == 7 }).unwrap());
        }
        gate.open();
        while metrics().tasks_live > 0 {
            yield_now().await;
        }
    }

    /// As many tasks and services as may be, of no bytes, each of which declares some.
    fn spawn_empty(handles: &mut Vec<JoinHandle<()>>, declared: usize) {
        for _ in 0..TASKS {
            handles.push(spawn(std::future::pending()).heap(declared).try_now().expect("there is room"));
        }
        for _ in 0..SERVICES {
            handles.push(spawn_service(std::future::pending()).expect("there is room"));
        }
    }

    async fn end_all(stage: &Stage) {
        stage.handles.lock().unwrap().drain(..).for_each(|task| task.abort());
        while metrics().headers > 1 {
            yield_now().await;
        }
    }

    /// As many tasks as may be, with as many bytes as may be, and all services.
    fn spawn_all(handles: &mut Vec<JoinHandle<()>>) {
        let sizes = || SIZES.iter().cycle().take(TASKS);
        let own: usize = sizes().map(|(bytes, _)| bytes).sum();
        let each = (TASK_BYTES - own) / TASKS;
        let service = || Work { heap: Box::default(), declared: 0, fill: [7; 4] };
        // The services' bytes are of the same limit.
        let mut left = TASK_BYTES - SERVICES * size_of_val(&service());
        for (n, (bytes, work)) in sizes().enumerate() {
            let declared = if n == TASKS - 1 { left - bytes } else { each };
            left -= work(declared, handles);
        }
        for _ in 0..SERVICES {
            handles.push(spawn_service(service()).unwrap());
        }
    }

    /// Comes back with the budget of a new poll, often enough for what `n` counts.
    async fn afresh(n: usize) {
        const OPERATIONS: usize = 16;
        if n % OPERATIONS == 0 {
            yield_now().await;
        }
    }

    /// Lets each task be polled.
    async fn look_at_all() {
        for _ in 0..3 {
            yield_now().await;
        }
    }

    fn wait_both_ways(stream: &TcpStream) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.poll_read(&mut cx, &mut [0]).is_pending());
        while stream.poll_write(&mut cx, &[7; 4_096]).is_ready() {}
    }

    impl Stage {
        fn run_job(&self) {
            touch_stack();
            let mut running = self.running.lock().unwrap();
            running.jobs += 1;
            while !running.may_end {
                running = self.bell.wait(running).unwrap();
            }
        }
    }

    /// What another thread leaves for the runtime, as much of each as may be, and the part that it belongs to.
    const ELSEWHERE: [Leave; 6] = [
        (spawn_elsewhere, "the line"),
        (ask, "the rest"),
        (|stage| stage.streams.lock().unwrap().iter().for_each(wait_both_ways), "sockets"),
        (|stage| stage.streams.lock().unwrap().clear(), "sockets"),
        // Their timers wait until the owner has read that they do not.
        (|stage| stage.sleeps.lock().unwrap().clear(), "timers"),
        (join_all, "handles awaited elsewhere"),
    ];

    fn elsewhere(stage: &Stage) {
        // Its allocator's own memory.
        drop(touched::<u8>(64 << 10));
        stage.turn.wait();
        for (leave, _) in ELSEWHERE {
            stage.turn.wait();
            leave(stage);
            stage.turn.wait();
        }
        stage.turn.wait();
        stage.frames_elsewhere.lock().unwrap().clear();
        stage.questions.lock().unwrap().clear();
        stage.handles.lock().unwrap().clear();
        stage.jobs.lock().unwrap().clear();
    }

    fn spawn_elsewhere(stage: &Stage) {
        let handle = stage.handle.lock().unwrap().unwrap();
        for (n, frame) in stage.frames_elsewhere.lock().unwrap().iter_mut().enumerate() {
            frame.set(Some(handle.spawn(ready_task())));
            let polled = poll_once(frame.as_mut().as_pin_mut().unwrap());
            if n < FOREIGN {
                assert!(polled.is_pending());
            } else {
                let is_full = matches!(polled, Poll::Ready(Err(SpawnError::QueueFull)));
                assert!(is_full, "one more spawner of another thread");
            }
        }
    }

    fn ask(stage: &Stage) {
        let handle = stage.handle.lock().unwrap().unwrap();
        for (n, question) in stage.questions.lock().unwrap().iter_mut().enumerate() {
            let polled = poll_once(Pin::new(question.insert(handle.metrics())));
            if n < QUESTIONS {
                assert!(polled.is_pending());
            } else {
                assert!(matches!(polled, Poll::Ready(Err(AskError::TooMany))), "one more question");
            }
        }
    }

    fn join_all(stage: &Stage) {
        for task in stage.handles.lock().unwrap().iter_mut() {
            assert!(poll_once(Pin::new(task)).is_pending());
        }
    }
}

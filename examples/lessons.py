#!/usr/bin/env python3
"""The four lessons in Python's asyncio: what is often written, and what to write there.

Beside 08_limit_the_tasks.rs to 11_not_a_rate.rs, and on one page with them: runtime/docs/lessons.md. Standard library only;
Python 3.11 or later. Takes a few seconds. Where a figure should be exact, the loop's clock is a paused one, as in anteroom.
"""

import asyncio
import concurrent.futures
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path


class PausedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything can run, and jumps to the next timer when nothing can."""

    def __init__(self):
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout=None):
                if timeout is not None and timeout > 0:
                    loop.now += timeout
                    timeout = 0
                return super().select(timeout)

        self.now = 0.0
        super().__init__(Selector())

    def time(self):
        return self.now


def paused(main):
    """Runs `main` on a loop whose clock is paused."""
    with asyncio.Runner(loop_factory=PausedLoop) as runner:
        return runner.run(main)


# 1. A limit inside the task bounds the work, and not the tasks.

JOBS, AT_ONCE = 100_000, 1_000


class AtWork:
    now = peak = tasks = 0


async def job(number):
    AtWork.now += 1
    AtWork.peak = max(AtWork.peak, AtWork.now)
    held = bytes(256)
    await asyncio.sleep(0)
    AtWork.now -= 1
    return number if held else None


async def gather_behind_a_semaphore():
    permits = asyncio.Semaphore(AT_ONCE)

    async def limited(number):
        async with permits:
            if not AtWork.tasks:
                AtWork.tasks = len(asyncio.all_tasks()) - 1
            return await job(number)

    return sum(await asyncio.gather(*(limited(number) for number in range(JOBS))))


async def permit_before_each_task():
    permits = asyncio.Semaphore(AT_ONCE)
    total = live = 0

    def done(task):
        nonlocal total, live
        permits.release()
        live -= 1
        total += task.result()

    async with asyncio.TaskGroup() as group:
        for number in range(JOBS):
            await permits.acquire()
            live += 1
            AtWork.tasks = max(AtWork.tasks, live)
            group.create_task(job(number)).add_done_callback(done)
    return total


async def workers_on_one_iterator():
    numbers, total = iter(range(JOBS)), 0

    async def worker():
        nonlocal total
        for number in numbers:
            output = await job(number)  # apart: `total += await ..` reads the total before it waits, and loses others' sums
            total += output

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
        AtWork.tasks = len(asyncio.all_tasks()) - 1  # without this one
    return total


FORMS = [gather_behind_a_semaphore, permit_before_each_task, workers_on_one_iterator]


def memory_peak_kib():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def alone(name):
    """One form, in a process of its own."""
    form = next(form for form in FORMS if form.__name__ == name)
    start = time.perf_counter()
    assert asyncio.run(form()) == sum(range(JOBS))
    ns = (time.perf_counter() - start) * 1e9 / JOBS
    print(f"  {name:<30}{ns:>12.0f}{AtWork.tasks:>16}{AtWork.peak:>18}{memory_peak_kib() / 1024:>12.1f} MiB", flush=True)


def limit_the_tasks():
    print(f"1. {JOBS} jobs of 256 bytes, {AT_ONCE} at work at most")
    print(f"  {'':<30}{'ns a job':>12}{'tasks at most':>16}{'at work at most':>18}{'peak memory':>16}", flush=True)
    for form in FORMS:
        subprocess.run([sys.executable, __file__, form.__name__], check=True)


# 2. A limit is a window that slides, not batches.


async def window(form):
    """Forty jobs, ten at once; the first of each ten takes 1 s, the others 100 ms. Seconds, and the order of finishing."""
    finished, loop = [], asyncio.get_running_loop()

    async def work(number):
        await asyncio.sleep(1.0 if number % 10 == 0 else 0.1)
        finished.append(number)
        return number

    start = loop.time()
    outputs = await form(work)
    assert outputs == list(range(40))
    return loop.time() - start, finished


async def batches(work):
    outputs = []
    for first in range(0, 40, 10):
        outputs += await asyncio.gather(*(work(number) for number in range(first, first + 10)))
    return outputs


async def sliding(work):
    permits = asyncio.Semaphore(10)

    async def limited(number):
        async with permits:
            return await work(number)

    return await asyncio.gather(*(limited(number) for number in range(40)))


def sliding_window():
    print("2. forty jobs, ten at once; every tenth takes 1 s, the others 100 ms")
    for name, form in [("chunks of gather", batches), ("gather behind a semaphore", sliding)]:
        seconds, finished = paused(window(form))
        print(f"  {name:<30}{seconds:>8.2f} s; the first output was the {finished.index(0) + 1}th to finish")


# 3. How many at once are too many?


async def ask(at_once, capacity, requests=2_000, latency=0.01):
    """How many a second, and how many milliseconds the slowest took."""
    permits, room, loop = asyncio.Semaphore(at_once), asyncio.Semaphore(capacity), asyncio.get_running_loop()
    slowest = 0.0

    async def request():
        nonlocal slowest
        async with permits:
            begun = loop.time()
            async with room:
                await asyncio.sleep(latency)
            slowest = max(slowest, loop.time() - begun)

    start = loop.time()
    await asyncio.gather(*(request() for _ in range(requests)))
    return requests / (loop.time() - start), slowest * 1_000


def compute():
    state = 1
    for _ in range(20_000):
        state = (state * 6_364_136_223_846_793_005 + 1) & 0xFFFF_FFFF_FFFF_FFFF
    return state


async def compute_on(threads, jobs=64):
    """How many a second, of jobs that compute, on so many threads."""
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        await asyncio.gather(*(loop.run_in_executor(pool, compute) for _ in range(jobs)))
        return jobs / (time.perf_counter() - start)


def how_many():
    print("3. 2000 requests of 10 ms; of a server without limit, and of one that does 50 at a time")
    for at_once in [1, 10, 50, 100, 1_000]:
        free, free_ms = paused(ask(at_once, 2_000))
        full, full_ms = paused(ask(at_once, 50))
        print(f"  {at_once:>4} at once: {free:>8.0f} a second, {free_ms:.0f} ms; {full:>6.0f} a second, {full_ms:>3.0f} ms")
    cores = os.cpu_count()
    print(f"   64 jobs that compute, on {cores} cores")
    for threads in [1, cores, 4 * cores, 64]:
        print(f"  {threads:>4} threads: {asyncio.run(compute_on(threads)):>8.0f} a second")


# 4. A semaphore is not a rate, not a deadline, and as good as those who call release.


async def ten_permits(jobs, seconds):
    permits, loop = asyncio.Semaphore(10), asyncio.get_running_loop()

    async def limited():
        async with permits:
            await asyncio.sleep(seconds)

    start = loop.time()
    await asyncio.gather(*(limited() for _ in range(jobs)))
    return jobs / (loop.time() - start)


async def against(busy, both):
    """A permit that comes free after `busy` seconds, patience of 100 ms, work of three steps in 120 ms."""
    permits, steps = asyncio.Semaphore(1), 0

    async def work():
        nonlocal steps
        for _ in range(3):
            await asyncio.sleep(0.04)
            steps += 1

    async def around_both():
        async with asyncio.timeout(0.1):
            async with permits:
                await work()

    async def around_the_waiting():
        async with asyncio.timeout(0.1):
            await permits.acquire()
        try:
            await work()
        finally:
            permits.release()

    async def hold():
        async with permits:
            await asyncio.sleep(busy)

    holder = asyncio.create_task(hold()) if busy else asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    try:
        await (around_both() if both else around_the_waiting())
    except TimeoutError:
        pass
    await holder
    return steps


async def release_twice(semaphore):
    """How many are at work at once behind one permit, after it was given back twice."""
    now = peak = 0
    try:
        async with semaphore:
            semaphore.release()  # the code that was done; the guard gives it back once more
    except ValueError as error:
        return f"ValueError: {error}"

    async def work():
        nonlocal now, peak
        async with semaphore:
            now += 1
            peak = max(peak, now)
            await asyncio.sleep(0.01)
            now -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    return f"{peak} at work at once behind Semaphore(1)"


async def release_twice_beside_others():
    """BoundedSemaphore(2): one gives back twice while another is at work. Who is told?"""
    semaphore, now, peak = asyncio.BoundedSemaphore(2), 0, 0

    async def work(seconds):
        nonlocal now, peak
        async with semaphore:
            now += 1
            peak = max(peak, now)
            await asyncio.sleep(seconds)
            now -= 1

    async def careless():
        async with semaphore:
            semaphore.release()

    ends = await asyncio.gather(work(1), careless(), work(0.1), work(0.1), return_exceptions=True)
    told = [name for name, end in zip(["the one beside", "the careless one", "a third", "a fourth"], ends) if end]
    return f"{peak} at work at once behind BoundedSemaphore(2); ValueError for {', '.join(told)}"


def two_loops():
    """One semaphore, waited for on one loop and then on another."""
    semaphore = asyncio.Semaphore(1)

    async def work():
        async with semaphore:
            await asyncio.sleep(0.01)

    async def two_at_once():
        await asyncio.gather(work(), work())

    paused(two_at_once())
    paused(work())  # finds room, and no error
    try:
        paused(two_at_once())
    except RuntimeError as error:
        return f"RuntimeError: {str(error).split('> ')[-1]}"
    return "no error"


def not_a_rate():
    print("4. ten permits")
    for seconds, jobs in [(0.001, 10_000), (1.0, 100)]:
        print(f"   jobs of {seconds * 1_000:>4.0f} ms: {paused(ten_permits(jobs, seconds)):>6.0f} a second")
    print("   patience of 100 ms, work of three steps in 120 ms")
    for busy in [0, 0.05, 1]:
        both, waiting = paused(against(busy, True)), paused(against(busy, False))
        print(f"   a permit after {busy * 1_000:>4.0f} ms: around both {both} of 3 steps; around the waiting {waiting} of 3")
    print("   release() by hand inside `async with`")
    for kind in [asyncio.Semaphore, asyncio.BoundedSemaphore]:
        print(f"   {kind.__name__}: {paused(release_twice(kind(1)))}")
    print(f"   beside others: {paused(release_twice_beside_others())}")
    print(f"   one semaphore, two loops: {two_loops()}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        alone(sys.argv[1])
    else:
        print(f"Python {sys.version.split()[0]}")
        limit_the_tasks()
        sliding_window()
        how_many()
        not_a_rate()

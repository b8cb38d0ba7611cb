"""The jobs of gather.rs in asyncio: python3 gather.py careless|careful|workers ITEMS LIMIT

careless: gather over a coroutine an item, each of which waits for a semaphore first.
careful:  the semaphore is taken before the task is made.
workers:  as many tasks as the limit, which share the items.

Prints a row of the same table: processor time an item, once, and the growth of the peak of what is resident.
"""

import asyncio
import resource
import sys
import time


async def job(number):
    page = bytearray(256)
    page[0] = number & 255
    await asyncio.sleep(0)
    return page[0]


async def careless(items, limit):
    places = asyncio.Semaphore(limit)

    async def bounded(number):
        async with places:
            await job(number)

    await asyncio.gather(*(bounded(number) for number in range(items)))


async def careful(items, limit):
    places = asyncio.Semaphore(limit)

    async def holder(number):
        try:
            await job(number)
        finally:
            places.release()

    tasks = set()
    for number in range(items):
        await places.acquire()
        task = asyncio.create_task(holder(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def workers(items, limit):
    numbers = iter(range(items))

    async def worker():
        for number in numbers:
            await job(number)

    await asyncio.gather(*(worker() for _ in range(limit)))


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


form, items, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
run = {"careless": careless, "careful": careful, "workers": workers}[form]
asyncio.run(run(1, 1))
before = peak_kib()
start = time.process_time_ns()
asyncio.run(run(items, limit))
ns = (time.process_time_ns() - start) / items
print(f"| {limit} | asyncio: {form} | {ns:.0f} | | | {(peak_kib() - before) / 1024:.1f} |")

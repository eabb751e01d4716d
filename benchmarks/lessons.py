"""How long does each lesson run on this machine? Written on its card with `--write`.

    python benchmarks/lessons.py              # a table, a run of each lesson
    python benchmarks/lessons.py --write 02   # and on the card of lesson 02

A run starts a fresh kernel and goes from the first cell to the last, as a learner's restart does, on all
cores. The time is that of the clock, so let the machine be quiet. It is written rounded up to five seconds.
"""

import argparse
import math
import os
import re
import time

import nbformat

from tlutils import lessons

TIME = re.compile(r"(\*\*Time\*\* \| \d+ minutes to work through; )[^|\n]*")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", help="of lessons, such as 02; all unless given")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    for lesson in lessons.catalog():
        if options.numbers and lesson.number not in options.numbers:
            continue
        start = time.perf_counter()
        lessons.execute(lesson.path)
        seconds = time.perf_counter() - start
        print(f"{lesson.number} {seconds:.0f} s on {cores} cores", flush=True)
        if options.write:
            notebook = nbformat.read(lesson.path, as_version=4)
            card = next(cell for cell in notebook.cells if "**Time**" in cell.source)
            said = f"{5 * math.ceil(seconds / 5)} seconds to run on {cores} cores "
            card.source = TIME.sub(lambda found, said=said: found[1] + said, card.source)
            nbformat.write(notebook, lesson.path)


if __name__ == "__main__":
    main()

"""Median of ten: how long until help is on the screen.

usage: startup.py
"""

import statistics
import subprocess
import sys
import time

for words in (["--help"], ["train", "--help"]):
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fieldmark", *words], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    print(f"python -m fieldmark {' '.join(words)}: {statistics.median(seconds):.2f} s (median of ten)")

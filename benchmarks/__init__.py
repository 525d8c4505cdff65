"""Measurements that the claims about speed and memory rest on; see README.md. Not installed.

measure   run a command as its own process: time, CPU time, memory of the whole process tree
models    random networks of a stated shape
corpora   samples and corpora to measure on
stock     the baseline: the pipeline that Beam's documentation shows
bare      the ceiling: the engine alone, fed with ready batches
scan      speed: stock, bare and `rtdscan scan`, interleaved, in one table
memory    peak memory of `rtdscan scan` on corpora of several sizes and shapes
"""

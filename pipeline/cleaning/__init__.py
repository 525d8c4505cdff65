"""A cleaning from plan to clean.json. Read top to bottom:

folder     whose CLEANED is, what is stale in it, what is written last
plan       the units of a finished scan, its inputs unchanged
marks      hashes and embeddings of all units -> duplicates.parquet
summary    what a cleaning says at its end
run        the passes over the units, verified counts
"""

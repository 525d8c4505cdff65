"""A finished OUTPUT as it is read again: by the report, the review page and `rtdscan clean`. Read in this order:

folder     run.json, the manifest, and the shards it names
texts      texts of documents, read from INPUT where it is still what was scanned
visible    text that shows what it holds: control and invisible characters as signs
excerpts   flagged words with what stands around them
"""

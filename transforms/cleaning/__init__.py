"""From a corpus and its attributes to what is kept, what is rejected and what was changed. Read top to bottom:

settings      what a user can choose about cleaning
expressions   `score < 0.05 and status == 'ok'` -> an Arrow expression, without eval
personal      e-mail addresses, phone, bank and identity numbers in a text
edits         flagged spans and personal data -> edits of a text; a text column anew
duplicates    equal texts by hash, similar ones by their embeddings
rows          clean_table(table, attributes, settings) -> kept, rejected, changes
job           what every step of one cleaning has to know; when a unit is current
files         a unit's rows with all columns, its marks, and its three shards

The verbs around them are in transforms/clean.py. Everything here is free of Beam.
"""

"""What a worker may run. Read top to bottom:

errors       what ends a program with one line
absent       packages that a worker does not load
cgroups      what a container may use of its machine
settings     what a user can choose about scoring, typed and documented
columns      the text column, and any column by its path
partitions   columns that are part of a path to a file
tally        additive statistics of a scan
drift        how far a run is from the accepted one
gates        bounds on metrics -> verdicts
records      the elements of the graph and the Arrow schemas, in one place
storage      read, list and atomically commit on any file system
footers      open a Parquet file without parsing its footer again
units        Parquet's footers, and a unit's rows
cutting      footers -> work units
words        text -> words, by character offsets
residue      what machines left in a text: tags, character references, escapes
windows      tokens -> token windows, and which of them owns a token
batches      windows -> padded batches under a token budget; order can be restored
electra      the shape and the weights of an ELECTRA checkpoint
fetch        models from elsewhere -> a local directory
word_hashes  a number for each word of many texts, without making strings
one_slip     which words of a list may be one slip away from others
near         words near in letters to one that was written
slips        whether an unlisted word may be a slip of a listed one
lexicon      what a word tells without its context; a frozen list of how rare words are
lexicon_file    the same as a file
bundle       a model directory: weights, tokenizer, calibration, card
engines      run the network: the same numbers within a stated tolerance
readout      token logits -> word probabilities
presentation     candidates -> spans and decision
tokens       texts -> flat arrays of tokens, words and windows
generator    the network that fills gaps
gaps         what it says of words in their place
candidates   what speaks for a word that may have been meant
suggest      what may have been meant where words are flagged
pace         how far a process is with the unit that it is at
forward      all windows of a chunk through the network
embedding    hidden states of a document -> its embedding
documents    a text's bytes, whether they can be scored, its pieces
stored       scores of pieces -> columns of documents
pieces       pieces of texts -> their scores
ranges       what int8 needs to know of a model, and whether it serves it
resolved     what settings leave open, decided by model and machine
scorer       all of the above composed: Scorer.score(table) -> table
corruption   ways text goes wrong, with labels, a file a family
job          what every step of one scan has to know; when a shard is current
shards       a unit's attributes on disk, with fingerprint and tally
attempts     notes about units whose worker died
cleaning     rows and their attributes -> kept, rejected, changed
read, infer, write    the verbs, in the order of the graph
graph        the verbs composed
clean        the verbs of a cleaning
results      what became of all units, in one file
child        what a process that was given units does with them
task         the same in a Ray task, which may be repeated

Meant to be called by others' programs: scorer.Scorer, settings.ScoreSettings, cleaning.rows.clean_table with
cleaning.settings.CleanSettings, records.attribute_schema, and errors.RtdscanError, the base of errors meant for people.
The rest may change from one version to the next.

Two rules, each held by a test that reads the source. `transforms` never imports `pipeline`. Nouns (everything up
to `cleaning`) are plain Python over arrays and Arrow tables, free of Beam; verbs are thin PTransforms around them.
"""

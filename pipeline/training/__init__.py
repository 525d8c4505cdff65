"""Training of a discriminator by replaced token detection. Read in this order:

settings      what a user can choose
vocabulary    a WordPiece vocabulary from the corpus
corpus        which files, which rows; texts of a unit
examples      texts -> windows -> batches of arrays, with noise and masks
feed          the endless, seeded stream of batches; made ahead, resumed exactly
start         where weights come from: nothing, an ELECTRA model, a BERT-shaped encoder
models        generator and discriminator, tied; the frozen teacher
objective     what is learned: the losses of a batch
optimiser     Adam in two variants, which weights decay, the learning rate
checkpoint    all of a run's state, written whole or not at all
recorder      metrics as JSON lines, TensorBoard events and a picture
loop          the steps
export        the bundle that comes out
run           all of the above composed: start, resume or finish a run

Key of the shapes: B windows, T tokens, K noisy windows (the first K of B), G the others, which the generator refills, N
tokens it may refill of each, D hidden, V vocabulary, R windows that are shown to the teacher.
"""

"""How well known errors are found, and what follows for probabilities and thresholds. Read top to bottom:

labels      labelled text -> texts and spans; or a clean corpus -> the same, by corruption
evidence    texts -> the network's and the letters' evidence about every word, once
truth       spans -> labels of words
metrics     scores and labels -> AUROC, average precision, F0.5, recall at a precision; intervals
logistic    labels and evidence -> coefficients, near those there were before
reliability probabilities and labels -> do they mean what they say
thresholds  the same -> the lowest threshold of a precision; documents to review and to drop
baselines   simple detectors on the same words
tables      all of it per kind of error, for people and as JSON
plots       the same as PNG
"""

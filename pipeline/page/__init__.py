"""The page of `rtdscan review`: try a sentence, look through a scan, say what its flags are worth. Read in this order:

settings    options, and who may log in
address     hosts, ports and URLs: where it may be reached
trying      the model and its state; one text scored
plain       our own HTML on a Gradio page
markup      HTML of texts with marks, tables; whatever comes from a corpus goes through it
catalogue   attribute rows by filter, order and page (DuckDB over the shards)
search      texts that hold some words, read from INPUT a bit at a time
documents   one document with its marks
judging     verdicts: stored one by one, read as they come
looking     what one visitor looks at: a query, a page of the list, the next document
blocks      the Gradio page: tab_try and tab_look on one page
guard       what stands before it: who may ask, headers, sizes
serving     an HTTP server of our own around it, and its end
"""

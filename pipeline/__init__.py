"""What a person runs: one module a program, `config` for their options, `launchers` for who runs the graph."""

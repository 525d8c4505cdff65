"""Who runs the graph: `local` (child processes of this machine). Each gives every unit a result, or raises."""

"""Who runs the graph. Each launcher gives every unit a result, or raises.

local   child processes of this machine, replaced when they die
beam    a Beam runner by name, the graph whole
"""

"""Who runs the graph. Each launcher gives every unit a result, or raises.

local   child processes of this machine, replaced when they die
ray     tasks on a Ray cluster; ray_driver talks to it, ray_node is what it runs on a node
beam    a Beam runner by name, the graph whole
"""

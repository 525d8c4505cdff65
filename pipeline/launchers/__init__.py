"""Who runs the graph. Each launcher gives every unit a result, or raises.

choice       whether the runner that was asked for can do it
children     how a child process begins and ends
cores        how many of them, by the machine's cores and memory
local        child processes of this machine, replaced when they die
ray          tasks on a Ray cluster; ray_driver talks to it, ray_node is what it runs on a node
beam         a Beam runner by name, the graph whole
beam_options what it is told: names that are known, values of their types
submission   what can be known to be wrong before a Beam runner gets the graph
flink        the same, of Flink
dataflow     the same, of Dataflow
"""

from rtdscan.transforms.errors import RtdscanError


class Submitted(RtdscanError):
    """No error: the job was handed over, and nobody waits for it. `str` is what the runner calls it."""

    exit_status = 0

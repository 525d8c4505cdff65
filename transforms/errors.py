"""Errors that are meant for people. A message names the thing, what was wrong and what to do."""


class RtdscanError(Exception):
    """Base of all errors that end a program with one line instead of a traceback; exit status 1."""

    exit_status = 1


AT_FAULT = (MemoryError, ImportError, OSError, SystemError)
"""What says that this process is at fault, and another one may do; compiled modules that ran out of memory raise the
last."""


class UserError(RtdscanError):
    """Wrong usage, configuration, input or model: nothing was started; exit status 2."""

    exit_status = 2


class EngineError(RtdscanError):
    """What runs the network failed, or a worker lacks what the launcher has; exit status 1."""


class BusyError(RtdscanError):
    """Another scan is writing into OUTPUT; exit status 4."""

    exit_status = 4


class StoreError(RtdscanError):
    """An object store did not answer, or refused: no fault of the file that was asked for; exit status 1."""


class UnservedError(UserError, StoreError):
    """Nothing here serves such paths: a scheme that nobody knows, or a package that lacks; exit status 2."""

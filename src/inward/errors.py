"""The errors inward raises: one sentence each, naming what was given and the remedy."""


class InwardError(Exception):
    """A failure that the user can act on (exit status 1 on the command line)."""


class CallError(InwardError, ValueError):
    """A wrong call: an unknown address, an option that makes no sense (exit status 2)."""


class InwardWarning(UserWarning):
    """Something that is not an error but would otherwise be silently surprising."""


class Unconverged(InwardWarning):
    """A result that did not reach what was asked for; it says so itself as well."""

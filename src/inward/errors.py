"""The errors inward raises: one sentence each, naming what was given and the remedy; and numbers in sentences."""


class InwardError(Exception):
    """A failure that the user can act on (exit status 1 on the command line)."""


class CallError(InwardError, ValueError):
    """A wrong call: an unknown address, an option that makes no sense (exit status 2)."""


class InwardWarning(UserWarning):
    """Something that is not an error but would otherwise be silently surprising."""


class Unconverged(InwardWarning):
    """A result that did not reach what was asked for; it says so itself as well."""


def numbered(count: int, one: str, many: str = "") -> str:
    """A number of things: 1 image, 2 images; ``many`` where that is more than an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def there_are(count: int, one: str, many: str = "") -> str:
    """How many things there are: "there is 1 image", "there are 2 images"."""
    return f"there {'is' if count == 1 else 'are'} {numbered(count, one, many)}"

"""Numbers and the nouns that go with them."""


def counted(number: int, one: str, many: str = "") -> str:
    """ "1 class", "2,000 classes". `many`: the plural, where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"

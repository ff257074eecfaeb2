"""Which pictures belong together: copies, near duplicates, and those whose file names name one thing (a patient)."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neocog.core.errors import DataError, UsageError
from neocog.data.near import chain, components
from neocog.data.scan import Kept


def compiled(pattern: str | None) -> re.Pattern[str] | None:
    """UsageError where it is no regular expression."""
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        hint = r"such as --group-by '(patient\d+)'"
        raise UsageError(f"group_by: {pattern!a} is no regular expression ({error})", hint) from None


def named_groups(kept: Sequence[Kept], pattern: re.Pattern[str]) -> tuple[list[list[int]], list[str]]:
    """Rows of the files for which `pattern` finds the same text (its first group, else all it matched), and warnings.

    A file that it does not match is a group of its own. DataError where it matches none.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    strangers = []
    for row, one in enumerate(kept):
        match = pattern.search(one.file)
        text = match and (match[1] if pattern.groups else match[0])
        if text is None:
            strangers.append(one.file)
        else:
            rows[text].append(row)
    if not rows:
        hint = "it is searched in names such as " + ", ".join(f"{name!a}" for name in strangers[:2])
        raise DataError(f"group_by: {pattern.pattern!a} matches no file name", hint)
    warnings = []
    if strangers:
        text = f"group_by: {len(strangers):,} file names do not match and are groups of their own, such as"
        warnings.append(f"{text} {strangers[0]!a}")
    if len(rows) == 1 and not strangers:
        warnings.append(f"group_by: all file names give the same text, {next(iter(rows))!a}")
    return list(rows.values()), warnings


def together(kept: Sequence[Kept], *more: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(N,) the number of each picture's group: copies are always in one, and what `more` lists as groups of rows."""
    copies: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(kept):
        copies[one.sha256].append(row)
    links = chain([group for group in copies.values() if len(group) > 1])
    for groups in more:
        links += chain(groups)
    return components(len(kept), links)


def across_sets(kept: Sequence[Kept], groups: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Groups that the data's own split tears apart."""
    return [group for group in groups if len({kept[row].split for row in group}) > 1]

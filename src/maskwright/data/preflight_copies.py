"""What copies among the images mean for a split."""

from __future__ import annotations

from collections.abc import Sequence

from maskwright.data.copies import Copy
from maskwright.data.preflight import Finding, listed

__all__ = ["copy_findings"]


def copy_findings(
    names: Sequence[str],
    parts: Sequence[str],
    grounds: Sequence[str],
    exact: Sequence[Copy],
    near: Sequence[Copy],
) -> list[Finding]:
    """Copies in different parts of the split, where they make the numbers look better than they are; and the others.

    Args:
        names: Of the images.
        parts: Part of each; empty for one that is not used.
        grounds: Ground of each; images of one ground are known to belong together.
        exact: Exact copies.
        near: Near copies; those that are exact as well are not told again.
    """
    same = {(copy.first, copy.second) for copy in exact}
    others = [copy for copy in near if (copy.first, copy.second) not in same]
    findings = []
    for copies, kind, level in ((list(exact), "exact", "error"), (others, "near", "warning")):
        across = [copy for copy in copies if parts[copy.first] and parts[copy.second]]
        across = [copy for copy in across if parts[copy.first] != parts[copy.second]]
        if across:
            findings.append(_across(names, parts, across, kind, level))
        rest = [copy for copy in copies if copy not in set(across) and grounds[copy.first] != grounds[copy.second]]
        if rest:
            worst = max(rest, key=lambda copy: copy.alike)
            findings.append(
                Finding(
                    "note",
                    f"{kind}_copies",
                    f"{names[worst.first]}, {names[worst.second]}",
                    f"{len(rest)} pairs of images are {_KINDS[kind]} of each other, inside one part of the split.",
                    "Nothing for the numbers of this split; leave one of each out to save time.",
                    {"pairs": len(rest)},
                )
            )
    return findings


_KINDS = {"exact": "exact copies", "near": "near copies"}


def _across(names: Sequence[str], parts: Sequence[str], copies: Sequence[Copy], kind: str, level: str) -> Finding:
    worst = max(copies, key=lambda copy: copy.alike)
    held_out = {i for copy in copies for i in (copy.first, copy.second) if parts[i] != "train"}
    pairs = [f"{names[c.first]} ({parts[c.first]}) and {names[c.second]} ({parts[c.second]})" for c in copies]
    return Finding(
        "error" if level == "error" else "warning",
        f"{kind}_copies_across_parts",
        f"{names[worst.first]}, {names[worst.second]}",
        f"{len(copies)} pairs of images in different parts of the split are {_KINDS[kind]}: {listed(pairs, 2)}. "
        f"{len(held_out)} images kept for validation or test are as good as known from elsewhere.",
        "Put each pair in one part: data.split.group_pattern, or data.split.by: lists; or take one of them out.",
        {"pairs": len(copies), "held_out": len(held_out), "alike": worst.alike},
    )

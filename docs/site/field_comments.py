"""The comment beside a field is its description: so the reference shows what readers of the code see."""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Docstring, Extension


class FieldComments(Extension):
    """Gives attributes without a docstring the comment at the end of their line."""

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lineno is not None:
            _, found, comment = attr.source.partition("  # ")
            if found and not comment.startswith(("noqa", "type:")):
                attr.docstring = Docstring(comment.partition("\n")[0], lineno=attr.lineno, parent=attr)

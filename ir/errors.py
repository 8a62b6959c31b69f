"""The exceptions that DRT raises on purpose, each with a one-line text for a person.

Text form: ``place: subject: what is, what was expected``.  The parts are kept as fields so that tools need not parse text.
"""

from __future__ import annotations


class DrtError(Exception):
    """Base of every error that is the input's fault or a stated limit, never a bug of DRT.

    Args:
        message: what is, and what was expected; lower case, one line.
        place: where, as ``file:line:column`` or any prefix of it; may be empty.
        subject: the operator, value or option that is at fault; may be empty.
        context: source lines with a caret, printed below the message; may be empty.
    """

    def __init__(self, message: str, *, place: str = "", subject: str = "", context: str = "") -> None:
        self.message = message
        self.place = place
        self.subject = subject
        self.context = context
        super().__init__(message)

    def line(self) -> str:
        """Return the error as one line, without the source context."""
        return ": ".join(part for part in (self.place, self.subject, self.message) if part)

    def __str__(self) -> str:
        return self.line() + (f"\n{self.context}" if self.context else "")

    def at(self, place: str, context: str = "") -> DrtError:
        """Return this error placed at ``place``, unless it already has a place."""
        if not self.place:
            self.place = place
            self.context = self.context or context
        return self


class ParseError(DrtError):
    """Text that is not in the grammar."""


class VerifyError(DrtError):
    """A graph or a call that breaks a rule of its operator; ``label`` names the rule (``conv2d_c1``)."""

    def __init__(self, message: str, *, label: str = "", place: str = "", subject: str = "", context: str = "") -> None:
        self.label = label
        super().__init__(message, place=place, subject=subject, context=context)

    def line(self) -> str:
        """Return the error as one line; the label of the broken rule stands last, in brackets."""
        return super().line() + (f" [{self.label}]" if self.label else "")


class UsageError(DrtError):
    """A request that cannot be carried out as it was put: a missing file, a bad option, an unexportable model."""


class Unsatisfiable(DrtError):
    """No value fits; expected during a search, which goes on."""


class Unsupported(DrtError):
    """A stated limit of one reading or back end; the caller falls back and reports the reason."""


class InternalError(Exception):
    """A bug of DRT; please report it with the text of the graph."""

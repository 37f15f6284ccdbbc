"""The two things that can be wrong with a policy: its text, and one evaluation of it."""

from __future__ import annotations

from s3posixfs.core.errors import OperatorError


class PolicyError(OperatorError):
    """A policy that is not accepted: what is wrong, in which statement, in one line."""


class EvaluationError(ValueError):
    """A request whose context cannot be compared as the policy asks; the request is denied."""

"""The Resource and Principal elements: which ARNs and which callers a statement is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s3posixfs.identity.policy_errors import PolicyError
from s3posixfs.identity.policy_patterns import (
    ARN_FIELDS,
    Context,
    Pattern,
    Wildcard,
    split_arn,
    tokenize,
)

S3_ARN_PREFIX = "arn:aws:s3:::"
_SERVICES = ("s3", "iam", "sts")


@dataclass(frozen=True, slots=True)
class ResourcePattern:
    """One entry of Resource or NotResource; ``name`` is compiled from the ARN's last field.

    ``service`` is ``*`` for the resource ``*``.
    """

    text: str
    service: str
    name: Pattern

    def matches(self, arn: Sequence[str], context: Context) -> bool:
        """``arn`` is the request's ARN, split at its first five colons."""
        if self.service == "*":
            return True
        return arn[2] == self.service and self.name.matches(arn[5], context)

    def is_alike_below(self, arn: Sequence[str]) -> bool:
        """Whether it matches every ARN that begins with this one, or none of them, in any context.

        False where that can't be told from its first wildcard.
        """
        if self.service == "*" or arn[2] != self.service:
            return True
        if self.name.variables:
            return False
        first, *rest = self.name.tokens
        literal = first if isinstance(first, str) else ""
        if not isinstance(first, str):
            rest = [first, *rest]
        beginning = arn[5]
        apart = not (beginning.startswith(literal) or literal.startswith(beginning))
        if rest and all(token is Wildcard.ANY for token in rest):
            return apart or beginning.startswith(literal)
        # A text without wildcards is one name only, which a longer one is not.
        return apart or (not rest and not literal.startswith(beginning))


def split_resource(arn: str) -> list[str]:
    """The six fields of a request's ARN; ValueError where it is none."""
    fields = arn.split(":", ARN_FIELDS - 1)
    if len(fields) != ARN_FIELDS or fields[0] != "arn":
        raise ValueError("no ARN")
    return fields


def parse_resource(text: str, *, variables: bool) -> ResourcePattern:
    """Compile ``*`` or an ARN pattern; raises :class:`PolicyError`.

    This store has one partition, no regions and no accounts. What AWS puts there is compared
    with nothing for IAM (any account is this one) and must be empty for S3.
    """
    tokens = tokenize(text, variables=variables, wildcards=True)
    if tokens == (Wildcard.ANY,):
        return ResourcePattern(text, "*", Pattern(tokens))
    fields = split_arn(tokens)
    if len(fields) != ARN_FIELDS or fields[0] != ("arn",):
        raise PolicyError(f"the resource '{text}' is neither '*' nor an ARN: {S3_ARN_PREFIX}…")
    _, partition, service, region, account, name = fields
    if partition not in (("aws",), (Wildcard.ANY,)):
        raise PolicyError(f"the resource '{text}' is of another partition than aws")
    if len(service) != 1 or service[0] not in _SERVICES:
        raise PolicyError(f"the resource '{text}' is of none of the services s3, iam, sts")
    if service[0] == "s3" and not {*region, *account} <= {Wildcard.ANY}:
        raise PolicyError(
            f"the resource '{text}' names a region or account, which S3's buckets and objects"
            f" do not have: {S3_ARN_PREFIX}BUCKET/KEY"
        )
    if not name:
        raise PolicyError(f"the resource '{text}' names nothing")
    return ResourcePattern(text, str(service[0]), Pattern(name))


@dataclass(frozen=True, slots=True)
class Principals:
    """The callers that a statement of a bucket policy is about."""

    everyone: bool
    users: frozenset[str]

    def matches(self, principal: str | None) -> bool:
        """``principal`` is the caller's ARN (``arn:aws:iam:::user/NAME``); None: anonymous."""
        if self.everyone:
            return True
        return principal is not None and user_of_arn(principal) in self.users


def user_of_arn(arn: str) -> str | None:
    """The NAME of ``arn:aws:iam::ANYTHING:user/NAME``; None where it is no such ARN."""
    fields = arn.split(":", ARN_FIELDS - 1)
    if len(fields) != ARN_FIELDS or fields[:3] != ["arn", "aws", "iam"]:
        return None
    kind, _, name = fields[5].partition("/")
    return name if kind == "user" and name else None


def parse_principals(element: object) -> Principals:
    """Compile Principal or NotPrincipal; raises :class:`PolicyError`."""
    if element == "*":
        return Principals(everyone=True, users=frozenset())
    if not isinstance(element, Mapping) or not element:
        raise PolicyError(
            'a principal is \'*\' or an object such as {"AWS": "arn:aws:iam:::user/NAME"}'
        )
    everyone = False
    users: set[str] = set()
    for kind, value in element.items():
        if kind not in ("AWS", "CanonicalUser"):
            raise PolicyError(f"the principal type '{kind}' does not exist here: use AWS")
        entries = value if isinstance(value, list) else [value]
        if not entries or not all(isinstance(entry, str) and entry for entry in entries):
            raise PolicyError(f"the principals of '{kind}' are no list of strings")
        for entry in entries:
            if kind == "CanonicalUser":
                users.add(entry)
            elif entry == "*":
                everyone = True
            else:
                name = user_of_arn(entry)
                if name is None or "*" in name or "?" in name:
                    raise PolicyError(
                        f"the principal '{entry}' is neither '*' nor arn:aws:iam:::user/NAME"
                    )
                users.add(name)
    return Principals(everyone, frozenset(users))

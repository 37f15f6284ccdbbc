"""One call of the IAM query API: its parameters, who may make it, and its answer.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/ (parameters, XML, codes, limits).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml
from s3posixfs.store.authenticate import Caller
from s3posixfs.store.errors import access_denied
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service
from s3posixfs.store.state import UserRecord

NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
VERSION = "2010-05-08"
ACCOUNT = "000000000000"
_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_MEMBER = re.compile(r"\.member\.([1-9]\d{0,3})(?:\.(\w+))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,4}")
_PAGE = 100
_MOST_PER_PAGE = 1_000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of ``action`` with its form, from a caller whose signature was verified."""

    service: Service
    request: Request
    action: str
    form: Mapping[str, str]

    @property
    def caller(self) -> Caller:
        return self.request.who

    @property
    def user(self) -> UserRecord:
        """Whose call it is; a session's is that of the user it acts as."""
        user = self.caller.user
        assert user is not None  # noqa: S101  the anonymous have been refused
        return user

    @property
    def unlimited(self) -> bool:
        """Whether the caller may do everything: the role admin, with no session policy."""
        session = self.caller.session
        return self.user.is_admin and (session is None or session.policy is None)

    # --- parameters -----------------------------------------------------------------------

    def text(self, name: str, pattern: re.Pattern[str] = _NAME) -> str:
        """A parameter that must be given; ValidationError where it is not as IAM takes it."""
        value = self.form.get(name)
        field = name[0].lower() + name[1:]
        if value is None:
            raise invalid(
                f"1 validation error detected: Value null at '{field}' failed to satisfy "
                "constraint: Member must not be null"
            )
        if pattern.fullmatch(value) is None:
            raise invalid(
                f"1 validation error detected: Value at '{field}' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {pattern.pattern}"
            )
        return value

    def user_name(self) -> str:
        """``UserName``, or whose call it is where IAM lets it be left out."""
        return self.text("UserName") if "UserName" in self.form else self.user.name

    def members(self, name: str) -> list[Mapping[str, str]]:
        """A list parameter as its members in order: their fields, ``""`` for a plain text."""
        found: dict[int, dict[str, str]] = {}
        for key, value in self.form.items():
            if not key.startswith(f"{name}."):
                continue
            match = _MEMBER.fullmatch(key, len(name))
            if match is None:
                raise invalid(f"The parameter {key[:100]} is no member of the list {name}")
            found.setdefault(int(match[1]), {})[match[2] or ""] = value
        return [found[number] for number in sorted(found)]

    def page(self, items: Sequence[Item], name_of: Callable[[Item], str]) -> tuple[list[Item], str]:
        """The items that ``Marker`` and ``MaxItems`` ask for, and the XML that ends a list.

        ``items`` are in the order of their names; a marker is the name of the last item seen.
        """
        size = self._page_size()
        marker = self.form.get("Marker")
        if marker is not None:
            try:
                after = bytes.fromhex(marker).decode()
            except ValueError:
                raise invalid("Invalid Marker.") from None
            items = [item for item in items if name_of(item) > after]
        shown = list(items[:size])
        end = xml.leaf("IsTruncated", len(items) > size)
        if len(items) > size:
            end += xml.leaf("Marker", name_of(shown[-1]).encode().hex())
        return shown, end

    def _page_size(self) -> int:
        text = self.form.get("MaxItems")
        if text is None:
            return _PAGE
        if not (_NUMBER.fullmatch(text) and 1 <= int(text) <= _MOST_PER_PAGE):
            raise invalid(
                "1 validation error detected: Value at 'maxItems' failed to satisfy constraint: "
                f"Member must have value between 1 and {_MOST_PER_PAGE}"
            )
        return int(text)

    # --- permission -----------------------------------------------------------------------

    def permit(self, resource: str, extra: Mapping[str, str | Sequence[str]] | None = None) -> None:
        """AccessDenied unless the caller's policies allow this action on ``resource``."""
        self.request.audit.resource = resource
        self.service.authoriser.require(self.request, f"iam:{self.action}", resource, extra=extra)

    def permitted_user(self, name: str, **extra: str | Sequence[str]) -> UserRecord:
        """The user that the call is about, if its policies allow the call; else NoSuchEntity.

        ``extra`` are condition keys of IAM, ``iam:`` left out.
        """
        user = self.service.state.find_user(name)
        context: dict[str, str | Sequence[str]] = {
            f"iam:{key}": value for key, value in extra.items()
        }
        if user is not None:
            for key, value in posix_tags(user).items():
                context[f"aws:resourcetag/{key}"] = context[f"iam:resourcetag/{key}"] = value
        self.permit(user_resource(name), context)
        if user is None:
            raise no_such_entity(f"The user with name {name} cannot be found.")
        return user

    def may_change(self, target: UserRecord | None = None) -> None:
        """AccessDenied where a change would lift the caller above what it is allowed.

        Policies have let it; this is what none of them can let. What temporary or limited
        credentials made would outlive them, and be bound by none of their limits. The role admin
        is above all policies, so only that role touches it.
        """
        if self.unlimited:
            return
        if self.caller.session is not None:
            self.refuse(
                "temporary credentials can't change users, keys or policies, "
                "unless the role admin has them without a session policy"
            )
        if target is not None and target.is_admin:
            self.refuse(f"only the role admin can change {target.name}, who has it")

    def may_change_policy_of(self, target: UserRecord) -> None:
        """:meth:`may_change`, and nobody but the role admin changes their own policy."""
        self.may_change(target)
        if not self.unlimited and target.name == self.user.name:
            self.refuse("only the role admin can change its own policy")

    def refuse(self, reason: str) -> NoReturn:
        """Raise AccessDenied, for the audit log too."""
        self.request.audit.decision = "deny"
        self.request.audit.sid = self.request.audit.policy = None
        raise access_denied(
            f"User: {self.user.arn} is not authorized to perform: iam:{self.action}: {reason}"
        )

    # --- answers --------------------------------------------------------------------------

    def answer(self, result: str = "") -> Response:
        """The answer in IAM's wrapper; without ``result`` that of a call that gives nothing."""
        parts = [f"<ResponseMetadata>{xml.leaf('RequestId', self.request.id)}</ResponseMetadata>"]
        if result:
            parts.insert(0, f"<{self.action}Result>{result}</{self.action}Result>")
        body = xml.document(f"{self.action}Response", parts, namespace=NAMESPACE)
        return Response(200, [("Content-Type", "text/xml")], body)


def members_xml(name: str, members: Sequence[str]) -> str:
    """A list in IAM's XML."""
    return f"<{name}>{''.join(f'<member>{member}</member>' for member in members)}</{name}>"


def date(seconds: float) -> str:
    """``2009-10-12T17:50:30Z``."""
    return xml.iso_time(float(int(seconds))).replace(".000Z", "Z")


def user_resource(name: str) -> str:
    """A user as policies name it."""
    return f"arn:aws:iam:::user/{name}"


def posix_tags(user: UserRecord) -> dict[str, str]:
    """A user's POSIX ids as the tags that IAM shows and sets them by."""
    return {"posix-gid": str(user.owner.gid), "posix-uid": str(user.owner.uid)}


def invalid(message: str) -> S3Error:
    return S3Error("ValidationError", message, status=400)


def no_such_entity(message: str) -> S3Error:
    return S3Error("NoSuchEntity", message, status=404)

"""What is taken away is gone with the next request, on connections and sessions that go on.

Two workers: the one that is told of a change is not the one that serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from tests.store.iam_kit import iam_of
from tests.store.raw import RawClient
from tests.store_process import REGION, StoreProcess, User

CONNECTIONS = 12  # enough that both workers have some
OPEN = (200, "")
READONLY = "arn:aws:iam::aws:policy/readonly"


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store", arguments=["--workers", "2"]) as store:
        admin = store.s3(store.admin())
        admin.create_bucket(Bucket="photos")
        admin.put_object(Bucket="photos", Key="a", Body=b"data")
        admin.close()
        yield store
        assert store.stop() == 0
        assert "Traceback" not in store.log.read_text()


@pytest.fixture(scope="module")
def iam(store: StoreProcess) -> Iterator[Any]:
    with iam_of(store, store.admin(), parameter_validation=False) as client:
        yield client


class Callers:
    """A user's connections, which stay open: half with its key, half with a session."""

    def __init__(self, store: StoreProcess, user: User, stack: ExitStack) -> None:
        sts = store.sts(user)
        made = sts.assume_role(RoleArn="arn:aws:iam::0:role/anybody", RoleSessionName="goes-on")
        sts.close()
        found = made["Credentials"]
        session = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        self.keyed = [stack.enter_context(RawClient(store.port, user)) for _ in range(CONNECTIONS)]
        self.temporary = [
            stack.enter_context(RawClient(store.port, user)) for _ in range(CONNECTIONS)
        ]
        for raw in self.temporary:
            raw.signer = Signer(session, REGION)

    def answers(self) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
        """What every connection is answered, by its key and by its session."""
        return self._ask(self.keyed), self._ask(self.temporary)

    @staticmethod
    def _ask(connections: list[RawClient]) -> set[tuple[int, str]]:
        found = set()
        for raw in connections:
            answer = raw.get("/photos/a")
            assert "connection" not in answer.headers, "the connection stays"
            found.add((answer.status, answer.code))
        return found


NO_KEY = {(403, "InvalidAccessKeyId")}
DENIED = {(403, "AccessDenied")}


@pytest.mark.parametrize("by", ["cli", "iam"])
def test_the_next_request_is_refused(store: StoreProcess, iam: Any, by: str) -> None:
    name = f"mallory-{by}"
    user = store.add_user(name, 1600, policy="readonly")
    store.command("user", "keys", name, "--add", "--access-key", f"{name}-other")
    key = {"UserName": name, "AccessKeyId": name}
    target = {"UserName": name, "PolicyArn": READONLY}

    def change(arguments: tuple[str, ...], call: Any, **parameters: str) -> None:
        if by == "cli":
            store.command(*arguments)
        else:
            call(**parameters)

    with ExitStack() as stack:
        callers = Callers(store, user, stack)
        assert callers.answers() == ({OPEN}, {OPEN})
        change(("policy", "detach", name), iam.detach_user_policy, **target)
        assert callers.answers() == (DENIED, DENIED)
        change(("policy", "attach", "readonly", name), iam.attach_user_policy, **target)
        assert callers.answers() == ({OPEN}, {OPEN})
        change(
            ("user", "keys", name, "--disable", name),
            iam.update_access_key, **key, Status="Inactive",
        )  # fmt: skip
        keyed, temporary = callers.answers()
        assert keyed == NO_KEY
        assert OPEN not in temporary
        change(
            ("user", "keys", name, "--enable", name),
            iam.update_access_key, **key, Status="Active",
        )  # fmt: skip
        assert callers.answers() == ({OPEN}, {OPEN})
        store.command("user", "update", name, "--disable")
        keyed, temporary = callers.answers()
        assert OPEN not in keyed | temporary
        store.command("user", "update", name, "--enable")
        assert callers.answers() == ({OPEN}, {OPEN})
        change(("user", "keys", name, "--remove", name), iam.delete_access_key, **key)
        keyed, temporary = callers.answers()
        assert keyed == NO_KEY
        assert OPEN not in temporary
    other = User(name, f"{name}-third", "a-secret-of-the-third-key", 1600, 1600)
    store.command(
        "user", "keys", name, "--add", "--access-key", other.access_key,
        "--secret-key-file", "-", text=other.secret_key,
    )  # fmt: skip
    with ExitStack() as stack:
        callers = Callers(store, other, stack)
        assert callers.answers() == ({OPEN}, {OPEN})
        store.command("user", "remove", name)
        keyed, temporary = callers.answers()
        assert keyed == NO_KEY
        assert OPEN not in temporary

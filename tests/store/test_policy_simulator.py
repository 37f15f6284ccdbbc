"""Random policies: the store's evaluator and @cloud-copilot/iam-simulate agree on every one.

Left out is what that simulator (0.1.173) reads otherwise than AWS's documentation, or where this
store closes what AWS leaves open (see docs/IAM.md):

- ``${*}``, ``${?}``, ``${$}`` are wildcards to it, and literals in the IAM User Guide;
- ``0.0.0.0/0`` and IPv4 ranges beside IPv6 addresses match otherwise;
- a list of values under an operator without ForAllValues or ForAnyValue, which AWS advises against;
- ``ForAnyValue:…IfExists`` of a missing key, where two sentences of AWS's contradict each other;
- a variable that has no value in a Deny, or in a negated condition whose key is missing too: the
  statement fails closed here;
- variables in Version 2008-10-17; condition keys that the action does not have.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from s3posixfs.identity.policy import AccessRequest, decide, parse_policy
from tests.store.node_kit import NodeProgram
from tests.unit.test_policy_campaign import ARN, TEXTS, Generator

PACKAGE = "@cloud-copilot/iam-simulate@0.1.173"
SCRIPT = Path(__file__).with_name("iam_simulate.mjs")
COUNT = int(os.environ.get("S3POSIXFS_SIMULATIONS", "1500"))
NAMES = tuple(text for text in TEXTS if text and not set(text) & set("*?$"))


def comparable(case: dict[str, Any]) -> bool:
    text = json.dumps(case["policies"])
    if any(mark in text for mark in ("${*}", "${?}", "${$}", "0.0.0.0/0")):
        return False
    if "2008-10-17" in text and "${" in text:
        return False
    if ":" in case["context"].get("aws:sourceip", ""):
        return False
    return all(
        _statement_comparable(statement, case["context"])
        for policy in case["policies"]
        for statement in policy["Statement"]
    )


def _statement_comparable(statement: dict[str, Any], context: dict[str, Any]) -> bool:
    if statement["Effect"] == "Deny" and _unknown(statement, context):
        return False
    for operator, keys in statement.get("Condition", {}).items():
        if "Not" in operator and _unknown(keys, context):
            return False
        if operator.startswith("ForAnyValue:") and operator.endswith("IfExists"):
            return False
        if operator == "Null" or ":" in operator:
            continue
        if any(isinstance(context.get(key.lower()), tuple) for key in keys):
            return False
    return True


def _unknown(element: dict[str, Any], context: dict[str, Any]) -> bool:
    """Whether a variable in it has no value."""
    keys = re.findall(r"\$\{([^},]+)\}", json.dumps(element))
    return any(key.lower() not in context for key in keys)


def cases() -> list[dict[str, Any]]:
    generator = Generator(20121017)
    chance = generator.chance
    found: list[dict[str, Any]] = []
    while len(found) < COUNT:
        action = chance.choice(("s3:GetObject", "s3:ListBucket", "s3:PutObject"))
        listing = action == "s3:ListBucket"
        case = {
            "action": action,
            "resource": ARN + ("bkt" if listing else f"bkt/{chance.choice(NAMES)}"),
            "context": {
                key: value
                for key, value in generator.context().items()
                if listing or not key.startswith("s3:")
            },
            "policies": [generator.policy() for _ in range(chance.choice((1, 1, 2)))],
        }
        if comparable(case):
            found.append(case)
    return found


def decided(case: dict[str, Any]) -> str:
    found = decide(
        AccessRequest(case["action"], case["resource"], case["context"]),
        identity=[
            (str(number), parse_policy(json.dumps(policy)))
            for number, policy in enumerate(case["policies"])
        ],
    )
    if found.allowed:
        return "Allowed"
    return "ExplicitlyDenied" if found.reason == "explicit deny" else "ImplicitlyDenied"


def test_another_simulator_decides_the_same(module_folder: Path) -> None:
    program = NodeProgram(module_folder / "simulator", SCRIPT, [PACKAGE])
    asked = cases()
    done = program.run(json.dumps(asked))
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = [decided(case) for case in asked]
    different = [
        (our, their, case)
        for our, their, case in zip(ours, theirs, asked, strict=True)
        if our != their
    ]
    assert different == [], f"{len(different)} differ: {different[:3]}"
    assert min(Counter(ours).values()) > COUNT / 50, "one answer hardly occurs: it shows little"

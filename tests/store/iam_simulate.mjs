// Reads cases from standard input and prints what @cloud-copilot/iam-simulate decides on each.
import { readFileSync } from "node:fs";
import { runSimulation } from "@cloud-copilot/iam-simulate";

const ACCOUNT = "000000000000";
const results = [];
for (const one of JSON.parse(readFileSync(0, "utf8"))) {
  const found = await runSimulation(
    {
      request: {
        principal: `arn:aws:iam::${ACCOUNT}:user/alice`,
        action: one.action,
        resource: { resource: one.resource, accountId: ACCOUNT },
        contextVariables: one.context,
      },
      identityPolicies: one.policies.map((policy, at) => ({ name: `p${at}`, policy })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  );
  results.push(found.overallResult ?? JSON.stringify(found));
}
console.log(JSON.stringify(results));

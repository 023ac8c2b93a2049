// GitHub's example payloads, signed by GitHub's own code: a JSON object a line, as sign.py prints them.

// It is fed to node's standard input, in the folder where the packages are.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { sign } from "@octokit/webhooks-methods";

const examples = createRequire(process.cwd() + "/")("@octokit/webhooks-examples");

const secret = "It's a Secret to Everybody";
for (const { name, examples: payloads } of examples) {
  const body = JSON.stringify(payloads[0]);
  const delivery = randomUUID();
  console.log(JSON.stringify({
    source: { name: "github", kind: "github", secrets: [secret] },
    query: "",
    headers: {
      "Content-Type": "application/json",
      "User-Agent": "GitHub-Hookshot/044aadd",
      "X-GitHub-Delivery": delivery,
      "X-GitHub-Event": name,
      "X-Hub-Signature-256": await sign(secret, body),
    },
    body: Buffer.from(body).toString("base64"),
    type: `github.${name}`,
    external_id: delivery,
  }));
}

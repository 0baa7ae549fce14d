// stdin: {"secret", "body", "signature"?}; stdout: {"signature", "accepted"?}
import { readFileSync } from "node:fs";
import { sign, verify } from "@octokit/webhooks-methods";

const { secret, body, signature } = JSON.parse(readFileSync(0, "utf8"));
const own = await sign(secret, body);
console.log(JSON.stringify({
  signature: own,
  accepted: await verify(secret, body, signature ?? own),
}));

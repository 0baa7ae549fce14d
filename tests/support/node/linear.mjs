// stdin: {"secret", "body", "signature"}; stdout: {"accepted", "type"?}
import { readFileSync } from "node:fs";
import { LinearWebhookClient } from "@linear/sdk/webhooks";

const { secret, body, signature } = JSON.parse(readFileSync(0, "utf8"));
try {
  const payload = new LinearWebhookClient(secret).parseData(Buffer.from(body), signature);
  console.log(JSON.stringify({ accepted: true, type: `${payload.type}.${payload.action}` }));
} catch (error) {
  console.log(JSON.stringify({ accepted: false, error: String(error) }));
}

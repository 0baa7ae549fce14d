// stdin: {"secret", "body", "headers"}; stdout: what the library found out
import { readFileSync } from "node:fs";
import "@shopify/shopify-api/adapters/web-api";
import { ApiVersion, LogSeverity, shopifyApi } from "@shopify/shopify-api";

const { secret, body, headers } = JSON.parse(readFileSync(0, "utf8"));
const shopify = shopifyApi({
  apiKey: "key",
  apiSecretKey: secret,
  hostName: "hooks.example.com",
  apiVersion: Object.values(ApiVersion)[0],
  isEmbeddedApp: false,
  logger: { level: LogSeverity.Error },
});
const rawRequest = new Request("https://hooks.example.com/", { method: "POST", headers, body });
console.log(JSON.stringify(await shopify.webhooks.validate({ rawBody: body, rawRequest })));

// The console: lag from /health, recent events from the API, one context's updates by WebSocket.
// All text from payloads goes in as text, never as markup.
import { at, call, headers, identify, key, me, say } from "/console/session.js";

let socket = null, last = 0;

async function poll() {
  try {
    const health = await (await fetch("/health", { headers: headers() })).json();
    for (const name of ["events", "updates", "audit"]) {
      const stream = health.parts.streams?.[name];
      at("lag-" + name).textContent = stream ? `lag ${stream.lag ?? "?"}, pending ${stream.pending}` : "–";
    }
    if (me) await recent();
  } catch { say("The server does not answer; trying on."); }
  setTimeout(poll, 2000);
}

async function recent() {
  let found;
  try { found = (await call("GET", "/events?limit=25")).events; } catch (error) { say(error.message); return; }
  at("events").replaceChildren(...found.map((event) => {
    const row = document.createElement("tr");
    const outcome = event.duplicate_of ? `duplicate of ${event.duplicate_of}` : event.status;
    for (const text of [event.received_at, event.tool_id, event.type, outcome, event.event_id]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

function watch(context) {
  socket?.close();
  const mine = socket = new WebSocket(
    `${location.origin.replace("http", "ws")}/contexts/${encodeURIComponent(context)}/updates?after=${last}`,
    key ? ["hookstream", "hookstream.key." + key] : ["hookstream"]);
  mine.onopen = () => say(`Watching ${context}.`);
  mine.onmessage = (message) => {
    const update = JSON.parse(message.data);
    if (update.type === "reset") {
      last = update.after;
      say(`Redis has lost data: ${update.missing_count ?? "unknown"} updates are missing, see hookstream doctor --loss.`);
      return;
    }
    if (update.type === "truncated") {
      last = update.to_seq;
      say(update.digest?.text ?? `Updates up to #${update.to_seq} are kept no longer.`);
      return;
    }
    if (update.type !== "update") { say(update.detail); return; }
    last = update.seq;
    const item = document.createElement("li");
    item.value = update.seq;
    item.textContent = update.summary;
    at("updates").prepend(item);
    while (at("updates").children.length > 100) at("updates").lastChild.remove();
  };
  mine.onclose = () => {
    if (mine !== socket) return;
    say(`Not connected to ${context}: is it made, and the key right? Trying on.`);
    setTimeout(() => { if (mine === socket) watch(context); }, 2000);
  };
}

at("open").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  last = 0;
  at("updates").replaceChildren();
  await identify(at("key").value);
  recent();
  if (at("context").value.trim()) watch(at("context").value.trim());
});

identify("");
poll();

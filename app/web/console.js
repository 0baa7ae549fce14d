// The console: lag from /health, recent events from the API, one context's updates by WebSocket.
// All text from payloads goes in as text, never as markup.
"use strict";
const at = (id) => document.getElementById(id);
let key = "", person = false, socket = null, last = 0;

// who has signed in needs no key: the browser sends the session along
function headers() { return key ? { Authorization: "Bearer " + key } : {}; }

function say(text) { at("state").textContent = text; }

async function poll() {
  try {
    const health = await (await fetch("/health", { headers: headers() })).json();
    for (const name of ["events", "updates", "audit"]) {
      const stream = health.parts.streams?.[name];
      at("lag-" + name).textContent = stream ? `lag ${stream.lag ?? "?"}, pending ${stream.pending}` : "–";
    }
    if (key || person) await recent();
  } catch { say("The server does not answer; trying on."); }
  setTimeout(poll, 2000);
}

async function recent() {
  const answer = await fetch("/api/v1/events?limit=25", { headers: headers() });
  const body = await answer.json();
  if (!answer.ok) { say(body.detail); return; }
  at("events").replaceChildren(...body.events.map((event) => {
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

at("open").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  key = at("key").value.trim();
  last = 0;
  at("updates").replaceChildren();
  recent();
  if (at("context").value.trim()) watch(at("context").value.trim());
});
async function whoAmI() {
  const place = at("person");
  if (!place) return;
  const answer = await fetch("/api/v1/me");
  if (!answer.ok) return;
  const me = await answer.json();
  person = true;
  const out = document.createElement("button");
  out.textContent = "Sign out";
  out.addEventListener("click", async () => {
    const ended = await (await fetch("/sign-out", { method: "POST" })).json();
    location.assign(ended.end_session || "/");
  });
  place.replaceChildren(`Signed in as ${me.name || me.id}, ${me.role} of ${me.tenant}. `, out);
}

whoAmI();
poll();

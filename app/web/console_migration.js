// Old workers and Hookstream side by side, while a tool moves; by the API alone.
// All text goes in as text, never as markup.
import { at, bar, call, cell, identify, moment, offer, say, small, trying } from "/console/session.js";

const KINDS = {
  "neither": "Done by nobody",
  "only-old": "Only old workers",
  "only-ours": "Only Hookstream",
  "contexts": "Other contexts",
  "order": "Another order",
  "old-twice": "Done twice by old workers",
};
// Of which keys, in per cent, events work here.
const OURS = { sqs: 0, shadow: 0, redis: 100, only: 100 };
const MODES = {
  sqs: "old workers have everything, nothing is done here",
  shadow: "old workers have everything; here all stages run, and nothing is delivered",
  redis: "everything works here; old workers may look on",
  only: "everything works here, and nothing is copied any more",
};
// the comparison that was asked for last: an answer to an earlier one comes too late
let asked = 0;

// All answers of a comparison as one; each has whole hours.
async function compare(tool, since, until, mine) {
  const hours = [], causes = new Map();
  let cursor = "", last = null;
  do {
    const query = new URLSearchParams({ since, until, ...(cursor ? { cursor } : {}) });
    last = await call("GET", `/tools/${encodeURIComponent(tool)}/migration/comparison?${query}`);
    if (mine !== asked) return null;
    hours.push(...last.hours);
    for (const one of last.causes) {
      const name = `${one.kind} ${one.cause}`;
      const known = causes.get(name) ?? { ...one, count: 0, events: [] };
      known.count += one.count;
      known.events.push(...one.events);
      causes.set(name, known);
    }
    cursor = last.cursor;
    if (cursor) say(`Compared until ${moment(last.until)} …`);
  } while (cursor);
  hours.sort((one, other) => (one.hour < other.hour ? -1 : 1));
  return { mode: last.mode, hours, causes: [...causes.values()] };
}

// Text in which names stand between backticks, as in the documentation.
function marked(text) {
  return text.split("`").map((part, n) => {
    if (n % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}

function named(one) { return one.mode === "split" ? `split ${one.percent} %` : one.mode; }

function share(one) {
  const ours = one.mode === "split" ? one.percent : OURS[one.mode];
  return bar([["gone", ours], ["rest", 100 - ours]], 100, `Hookstream ${ours} %, old workers ${100 - ours} %`);
}

function shiftRow(one) {
  const row = document.createElement("tr");
  row.dataset.generation = one.generation;
  cell(row, moment(one.at));
  cell(row, one.rollback ? [named(one), small("rolled back")] : named(one));
  cell(row, share(one));
  return row;
}

function keyRow(one) {
  const row = document.createElement("tr");
  cell(row, one.key);
  cell(row, moment(one.since));
  cell(row, one.sent ? "in their queue" : "not in their queue yet");
  return row;
}

// How far the tool has moved: its mode, what waits, and the modes before.
function showMove(move) {
  const words = MODES[move.mode] ?? "of some ordering keys old workers have all events, of the others all work here";
  const more = move.waiting_keys_more ? " or more" : "";
  at("mode").replaceChildren(...(move.mode ? [share(move), ` ${move.tool_id}, mode ${named(move)}: ${words}.`] : [`${move.tool_id} does not move.`]));
  at("waits").textContent = `${move.waiting_keys.toLocaleString("en")}${more} ordering keys wait for old workers, ${move.waiting_copies.toLocaleString("en")} events for their queue.${move.workers_behind && new Set(move.history.map((one) => one.mode)).size === 1 ? ` Workers that have not heard of this first mode yet: ${move.workers_behind}.` : ""}`;
  at("waiting").replaceChildren(...move.hand_overs.map(keyRow));
  at("keys").hidden = move.hand_overs.length === 0;
  at("history").replaceChildren(...[...move.history].reverse().map(shiftRow));
  at("shifts").hidden = move.history.length === 0;
  at("moved").hidden = false;
}

async function lookAtMove() {
  const tool = at("tool").value.trim();
  at("moved").hidden = true;
  if (!tool) return;
  const move = await trying(() => call("GET", `/tools/${encodeURIComponent(tool)}/migration`));
  if (move !== null && tool === at("tool").value.trim()) showMove(move);
}

function said(value) { return value === null ? "–" : value.toLocaleString("en"); }

function hourRow(hour, most) {
  const row = document.createElement("tr");
  row.dataset.hour = hour.hour;
  const different = hour.only_old + hour.only_ours + hour.neither + hour.contexts_other;
  const alike = hour.both - hour.contexts_other;
  const label = `${hour.events} events: ${alike} alike, ${different} different`;
  cell(row, moment(hour.hour).slice(0, 16));
  cell(row, [String(hour.events), bar([["gone", alike], ["left", different], ["rest", hour.events - alike - different]], most, label)]);
  for (const name of ["both", "only_old", "only_ours", "neither", "not_reported", "contexts_other", "out_of_order"]) cell(row, said(hour[name]), "number");
  for (const [old, ours] of [["errors_old", "errors_ours"], ["p50_old_ms", "p50_ours_ms"], ["p99_old_ms", "p99_ours_ms"], ["cost_old", "cost_ours"]]) {
    cell(row, [said(hour[old]), small(said(hour[ours]))], "number");
  }
  return row;
}

function example(one) {
  const item = document.createElement("li");
  const id = document.createElement("code");
  id.textContent = one.event_id;
  const more = [
    one.other ? `and ${one.other}` : "",
    one.missing.length ? `missing here: ${one.missing.join(", ")}` : "",
    one.additional.length ? `additional here: ${one.additional.join(", ")}` : "",
  ].filter(Boolean);
  item.append(id, " ", more.join("; "));
  return item;
}

function cause(one) {
  const made = document.createElement("details"), head = document.createElement("summary");
  const list = document.createElement("ul");
  made.dataset.kind = one.kind;
  head.append(`${KINDS[one.kind] ?? one.kind}, ${one.count.toLocaleString("en")}: `, ...marked(one.cause));
  list.append(...one.events.map(example));
  if (one.count > one.events.length) {
    const rest = document.createElement("li");
    rest.textContent = `… and ${(one.count - one.events.length).toLocaleString("en")} more`;
    list.append(rest);
  }
  made.append(head, list);
  return made;
}

function show(tool, found) {
  const most = Math.max(0, ...found.hours.map((hour) => hour.events));
  const events = found.hours.reduce((all, hour) => all + hour.events, 0);
  at("says").textContent = `${tool}, mode ${found.mode ?? "none"}: ${events.toLocaleString("en")} events.`;
  at("by-hour").replaceChildren(...found.hours.map((hour) => hourRow(hour, most)));
  at("causes").replaceChildren(...found.causes.sort((one, other) => other.count - one.count).map(cause));
  at("alike").hidden = found.causes.length > 0;
  at("compared").hidden = false;
}

async function look() {
  const mine = asked += 1, tool = at("tool").value.trim(), now = Date.now();
  const since = new Date(now - at("hours").value * 3600000).toISOString();
  say("Comparing …");
  await lookAtMove();
  const found = await trying(() => compare(tool, since, new Date(now).toISOString(), mine));
  if (found === null) return;
  show(tool, found);
  say("Compared.");
}

async function open(given) {
  const known = await trying(() => identify(given));
  at("compared").hidden = at("moved").hidden = true;
  offer(document);
  if (!known) {
    if (given) say("This key is not known here.");
    return;
  }
  say(`${known.name || known.id || known.kind}: ${known.role} of ${known.tenant}.`);
  if (at("compare").hidden) return;
  await trying(async () => {
    const { tools } = await call("GET", "/tools?limit=1000");
    at("tools").replaceChildren(...tools.map((one) => new Option(one.tool_id)));
  });
}

for (const [id, action] of [["open", () => open(at("key").value)], ["compare", look]]) {
  at(id).addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    action();
  });
}
at("tool").addEventListener("change", lookAtMove);
open("");

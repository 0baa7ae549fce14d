// Erasures, legal holds and retention policies, by the API alone. What the caller's role may not do
// is not offered: `data-may` of an element has the roles that may call its route.
// All text goes in as text, never as markup; values of a person are in no address, and in the page
// only until the erasure has begun.
import { at, bar, call, cell, identify, may, me, moment, offer, say, small, trying } from "/console/session.js";

const LOOK_MS = 2000;
const VALUES = {
  subject: "Mail addresses, phones, ids, one a line",
  events: "Ids of events, one a line",
  tool: "Tool",
  context: "Context",
};
// erasures and holds that are shown, by their ids, the newest first; cursors of what is older
const erasures = new Map(), holds = new Map();
let olderErasures = null, olderHolds = null, shown = null, timer = 0;

function roughly(seconds) {
  if (seconds < 120) return `${Math.ceil(seconds)} s`;
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function lines(text) { return text.split("\n").map((line) => line.trim()).filter(Boolean); }

// --- a second look at what cannot be undone

// Ask whether somebody means it; the reason that they give, or null where they do not.
function sure(what, says, verb, { reason = false } = {}) {
  const dialog = at("sure");
  at("sure-what").textContent = what;
  at("sure-says").replaceChildren(...says.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  at("sure-why").hidden = !reason;
  at("sure-reason").required = reason;
  at("sure-reason").value = "";
  at("sure-yes").textContent = verb;
  dialog.showModal();
  at("sure-no").focus();
  return new Promise((resolve) => {
    const done = new AbortController(), end = (answer) => {
      done.abort();
      dialog.close();
      resolve(answer);
    };
    const when = { signal: done.signal };
    at("sure-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      end(at("sure-reason").value.trim());
    }, when);
    at("sure-no").addEventListener("click", () => end(null), when);
    dialog.addEventListener("cancel", (cancelled) => { cancelled.preventDefault(); end(null); }, when);
  });
}

// --- erasures

function target(one) {
  const { events, tool, context, forms } = one.target;
  if (forms) return `a person, by ${forms} keyed hash${forms === 1 ? "" : "es"}`;
  if (events) return events.length === 1 ? `event ${events[0]}` : `${events.length} events`;
  if (tool) return `tool ${tool}`;
  return context ? `context ${context}` : "everything";
}

function sum(one, name) { return one.places.reduce((all, place) => all + place[name], 0); }

function erasureRow(one) {
  const row = document.createElement("tr");
  row.dataset.erasure = one.erasure_id;
  row.dataset.status = one.status;
  cell(row, moment(one.created_at));
  cell(row, [target(one), small([one.dry_run ? "only counted" : "", one.reason].filter(Boolean).join("; "))]);
  const far = [one.status];
  if (one.status !== "done") {
    const bar = document.createElement("progress");
    bar.max = one.to_look_at || one.steps;
    bar.value = one.to_look_at ? one.looked_at : one.steps_done;
    far.push(bar);
    if (one.to_look_at) far.push(small(`${one.looked_at.toLocaleString()} of ${one.to_look_at.toLocaleString()} looked through`));
    if (one.seconds_left !== null) far.push(small(`about ${roughly(one.seconds_left)} left`));
  }
  far.push(small(`${one.steps_done} of ${one.steps} steps`));
  if (one.detail) far.push(small(one.detail));
  cell(row, far);
  for (const name of ["found", "erased", "left"]) cell(row, String(sum(one, name)), "number");
  const button = document.createElement("button");
  button.textContent = "Receipt";
  button.addEventListener("click", () => { shown = one.erasure_id; showReceipt(one); });
  cell(row, button);
  return row;
}

function showReceipt(one) {
  at("receipt").hidden = false;
  at("receipt-of").textContent = `Receipt: ${target(one)} (${one.erasure_id})`;
  const nothing = one.dry_run ? "What there is; nothing was taken out." : "";
  at("receipt-says").textContent = [
    one.status === "done" ? `Done ${moment(one.finished_at)}.` : `Not done: ${one.status}.`,
    nothing, one.places.length ? "" : "Nothing was found so far.",
  ].filter(Boolean).join(" ");
  const most = Math.max(0, ...one.places.map((place) => Math.max(place.found, place.erased + place.left)));
  at("places").replaceChildren(...one.places.map((place) => {
    const row = document.createElement("tr");
    cell(row, [place.place, ...(place.detail ? [small(place.detail)] : [])]);
    for (const name of ["found", "erased", "left"]) cell(row, String(place[name]), "number");
    const rest = Math.max(0, place.found - place.erased - place.left);
    const label = `${place.erased} of ${place.found} erased, ${place.left} left`;
    cell(row, bar([["gone", place.erased], ["left", place.left], ["rest", rest]], most, label));
    return row;
  }));
}

function drawErasures() {
  at("erasures").replaceChildren(...[...erasures.values()].map(erasureRow));
  at("older-erasures").hidden = olderErasures === null;
  if (erasures.has(shown)) showReceipt(erasures.get(shown));
}

async function readErasures(cursor) {
  const found = await call("GET", `/erasures?limit=20${cursor ? `&cursor=${cursor}` : ""}`);
  for (const one of found.erasures) erasures.set(one.erasure_id, one);
  // of what is there already the last page that was asked for says what is older
  if (cursor || olderErasures === null) olderErasures = found.cursor;
  const order = [...erasures.entries()].sort(([one], [other]) => (one < other ? 1 : -1));
  erasures.clear();
  for (const [name, one] of order) erasures.set(name, one);
  drawErasures();
}

// Those that are not done are looked at again, one by one: they may be on an older page.
async function follow() {
  clearTimeout(timer);
  const open = [...erasures.values()].filter((one) => one.status !== "done");
  if (open.length && !document.hidden) {
    await trying(async () => {
      for (const one of open) erasures.set(one.erasure_id, await call("GET", `/erasures/${one.erasure_id}`));
    });
    drawErasures();
  }
  timer = setTimeout(follow, LOOK_MS);
}

const ALWAYS = [
  "What clients, agents and models have read by now is not taken back, and backups have it until they end.",
  "A legal hold that covers any of it is waited for.",
  "It cannot be undone.",
];

// What an erasure will do, in words.
function consequences(kind, values) {
  const kept = "Updates of feeds keep their number and lose all else; digests and daily summaries that told of it lose their text.";
  const stays = "Senders that repeat these webhooks, replays and restored backups do not bring them back.";
  switch (kind) {
    case "subject": return [
      `Every event received by now in which one of ${values.length} values is found goes as a whole: from streams, blocks, the archive, dead letters and spools.`,
      kept, stays, "The values are kept by nobody, only keyed hashes of them.", ...ALWAYS,
    ];
    case "events": return [`${values.length} events go, with all copies of them.`, kept, stays, ...ALWAYS];
    case "tool": return [`All events of the tool ${values[0]} received by now go; the tool itself stays.`, kept, stays, ...ALWAYS];
    default: return [
      `All that the context ${values[0]} was told so far goes from its feed, numbers stay; the context itself stays.`,
      "The events themselves stay, and other contexts keep what they were told.", ...ALWAYS,
    ];
  }
}

async function begin() {
  const kind = at("kind").value, values = lines(at("values").value), dry = at("dry-run").checked;
  if (!values.length) { say("Say what is to be erased."); return; }
  if ((kind === "tool" || kind === "context") && values.length > 1) { say(`One ${kind} at a time.`); return; }
  if (!dry) {
    const what = at("kind").selectedOptions[0].textContent;
    if (await sure(`Erase ${what}?`, consequences(kind, values), "Erase for good") === null) return;
  }
  const body = { reason: at("reason").value.trim(), dry_run: dry };
  body[kind] = kind === "tool" || kind === "context" ? values[0] : values;
  const begun = await trying(() => call("POST", "/erasures", body));
  if (!begun) return;
  at("begin").reset();
  named();
  say(`${dry ? "It is being counted" : "The erasure has begun"}: ${begun.erasure_id}`);
  shown = begun.erasure_id;
  await trying(() => readErasures());
  follow();
}

function named() { at("values-are").textContent = VALUES[at("kind").value]; }

// --- legal holds

function holdOf(one) {
  const of = ["tool", "context"].filter((name) => one[name]).map((name) => `${name} ${one[name]}`);
  return of.join(", ") || "everything";
}

function holdRow(one) {
  const row = document.createElement("tr");
  row.dataset.hold = one.hold_id;
  cell(row, moment(one.placed_at));
  cell(row, holdOf(one));
  const ends = [one.first_event, one.last_event];
  cell(row, ends.some(Boolean) ? ends.map((end) => end ?? "…").join(" to ") : "all");
  cell(row, one.reason);
  cell(row, one.released_at ? [moment(one.released_at), small(one.release_reason ?? "")] : "in force");
  const actions = at("hold-actions").content.cloneNode(true);
  offer(actions);
  actions.querySelector(".release").addEventListener("click", () => release(one));
  if (one.released_at) actions.replaceChildren();
  cell(row, actions);
  return row;
}

async function readHolds(cursor) {
  const found = await call("GET", `/holds?limit=50${cursor ? `&cursor=${cursor}` : ""}`);
  if (!cursor) holds.clear();
  for (const one of found.holds) holds.set(one.hold_id, one);
  olderHolds = found.cursor;
  at("holds").replaceChildren(...[...holds.values()].map(holdRow));
  at("older-holds").hidden = olderHolds === null;
}

async function release(one) {
  const says = [
    `The hold of ${holdOf(one)} (${one.reason}) is released.`,
    "What it kept goes as soon as its time is over, and erasures that waited for it go on.",
    "The same hold cannot be placed again for what is gone then.",
  ];
  const reason = await sure("Release the hold?", says, "Release", { reason: true });
  if (reason === null) return;
  await trying(async () => {
    await call("POST", `/holds/${one.hold_id}/release`, { reason });
    await readHolds();
    say(`The hold ${one.hold_id} is released.`);
  });
}

function utc(id) { return at(id).value ? new Date(at(id).value).toISOString() : null; }

async function place() {
  const given = {
    tool: at("hold-tool").value.trim(), context: at("hold-context").value.trim(),
    since: utc("hold-since"), until: utc("hold-until"),
  };
  const wanted = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  const range = [wanted.since && `from ${moment(wanted.since)}`, wanted.until && `before ${moment(wanted.until)}`]
    .filter(Boolean).join(" and ");
  const says = [
    `${holdOf(wanted)}${range ? `, received ${range} (UTC),` : ""} is kept: no expiry, no trimming, no erasure and nobody deletes what is there, and what comes.`,
    "It takes memory and disk until it is released.",
  ];
  if (await sure("Place a legal hold?", says, "Place") === null) return;
  await trying(async () => {
    const placed = await call("POST", "/holds", { ...wanted, reason: at("hold-reason").value.trim() });
    at("place").reset();
    if (holdsSeen()) await readHolds();
    say(`The hold ${placed.hold_id} is placed.`);
  });
}

// --- retention policies

function policyRow(one) {
  const row = document.createElement("tr");
  row.dataset.policy = one.policy_id;
  for (const text of [one.policy_id, one.delete_after, one.tool ?? "any", one.types ?? "any", one.data_class ?? "whatever", one.reason]) {
    cell(row, text);
  }
  const actions = at("policy-actions").content.cloneNode(true);
  offer(actions);
  actions.querySelector(".proof").addEventListener("click", () => trying(() => proof(one.policy_id)));
  actions.querySelector(".delete").addEventListener("click", () => forget(one));
  cell(row, actions);
  return row;
}

async function readPolicies() {
  const found = await call("GET", "/retention-policies");
  at("policies").replaceChildren(...found.policies.map(policyRow));
}

async function proof(policyId) {
  const { runs } = await call("GET", `/retention-policies/${encodeURIComponent(policyId)}/proof?limit=100`);
  at("proof").hidden = false;
  at("proof-of").textContent = runs.length ? `What ${policyId} has deleted` : `${policyId} has deleted nothing so far`;
  at("runs").replaceChildren(...runs.map((one) => {
    const row = document.createElement("tr");
    for (const text of [moment(one.at), one.tier, one.tool]) cell(row, text);
    cell(row, String(one.deleted), "number");
    for (const text of [one.first_event, one.last_event, one.ids_sha256]) cell(row, text);
    return row;
  }));
}

async function add() {
  const given = {
    delete_after: at("policy-after").value.trim(), tool: at("policy-tool").value.trim(),
    types: at("policy-types").value.trim(), data_class: at("policy-data").value,
    reason: at("policy-reason").value.trim(),
  };
  const wanted = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  const name = at("policy-id").value.trim();
  const says = [
    `Events of ${wanted.tool ? `the tool ${wanted.tool}` : "every tool"}${wanted.types ? `, of types ${wanted.types}` : ""}` +
      `${wanted.data_class ? `, with data of the class ${wanted.data_class}` : ""}, are deleted for good once they are ${wanted.delete_after} old.`,
    "That begins at once, with those that are older by now. Legal holds keep what they cover.",
    "A policy of the same name is replaced.",
  ];
  if (await sure("Add a retention policy?", says, "Add") === null) return;
  await trying(async () => {
    await call("PUT", `/retention-policies/${encodeURIComponent(name)}`, wanted);
    at("add-policy").reset();
    await readPolicies();
    say(`The policy ${name} is in force.`);
  });
}

async function forget(one) {
  const says = [`${one.policy_id} deletes nothing any more; the proof of what it has deleted stays.`];
  if (await sure("Delete the policy?", says, "Delete") === null) return;
  await trying(async () => {
    await call("DELETE", `/retention-policies/${encodeURIComponent(one.policy_id)}`);
    await readPolicies();
    say(`The policy ${one.policy_id} is deleted.`);
  });
}

// --- who asks

function seen(id) { return may(at(id).closest("section")); }
function holdsSeen() { return seen("holds"); }

async function open(given) {
  clearTimeout(timer);
  const known = await trying(() => identify(given));
  erasures.clear();
  olderErasures = shown = null;
  for (const id of ["receipt", "proof"]) at(id).hidden = true;
  offer(document);
  if (!known) {
    if (given) say("This key is not known here.");
    return;
  }
  say(`${known.name || known.id || known.kind}: ${known.role} of ${known.tenant}.`);
  await trying(async () => {
    if (seen("erasures")) { await readErasures(); follow(); }
    if (holdsSeen()) await readHolds();
    if (seen("policies")) await readPolicies();
  });
}

function submits(id, action) {
  at(id).addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    action();
  });
}

submits("open", () => open(at("key").value));
submits("begin", begin);
submits("place", place);
submits("add-policy", add);
at("kind").addEventListener("change", named);
at("older-erasures").addEventListener("click", () => trying(() => readErasures(olderErasures)));
at("older-holds").addEventListener("click", () => trying(() => readHolds(olderHolds)));
document.addEventListener("visibilitychange", () => { if (!document.hidden && me) follow(); });
named();
open("");

// What the console's pages share: who asks, and calls of the API.
export const at = (id) => document.getElementById(id);
// the key that was typed in: kept by this page alone, and until it is left
export let key = "";
// who that is, as /api/v1/me says; null for nobody
export let me = null;

export function say(text) { at("state").textContent = text; }

// who has signed in needs no key: the browser sends the session along
export function headers() { return key ? { Authorization: "Bearer " + key } : {}; }

// Who asks from now on: by a key, or by the session that the browser has.
export async function identify(given) {
  key = given.trim();
  me = null;
  const place = at("person");
  // nobody signs in here: without a key there is nobody to ask for
  if (!key && !place) return null;
  const answer = await fetch("/api/v1/me", { headers: headers() });
  if (!answer.ok) return null;
  me = await answer.json();
  if (!key) offerSignOut(place);
  return me;
}

function offerSignOut(place) {
  const out = document.createElement("button");
  out.textContent = "Sign out";
  out.addEventListener("click", async () => {
    const ended = await (await fetch("/sign-out", { method: "POST" })).json();
    location.assign(ended.end_session || "/");
  });
  place.replaceChildren(`Signed in as ${me.name || me.id}, ${me.role} of ${me.tenant}. `, out);
}

// The answer of the API; what it refuses is thrown with its sentence.
export async function call(method, path, body) {
  const said = { method, headers: headers() };
  if (body !== undefined) {
    said.headers = { ...said.headers, "Content-Type": "application/json" };
    said.body = JSON.stringify(body);
  }
  const answer = await fetch("/api/v1" + path, said);
  const text = await answer.text();
  let value = null;
  try { value = text ? JSON.parse(text) : null; } catch { /* a proxy's page: the status says it */ }
  if (!answer.ok) throw new Error(value?.detail ?? `${answer.status} ${answer.statusText}`);
  return value;
}

// A call that somebody has asked for: what goes wrong is said.
export async function trying(action) {
  try { return await action(); } catch (error) { say(error.message); return null; }
}

export function may(element) { return me !== null && element.dataset.may.split(" ").includes(me.role); }

// Show what the role may see and do, and nothing else.
export function offer(within) {
  for (const element of within.querySelectorAll("[data-may]")) element.hidden = !may(element);
}

// --- what rows are made of

export function cell(row, content, kind = "") {
  const made = row.insertCell();
  made.className = kind;
  made.append(...[content].flat());
  return made;
}

export function small(text) {
  const made = document.createElement("small");
  made.textContent = text;
  return made;
}

export function moment(text) { return text ? text.slice(0, 19).replace("T", " ") : ""; }

// Parts of one thing beside those of the thing with the most: kinds, which the style sheet has, and how much.
export function bar(parts, most, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  let x = 0;
  for (const [kind, count] of parts) {
    const width = most ? 100 * count / most : 0;
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ class: kind, x, width, y: 0, height: 8 })) part.setAttribute(name, value);
    svg.append(part);
    x += width;
  }
  return svg;
}

// SPDX-License-Identifier: AGPL-3.0-or-later
// Keeps the page as the server has it: by a stream of events or, where none comes
// through, by asking again and again. What is shown is changed in place, so that the
// focus, what is selected and how far something is scrolled stay as they are.
"use strict";
(() => {
  const state = document.getElementById("state");
  const main = document.getElementById("main");
  if (!state || !main) return;
  const QUIET = 8000, POLL = 5000; // ms without an event until it polls; between two polls
  let source, timer, last = Date.now(), shown = new Date(), polling = false;

  // Ages are told from the time of the element, which is exact without the script.
  const UNITS = [["year", 31536000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat("en", {numeric: "auto"});
  function ages(root) {
    for (const t of root.querySelectorAll("time[datetime]")) {
      const at = new Date(t.dateTime);
      if (t.hasAttribute("data-clock")) { t.textContent = at.toLocaleTimeString(); continue; }
      const seconds = Math.round((at - Date.now()) / 1000);
      const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) || UNITS[4];
      t.textContent = words.format(Math.trunc(seconds / size), unit);
      t.title = at.toLocaleString();
    }
  }

  function change(from, to) { // makes one element like another
    for (const a of [...from.attributes]) if (!to.hasAttribute(a.name) && a.name !== "open") from.removeAttribute(a.name);
    for (const a of to.attributes) if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
    const keyed = new Map([...from.children].filter(c => c.id).map(c => [c.id, c]));
    let at = from.firstChild;
    for (const want of [...to.childNodes]) {
      const same = want.id ? keyed.get(want.id) : at && !at.id && at.nodeName === want.nodeName ? at : null;
      if (!same || same.nodeName !== want.nodeName) { from.insertBefore(want.cloneNode(true), at); continue; }
      if (same !== at) from.insertBefore(same, at); else at = at.nextSibling;
      if (same.nodeType !== Node.ELEMENT_NODE) { if (same.data !== want.data) same.data = want.data; }
      else if (same.outerHTML !== want.outerHTML) change(same, want);
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  }

  function apply(update) {
    last = Date.now();
    if (update.problem) { say("stale", "Not current since " + shown.toLocaleTimeString() + ": " + update.problem); return; }
    shown = new Date();
    for (const [id, html] of Object.entries(update.sections || {})) {
      const now = new DOMParser().parseFromString("<section>" + html + "</section>", "text/html").body.firstChild;
      now.id = id;
      ages(now);
      const section = document.getElementById(id);
      if (!section) { location.reload(); return; } // the page has become another one
      change(section, now);
    }
    say(polling ? "polling" : "live", polling ? "Events do not come through: asks every " + POLL / 1000 + " seconds" : "Live");
  }

  function say(kind, text) {
    if (state.className !== kind) state.className = kind;
    if (state.textContent !== text) state.textContent = text;
  }

  function address(as) {
    const url = new URL(location.href);
    url.searchParams.set("as", as);
    url.hash = "";
    return url;
  }

  function listen() {
    source = new EventSource(address("events"));
    source.addEventListener("update", e => { polling = false; apply(JSON.parse(e.data)); });
    source.addEventListener("problem", e => apply(JSON.parse(e.data)));
    source.addEventListener("signed-out", () => location.reload());
  }

  async function poll() {
    const asked = address("sections").href;
    try {
      const answer = await fetch(asked, {credentials: "same-origin", cache: "no-store"});
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error("status " + answer.status);
      const update = await answer.json();
      if (asked !== address("sections").href) return; // something else is searched for by now
      polling = true;
      apply(update);
    } catch (e) {
      say("stale", "Not current since " + shown.toLocaleTimeString() + ": the server does not answer");
    }
  }

  async function look() {
    const open = source && source.readyState !== EventSource.CLOSED;
    if (!open) listen();
    if (Date.now() - last > QUIET) await poll();
    timer = setTimeout(look, polling || Date.now() - last > QUIET ? POLL : 2000);
  }

  function rest() { // a page that nobody sees costs the server nothing
    clearTimeout(timer);
    if (source) source.close();
    source = null;
    if (!document.hidden) look();
  }

  const search = document.querySelector("input[data-search]");
  let typing;
  if (search) search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const url = new URL(location.href);
      url.searchParams.set("q", search.value);
      url.searchParams.delete("after");
      history.replaceState(null, "", url);
      rest(); // the first event has what is found
    }, 200);
  });

  // Escape leaves a confirmation, as its link does.
  const back = document.querySelector(".confirm .actions a");
  if (back) document.addEventListener("keydown", e => { if (e.key === "Escape") location.assign(back.href); });

  ages(document);
  setInterval(() => ages(main), 10000);
  if (state.hasAttribute("data-moves")) {
    document.addEventListener("visibilitychange", rest);
    rest();
  }
})();

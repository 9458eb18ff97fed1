// SPDX-License-Identifier: AGPL-3.0-or-later

package chrome

// cutOff finds what a reader cannot see whole: what is wider than the window or than what
// holds it, and text that lies on other text.
const cutOff = `(() => {
  const found = [], name = e => e.tagName.toLowerCase() + (e.id && "#" + e.id) + (e.className && typeof e.className === "string" ? "." + e.className : "") + ": " + (e.innerText || "").slice(0, 60);
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) found.push("the page is " + document.documentElement.scrollWidth + " wide in a window of " + width);
  const seen = [];
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest("svg") || e.closest(".skip") || !e.checkVisibility({checkVisibilityCSS: true}) || e.closest("thead") && getComputedStyle(e.closest("thead")).position === "absolute") continue;
    const style = getComputedStyle(e);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && style.display !== "inline" && e.tagName !== "INPUT" && e.tagName !== "PROGRESS") found.push("cut off " + name(e));
    const boxes = [];
    for (const n of e.childNodes) {
      if (n.nodeType !== Node.TEXT_NODE || !n.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(n);
      for (const r of range.getClientRects()) if (r.width > 1 && r.height > 1) boxes.push(r);
    }
    for (const r of boxes) {
      if (r.right > width + 1 || r.left < -1) found.push("outside " + name(e));
      for (const o of seen) {
        const x = Math.min(r.right, o.r.right) - Math.max(r.left, o.r.left), y = Math.min(r.bottom, o.r.bottom) - Math.max(r.top, o.r.top);
        if (x > 2 && y > 4) found.push(name(e) + " lies on " + name(o.e));
      }
    }
    for (const r of boxes) seen.push({r, e});
  }
  return [...new Set(found)].slice(0, 20);
})()`

// CutOff tells what of the page cannot be read whole at the size of the window.
func (t *Tab) CutOff() ([]string, error) { return Ask[[]string](t, cutOff) }

"use strict";
// The rollouts of a log: a list of which only what is seen is there, search, filters, order, two side
// by side, and a link to each. Every text of the log becomes a text node; nothing here makes markup.
(() => {
  const ROW = 76; // pixels; as in page.css
  const SPARE = 6; // rows beyond what is seen
  const NONE = "(not in the log)";
  const SHOWN = 20_000; // characters of a text that are shown at once
  const column = (rollouts, name) => rollouts.columns[name];

  window.tautRollouts = async () => {
    const { make, data, say, all, byId } = window.taut;
    const place = byId("rollouts-view");
    if (!place) return;
    const rollouts = JSON.parse(await data("taut-rollouts"));
    const total = rollouts.ids.length;
    const at = new Map(rollouts.ids.map((id, row) => [id, row]));
    const state = { rows: [], items: [], cursor: -1, open: [], grouped: true };

    // --- what is shown, in which order ------------------------------------------------------------

    let lowered = null; // texts in lower case, made when they are first looked for
    function matches(words) {
      lowered ??= rollouts.ids.map((id, row) =>
        `${id}\n${promptOf(row)}\n${rollouts.responses[row] ?? ""}`.toLowerCase());
      return (row) => words.every((word) => lowered[row].includes(word));
    }
    const promptOf = (row) => rollouts.prompts[rollouts.prompt[row]] ?? "";

    function arrange() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const tests = all("select[data-facet]", place)
        .filter((field) => field.value !== "")
        .map((field) => {
          const codes = rollouts.facets[field.dataset.facet].codes;
          const wanted = Number(field.value);
          return (row) => codes[row] === wanted;
        });
      if (words.length) tests.push(matches(words));
      let rows = [];
      for (let row = 0; row < total; row += 1) if (tests.every((test) => test(row))) rows.push(row);
      const [name, way] = order.value.split(":");
      if (name) {
        const values = column(rollouts, name);
        const sign = way === "up" ? 1 : -1;
        const last = (value) => (value == null ? Infinity : sign * value);
        rows.sort((one, other) => last(values[one]) - last(values[other]) || one - other);
      }
      state.grouped = group.checked;
      state.rows = rows;
      state.items = state.grouped ? grouped(rows) : rows;
      count.textContent = rows.length === total
        ? `${total.toLocaleString("en")} rollouts` : `${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} rollouts`;
      body.style.height = `${state.items.length * ROW}px`;
      state.cursor = Math.min(state.cursor, state.items.length - 1);
      paint(true);
    }

    /** Rows of one prompt together, in the order in which its first one comes: -1 - row is its head. */
    function grouped(rows) {
      const known = new Map();
      for (const row of rows) {
        const key = rollouts.prompt[row];
        if (!known.has(key)) known.set(key, []);
        known.get(key).push(row);
      }
      const items = [];
      for (const members of known.values()) items.push(-1 - members[0], ...members);
      return items;
    }

    // --- the list -----------------------------------------------------------------------------------------

    const number = (value, digits = 3) => (value == null ? "–" : Number(value).toFixed(digits));
    const short = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);
    const id = (item) => `item-${item}`;

    function line(item, index) {
      const row = item < 0 ? -1 - item : item;
      const head = item < 0;
      const element = make("div", {
        role: "option", id: id(index), class: head ? "row head" : "row", "data-index": index,
        "aria-selected": String(index === state.cursor), "aria-setsize": state.items.length, "aria-posinset": index + 1,
      });
      element.style.transform = `translateY(${index * ROW}px)`;
      if (head) {
        element.append(make("span", { class: "text", dir: "auto" }, short(promptOf(row), 400) || "(no prompt text)"));
        return element;
      }
      const facts = ["reward", "gold", "gap", "log_ratio", "n_tokens"].filter((name) => column(rollouts, name));
      const known = facts.filter((name) => column(rollouts, name)[row] != null);
      const numbers = make("span", { class: "numbers" }, ...known.map((name) => {
        const digits = name === "n_tokens" ? 0 : 3;
        return make("span", { class: `fact ${name}` }, make("i", {}, `${rollouts.names[name]} `), number(column(rollouts, name)[row], digits));
      }));
      const text = state.grouped ? rollouts.responses[row] : `${short(promptOf(row), 120)} → ${rollouts.responses[row] ?? ""}`;
      element.append(numbers, make("span", { class: "text", dir: "auto" }, short(text ?? "", 400) || "(no text)"));
      if (state.open.includes(row)) element.classList.add("opened");
      return element;
    }

    let painted = [-1, -1];
    function paint(anew = false) {
      const first = Math.max(Math.floor(list.scrollTop / ROW) - SPARE, 0);
      const last = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE, state.items.length);
      if (!anew && painted[0] === first && painted[1] === last) return;
      painted = [first, last];
      const lines = [];
      for (let index = first; index < last; index += 1) lines.push(line(state.items[index], index));
      body.replaceChildren(...lines);
      if (state.cursor >= first && state.cursor < last) list.setAttribute("aria-activedescendant", id(state.cursor));
      else list.removeAttribute("aria-activedescendant");
    }

    function move(index) {
      if (!state.items.length) return;
      state.cursor = Math.max(0, Math.min(index, state.items.length - 1));
      const top = state.cursor * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
      paint(true);
    }

    const rowAt = (index) => (index < 0 || index >= state.items.length ? null
      : state.items[index] < 0 ? -1 - state.items[index] : state.items[index]);

    // --- one rollout, or two side by side -----------------------------------------------------------------

    function show(row, beside = false) {
      if (row == null) return;
      state.open = beside && state.open.length && state.open[0] !== row ? [state.open[0], row] : [row];
      detail.replaceChildren(...state.open.map(whole));
      detail.hidden = false;
      detail.classList.toggle("two", state.open.length === 2);
      place.classList.add("opened");
      const wanted = `#rollout-${encodeURIComponent(rollouts.ids[state.open[0]])}`;
      if (location.hash !== wanted) history.replaceState(null, "", wanted);
      paint(true);
      say(`rollout ${rollouts.ids[row]} opened`);
    }

    function close() {
      state.open = [];
      detail.hidden = true;
      detail.replaceChildren();
      place.classList.remove("opened");
      history.replaceState(null, "", location.pathname + location.search);
      paint(true);
      list.focus();
    }

    function whole(row) {
      const head = make("div", { class: "row-head" },
        make("a", { href: `#rollout-${encodeURIComponent(rollouts.ids[row])}` }, short(String(rollouts.ids[row]), 80)),
        make("button", { type: "button", "aria-label": "Close", click: close }, "×"));
      const facts = make("dl", { class: "facts" });
      for (const [name, values] of Object.entries(rollouts.columns)) {
        if (values[row] == null) continue;
        const value = name === "n_tokens" ? String(values[row]) : number(values[row], 4);
        facts.append(make("div", {}, make("dt", {}, rollouts.names[name]), make("dd", {}, value)));
      }
      for (const facet of rollouts.facets) {
        facts.append(make("div", {}, make("dt", {}, facet.name), make("dd", { dir: "auto" }, short(facet.values[facet.codes[row]], 200))));
      }
      const parts = [head, facts, make("h3", {}, "Prompt"), text(promptOf(row)), make("h3", {}, "Response"), text(rollouts.responses[row] ?? "")];
      const ratios = rollouts.tokens?.[row];
      if (ratios?.length) parts.push(make("h3", {}, "Log-ratio of each token, nats"), tokens(ratios, rollouts.pieces?.[row]));
      return make("article", { "aria-label": `rollout ${rollouts.ids[row]}` }, ...parts);
    }

    /** A text whole, or its beginning with a button for the rest. */
    function text(words) {
      const box = make("pre", { dir: "auto", tabindex: "0" }, words.slice(0, SHOWN) || NONE);
      if (words.length <= SHOWN) return box;
      const more = make("button", { type: "button", click: () => { box.append(words.slice(SHOWN)); more.remove(); } },
        `Show all ${words.length.toLocaleString("en")} characters`);
      return make("div", {}, box, more);
    }

    /** A cell a token, coloured by its log-ratio: blue where the policy likes it more than its reference. */
    function tokens(ratios, pieces) {
      const [least, most] = ratios.reduce(([low, high], ratio) => [Math.min(low, ratio), Math.max(high, ratio)], [0, 0]);
      const largest = Math.max(-least, most, 1e-9);
      const box = make("div", { class: pieces ? "tokens words" : "tokens", role: "img", tabindex: "0",
        "aria-label": `${ratios.length} tokens, log-ratios ${number(least)} to ${number(most)} nats` });
      const cells = 4000;
      ratios.slice(0, cells).forEach((ratio, place) => {
        const cell = make("span", { title: `token ${place + 1}: ${number(ratio)} nats` }, pieces?.[place] ?? "");
        const strength = Math.sqrt(Math.min(Math.abs(ratio) / largest, 1));
        cell.style.setProperty("--strength", `${Math.round(85 * strength)}%`);
        cell.className = ratio < 0 ? "minus" : "plus";
        box.append(cell);
      });
      if (ratios.length > cells) box.append(` and ${ratios.length - cells} more`);
      return box;
    }

    // --- controls -------------------------------------------------------------------------------------------

    const search = make("input", { type: "search", placeholder: "Search prompts and responses", "aria-label": "Search prompts and responses" });
    let waiting = 0;
    search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(arrange, 120); });
    const ways = ["gap", "log_ratio", "n_tokens", "reward", "gold"].filter((name) => column(rollouts, name));
    const order = make("select", { change: arrange }, make("option", { value: "" }, "as in the log"),
      ...ways.flatMap((name) => [["down", "highest"], ["up", "lowest"]].map(([way, word]) =>
        make("option", { value: `${name}:${way}` }, `${word} ${rollouts.names[name]}`))));
    const group = make("input", { type: "checkbox", checked: true, change: arrange });
    const count = make("span", { class: "quiet", role: "status", "aria-live": "polite" });
    const facets = rollouts.facets.map((facet, place) => make("label", {}, facet.name,
      make("select", { "data-facet": place, change: arrange }, make("option", { value: "" }, "all"),
        ...facet.values.map((value, code) => make("option", { value: code }, short(value, 80))))));
    const list = make("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": "Rollouts" });
    const body = make("div", { class: "body", role: "presentation" });
    const detail = make("div", { class: "detail", hidden: true });
    list.append(body);
    place.replaceChildren(
      make("div", { class: "fields" }, search, make("label", {}, "order", order),
        make("label", {}, group, "by prompt"), ...facets, count),
      make("p", { class: "quiet keys" }, "Keys: ↑ ↓ move, Enter opens, b puts a second one beside it, / searches, Esc closes."),
      make("div", { class: "panes" }, list, detail));

    let asked = false;
    list.addEventListener("scroll", () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => { asked = false; paint(); });
    }, { passive: true });
    body.addEventListener("click", (event) => {
      const target = event.target.closest("[data-index]");
      if (!target) return;
      state.cursor = Number(target.dataset.index);
      show(rowAt(state.cursor), event.shiftKey || event.ctrlKey || event.metaKey);
    });
    const page = () => Math.max(Math.floor(list.clientHeight / ROW) - 1, 1);
    const keys = {
      ArrowDown: () => move(state.cursor + 1), ArrowUp: () => move(state.cursor - 1), j: () => move(state.cursor + 1),
      k: () => move(state.cursor - 1), PageDown: () => move(state.cursor + page()), PageUp: () => move(state.cursor - page()),
      Home: () => move(0), End: () => move(state.items.length - 1), Enter: () => show(rowAt(state.cursor)),
      b: () => show(rowAt(state.cursor), true),
    };
    list.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, select, textarea");
      if (event.key === "Escape" && !detail.hidden) close();
      else if (event.key === "/" && !typing) { event.preventDefault(); search.focus(); }
    });

    function follow() {
      const found = /^#rollout-(.+)$/.exec(location.hash);
      if (!found) return;
      let name;
      try { name = decodeURIComponent(found[1]); } catch { return; }
      const row = at.get(name);
      if (row === undefined) { say(`rollout ${name} is not on this page`); return; }
      if (!state.rows.includes(row)) {
        search.value = "";
        for (const field of all("select[data-facet]", place)) field.value = "";
        arrange();
      }
      move(state.items.indexOf(row));
      show(row);
      byId("rollouts").scrollIntoView();
    }
    addEventListener("hashchange", follow);
    new ResizeObserver(() => paint(true)).observe(list);
    arrange();
    follow();
  };
})();

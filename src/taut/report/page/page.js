"use strict";
// The page of a result: charts, choices, copies. What a log holds reaches the page as text nodes
// and attribute values only; nothing here makes markup from text.
(() => {
  const root = document.documentElement;
  const byId = (name) => document.getElementById(name);
  const all = (query, within = document) => [...within.querySelectorAll(query)];

  /** An element with attributes, properties that are functions as listeners, and text or elements inside. */
  function make(name, attributes = {}, ...inside) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(key, value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value != null) element.setAttribute(key, value);
    }
    element.append(...inside);
    return element;
  }

  /** The text of a block of data, unpacked where it is packed. */
  async function data(name) {
    const block = byId(name);
    if (!block) return "";
    if (!block.dataset.packed) return block.textContent;
    const packed = Uint8Array.from(atob(block.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  const say = (text) => { byId("said").textContent = text; };

  // --- charts ---------------------------------------------------------------------------------------

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printing = matchMedia("print");
  const refuse = () => Promise.reject(new Error("this page loads nothing"));
  const loader = { load: refuse, sanitize: refuse, http: refuse, file: refuse };
  let specs = null;
  const tip = make("div", { id: "tip", role: "tooltip", hidden: true });

  /** Vega's tooltip, as text nodes. */
  function tooltip(_handler, event, _item, value) {
    tip.hidden = value == null || value === "";
    if (tip.hidden) return;
    const rows = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(...rows.map(([key, text]) => make("div", {}, make("span", {}, String(key)), " ", String(text))));
    const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  }

  async function draw(place) {
    const spec = specs.charts[place.dataset.chart];
    const night = dark.matches && !printing.matches;
    const found = await window.tautVega(place, { ...spec, config: specs.themes[night ? "dark" : "light"] }, {
      ast: true, actions: false, renderer: "svg", defaultStyle: false, tooltip, loader, mode: "vega-lite", logLevel: 1,
    });
    place.drawn?.finalize();
    place.drawn = found;
    brushed(found.view);
  }

  async function drawAll() {
    specs ??= JSON.parse(await data("taut-charts"));
    if (!window.tautVega) return;
    await Promise.all(all("[data-chart]").map(draw));
  }

  // --- steps: a brush on a chart, or two fields, choose rows ----------------------------------------

  const chosen = { low: -Infinity, high: Infinity };

  function choose(low, high) {
    chosen.low = low;
    chosen.high = high;
    let shown = 0;
    for (const row of all("tr[data-step]")) {
      const step = Number(row.dataset.step);
      row.hidden = !(step >= low && step <= high);
      shown += row.hidden ? 0 : 1;
    }
    for (const field of all(".range select")) {
      const end = field.dataset.end;
      const steps = [...field.options].map((option) => Number(option.value));
      const within = steps.filter((step) => step >= low && step <= high);
      if (within.length) field.value = String(end === "low" ? within[0] : within[within.length - 1]);
    }
    say(`${shown} rows shown`);
  }

  function brushed(view) {
    let known;
    try { known = view.signal("brush"); } catch { return; }
    if (known === undefined) return;
    view.addSignalListener("brush", (_name, value) => {
      const range = value && Object.values(value)[0];
      const ends = Array.isArray(range) && range.length ? range.map(Number) : null;
      if (ends) choose(Math.min(...ends), Math.max(...ends));
      else choose(-Infinity, Infinity);
    });
  }

  function ranges() {
    for (const frame of all(".scroll")) {
      const steps = all("tr[data-step]", frame).map((row) => Number(row.dataset.step));
      if (steps.length < 3) continue;
      const ordered = [...new Set(steps)].sort((one, other) => one - other);
      const field = (end, label, value) => {
        const select = make("select", { "data-end": end, change: moved }, ...ordered.map((step) =>
          make("option", { value: step, selected: step === value }, String(step))));
        return make("label", {}, label, select);
      };
      const name = frame.querySelector("thead th")?.textContent || "row";
      const box = make("div", { class: "fields range" },
        field("low", `from ${name}`, ordered[0]), field("high", "to", ordered[ordered.length - 1]),
        make("button", { type: "button", click: () => choose(-Infinity, Infinity) }, "All"));
      frame.before(box);
      function moved() {
        const [low, high] = all("select", box).map((select) => Number(select.value));
        choose(Math.min(low, high), Math.max(low, high));
      }
    }
  }

  // --- what if: a table that was computed before; here it is only looked up ----------------------------

  function choices() {
    for (const box of all(".choices")) {
      const known = JSON.parse(box.dataset.results);
      box.addEventListener("change", () => {
        const key = all("[data-axis]", box).map((select) => select.value).join(",");
        const found = known[key] ?? [];
        for (const place of all("[data-result]", box)) {
          place.textContent = found[Number(place.dataset.result)] ?? "–";
        }
      });
    }
  }

  // --- copies -------------------------------------------------------------------------------------------

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // From disk some browsers have no clipboard: an old way, within the page.
      const field = make("textarea", { class: "sr", readonly: true });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    say(`${what} copied`);
  }

  const flash = (button, text) => {
    const was = button.textContent;
    button.textContent = text;
    setTimeout(() => { button.textContent = was; }, 1500);
  };

  function tools() {
    for (const box of all(".tools")) box.hidden = false;
    byId("copy").addEventListener("click", async (event) => {
      const button = event.currentTarget;
      await copy(JSON.parse(await data("taut-markdown")), "Markdown");
      flash(button, "Copied");
    });
    const whole = async () => JSON.stringify(JSON.parse(await data("taut-document")), null, 2);
    byId("json-copy").addEventListener("click", async (event) => {
      const button = event.currentTarget;
      await copy(await whole(), "JSON");
      flash(button, "Copied");
    });
    byId("json-show").addEventListener("click", async (event) => {
      const button = event.currentTarget;
      const text = byId("json-text");
      if (!text.textContent) text.textContent = await whole();
      text.hidden = !text.hidden;
      button.setAttribute("aria-expanded", String(!text.hidden));
      button.textContent = text.hidden ? "Show" : "Hide";
    });
    byId("json-save").addEventListener("click", async () => {
      const link = make("a", { download: "taut.json" });
      link.href = URL.createObjectURL(new Blob([await whole()], { type: "application/json" }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  // --- start -----------------------------------------------------------------------------------------------

  async function start() {
    document.body.append(tip);
    tools();
    choices();
    ranges();
    if (innerWidth < 600) for (const box of all("details.plain")) box.open = false;
    dark.addEventListener("change", drawAll);
    printing.addEventListener("change", drawAll);
    addEventListener("beforeprint", () => all("main details").forEach((item) => { item.open = true; }));
    window.taut = { make, data, say, all, byId };
    await Promise.all([drawAll(), window.tautRollouts?.()]);
    root.dataset.taut = "ready";
  }

  document.title = byId("verdict").textContent;
  start().catch((error) => {
    root.dataset.taut = "failed";
    say(`The charts could not be drawn: ${error.message}`);
    console.error(error);
  });
})();

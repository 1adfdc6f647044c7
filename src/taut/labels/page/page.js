"use strict";
(() => {
  const sheet = JSON.parse(document.getElementById("taut-sheet").textContent);
  const { items, scale } = sheet;
  const design = sheet.taut_sheet;
  const KEY = `taut-sheet:${sheet.id}`;
  const REASONS = ["Cannot be judged", "Needs an expert", "Broken or empty", "Harmful to read"];
  const UNDO = 500;
  const $ = (id) => document.getElementById(id);

  // --- What was answered: rollout_id to {label, skipped, note, at, seconds} -----------------------

  let answers = new Map();
  let at = 0; // the item shown; items.length is the end
  let filter = "all";
  let raw = false;
  let shownAt = Date.now();
  let kept = true; // the browser keeps what is saved
  let unsaved = false; // something was answered since the last download
  const past = [];
  const position = new Map(items.map((item, index) => [item.rollout_id, index]));

  const answerOf = (item) => answers.get(item.rollout_id) || {};
  const hasLabel = (answer) => answer.label !== undefined && answer.label !== null;
  const isDone = (answer) => hasLabel(answer) || Boolean(answer.skipped);

  const FILTERS = {
    all: () => true,
    open: (answer) => !isDone(answer),
    labelled: hasLabel,
    skipped: (answer) => Boolean(answer.skipped),
    noted: (answer) => Boolean(answer.note),
  };

  function load() {
    try {
      const text = localStorage.getItem(KEY);
      const saved = text ? JSON.parse(text) : {};
      merge(saved.answers || []);
      $("annotator").value = saved.annotator || sheet.annotator || "";
      if (Number.isInteger(saved.at)) at = Math.min(Math.max(saved.at, 0), items.length);
      unsaved = Boolean(saved.unsaved);
    } catch {
      kept = false;
      $("annotator").value = sheet.annotator || "";
    }
  }

  function save() {
    const data = { at, unsaved, annotator: $("annotator").value.trim(), answers: [...answers] };
    try {
      localStorage.setItem(KEY, JSON.stringify(data));
      kept = true;
    } catch {
      kept = false;
    }
    $("warning").hidden = kept;
    $("warning").textContent =
      "This browser keeps nothing for this page: download the answers before you close it.";
  }

  // Take answers that are newer than one's own; return how many were taken and how many were not.
  function merge(entries) {
    let taken = 0;
    let older = 0;
    for (const [id, answer] of entries) {
      const own = answers.get(id);
      if (!position.has(id) || !answer) continue;
      if (own && String(own.at || "") > String(answer.at || "")) older += 1;
      else if (JSON.stringify(own) !== JSON.stringify(answer)) {
        answers.set(id, answer);
        taken += 1;
      }
    }
    return { taken, older };
  }

  function change(ids, make) {
    past.push({ at, before: ids.map((id) => [id, answers.get(id)]) });
    if (past.length > UNDO) past.shift();
    for (const id of ids) answers.set(id, make(answers.get(id) || {}));
    unsaved = true;
  }

  function undo() {
    const step = past.pop();
    if (!step) return toast("Nothing to undo");
    // Newer than what it undoes, so that another tab of this sheet does not bring that back.
    const at = new Date().toISOString();
    for (const [id, before] of step.before) answers.set(id, { ...before, at });
    unsaved = true;
    show(step.at);
    toast("Undone");
  }

  function answer(values) {
    if (at >= items.length) return;
    const now = new Date();
    const seconds = Math.round((now - shownAt) / 100) / 10;
    change([items[at].rollout_id], (old) => ({
      ...(old.note ? { note: old.note } : {}),
      ...values,
      at: now.toISOString(),
      seconds,
    }));
    move(1);
  }

  // --- Going about ------------------------------------------------------------------------------

  function move(step) {
    const match = FILTERS[filter];
    for (let next = at + step; next >= 0 && next < items.length; next += step) {
      if (match(answerOf(items[next]))) return show(next);
    }
    if (step < 0) return at >= items.length ? undefined : toast("This is the first");
    const open = items.findIndex((item) => !isDone(answerOf(item)));
    if (filter === "all" && open >= 0 && at >= items.length - 1 && open < at) {
      toast("Back to the first open one");
      return show(open);
    }
    show(items.length);
  }

  function show(index) {
    at = index;
    shownAt = Date.now();
    save();
    draw();
    window.scrollTo(0, 0);
  }

  // --- Words, as text and nothing else ----------------------------------------------------------

  function make(tag, text, name) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  }

  // Signs that turn the order of what follows are shown, not obeyed.
  function plain(parent, text) {
    for (const piece of text.split(/([\u202d\u202e])/)) {
      if (/^[\u202d\u202e]$/.test(piece)) {
        const code = piece.charCodeAt(0).toString(16).toUpperCase();
        parent.append(make("span", `U+${code}`, "sign"));
      } else if (piece) parent.append(piece);
    }
  }

  function inline(parent, text) {
    for (const piece of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
      const code = /^`[^`]+`$/.test(piece);
      const bold = /^\*\*[^*]+\*\*$/.test(piece);
      if (code || bold) {
        const node = make(code ? "code" : "strong");
        plain(node, code ? piece.slice(1, -1) : piece.slice(2, -2));
        parent.append(node);
      } else plain(parent, piece);
    }
  }

  function prose(parent, text) {
    for (const part of text.split(/\n{2,}/)) {
      if (!part) continue;
      const paragraph = make("p");
      paragraph.dir = "auto";
      inline(paragraph, part);
      parent.append(paragraph);
    }
  }

  function formatted(parent, text) {
    const fence = /^(`{3,}|~{3,})([^\n`]*)\n([\s\S]*?)(?:\n\1[ \t]*$|(?![\s\S]))/gm;
    let from = 0;
    for (const found of text.matchAll(fence)) {
      prose(parent, text.slice(from, found.index));
      const block = make("pre");
      plain(block, found[3]);
      if (found[2].trim()) block.dataset.language = found[2].trim().slice(0, 30);
      parent.append(block);
      from = found.index + found[0].length;
    }
    prose(parent, text.slice(from));
  }

  function text(parent, value) {
    if (!value) parent.append(make("p", "(empty)", "empty"));
    else if (raw) {
      const bare = make("div", undefined, "bare");
      bare.dir = "auto";
      plain(bare, value);
      parent.append(bare);
    } else formatted(parent, value);
  }

  function content(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "string") return value;
    const parts = Array.isArray(value) ? value : [value];
    return parts
      .map((part) => {
        if (typeof part === "string") return part;
        if (part && typeof part.text === "string") return part.text;
        return "```json\n" + JSON.stringify(part, null, 2) + "\n```";
      })
      .join("\n");
  }

  function words(parent, value) {
    parent.replaceChildren();
    if (value === null || value === undefined) {
      parent.append(make("p", "The log holds no text; find it by its id.", "empty"));
      return;
    }
    if (typeof value === "string") return text(parent, value);
    for (const message of value) {
      const turn = make("div", undefined, "turn");
      const role = String(message.role ?? "?");
      if (role === "user") turn.classList.add("user");
      const name = role + (message.name ? ` · ${message.name}` : "");
      turn.append(make("b", name[0].toUpperCase() + name.slice(1)));
      const calls = message.tool_calls ? content(message.tool_calls) : "";
      text(turn, [content(message.content), calls].filter(Boolean).join("\n\n"));
      parent.append(turn);
    }
  }

  // --- The page ---------------------------------------------------------------------------------

  function labelName(value) {
    if (scale.kind !== "yes-no") return String(value);
    return value === scale.high ? "Yes" : value === scale.low ? "No" : String(value);
  }

  function draw() {
    const ended = at >= items.length;
    $("item").hidden = ended;
    $("end").hidden = !ended;
    for (const button of $("scale").querySelectorAll("button, input")) button.disabled = ended;
    for (const id of ["skip", "write"]) $(id).disabled = ended;
    $("undo").disabled = past.length === 0;
    $("back").disabled = at <= 0;
    $("on").disabled = ended;
    progress();
    if (ended) end();
    else item();
  }

  function item() {
    const one = items[at];
    const own = answerOf(one);
    // The id may name a policy or a step, which a blind annotator need not read.
    $("where").textContent = `${at + 1} of ${items.length}`;
    $("where").title = one.rollout_id;
    const state = $("state");
    state.hidden = !isDone(own);
    state.classList.toggle("passed", Boolean(own.skipped));
    state.textContent = own.skipped ? `Skipped: ${own.skipped}` : hasLabel(own) ? labelName(own.label) : "";
    words($("prompt"), one.prompt);
    words($("response"), one.response);
    $("prompt").classList.remove("cut");
    const long = $("prompt").scrollHeight > 0.45 * window.innerHeight;
    $("prompt").classList.toggle("cut", long);
    $("more").hidden = !long;
    $("note").value = own.note || "";
    $("note-box").hidden = !own.note;
    for (const button of $("scale").querySelectorAll("button")) {
      const chosen = hasLabel(own) && button.dataset.value === String(own.label);
      button.setAttribute("aria-pressed", String(chosen));
    }
    const field = $("value");
    if (field) {
      field.value = hasLabel(own) ? own.label : "";
      field.removeAttribute("aria-invalid");
    }
  }

  function counts() {
    let labelled = 0;
    let skipped = 0;
    const seconds = [];
    for (const one of items) {
      const own = answerOf(one);
      if (hasLabel(own)) labelled += 1;
      else if (own.skipped) skipped += 1;
      if (isDone(own) && own.seconds > 0 && own.seconds < 900) seconds.push(own.seconds);
    }
    seconds.sort((a, b) => a - b);
    return { labelled, skipped, pace: seconds[Math.floor(seconds.length / 2)] };
  }

  function progress() {
    const { labelled, skipped, pace } = counts();
    const left = items.length - labelled - skipped;
    $("done").style.width = `${(100 * labelled) / items.length}%`;
    $("passed").style.width = `${(100 * skipped) / items.length}%`;
    $("meter").setAttribute("aria-valuemax", items.length);
    $("meter").setAttribute("aria-valuenow", labelled + skipped);
    $("count").textContent =
      `${labelled} of ${items.length} labelled` + (skipped ? `, ${skipped} skipped` : "");
    const minutes = Math.ceil((left * (pace || 0)) / 60);
    $("pace").textContent = pace && left && labelled > 4 ? `about ${minutes} min to go` : "";
    document.title = `${labelled + skipped}/${items.length} · Labelling sheet`;
  }

  function end() {
    const { labelled, skipped } = counts();
    const left = items.length - labelled - skipped;
    $("end-title").textContent = left ? `${left} still open` : "All answered";
    $("end-text").textContent = left
      ? "This list is at its end. Download what is there now, or go back to the open ones."
      : `${labelled} labels${skipped ? `, ${skipped} skipped` : ""}. Download them and hand the file back.`;
  }

  let fading;
  function toast(message) {
    $("toast").textContent = message;
    $("toast").classList.add("shown");
    clearTimeout(fading);
    fading = setTimeout(() => $("toast").classList.remove("shown"), 2200 + 30 * message.length);
  }

  // --- The scale --------------------------------------------------------------------------------

  const shortcuts = new Map();

  function choice(value, name, keys, kind) {
    const button = make("button", undefined, kind);
    button.type = "button";
    button.append(make("span", name));
    if (name !== keys[0]) button.append(make("kbd", keys[0].toUpperCase()));
    button.dataset.value = String(value);
    button.addEventListener("click", () => answer({ label: value }));
    for (const key of keys) shortcuts.set(key, () => answer({ label: value }));
    $("scale").append(button);
  }

  function numberField() {
    const field = make("input");
    field.id = "value";
    field.type = "text";
    field.inputMode = "decimal";
    field.autocomplete = "off";
    field.placeholder = `${scale.low} to ${scale.high}, then Enter`;
    field.setAttribute("aria-label", `Label, a number from ${scale.low} to ${scale.high}`);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        commit(field);
      }
    });
    $("scale").append(field);
  }

  function commit(field) {
    const typed = field.value.trim().replace(",", ".");
    const value = Number(typed);
    if (!/^[-+]?(\d+\.?\d*|\.\d+)$/.test(typed) || value < scale.low || value > scale.high) {
      field.setAttribute("aria-invalid", "true");
      return toast(`A number from ${scale.low} to ${scale.high}`);
    }
    field.blur();
    answer({ label: value });
  }

  function buildScale() {
    if (scale.kind === "yes-no") {
      choice(scale.low, "No", ["0", "n"], "no");
      choice(scale.high, "Yes", ["1", "y"], "yes");
    } else if (scale.kind === "choices") {
      for (let value = scale.low; value <= scale.high; value += 1) {
        choice(value, String(value), [String(value)]);
      }
    } else numberField();
    $("question").textContent = scale.question;
    $("question").hidden = !scale.question;
  }

  // --- Out and in -------------------------------------------------------------------------------

  function lines() {
    const annotator = $("annotator").value.trim();
    const rows = items.map((one) => {
      const own = answerOf(one);
      const row = {
        rollout_id: one.rollout_id,
        label: hasLabel(own) ? own.label : null,
        note: own.note || "",
        label_probability: one.label_probability,
        unit: one.unit,
      };
      if (annotator) row.annotator = annotator;
      if (own.skipped) row.skipped = own.skipped;
      if (isDone(own)) Object.assign(row, { at: own.at, seconds: own.seconds });
      return JSON.stringify(row);
    });
    return [JSON.stringify({ taut_sheet: design }), ...rows, ""].join("\n");
  }

  function download() {
    const name = $("annotator").value.trim().replace(/[^\p{L}\p{N}_-]+/gu, "-");
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([lines()], { type: "application/x-ndjson" }));
    link.download = `labels-${sheet.id.slice(0, 8)}${name ? `-${name}` : ""}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    save();
    const { labelled } = counts();
    toast(`${labelled} labels in ${link.download}`);
  }

  function importRow(row, number) {
    if (typeof row !== "object" || row === null) throw new Error(`line ${number} is no object`);
    const label = row.label ?? row.gold ?? null;
    const id = String(row.rollout_id);
    if (label !== null && (typeof label !== "number" || label < scale.low || label > scale.high)) {
      throw new Error(`line ${number}: expected a label from ${scale.low} to ${scale.high}`);
    }
    const own = {};
    if (label !== null) own.label = label;
    if (row.skipped) own.skipped = String(row.skipped);
    if (row.note) own.note = String(row.note);
    if (row.at) own.at = String(row.at);
    if (row.seconds) own.seconds = Number(row.seconds);
    return [id, own];
  }

  function takeIn(body) {
    const entries = [];
    let number = 0;
    for (const line of body.split("\n")) {
      number += 1;
      if (!line.trim()) continue;
      const row = JSON.parse(line);
      if (row.taut_sheet) {
        const other = row.taut_sheet;
        if (other.log?.hash !== design.log.hash || (other.seed ?? 0) !== (design.seed ?? 0)) {
          throw new Error("these answers belong to another sheet");
        }
      } else entries.push(importRow(row, number));
    }
    const known = entries.filter(([id]) => position.has(id));
    const answered = known.filter(([, own]) => isDone(own) || own.note);
    past.push({ at, before: answered.map(([id]) => [id, answers.get(id)]) });
    const { taken, older } = merge(answered);
    unsaved = true;
    const others = entries.length - known.length;
    toast(
      `${taken} answers taken in` +
        (older ? `, ${older} of your own are newer` : "") +
        (others ? `; ${others} rows are not on this sheet` : ""),
    );
    const open = items.findIndex((one) => !isDone(answerOf(one)));
    show(open < 0 ? items.length : open);
  }

  async function importFile() {
    const [file] = $("file").files;
    if (!file) return;
    try {
      takeIn(await file.text());
    } catch (problem) {
      toast(`Not taken in: ${problem instanceof SyntaxError ? "no JSON lines" : problem.message}.`);
    }
    $("file").value = "";
  }

  // --- Keys and buttons -------------------------------------------------------------------------

  function openNote() {
    if (at >= items.length) return;
    $("note-box").hidden = false;
    $("note").focus();
    $("note").scrollIntoView({ block: "nearest" });
  }

  function keepNote() {
    const note = $("note").value;
    const id = items[at].rollout_id;
    const own = { ...(answers.get(id) || {}) };
    if (note.trim()) own.note = note;
    else delete own.note;
    answers.set(id, own);
    unsaved = true;
    save();
  }

  function openSkip() {
    if (at >= items.length) return;
    $("reason").value = "";
    $("skip-dialog").showModal();
    $("reasons").querySelector("button").focus();
  }

  function skip(reason) {
    $("skip-dialog").close();
    answer({ skipped: reason });
  }

  function toggleRaw() {
    raw = !raw;
    $("raw").setAttribute("aria-pressed", String(raw));
    draw();
  }

  function toggleMore() {
    if (!$("more").hidden) $("prompt").classList.toggle("cut");
  }

  const ACTIONS = {
    arrowleft: () => move(-1),
    arrowright: () => move(1),
    home: () => show(0),
    u: undo,
    backspace: undo,
    s: openSkip,
    e: openNote,
    r: toggleRaw,
    p: toggleMore,
    d: download,
    i: () => $("file").click(),
    f: nextOpen,
    "?": () => $("help-dialog").showModal(),
  };

  function nextOpen() {
    const behind = items.findIndex((one, index) => index > at && !isDone(answerOf(one)));
    const open = behind >= 0 ? behind : items.findIndex((one) => !isDone(answerOf(one)));
    if (open < 0) return toast("None is open");
    show(open);
  }

  function onKey(event) {
    if (document.querySelector("dialog[open]")) return skipKey(event);
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "Escape" || (typing && event.key === "Enter" && event.ctrlKey)) {
      document.activeElement.blur();
      return;
    }
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z" && !typing) {
      event.preventDefault();
      return undo();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = $("value");
    if (field && /^[\d.,+-]$/.test(event.key) && at < items.length) {
      field.value = "";
      return field.focus(); // the key goes on into the field
    }
    const action = shortcuts.get(key) || ACTIONS[key];
    if (!action || (event.repeat && !key.startsWith("arrow"))) return;
    event.preventDefault();
    action();
  }

  function skipKey(event) {
    if (!$("skip-dialog").open || event.target === $("reason")) return;
    const reason = REASONS[Number(event.key) - 1];
    if (reason) {
      event.preventDefault();
      skip(reason);
    }
  }

  function help() {
    const rows = [
      ...(scale.kind === "yes-no" ? [[["1", "Y"], "yes"], [["0", "N"], "no"]] : []),
      ...(scale.kind === "choices" ? [[[`${scale.low} … ${scale.high}`], "the label"]] : []),
      ...(scale.kind === "number" ? [[["0 … 9", "Enter"], "a number, then on"]] : []),
      [["←", "→"], "back and on"],
      [["↑", "↓", "Space"], "scroll"],
      [["U"], "undo"],
      [["S"], "skip, with a reason"],
      [["E"], "write a note, Esc when done"],
      [["F"], "to the next open one"],
      [["P"], "the whole prompt"],
      [["R"], "text as it was written"],
      [["D"], "download the answers"],
      [["I"], "import a downloaded file, to go on elsewhere"],
    ];
    for (const [keys, meaning] of rows) {
      const term = make("dt");
      for (const key of keys) term.append(make("kbd", key), " ");
      $("keys").append(term, make("dd", meaning));
    }
    $("privacy").textContent =
      `This file carries ${items.length} prompts and responses: whoever has it can read them. It ` +
      "works offline and sends nothing. Answers stay in this browser until you download them; the " +
      "download holds labels and notes, no prompts and no responses.";
    $("fine").textContent =
      "Carries prompts and responses; sends nothing. Answers stay in this browser until you download them.";
  }

  function wire() {
    const clicks = {
      download, "end-download": download, undo, skip: openSkip, write: openNote, raw: toggleRaw,
      more: toggleMore, import: () => $("file").click(), back: () => move(-1), on: () => move(1),
      help: () => $("help-dialog").showModal(), "help-close": () => $("help-dialog").close(),
      "skip-close": () => $("skip-dialog").close(), "end-back": () => move(-1),
    };
    for (const [id, action] of Object.entries(clicks)) {
      $(id).addEventListener("click", () => {
        // A focused button would take Space and Enter from the page.
        if (!document.querySelector("dialog[open]")) document.activeElement.blur();
        action();
      });
    }
    REASONS.forEach((reason, index) => {
      const button = make("button");
      button.type = "button";
      button.append(reason, " ", make("kbd", String(index + 1)));
      button.addEventListener("click", () => skip(reason));
      $("reasons").append(button);
    });
    $("reason").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && $("reason").value.trim()) skip($("reason").value.trim());
    });
    $("scale").addEventListener("click", () => document.activeElement.blur());
    $("note").addEventListener("input", keepNote);
    $("annotator").addEventListener("change", save);
    $("file").addEventListener("change", importFile);
    $("filter").addEventListener("change", () => {
      filter = $("filter").value;
      $("filter").blur();
      const first = items.findIndex((one) => FILTERS[filter](answerOf(one)));
      if (at >= items.length || !FILTERS[filter](answerOf(items[at]))) show(first < 0 ? items.length : first);
    });
    document.addEventListener("keydown", onKey);
    // Another tab of the same sheet: newer answers win, here and there.
    window.addEventListener("storage", (event) => {
      if (event.key !== KEY || !event.newValue) return;
      merge(JSON.parse(event.newValue).answers || []);
      draw();
    });
    window.addEventListener("beforeunload", (event) => {
      if (!kept && unsaved) event.preventDefault();
    });
  }

  buildScale();
  help();
  load();
  wire();
  save();
  draw();
})();

// The page: its state, and its response to keys and clicks.

class TokenView {
  constructor(records) {
    this.records = records;
    this.found = null;
    this.query = "";
    this.hits = [];
    this.search = new Search(records);
    this.scale = new Scale(records.entropy_scale);
    this.card = new Card();
    this.list = new CompletionList(records, (number) => {
      this.open(number);
      this.toggleList(false);
    });
    this.rewards = new RewardFilter(records.completions, () => this.arrange());
    this.pane = new Pane(records.entropy_scale, {
      onHover: (token) => this.hover(token),
      onCursor: (token) => this.moveTo(token),
    });
    this.describeRun();
    this.fillSelects();
    this.listen();
    this.arrange();
  }

  describeRun() {
    const { completions, prompts, settings: s } = this.records;
    const steps = [...new Set(completions.map((about) => about.step))].sort((a, b) => a - b);
    const span = steps.length > 1 ? `steps ${steps[0]}–${steps.at(-1)}` : `step ${steps[0]}`;
    const tokens = completions.reduce((sum, about) => sum + about.length, 0);
    document.getElementById("summary").textContent = [
      counted(completions.length, "completion"),
      counted(prompts.length, "prompt"),
      counted(tokens, "token"),
      span,
    ].join(" · ");
    const range = (role) => `${short(1 - role.epsilon_low)}–${short(1 + role.epsilon_high)}`;
    const settings = [
      ["quantile ρ", short(s.entropy_quantile)],
      ["clip, knowledge", range(s.knowledge)],
      ["clip, reasoning", range(s.reasoning)],
      ["KL weight, knowledge", short(s.knowledge.beta)],
      ["KL weight, reasoning", short(s.reasoning.beta)],
    ];
    if (s.delta !== null) settings.push(["ratio cap δ", short(s.delta)]);
    if (s.gate_width > 0) settings.splice(1, 0, ["gate width", short(s.gate_width)]);
    fillList(document.getElementById("settings"), settings);
    this.steps = steps;
  }

  fillSelects() {
    const options = (select, labels) => select.append(...labels.map((label, value) => new Option(label, value)));
    options(document.getElementById("sort"), ORDERS.map(([label]) => label));
    document.getElementById("step-filter").hidden = this.steps.length < 2;
    options(document.getElementById("step"), ["all", ...this.steps.map(String)]);
  }

  listen() {
    const on = (id, event, handler) => document.getElementById(id).addEventListener(event, handler);
    on("sort", "change", () => this.arrange());
    on("step", "change", () => this.arrange());
    on("filters", "submit", (event) => event.preventDefault());
    on("roles", "change", (event) => this.showRole(event.target.value));
    on("open-help", "click", () => document.getElementById("help").showModal());
    on("open-list", "click", () => this.toggleList());
    document.querySelector("main").addEventListener("click", () => this.toggleList(false));
    on("where", "click", (event) => event.target.dataset.key && this.press(event.target.dataset.key));
    on("search", "input", (event) => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.find(event.target.value), 150);
    });
    document.addEventListener("keydown", (event) => this.onKey(event));
    addEventListener("resize", () => this.hover(null));
  }

  /** Filters and sorts the list. Opens its first completion if the open one is no longer listed. */
  arrange() {
    const order = Number(document.getElementById("sort").value);
    const step = Number(document.getElementById("step").value);
    const passes = (about, number) =>
      this.rewards.passes(about.reward) &&
      (step === 0 || about.step === this.steps[step - 1]) &&
      (this.found === null || this.found[number].hits > 0 || this.found[number].inPrompt);
    const shown = arrange(this.records.completions, passes, order);
    this.list.show(shown, this.found);
    const all = this.records.completions.length;
    const hits = this.found && shown.reduce((sum, number) => sum + this.found[number].hits, 0);
    document.getElementById("found").textContent =
      (shown.length === all ? counted(all, "completion") : `${shown.length} of ${counted(all, "completion")}`) +
      (hits === null ? "" : ` · ${counted(hits, "hit")}`);
    if (shown.length === 0) this.say("No completion passes the filters.");
    else if (shown.includes(this.list.selected)) this.open(this.list.selected);
    else this.open(shown[0]);
  }

  say(text) {
    document.getElementById("message").hidden = text === "";
    document.querySelector("#message p").textContent = text;
    document.getElementById("current").hidden = text !== "";
    document.getElementById("legend").hidden = text !== "";
    if (text) this.card.hide();
  }

  /** Opens a completion. Of several calls only the last one takes effect. */
  async open(number) {
    if (number === undefined) return;
    this.say("");
    this.list.select(number);
    if (this.pane.completion?.number !== number) {
      const completion = await this.records.completion(number);
      if (this.list.selected !== number) return;
      this.card.hide();
      this.pane.show(completion);
      this.scale.show(completion);
      this.describe(completion);
    }
    this.markHits();
    document.body.dataset.open = number;
  }

  describe(completion) {
    const { about } = completion;
    document.querySelector("#where h2").textContent =
      `Prompt ${about.prompt + 1}, completion ${about.member + 1} of ${about.group}`;
    fillList(document.getElementById("facts"), [
      ["reward", short(about.reward)],
      ["advantage", signed(about.advantage)],
      ["tokens", about.length.toLocaleString("en")],
      ["mean entropy", ...nats(about.mean_entropy)],
      ["threshold τ", ...nats(about.counted ? about.entropy_threshold : null)],
      ["reasoning", percent(about.reasoning_share)],
      ["clipped high, low", `${about.clipped_high}, ${about.clipped_low}`],
      ["step", String(about.step)],
      ["rank, row", `${about.rank}, ${about.row}`],
    ]);
    const uncounted = about.length - about.counted;
    const unknown = about.counted - completion.ordered.length;
    document.getElementById("unknown-mark").hidden = unknown === 0;
    const notes = [
      about.length === 0 && "This completion has no tokens.",
      uncounted > 0 && `${counted(uncounted, "token")} not in the loss.`,
      unknown > 0 && `${counted(unknown, "token")} without a finite entropy: not shaded, not ranked.`,
      !about.has_reference && "No reference log-probabilities were recorded.",
      completion.pieces.some((piece) => piece.includes("\ufffd")) &&
        "Tokens with part of a character show as \ufffd.",
      about.reward === null && "This completion could not be scored.",
    ].filter(Boolean);
    document.getElementById("notes").replaceChildren(...notes.map((note) => element("li", "", note)));
  }

  /** Marks the hits of the search in the open completion and its prompt. */
  markHits() {
    const { completion } = this.pane;
    this.hits = this.query ? hitTokens(completion, this.query) : [];
    this.pane.setHits(new Set(this.hits.flat()));
    document.getElementById("prompt-text").replaceChildren(...markedText(completion.prompt, this.query));
  }

  async find(text) {
    this.query = text;
    this.search.stop();
    if (text === "") this.found = null;
    else {
      const total = this.records.completions.length;
      const say = (done) => (document.getElementById("found").textContent = `searching, ${done} of ${total} …`);
      const found = await this.search.count(text, say);
      if (found === null) return;
      this.found = found;
    }
    this.arrange();
  }

  showRole(role) {
    document.body.dataset.role = role;
  }

  toggleList(open = !document.body.classList.contains("list-open")) {
    document.body.classList.toggle("list-open", open);
    document.getElementById("open-list").setAttribute("aria-expanded", String(open));
  }

  /** Shows the card of the token under the pointer, or else of the selected token. */
  hover(token) {
    const shown = token ?? this.pane.cursor;
    const anchor = shown === null ? null : this.pane.elementOf(shown);
    if (anchor) this.card.show(this.pane.completion, shown, anchor);
    else this.card.hide();
  }

  moveTo(token) {
    if (token === undefined) return;
    this.pane.setCursor(token);
    if (token !== null) this.pane.elementOf(token)?.scrollIntoView({ block: "nearest" });
    this.hover(null);
  }

  /** Moves to the next token in a direction that passes `test`. */
  seek(direction, test) {
    const { completion, cursor } = this.pane;
    const inSight = this.pane.lines[Math.floor(this.pane.root.scrollTop / LINE_HEIGHT)]?.[0].token ?? 0;
    let token = cursor === null ? inSight - (direction > 0 ? 1 : 0) : cursor;
    do token += direction;
    while (token >= 0 && token < completion.length && !test(token));
    if (token >= 0 && token < completion.length) this.moveTo(token);
  }

  /** Moves to the next hit; after the last one, to the next completion with a hit. */
  async nextHit(direction) {
    if (!this.query || this.found === null) return;
    const starts = new Set(this.hits.map((hit) => hit[0]));
    const before = this.pane.cursor;
    this.seek(direction, (token) => starts.has(token));
    if (this.pane.cursor !== before) return;
    let number = this.list.neighbor(direction, false);
    const { shown } = this.list;
    while (number !== undefined && this.found[number].hits === 0) number = shown[shown.indexOf(number) + direction];
    if (number === undefined) return;
    await this.open(number);
    const hit = this.hits.at(direction > 0 ? 0 : -1);
    if (hit) this.moveTo(hit[0]);
  }

  step(direction, otherPrompt) {
    this.open(this.list.neighbor(direction, otherPrompt));
  }

  moveLine(by) {
    if (this.pane.cursor !== null) this.moveTo(this.pane.tokenOnLine(this.pane.cursor, by));
  }

  press(key) {
    const { completion } = this.pane;
    const actions = {
      j: () => this.step(1, false),
      k: () => this.step(-1, false),
      J: () => this.step(1, true),
      K: () => this.step(-1, true),
      r: () => this.seek(1, (token) => completion.reasoning(token)),
      R: () => this.seek(-1, (token) => completion.reasoning(token)),
      c: () => this.seek(1, (token) => completion.clipped(token)),
      C: () => this.seek(-1, (token) => completion.clipped(token)),
      n: () => this.nextHit(1),
      N: () => this.nextHit(-1),
      f: () => this.cycleRole(),
      ArrowRight: () => this.seek(1, () => true),
      ArrowLeft: () => this.seek(-1, () => true),
      ArrowDown: () => this.moveLine(1),
      ArrowUp: () => this.moveLine(-1),
      "/": () => this.focusSearch(),
      "?": () => document.getElementById("help").showModal(),
      Escape: () => this.deselect(),
    };
    const needsTokens = "rRcCArrowRightArrowLeft".includes(key);
    if (!(key in actions) || (needsTokens && completion === null)) return false;
    actions[key]();
    return true;
  }

  onKey(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
    if (target.id === "search" && key === "Enter") this.nextHit(event.shiftKey ? -1 : 1);
    if (target.id === "search" && key === "Escape") target.blur();
    else if (target.matches("input[type=search], input[type=number], select")) return;
    else if (key.startsWith("Arrow") && target.matches("input, summary")) return;
    const inList = target.id === "list" && (key === "ArrowDown" || key === "ArrowUp");
    const scrolls = (key === "ArrowDown" || key === "ArrowUp") && this.pane.cursor === null;
    if (inList) this.step(key === "ArrowDown" ? 1 : -1, false);
    else if (scrolls || !this.press(key)) return;
    event.preventDefault();
  }

  cycleRole() {
    const buttons = [...document.querySelectorAll("#roles input")];
    const next = buttons[(buttons.findIndex((button) => button.checked) + 1) % buttons.length];
    next.checked = true;
    this.showRole(next.value);
  }

  focusSearch() {
    this.toggleList(true);
    document.getElementById("search").focus();
  }

  deselect() {
    this.toggleList(false);
    if (this.pane.cursor !== null) this.moveTo(null);
    else if (this.query) {
      document.getElementById("search").value = "";
      this.find("");
    }
  }
}

/** Shows the error instead of an incomplete page. */
function fail(error) {
  document.body.dataset.state = "failed";
  document.getElementById("current").hidden = true;
  document.getElementById("legend").hidden = true;
  document.getElementById("message").hidden = false;
  document.querySelector("#message p").textContent = `Cannot show this page: ${error?.message ?? error}`;
}

async function start() {
  if (!("DecompressionStream" in window)) {
    throw new Error("this browser cannot decompress the data; use one from 2023 or later.");
  }
  const records = await Records.read();
  if (records.completions.length === 0) {
    document.body.dataset.state = "empty";
    for (const id of ["rail", "current", "legend", "open-list"]) document.getElementById(id).hidden = true;
    document.getElementById("message").hidden = false;
    document.querySelector("#message p").textContent = "No completions were recorded.";
    return;
  }
  new TokenView(records);
  document.body.dataset.state = "ready";
}

addEventListener("unhandledrejection", (event) => fail(event.reason));
start();

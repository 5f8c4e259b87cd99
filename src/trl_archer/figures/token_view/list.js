// The list of completions, with filters and sorting.

const ITEM_HEIGHT = 68;

const ORDERS = [
  ["recorded order", (about, number) => number, 1],
  ["reward, highest first", (about) => about.reward, -1],
  ["reward, lowest first", (about) => about.reward, 1],
  ["advantage, highest first", (about) => about.advantage, -1],
  ["advantage, lowest first", (about) => about.advantage, 1],
  ["length, longest first", (about) => about.length, -1],
  ["length, shortest first", (about) => about.length, 1],
  ["mean entropy, highest first", (about) => about.mean_entropy, -1],
  ["mean entropy, lowest first", (about) => about.mean_entropy, 1],
  ["threshold, highest first", (about) => about.entropy_threshold, -1],
  ["share of clipped tokens, highest first", (about) => clippedShare(about), -1],
];

function clippedShare(about) {
  return about.counted ? (about.clipped_low + about.clipped_high) / about.counted : null;
}

/** Numbers of the completions that pass the filters, sorted. Completions without a value come last. */
function arrange(completions, passes, order) {
  const [, key, direction] = ORDERS[order];
  const keys = completions.map(key);
  const missing = (number) => keys[number] === null || Number.isNaN(keys[number]);
  return completions
    .map((about, number) => number)
    .filter((number) => passes(completions[number], number))
    .sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : direction * (keys[a] - keys[b])) || a - b);
}

/** The reward filter: a checkbox per value if there are few, else a range. Not scorable is never the same as 0. */
class RewardFilter {
  constructor(completions, onChange) {
    this.root = document.getElementById("rewards");
    const rewards = new Set(completions.map((about) => about.reward));
    const values = [...rewards].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
    const count = (value) => completions.filter((about) => about.reward === value).length;
    if (values.length <= 6) {
      this.boxes = new Map(values.map((value) => [value, this.addBox(short(value), count(value))]));
      this.passes = (reward) => this.boxes.get(reward).checked;
    } else {
      const numbers = values.filter((value) => value !== null);
      const [least, most] = [this.addLimit("from", numbers[0]), this.addLimit("to", numbers.at(-1))];
      const none = values.includes(null) ? this.addBox(short(null), count(null)) : { checked: true };
      const limit = (input, otherwise) => (input.value === "" ? otherwise : Number(input.value));
      this.passes = (reward) =>
        reward === null ? none.checked : reward >= limit(least, -Infinity) && reward <= limit(most, Infinity);
    }
    this.root.addEventListener("input", onChange);
  }

  addBox(label, count) {
    const box = element("input");
    Object.assign(box, { type: "checkbox", checked: true, value: label });
    const text = element("span", "", label, element("small", "", count.toLocaleString("en")));
    this.root.append(element("label", "chip", box, text));
    return box;
  }

  addLimit(label, value) {
    const input = element("input");
    Object.assign(input, { type: "number", step: "any", placeholder: short(value) });
    this.root.append(element("label", "limit", `${label} `, input));
    return input;
  }
}

class CompletionList {
  constructor(records, onSelect) {
    this.records = records;
    this.shown = [];
    this.selected = null;
    this.found = null;
    this.root = document.getElementById("list");
    this.rows = new VirtualRows(this.root, ITEM_HEIGHT, (place) => this.renderItem(place));
    this.root.addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (item) onSelect(Number(item.dataset.number));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.colors = null;
      this.rows.refresh();
    });
  }

  /** Shows these completions. `found` has the search hits by number. */
  show(numbers, found) {
    this.shown = numbers;
    this.found = found;
    this.rows.reset(numbers.length);
  }

  select(number) {
    this.selected = number;
    this.rows.refresh();
    const place = this.shown.indexOf(number);
    if (place >= 0) this.rows.reveal(place);
    this.root.setAttribute("aria-activedescendant", `item-${number}`);
  }

  /** Number of the completion `by` rows further, or of the next one in that direction with another prompt. */
  neighbor(by, otherPrompt) {
    const { completions } = this.records;
    const here = this.shown.indexOf(this.selected);
    if (here < 0) return this.shown[0];
    let place = here + by;
    if (otherPrompt) {
      const prompt = completions[this.selected].prompt;
      while (place in this.shown && completions[this.shown[place]].prompt === prompt) place += by;
    }
    return this.shown[place];
  }

  renderItem(place) {
    const number = this.shown[place];
    const about = this.records.completions[number];
    const before = place > 0 && this.records.completions[this.shown[place - 1]];
    const parts = [this.firstLine(number, about), this.secondLine(about), this.profile(about)];
    const item = element("div", "item", ...parts);
    item.classList.toggle("selected", number === this.selected);
    item.classList.toggle("new-prompt", Boolean(before) && before.prompt !== about.prompt);
    item.id = `item-${number}`;
    item.dataset.number = number;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(number === this.selected));
    return item;
  }

  firstLine(number, about) {
    const sign = about.advantage > 0 ? "up" : about.advantage < 0 ? "down" : "";
    const hits = this.found?.[number].hits ?? 0;
    return element(
      "p",
      "item-head",
      element("b", "", `${about.prompt + 1}.${about.member + 1}`),
      element("span", "", counted(about.length, "token")),
      hits ? element("span", "hits", counted(hits, "hit")) : "",
      element("span", `reward ${sign}`, short(about.reward)),
    );
  }

  secondLine(about) {
    return element("p", "item-text", visible(about.preview) || "no tokens");
  }

  /** A strip with the entropy along the completion. */
  profile(about) {
    this.colors ??= scaleColors();
    const strip = element("canvas", "profile");
    strip.width = about.profile.length || 1;
    strip.height = 1;
    const context = strip.getContext("2d");
    about.profile.forEach((level, bin) => {
      context.fillStyle = this.colors[Math.min(STEPS - 1, Math.floor((level / 256) * STEPS))];
      context.fillRect(bin, 0, 1, 1);
    });
    return strip;
  }
}

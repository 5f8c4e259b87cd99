// Searches all completions and prompts without blocking the page.

/** A pattern that matches this text literally, ignoring case. */
function literalPattern(text) {
  return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"), "gi");
}

class Search {
  constructor(records) {
    this.records = records;
    this.run = 0;
  }

  /**
   * Counts the hits of every completion.
   *
   * @param onProgress called with the number of completions searched so far
   * @returns for each completion its number of hits and whether its prompt has one; `null` if a newer search has started
   */
  async count(text, onProgress) {
    const run = ++this.run;
    const pattern = literalPattern(text);
    const inPrompt = this.records.prompts.map((prompt) => prompt.search(pattern) >= 0);
    const found = [];
    let since = performance.now();
    for (const [number, about] of this.records.completions.entries()) {
      const written = await this.records.text(number);
      found.push({ hits: written.match(pattern)?.length ?? 0, inPrompt: inPrompt[about.prompt] });
      if (performance.now() - since > 30) {
        onProgress(number + 1);
        await breathe();
        since = performance.now();
      }
      if (run !== this.run) return null;
    }
    return found;
  }

  stop() {
    this.run += 1;
  }
}

/** The tokens of each hit in a completion. */
function hitTokens(completion, text) {
  const hits = [];
  const written = completion.pieces.join("");
  let token = 0;
  let end = completion.pieces[0]?.length ?? 0;
  for (const match of written.matchAll(literalPattern(text))) {
    while (end <= match.index) end += completion.pieces[++token].length;
    const hit = [token];
    let last = token;
    for (let reach = end; reach < match.index + match[0].length; reach += completion.pieces[last].length) {
      last += 1;
      hit.push(last);
    }
    hits.push(hit);
  }
  return hits;
}

/** Text as nodes, with marked hits. */
function markedText(text, query) {
  const nodes = [];
  let end = 0;
  for (const match of query ? text.matchAll(literalPattern(query)) : []) {
    nodes.push(visibleLines(text.slice(end, match.index)), element("mark", "", visibleLines(match[0])));
    end = match.index + match[0].length;
    if (nodes.length > 400) break; // only the first hits of a long prompt
  }
  nodes.push(visibleLines(text.slice(end)));
  return nodes;
}

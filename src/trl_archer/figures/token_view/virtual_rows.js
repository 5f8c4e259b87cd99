// A scrolling list of rows of equal height. Only visible rows have elements.

class VirtualRows {
  /**
   * @param scroller element that scrolls
   * @param rowHeight height of a row in CSS pixels
   * @param render maps the index of a row to its element
   */
  constructor(scroller, rowHeight, render) {
    Object.assign(this, { scroller, rowHeight, render, count: 0, shown: new Map() });
    this.canvas = element("div", "rows");
    this.canvas.setAttribute("role", "presentation");
    scroller.append(this.canvas);
    scroller.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.schedule()).observe(scroller);
  }

  /** Starts over with `count` rows. */
  reset(count) {
    this.count = count;
    this.canvas.style.height = `${count * this.rowHeight}px`;
    this.refresh();
  }

  /** Redraws the visible rows. */
  refresh() {
    this.shown.clear();
    this.canvas.replaceChildren();
    this.draw();
  }

  schedule() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  draw() {
    const { scrollTop, clientHeight } = this.scroller;
    const margin = 6;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - margin);
    const last = Math.min(this.count, Math.ceil((scrollTop + clientHeight) / this.rowHeight) + margin);
    for (const [index, row] of this.shown) {
      if (index >= first && index < last) continue;
      row.remove();
      this.shown.delete(index);
    }
    for (let index = first; index < last; index++) {
      if (this.shown.has(index)) continue;
      const row = this.render(index);
      row.style.transform = `translateY(${index * this.rowHeight}px)`;
      this.canvas.append(row);
      this.shown.set(index, row);
    }
  }

  /** Scrolls to a row, with some context. */
  reveal(index) {
    const { scrollTop, clientHeight } = this.scroller;
    const top = index * this.rowHeight;
    const margin = Math.min(2 * this.rowHeight, clientHeight / 4);
    if (top - margin < scrollTop) this.scroller.scrollTop = top - margin;
    else if (top + this.rowHeight + margin > scrollTop + clientHeight) {
      this.scroller.scrollTop = top + this.rowHeight + margin - clientHeight;
    }
    this.draw();
  }
}

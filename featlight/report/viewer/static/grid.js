"use strict";
/** The grid: a canvas of the window's size that draws the visible rows. */
window.Featlight = window.Featlight || {};

(() => {
  const FONT = '"Helvetica Neue", Helvetica, Arial, sans-serif';
  const SMALLEST = 22; // px
  const LARGEST = 340;
  const FEW = 150; // maximum number of visible tiles for full pictures

  class Grid {
    /**
     * @param {HTMLElement} host  contains the canvas and two options for screen readers
     * @param {{open: (tile: Tile) => void, compare: (tile: Tile) => void}} act
     */
    constructor(host, act) {
      this.host = host;
      this.act = act;
      this.canvas = host.querySelector("canvas");
      this.options = [...host.querySelectorAll("[role=option]")];
      this.sprites = new Featlight.Sprites(() => this.later());
      this.blocks = [];
      /** @type {Tile[]} in order */
      this.tiles = [];
      this.index = 0;
      this.hover = -1;
      this.wanted = 100;
      /** @type {?Run} run to show beside this one */
      this.other = null;
      /** Whether transparency is ignored. */
      this.plain = false;
      /** @type {"picture"|"example"|"both"} */
      this.shows = "picture";
      this.readColors();
      host.addEventListener("keydown", (event) => this.onKey(event));
      host.addEventListener("focus", () => this.announce());
      host.addEventListener("blur", () => this.later());
      this.canvas.addEventListener("click", (event) => this.onClick(event));
      this.canvas.addEventListener("pointermove", (event) => this.onHover(this.at(event)));
      this.canvas.addEventListener("pointerleave", () => this.onHover(-1));
      addEventListener("scroll", () => this.later(), { passive: true });
      new ResizeObserver(() => this.arrange()).observe(host);
      addEventListener("resize", () => this.arrange());
    }

    get current() {
      return this.tiles[this.index] ?? null;
    }

    /** Show these tiles; the current tile stays current if it is among them. */
    show(blocks) {
      const before = this.current;
      this.blocks = blocks;
      this.tiles = blocks.flatMap((block) => block.tiles);
      this.index = Math.max(0, this.tiles.indexOf(before));
      this.hover = -1;
      this.arrange();
      scrollBy(0, Math.floor(Math.min(0, -this.offset()))); // back to the first row; scroll positions are whole pixels
      if (document.activeElement === this.host) this.announce();
    }

    /** Return a zoom that shows many tiles at a recognizable size. */
    goodZoom(tiles) {
      const side = 1.5 * Math.sqrt((this.host.clientWidth * innerHeight) / Math.max(1, tiles));
      const least = innerWidth < 600 ? 84 : 66;
      return Math.log(Math.min(150, Math.max(least, side)) / SMALLEST) / Math.log(LARGEST / SMALLEST);
    }

    /** @param {number} share  from 0 (smallest tiles) to 1 */
    zoom(share) {
      this.wanted = SMALLEST * (LARGEST / SMALLEST) ** Math.min(1, Math.max(0, share));
      this.arrange();
    }

    readColors() {
      const style = getComputedStyle(document.documentElement);
      const read = (name) => style.getPropertyValue(`--${name}`).trim();
      this.colors = Object.fromEntries(["paper", "ink", "soft", "line", "accent", "dead", "failed"].map((n) => [n, read(n)]));
    }

    arrange() {
      const width = this.host.clientWidth;
      if (!width) return;
      this.layout = Featlight.layout.layOut(this.blocks, width, this.wanted, this.other !== null || this.shows === "both");
      const bar = document.getElementById("bar").getBoundingClientRect().height;
      this.host.style.height = `${this.layout.height}px`;
      this.canvas.style.top = `${bar}px`;
      const height = Math.max(1, Math.min(this.layout.height, innerHeight - bar));
      const scale = devicePixelRatio || 1;
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      if (this.canvas.width !== Math.round(width * scale)) this.canvas.width = Math.round(width * scale);
      if (this.canvas.height !== Math.round(height * scale)) this.canvas.height = Math.round(height * scale);
      this.draw();
    }

    later() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => this.draw());
    }

    /** Return the distance of the canvas from the top of the grid, CSS px. */
    offset() {
      return this.canvas.getBoundingClientRect().top - this.host.getBoundingClientRect().top;
    }

    draw() {
      cancelAnimationFrame(this.waiting);
      this.waiting = 0;
      if (!this.layout || !this.host.clientWidth) return;
      const { canvas, layout } = this;
      const scale = canvas.width / Math.max(1, parseFloat(canvas.style.width));
      const context = canvas.getContext("2d");
      const top = this.offset();
      const bottom = top + canvas.height / scale;
      const { HEAD } = Featlight.layout;
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.imageSmoothingQuality = "high";
      context.fillStyle = this.colors.paper;
      context.fillRect(0, 0, canvas.width / scale, canvas.height / scale);
      context.translate(0, -top);
      this.drawn = 0;
      const inView = Math.ceil((bottom - top) / layout.down) * layout.columns;
      for (const block of layout.blocks) {
        if (block.top > bottom || block.top + HEAD + block.rows * layout.down < top) continue;
        if (block.top + HEAD > top) this.drawHead(context, block);
        const first = Math.max(0, Math.floor((top - block.top - HEAD) / layout.down));
        const last = Math.min(block.rows, Math.ceil((bottom - block.top - HEAD) / layout.down));
        const end = Math.min(block.tiles.length, last * layout.columns);
        for (let i = first * layout.columns; i < end; i++) {
          this.drawPlace(context, block.first + i, scale, inView <= FEW);
        }
      }
      if (this.drawn && !this.seen) {
        this.seen = true;
        performance.mark("featlight-first-tiles");
      }
    }

    drawHead(context, block) {
      context.textAlign = "left";
      context.fillStyle = this.colors.ink;
      context.font = `600 19px ${FONT}`;
      context.fillText(block.group.title, 0, block.top + 26);
      context.fillStyle = this.colors.soft;
      context.font = `13px ${FONT}`;
      context.fillText(this.fitting(context, block.group.subtitle), 0, block.top + 46);
    }

    /** Shorten a line to the width of the grid. */
    fitting(context, text) {
      let shown = text;
      for (let words = text.split(" "); words.length > 1 && context.measureText(shown).width > this.host.clientWidth;) {
        words = words.slice(0, words.at(-2) === "·" ? -2 : -1);
        shown = `${words.join(" ")} …`;
      }
      return shown;
    }

    drawPlace(context, index, scale, few) {
      const { layout, colors } = this;
      const { x, y } = Featlight.layout.boxOf(layout, index);
      const tile = this.tiles[index];
      const sharp = few && layout.size * scale > tile.group.side * 1.1;
      if (this.shows === "example") this.drawExample(context, tile, x, y, sharp);
      else this.drawTile(context, tile, x, y, sharp);
      if (this.shows === "both" && !this.other) this.drawExample(context, tile, x + layout.size + 1, y, sharp);
      if (this.other) this.drawTile(context, this.other.tiles.get(tile.key) ?? null, x + layout.size + 1, y, sharp);
      if (layout.caption) {
        const chosen = index === this.index && document.activeElement === this.host;
        context.font = `${chosen ? "600 " : ""}12px ${FONT}`;
        context.textAlign = "left";
        const word = tile.status === "ok" || layout.size < 76 ? "" : tile.status;
        context.fillStyle = chosen || index === this.hover ? colors.ink : colors.soft;
        context.fillText(tile.label, x, y + layout.size + 15, word ? layout.unit / 2 : layout.unit);
        if (word) {
          context.textAlign = "right";
          context.fillStyle = colors[tile.status] ?? colors.soft;
          context.fillText(word, x + layout.unit, y + layout.size + 15);
        }
      }
      if (index === this.index && document.activeElement === this.host) this.ring(context, x, y, colors.accent, 3);
      else if (index === this.hover) this.ring(context, x, y, colors.ink, 1.5);
    }

    /** Draw a tile's best example, or a frame if it has none. */
    drawExample(context, tile, x, y, sharp) {
      const { size } = this.layout;
      const drawn = this.sprites.drawExample(context, tile, x, y, size, sharp);
      this.drawn += drawn;
      const none = tile.example === null;
      if (!drawn) this.sprites.frame(context, x, y, size, none ? this.colors.soft : this.colors.line, none);
    }

    /** @param {?Tile} tile  null if the other run lacks this tile */
    drawTile(context, tile, x, y, sharp) {
      const { size } = this.layout;
      const there = tile !== null && (tile.status === "ok" || tile.status === "dead");
      if (there) {
        context.globalAlpha = tile.status === "dead" ? 0.35 : 1;
        const drawn = this.sprites.draw(context, tile, x, y, size, sharp, this.plain);
        context.globalAlpha = 1;
        this.drawn += drawn;
        if (drawn && tile.status === "ok") return;
      }
      const color = there ? this.colors.line : this.colors[tile?.status] ?? this.colors.soft;
      this.sprites.frame(context, x, y, size, color, !there);
    }

    /** Draw a frame around a place; a wide one leaves a gap to the tile. */
    ring(context, x, y, color, width) {
      const { unit, size } = this.layout;
      const frame = (away, thick, ink) => {
        context.strokeStyle = ink;
        context.lineWidth = thick;
        context.strokeRect(x - away, y - away, unit + 2 * away, size + 2 * away);
      };
      if (width > 2) frame(1, 2, this.colors.paper);
      frame(width > 2 ? 2 + width / 2 : width / 2, width, color);
    }

    /** Return the index of the tile under a pointer. */
    at(event) {
      const box = this.canvas.getBoundingClientRect();
      return this.layout
        ? Featlight.layout.tileAt(this.layout, event.clientX - box.left, event.clientY - box.top + this.offset())
        : -1;
    }

    onClick(event) {
      const index = this.at(event);
      if (index < 0) return;
      this.go(index);
      this.act.open(this.current);
    }

    onHover(index) {
      if (index === this.hover) return;
      this.hover = index;
      this.canvas.classList.toggle("over", index >= 0);
      this.canvas.title = index < 0 ? "" : this.words(this.tiles[index]);
      this.later();
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.current) return;
      const { key } = event;
      const page = Math.max(1, Math.floor(parseFloat(this.canvas.style.height) / this.layout.down) - 1);
      if (/^(Arrow(Left|Right|Up|Down)|Home|End|Page(Up|Down))$/.test(key)) {
        this.go(Featlight.layout.step(this.layout, this.index, key, page));
      } else if (key === "Enter" || key === " ") this.act.open(this.current);
      else if (key === "c") this.act.compare(this.current);
      else return;
      event.preventDefault();
    }

    /** Make a tile the current one, and bring it into view. */
    go(index) {
      this.index = index;
      this.reveal();
      this.announce();
    }

    reveal() {
      const { y } = Featlight.layout.boxOf(this.layout, this.index);
      const bar = parseFloat(this.canvas.style.top);
      const onScreen = y + this.host.getBoundingClientRect().top;
      const room = this.layout.size + this.layout.caption + 8;
      const up = onScreen - bar - 8;
      const down = onScreen + room - innerHeight;
      if (up < 0) scrollBy(0, up);
      else if (down > 0) scrollBy(0, Math.min(down, up));
    }

    /** Announce the current tile; two options alternate, because a screen reader ignores an unchanged one. */
    announce() {
      this.later();
      if (!this.current) return;
      this.options.reverse();
      const [option, old] = this.options;
      option.textContent = this.words(this.current);
      option.setAttribute("aria-posinset", this.index + 1);
      option.setAttribute("aria-setsize", this.tiles.length);
      option.setAttribute("aria-selected", "true");
      old.setAttribute("aria-selected", "false");
      this.host.setAttribute("aria-activedescendant", option.id);
    }

    /** Return the announcement of a tile. */
    words(tile) {
      const { number } = Featlight.dom;
      if (tile.status === "failed" || tile.status === "missing") return `${tile.label}, ${tile.group.title}, ${tile.status}`;
      const dead = tile.status === "dead" ? ", dead" : "";
      return `${tile.label}, ${tile.group.title}${dead}, activation ${number(tile.start)} to ${number(tile.end)}`;
    }
  }

  Featlight.Grid = Grid;
})();

"use strict";
/** Positions of the grid's tiles, without drawing. */
window.Featlight = window.Featlight || {};

(() => {
  const HEAD = 64; // px above a group, for its title
  const AFTER = 28; // px below it

  /**
   * @typedef {Object} Layout
   * @property {number} size      side of a tile, CSS px
   * @property {number} unit      width of a place with one tile, or two side by side
   * @property {number} across    distance between columns
   * @property {number} down      distance between rows
   * @property {number} columns
   * @property {number} caption   height of the label below a tile; 0 for none
   * @property {number} height    height of the grid
   * @property {{group: Group, tiles: Tile[], top: number, first: number, rows: number}[]} blocks
   *           position of each block, and index of its first tile
   */

  /**
   * @param {{group: Group, tiles: Tile[]}[]} blocks
   * @param {number} width   width of the grid, CSS px
   * @param {number} wanted  approximate side of a tile, CSS px; columns fill the width
   * @param {boolean} pairs  whether each place has two tiles side by side
   * @returns {Layout}
   */
  function layOut(blocks, width, wanted, pairs) {
    const gap = wanted < 40 ? 2 : wanted < 90 ? 6 : 12;
    const tiles = pairs ? 2 : 1;
    const columns = Math.max(1, Math.round((width + gap) / (wanted * tiles + gap)));
    const unit = Math.floor((width - (columns - 1) * gap) / columns);
    const size = Math.floor((unit - (tiles - 1)) / tiles);
    const caption = size * tiles >= 44 ? 20 : 0;
    const down = size + caption + (caption ? 8 : gap);
    const placed = [];
    let top = 0;
    let first = 0;
    for (const { group, tiles } of blocks) {
      const rows = Math.ceil(tiles.length / columns);
      placed.push({ group, tiles, top, first, rows });
      top += HEAD + rows * down + AFTER;
      first += tiles.length;
    }
    return { size, unit, across: unit + gap, down, columns, caption, height: top, blocks: placed };
  }

  /** Return the block of the tile with an index. */
  function blockOf(layout, index) {
    return layout.blocks.findLast((block) => block.first <= index);
  }

  /** Return left and top of a tile in the grid. */
  function boxOf(layout, index) {
    const block = blockOf(layout, index);
    const i = index - block.first;
    return {
      x: (i % layout.columns) * layout.across,
      y: block.top + HEAD + Math.floor(i / layout.columns) * layout.down,
    };
  }

  /** Return the index of the tile at a point of the grid, or -1. */
  function tileAt(layout, x, y) {
    const block = layout.blocks.findLast((candidate) => candidate.top + HEAD <= y);
    const column = Math.floor(x / layout.across);
    if (!block || x < 0 || column >= layout.columns || x - column * layout.across >= layout.unit) return -1;
    const i = Math.floor((y - block.top - HEAD) / layout.down) * layout.columns + column;
    return i < block.tiles.length ? block.first + i : -1;
  }

  /** Return the index of the tile that a key moves to; vertical moves keep the column, also between blocks. */
  function step(layout, index, key, page) {
    const total = layout.blocks.reduce((sum, block) => sum + block.tiles.length, 0);
    const rows = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page }[key];
    if (key === "Home") return 0;
    if (key === "End") return total - 1;
    if (!rows) return Math.min(total - 1, Math.max(0, index + (key === "ArrowLeft" ? -1 : 1)));
    let at = layout.blocks.indexOf(blockOf(layout, index));
    const i = index - layout.blocks[at].first;
    const column = i % layout.columns;
    let row = Math.floor(i / layout.columns) + rows;
    while (row < 0 && at > 0) row += layout.blocks[--at].rows;
    while (row >= layout.blocks[at].rows && at < layout.blocks.length - 1) row -= layout.blocks[at++].rows;
    const block = layout.blocks[at];
    row = Math.min(block.rows - 1, Math.max(0, row));
    return block.first + Math.min(block.tiles.length - 1, row * layout.columns + column);
  }

  Featlight.layout = { HEAD, layOut, blockOf, boxOf, tileAt, step };
})();

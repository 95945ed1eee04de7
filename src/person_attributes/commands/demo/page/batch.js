// Many photographs: a grid with the least certain first, and a table to save.

import { listChanged } from "./answer.js";
import { makeTable } from "./csv.js";
import { find, make, percent, spell } from "./dom.js";

const IN_FLIGHT = 2;
const ALL = "";
const CHANGED = "changed";

/** Asks for photographs, a few at a time, and shows them in a grid. */
export class Batch {
  /**
   * @param {object[]} photos The photographs.
   * @param {string[]} models The URIs of the models.
   * @param {Function} ask Returns the answers for a photograph.
   * @param {Function} open Opens a photograph with its answers.
   */
  constructor(photos, models, ask, open) {
    this.models = models;
    this.ask = ask;
    this.open = open;
    this.waiting = [...photos];
    this.total = photos.length;
    this.answered = [];
    this.controller = new AbortController();
  }

  stop() {
    this.controller.abort();
  }

  async run() {
    find("batch").hidden = false;
    find("tables").replaceChildren();
    find("order").replaceChildren();
    find("order").onchange = () => this.#showGrid();
    find("grid").replaceChildren();
    this.#showProgress();
    await Promise.all(Array.from({ length: IN_FLIGHT }, () => this.#work()));
    if (!this.controller.signal.aborted) this.#offerTables();
  }

  async #work() {
    while (this.waiting.length && !this.controller.signal.aborted) {
      const photo = this.waiting.shift();
      const result = await this.ask(photo, this.controller.signal);
      if (this.controller.signal.aborted) return;
      this.answered.push({ photo, ...result });
      this.#offerOrders(result.answers[0].heads);
      this.#showProgress();
      this.#showGrid();
    }
  }

  #offerOrders(heads) {
    if (find("order").options.length || !Object.keys(heads).length) return;
    const orders = [[ALL, "least certain"]];
    if (this.models.length > 1) orders.push([CHANGED, "most labels changed"]);
    orders.push(...Object.keys(heads).map((head) => [head, `least certain ${spell(head)}`]));
    find("order").replaceChildren(...orders.map(([value, text]) => make("option", { value }, text)));
  }

  #showProgress() {
    Object.assign(find("progress"), { max: this.total, value: this.answered.length });
    const isFinished = this.answered.length === this.total;
    const refused = this.answered.filter(({ answers }) => answers[0].reason).length;
    find("progress").hidden = isFinished;
    find("count").textContent = isFinished
      ? `${this.total} photographs, ${refused} unreadable. Select one to see its answer.`
      : `${this.answered.length} of ${this.total} photographs`;
    if (isFinished) find("state").textContent = find("count").textContent;
  }

  #showGrid() {
    const order = find("order").value;
    const ranked = this.answered.map((item) => ({ item, rank: rank(item.answers, order) }));
    ranked.sort((first, second) => first.rank - second.rank);
    const tiles = ranked.map(({ item }) => (item.tile ??= this.#makeTile(item)));
    ranked.forEach(({ item }) => describe(item, order));
    const focused = document.activeElement;
    find("grid").replaceChildren(...tiles);
    if (find("grid").contains(focused)) focused.focus();
  }

  #makeTile(item) {
    const image = make("img", { src: item.photo.url, alt: "", loading: "lazy", decoding: "async" });
    const button = make("button", { type: "button", title: item.photo.name }, image);
    button.append(make("span", { className: "tile-name" }, item.photo.name), make("span", { className: "tile-text" }));
    const changed = listChanged(item.answers).length;
    if (changed) button.append(make("span", { className: "badge" }, `${changed} changed`));
    button.onclick = () => this.open(item.photo, item);
    return make("li", {}, button);
  }

  #offerTables() {
    const links = this.models.map((model, number) => {
      const rows = this.answered.map(({ photo, answers }) => ({ path: photo.path, ...answers[number] }));
      const file = new Blob([makeTable(rows)], { type: "text/csv" });
      const letter = this.models.length > 1 ? ` ${"AB"[number]}` : "";
      const download = this.models.length > 1 ? `labels-${"ab"[number]}.csv` : "labels.csv";
      return make("a", { className: "button", href: URL.createObjectURL(file), download }, `Save CSV${letter}`);
    });
    find("tables").replaceChildren(...links);
  }
}

/** The head with the lowest probability: `[head, {label, probability}]`. */
function findLeastCertain(heads) {
  const entries = Object.entries(heads);
  return entries.reduce((least, entry) => (entry[1].probability < least[1].probability ? entry : least));
}

/** A number to sort by; unreadable photographs come last. */
function rank(answers, order) {
  const [{ heads, reason }] = answers;
  if (reason) return Infinity;
  const least = findLeastCertain(heads)[1].probability;
  if (order === CHANGED) return least - listChanged(answers).length;
  return heads[order]?.probability ?? least;
}

/** Writes the head that decides about the place of a tile. */
function describe({ tile, answers }, order) {
  const [{ heads, reason }] = answers;
  const text = tile.querySelector(".tile-text");
  if (reason) {
    text.textContent = "cannot be read";
    return;
  }
  const [head, answer] = heads[order] ? [order, heads[order]] : findLeastCertain(heads);
  text.textContent = `${spell(head)}: ${answer.label}, ${percent(answer.probability)}`;
}

// Shows the answer for one photograph: one card for each head.

import { find, make, percent, spell } from "./dom.js";

const LETTERS = "AB";

/** The heads of all models, in the order of the first. */
const listHeads = (answers) => [...new Set(answers.flatMap((answer) => Object.keys(answer.heads)))];

/** The heads whose label is not the same in all models. */
export function listChanged(answers) {
  const differ = (head) => new Set(answers.map((answer) => answer.heads[head]?.label)).size > 1;
  return answers.length > 1 ? listHeads(answers).filter(differ) : [];
}

/**
 * Shows an answer.
 *
 * @param {object[]} answers `{heads, reason}` of each model.
 * @param {object} actions `toggleHeat(head)`; and `correct(head, class)`, or null.
 * @param {object} classes The classes that can be corrected, `{head: [class]}`.
 */
export function showAnswer(answers, actions, classes) {
  const refused = answers.find((answer) => answer.reason);
  const changed = refused ? [] : listChanged(answers);
  find("refused").hidden = !refused;
  find("refused").textContent = refused ? `This file cannot be read: ${refused.reason}` : "";
  find("changes").hidden = refused || answers.length < 2;
  find("changes").textContent = `${changed.length} of ${listHeads(answers).length} labels differ.`;
  find("curl").hidden = Boolean(refused);
  const heads = refused ? [] : listHeads(answers);
  const cards = heads.map((head) =>
    makeCard(head, answers, changed.includes(head), actions, classes[head] ?? []),
  );
  find("heads").replaceChildren(...cards);
}

function makeCard(head, answers, isChanged, actions, correctable) {
  const given = answers.map((answer) => answer.heads[head]);
  const names = [...new Set(given.flatMap((answer) => Object.keys(answer?.probabilities ?? {})))];
  const heat = make("button", {
    type: "button",
    className: "heat-button",
    textContent: "Heat map",
    disabled: true,
    onclick: () => actions.toggleHeat(head),
  });
  heat.setAttribute("aria-label", `Heat map for ${spell(head)}`);
  heat.setAttribute("aria-pressed", "false");
  const title = make("div", { className: "title" }, make("h3", {}, spell(head)));
  if (isChanged) title.append(make("span", { className: "badge" }, "changed"));
  title.append(heat);
  const labels = given.map((answer, number) => makeLabel(answer, number, given.length));
  const rows = names.map((name) =>
    makeClass(head, name, given, actions, correctable.includes(name)),
  );
  const list = make("ul", { className: "classes" }, ...rows);
  return make("section", { className: "head", data: { head } }, title, ...labels, list);
}

function makeLabel(answer, number, models) {
  const letter = models > 1 ? [make("span", { className: `letter model-${number}` }, LETTERS[number])] : [];
  const label = make("b", {}, answer?.label ?? "no such head");
  const probability = make("span", { className: "probability" }, answer ? percent(answer.probability, 1) : "");
  return make("p", { className: "label" }, ...letter, label, probability);
}

function makeClass(head, name, given, actions, isCorrectable) {
  const tracks = make("span", { className: "tracks" });
  const shares = make("span", { className: "shares" });
  given.forEach((answer, number) => {
    const probability = answer?.probabilities[name];
    const bar = make("span", { className: `bar model-${number}` });
    bar.style.width = `${100 * (probability ?? 0)}%`;
    tracks.append(make("span", { className: "track" }, bar));
    shares.append(make("span", { data: { probability } }, probability === undefined ? "–" : percent(probability)));
  });
  const row = make("li", { data: { class: name } }, make("span", { className: "name" }, name), tracks, shares);
  if (actions.correct && isCorrectable) {
    const button = make("button", {
      type: "button",
      className: "right",
      textContent: "✓",
      title: "Keep this photograph with this class",
      onclick: () => actions.correct(head, name),
    });
    button.setAttribute("aria-label", `${name} is the right ${spell(head)}: keep this photograph`);
    row.append(button);
  }
  return row;
}

/** Marks the kept classes, `{head: class}`. */
export function markKept(kept) {
  for (const card of find("heads").children) {
    for (const row of card.querySelectorAll("li")) {
      const isKept = kept[card.dataset.head] === row.dataset.class;
      row.querySelector(".right")?.setAttribute("aria-pressed", String(isKept));
    }
  }
}

/** Enables the buttons of the heat maps, or removes them if there are none. */
export function enableHeat(heads) {
  for (const button of find("heads").querySelectorAll(".heat-button")) {
    button.disabled = false;
    if (!heads.includes(button.closest(".head").dataset.head)) button.remove();
  }
}

/** Marks the head whose heat map is shown; null for none. */
export function markHeat(head) {
  for (const button of find("heads").querySelectorAll(".heat-button")) {
    const card = button.closest(".head");
    button.setAttribute("aria-pressed", String(card.dataset.head === head));
    card.classList.toggle("selected", card.dataset.head === head);
  }
}

// Shows the photograph, and the heat map of the selected head of each model over it.

import { find, make, spell } from "./dom.js";

/** Shows a photograph once for each model; all but the first appear with the heat maps only. */
export function showPhotograph(photo, models) {
  const figures = models.map((_, number) => {
    const image = make("img", { src: photo.url, alt: `The photograph ${photo.name}` });
    const caption = make("figcaption", { hidden: true }, "AB"[number]);
    return make("figure", { hidden: number > 0 }, image, caption);
  });
  find("pictures").replaceChildren(...figures);
  find("drop").classList.add("filled");
}

/**
 * Shows the heat maps of a head, or none.
 *
 * @param {string?} head The head; null for none.
 * @param {object[]} heatmaps `{head: data URL}` of each model.
 */
export function showHeat(head, heatmaps) {
  [...find("pictures").children].forEach((figure, number) => {
    figure.querySelector(".heat")?.remove();
    const source = head && heatmaps[number]?.[head];
    figure.hidden = number > 0 && !source;
    figure.querySelector("figcaption").hidden = !source || heatmaps.length < 2;
    if (source) {
      const alt = `Heat map for ${spell(head)}`;
      figure.querySelector("img").after(make("img", { className: "heat", src: source, alt }));
    }
  });
}

// Access to the elements of the page.

export const find = (id) => document.getElementById(id);

/** Creates an element. Text children are escaped by the browser. */
export function make(tag, properties = {}, ...children) {
  const { data = {}, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

export const spell = (head) => head.replaceAll("_", " ");

export const percent = (probability, digits = 0) => `${(100 * probability).toFixed(digits)}\u00a0%`;

// Requests to the server of the page.

async function request(address, options) {
  const response = await fetch(address, options);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function send(address, photo, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return request(address, { method: "POST", headers, body: photo.file, signal });
}

export const readSettings = () => request("settings");

/** The answer of each model: `{answers: [{heads, reason}], kept: {head: class}}`. */
export const ask = (photo, signal) => send("answers", photo, signal);

/** The heat map of each head: `{head: data URL}`; empty if the version has none. */
export const explain = (photo, model, signal) => send(`heatmaps/${model}`, photo, signal);

/** Keeps the right class of a head; an empty class removes the correction. */
export function correct(photo, head, label) {
  return send(`corrections?${new URLSearchParams({ head, class: label })}`, photo);
}

export const deleteCorrections = () => request("corrections", { method: "DELETE" });

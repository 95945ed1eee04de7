// Writes the table that the command `predict` writes.

/** @param {object[]} rows `{path, heads, reason}` of each photograph. */
export function makeTable(rows) {
  const heads = Object.keys(rows.find((row) => !row.reason)?.heads ?? {});
  const header = ["path", ...heads.flatMap((head) => [head, `${head}_probability`]), "error"];
  const sorted = [...rows].sort((first, second) => (first.path < second.path ? -1 : 1));
  const lines = sorted.map(({ path, heads: answers, reason }) => {
    const cells = heads.flatMap((head) => [answers[head]?.label ?? "", answers[head]?.probability ?? ""]);
    return [path, ...cells, reason];
  });
  return [header, ...lines].map((cells) => `${cells.map(quote).join(",")}\n`).join("");
}

function quote(cell) {
  const text = String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
